"""Names with lone surrogates, such as file names that are not UTF-8: shown escaped, read back unchanged."""

from __future__ import annotations

import io
from importlib.util import find_spec
from urllib.parse import quote

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from report_reader import read
from torch import nn

import spatialprobe as sp
from spatialprobe.text import escape_surrogates, unescape_surrogates

IMAGES = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 0, 1])
NAME, LITERAL = "conv\udc80", "conv\\udc80"  # a name that cannot be written, and its escaped form
HALVES = "\ud83d\ude00"  # two lone surrogates, which JSON and UTF-16 would read as one character


class Named(nn.Module):
    """A model of three convolutions whose names differ only in surrogates."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        for name in (NAME, LITERAL, HALVES):
            self.add_module(name, nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, x):
        for module in self.children():
            x = module(x)
        return x


PIECES = st.sampled_from(["\\", "\\\\", "u", "udc80", "ud800", "\ud800", "\udc80", "\udfff", "a", "é", "😀", "dc80"])


@given(st.lists(PIECES, max_size=8).map("".join))
def test_different_names_stay_different(text):
    """The escaped form of any text can be encoded in UTF-8, and the text can be recovered from it."""
    shown = escape_surrogates(text)
    shown.encode()
    assert unescape_surrogates(shown) == text


@pytest.mark.parametrize("text", ["", "conv1", "a\\b", "C:\\users\\udon", "features.0", "猫😀", "\\u00e9"])
def test_other_texts_are_shown_as_they_are(text):
    """Only lone surrogates, and text that looks like an escaped one, are changed."""
    assert escape_surrogates(text) == text


@pytest.fixture(scope="module")
def made():
    """Return the records, fields and sweep results of the model."""
    model = Named().eval()
    reducers = {"moments": sp.Moments, "top": sp.Exemplars, "histogram": sp.Histogram}
    return (
        model,
        sp.capture(model, IMAGES),
        sp.receptive_fields(model, (1, 3, 12, 12)),
        sp.sweep(model, IMAGES, reducers, progress=False),
    )


PRINTED = {
    "records": lambda model, records, fields, result: records,
    "record": lambda model, records, fields, result: records[NAME],
    "fields": lambda model, records, fields, result: fields,
    "field": lambda model, records, fields, result: fields[NAME],
    "result": lambda model, records, fields, result: result,
    "reduced": lambda model, records, fields, result: result[NAME],
    "plan": lambda model, records, fields, result: sp.plan(model, IMAGES),
    "maps": lambda model, records, fields, result: sp.feature_maps(records[NAME]),
    "gallery": lambda model, records, fields, result: sp.feature_maps(records),
    "histogram": lambda model, records, fields, result: sp.activation_histogram(records[NAME]),
    "effective field": lambda model, records, fields, result: sp.effective_receptive_field(model, IMAGES, NAME),
    "footprint": lambda model, records, fields, result: sp.evidence.footprint(model, IMAGES, NAME, pixel=(5, 5)),
    "linear probe": lambda model, records, fields, result: sp.evidence.linear_probe(
        model, IMAGES, LABELS, NAME, test_images=IMAGES, test_labels=LABELS
    ),
    "coherence": lambda model, records, fields, result: sp.evidence.patch_coherence(
        result[NAME]["top"], IMAGES, fields[NAME]
    ),
}


@pytest.mark.parametrize("printed", PRINTED)
def test_all_can_be_printed(made, printed):
    """Printed and notebook output can be encoded in UTF-8, and the names of different layers differ in it."""
    value = PRINTED[printed](*made)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    print(value, repr(value), file=stream)
    if hasattr(value, "_repr_html_"):
        stream.write(value._repr_html_())
    stream.flush()
    text = stream.buffer.getvalue().decode()
    if printed in ("records", "fields", "result", "plan"):
        assert {"conv\\udc80", "conv\\\\udc80", "\\ud83d\\ude00"} <= set(text.split())


WRONG = {
    "unknown layer": lambda model, records: records["conv"],
    "unknown surrogate": lambda model, records: sp.capture(model, IMAGES, layers="conv\udc81"),
    "nothing matches": lambda model, records: sp.capture(model, IMAGES, layers="nothing"),
    "no such pixel": lambda model, records: sp.evidence.footprint(model, IMAGES, NAME, pixel=(99, 99)),
    "no such channel": lambda model, records: sp.feature_maps(records[NAME], channels=[9]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_can_be_printed(made, wrong):
    """An error message that names such a layer can be written to any log."""
    with pytest.raises(sp.SpatialProbeError) as caught:
        WRONG[wrong](*made[:2])
    str(caught.value).encode()


PICTURES = {
    "maps": lambda model, records, fields, result: sp.feature_maps(records[NAME]),
    "source": lambda model, records, fields, result: sp.feature_maps(records[NAME]).with_source("img\udc80.png"),
    "overlay": lambda model, records, fields, result: sp.receptive_field_overlay(IMAGES[0], fields[NAME], (1, 1)),
    "patches": lambda model, records, fields, result: sp.exemplar_patches(result[NAME]["top"], IMAGES, fields[NAME]),
    "histogram": lambda model, records, fields, result: sp.activation_histogram(records[NAME]),
    "evolution": lambda model, records, fields, result: sp.evolution([records[NAME], records[NAME]]),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_can_be_saved(made, picture, tmp_path):
    """Every kind of picture is saved in every format, with the name escaped in it."""
    drawn = PICTURES[picture](*made)
    suffixes = ["png", "svg", "pdf"] + ["gif"] * (picture == "evolution")
    for suffix in suffixes:
        assert drawn.save(tmp_path / f"drawn.{suffix}").stat().st_size > 0
    assert b"\\udc80" in (tmp_path / "drawn.png").read_bytes()


def test_a_gallery_has_a_file_for_each(made, tmp_path):
    """Files for different layers do not overwrite each other, even if a careless escape would make names equal."""
    sp.feature_maps(made[1]).save(tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_files_give_the_names_back(made, tmp_path):
    """Saved results are loaded with the names of the model, bit for bit."""
    _, records, _, result = made
    loaded = sp.load_activations(sp.save_activations(tmp_path / "records.safetensors", records))
    assert list(loaded) == [NAME, LITERAL, HALVES]
    assert torch.equal(loaded[NAME].tensor, records[NAME].tensor)
    again = sp.SweepResult.load(result.save(tmp_path / "result.safetensors"))
    assert list(again) == [NAME, LITERAL, HALVES]
    assert torch.equal(again[LITERAL]["moments"].mean, result[LITERAL]["moments"].mean)


@pytest.mark.skipif(not find_spec("zarr"), reason="needs zarr")
def test_sweeps_keep_the_names_apart(made, tmp_path):
    """A checkpoint and a store of such layers can be written, checked and continued; each layer has its own group."""
    import zarr

    store, model = tmp_path / "activations.zarr", made[0]
    for _ in range(2):
        options = {"checkpoint": tmp_path / "sweep.ckpt", "store": store, "progress": False}
        result = sp.sweep(model, IMAGES, {"moments": sp.Moments}, **options)
    assert list(result) == [NAME, LITERAL, HALVES]
    sp.testing.check_store(store)
    groups = {name for name, _ in zarr.open_group(store, mode="r").groups()}
    assert groups == {quote(name) for name in ("conv\\udc80", "conv\\\\udc80", "\\ud83d\\ude00")}


def test_the_page_finds_its_layers(made, tmp_path):
    """Names on the page can be part of a URL, and links lead to layers of the page."""
    model, _, _, result = made
    path = tmp_path / "page.html"
    sp.write_report(path, model, IMAGES[:2], sweep=result, dataset=IMAGES)
    names = [layer["name"] for layer in read(path).data["layers"]]
    assert names == ["conv\\udc80", "conv\\\\udc80", "\\ud83d\\ude00"]
    page = path.read_text(encoding="utf-8")
    for name in names:
        assert f'href="#{quote(name, safe="")}/' in page
