"""Several layers in one call."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.render.figures import encode_page, rasterize
from spatialprobe.render.palette import HATCH, palette


def gallery_of(name, layers=nn.Conv2d, **options):
    model = ZOO[name].model()
    with sp.Probe(model, layers) as probe:
        model(ZOO[name].images())
    return sp.feature_maps(probe, **options), probe


def test_a_mosaic_for_each_layer():
    """A probe gives a mapping from its layers, in order, to the mosaics that they have alone."""
    gallery, probe = gallery_of("chain", limit=3, order="max")
    assert list(gallery) == ["conv1", "conv2"]
    for layer, mosaic in gallery.items():
        alone = sp.feature_maps(probe[layer], limit=3, order="max")
        assert (mosaic.to_png(), mosaic.caption) == (alone.to_png(), alone.caption)


def test_runs_of_one_layer():
    """A layer that ran twice has two mosaics, found as a probe finds its records."""
    gallery, probe = gallery_of("shared")
    assert list(gallery) == [("conv", 0), ("conv", 1)]
    assert gallery["conv", 1].to_png() == sp.feature_maps(probe["conv", 1]).to_png()
    assert "  conv, 1  Mosaic(" in repr(gallery)


def test_any_mapping():
    """A mapping that the user made gives its own names."""
    _, probe = gallery_of("chain")
    assert list(sp.feature_maps({"first": probe["conv1"], "again": probe["conv1"]})) == ["first", "again"]


def test_layers_without_maps_are_listed():
    """A layer that holds no maps is left out with its reason, not in silence; where none does, it is an error."""
    gallery, probe = gallery_of("tuple", (nn.Conv2d, nn.Linear))
    assert list(gallery) == ["block.conv"]
    assert "which is not maps" in gallery.left_out["head"]
    assert "left out\n  head  Layer 'head'" in repr(gallery)
    assert "Left out: Layer &#x27;head&#x27;" in gallery._repr_html_()
    with pytest.raises(sp.ArgumentError, match="'head'.* which is not maps"):
        sp.feature_maps({"head": probe["head"]})
    with pytest.raises(sp.ArgumentError, match="no records"):
        sp.feature_maps({})


def test_an_argument_that_fits_one_layer_only():
    """A channel that not every layer has is an error."""
    with pytest.raises(sp.ArgumentError, match="'conv1' has channels 0 to 3, not 4"):
        gallery_of("chain", channels=[4])


def test_save(tmp_path):
    """Each layer becomes a file, numbered in the order of the layers, with nothing odd in its name."""
    record = gallery_of("chain")[1]["conv1"]
    names = ["conv1", "a/../b", "<script>", ""]
    paths = sp.feature_maps(dict.fromkeys(names, record)).save(tmp_path)
    assert [path.name for path in paths] == ["1_conv1.png", "2_a_.._b.png", "3__script_.png", "4_model.png"]
    assert sorted(tmp_path.iterdir()) == paths
    assert "conv1" in Image.open(paths[0]).text["Layer"]
    with pytest.raises(sp.ArgumentError, match="Cannot save 1 picture: the folder .* does not exist"):
        sp.feature_maps({"x": record}).save(tmp_path / "none")


def test_figure():
    """All layers on one page, each with title, caption and color bar."""
    gallery, _ = gallery_of("chain")
    figure = gallery.figure("A chain")
    words = [text.get_text() for text in figure.texts]
    assert words[0] == "A chain"
    assert [title for title in words if "sample 0" in title] == [mosaic.title for mosaic in gallery.values()]
    assert len(figure.axes) == 4


def test_large_models_are_capped_and_say_so(tmp_path):
    """A gallery draws 64 channels a layer, and its page 24 layers over the whole depth; both are stated."""
    record = sp.capture(nn.Identity(), torch.rand(1, 70, 6, 6), layers="")[""]
    few = sp.capture(nn.Identity(), torch.rand(1, 4, 6, 6), layers="")[""]
    gallery = sp.feature_maps({f"layer {number}": few for number in range(40)} | {"wide": record})
    assert gallery["wide"].caption.startswith("64 of 70 channels shown.")
    assert sp.feature_maps({"wide": record}, limit=70)["wide"].caption.startswith("70 of 70")
    assert sp.feature_maps({"wide": record}, channels=range(66))["wide"].caption.startswith("66 of 70")
    assert sp.feature_maps(record).caption.startswith("70 of 70")
    page = gallery._repr_html_()
    assert page.count("data:image/png;base64,") == 24
    assert "24 of 41 layers shown" in page
    assert "64 of 70 channels shown" in page  # the last layer is there
    assert "24 of 41 layers shown" in gallery.figure().texts[0].get_text().replace("\n", " ")
    assert len(gallery.figure().texts) == 1 + 2 * 24
    assert len(gallery) == 41


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_one_page(tmp_path, suffix):
    """A name with the suffix of a picture becomes one page of all layers."""
    gallery, _ = gallery_of("chain")
    (path,) = gallery.save(tmp_path / f"all.{suffix}")
    assert list(tmp_path.iterdir()) == [path]
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    assert path.read_bytes().startswith(starts[suffix])
    assert gallery.to_png().startswith(starts["png"])


def test_notebook_repr():
    """A notebook shows every layer."""
    gallery, _ = gallery_of("chain")
    assert gallery._repr_html_().count("data:image/png;base64,") == 2


@pytest.mark.parametrize("dimensions", [1, 3])
def test_other_dimensions(dimensions):
    """Layers of one and of three axes are drawn as well."""
    gallery, _ = gallery_of(f"{dimensions}-d", (nn.Conv1d, nn.Conv3d))
    assert list(gallery) == ["0", "2"]
    assert all(mosaic.array.shape[2] == 3 for mosaic in gallery.values())


def large_gallery(layers):
    torch.manual_seed(0)
    records = {f"layer {number}": torch.randn(1, 64, 112, 112) for number in range(layers)}
    identity = nn.Identity()
    return sp.feature_maps({name: sp.capture(identity, maps, layers="")[""] for name, maps in records.items()})


def test_a_large_gallery_stands_in_columns():
    """Large mosaics stand beside each other at half their size, and the page says so; one alone is whole."""
    gallery = large_gallery(7)
    figure = gallery.figure()
    assert "half their size" in figure.texts[0].get_text()
    width, height = figure.get_size_inches()
    assert 0.5 < width / height < 2
    assert gallery["layer 0"].array.shape[0] > 1000


def test_a_page_of_one_palette_is_a_third_as_large():
    """A PNG of mosaics in the same colors has these as its palette: the colors of maps are exact."""
    gallery = large_gallery(2)
    encoded = gallery.to_png()
    page = Image.open(io.BytesIO(encoded))
    assert (page.mode, page.text["Software"]) == ("P", "spatialprobe")
    pixels = np.array(page.convert("RGB"))
    exact = rasterize(gallery.figure())
    known = np.isin(exact @ (1 << 16, 1 << 8, 1), palette(True)[:HATCH:8].astype(int) @ (1 << 16, 1 << 8, 1))
    assert np.array_equal(pixels[known], exact[known])
    assert abs(pixels.astype(int) - exact)[~known].mean() < 8
    assert 3 * len(encoded) < 1.5 * len(encode_page(gallery.figure(), ".png"))


def test_a_page_of_several_palettes():
    """Where signed maps stand beside others, the page is in color."""
    identity = nn.Identity()
    records = [sp.capture(identity, maps, layers="")[""] for maps in (torch.rand(1, 2, 5, 5), -torch.rand(1, 2, 5, 5))]
    gallery = sp.feature_maps(dict(zip("ab", records, strict=True)))
    assert Image.open(io.BytesIO(gallery.to_png())).mode != "P"
