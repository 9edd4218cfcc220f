"""What all pictures have in common: the same names, and files by their suffix."""

from __future__ import annotations

import io
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

import spatialprobe as sp
from spatialprobe.render.figures import rasterize
from spatialprobe.render.picture import Picture


def pictures():
    """One of each kind."""
    conv, images = torch.nn.Conv2d(3, 4, 5), torch.rand(9, 3, 16, 16)
    records = sp.capture(conv, images)
    field = sp.receptive_fields(conv, (1, 3, 16, 16))[""]
    top = sp.sweep(conv, images, {"top": sp.Exemplars}, progress=False)[""]["top"]
    return {
        "feature_maps": sp.feature_maps(records[""]),
        "kernels": sp.kernels(conv),
        "overlay": sp.receptive_field_overlay(images[0], field, (2, 3)),
        "patches": sp.exemplar_patches(top, images, field),
        "evolution": sp.evolution(records),
        "histogram": sp.activation_histogram(records[""]),
    }


@pytest.fixture(scope="module")
def all_pictures():
    torch.manual_seed(0)
    return pictures()


@pytest.mark.parametrize("kind", ["feature_maps", "kernels", "overlay", "patches", "evolution", "histogram"])
def test_saved_by_suffix(all_pictures, kind, tmp_path):
    """Each picture is saved as a PNG, a PDF, and an SVG whose words are text, and shows itself in a notebook."""
    picture = all_pictures[kind]
    assert isinstance(picture, Picture)
    assert picture.save(tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert picture.save(str(tmp_path / "picture.PDF")).read_bytes().startswith(b"%PDF")
    svg = picture.save(tmp_path / "picture.svg").read_text()
    assert "<text" in svg
    assert all(word in svg for word in picture.title.split()[:2])
    assert picture._repr_png_() == picture.to_png()
    assert picture.figure(title="Another").texts[0].get_text() == "Another"
    with pytest.raises(sp.ArgumentError, match=r"saved as \.png or \.pdf or \.svg"):
        picture.save(tmp_path / "picture.bmp")


def test_a_png_says_what_it_shows(all_pictures, tmp_path):
    """Title, caption and color bar are drawn in a saved PNG, as `figure()` draws them."""
    for kind, picture in all_pictures.items():
        with Image.open(picture.save(tmp_path / f"{kind}.png")) as opened:
            saved = np.asarray(opened.convert("RGB")).astype(int)
        drawn = rasterize(picture.figure())
        assert saved.shape == drawn.shape, kind
        assert abs(saved - drawn).max() <= 40, kind  # the palette's ink is no blacker


def test_a_png_too_large_for_a_page(tmp_path):
    """A picture that matplotlib cannot rasterize on a page is saved alone."""
    mosaic = sp.feature_maps(torch.rand(1, 1900, 1, 1), columns=1)
    with Image.open(mosaic.save(tmp_path / "long.png")) as opened:
        assert opened.size == mosaic.array.shape[1::-1]
        assert opened.text["Title"] == mosaic.title


def test_files_are_the_same_each_time(all_pictures, tmp_path):
    """Neither a date nor a random name is written into a file."""
    picture = all_pictures["kernels"]
    for suffix in ("png", "svg"):
        first, second = (picture.save(tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        assert first == second


def test_show_opens_the_page(all_pictures, monkeypatch):
    """The system's viewer gets the picture with its title, caption and bar."""
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image, title=None: shown.append((image.size, title)))
    picture = all_pictures["feature_maps"]
    picture.show()
    width, height = picture.figure().get_size_inches()
    assert shown == [((round(150 * width), pytest.approx(150 * height, abs=1)), picture.title)]


def test_show_in_a_notebook(all_pictures, monkeypatch):
    """Where a kernel runs, the picture is displayed below the cell."""
    displayed = []
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=displayed.append))
    all_pictures["kernels"].show()
    assert displayed == [all_pictures["kernels"]]


def test_animations_are_gifs(all_pictures, tmp_path):
    """An evolution is saved as an animation, too."""
    with Image.open(io.BytesIO(all_pictures["evolution"].save(tmp_path / "steps.gif").read_bytes())) as opened:
        assert opened.format == "GIF"
