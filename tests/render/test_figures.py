"""Figures: every kind of picture is drawn without pyplot, and leaves nothing behind in it."""

from __future__ import annotations

import base64
import html
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from stand_ins import Field, exemplars_of

import spatialprobe as sp
from spatialprobe.render.palette import PAPER

EVERY_KIND = """
import sys
sys.path.insert(0, {tests!r})
import torch, spatialprobe as sp
from stand_ins import Field, exemplars_of
conv = torch.nn.Conv2d(3, 4, 3, padding=1)
images = torch.rand(5, 3, 8, 8)
records = sp.capture(conv, images)
pictures = [
    sp.feature_maps(records[""]), sp.feature_maps(records), sp.kernels(conv),
    sp.receptive_field_overlay(images[0], Field(), (2, 3)),
    sp.exemplar_patches(exemplars_of(records[""].tensor, 3), images, Field()),
    sp.evolution({{"a": records[""], "b": records[""]}}), sp.activation_histogram(records[""]),
]
for number, picture in enumerate(pictures):
    figure = picture.figure()
    assert isinstance(figure, sys.modules["matplotlib.figure"].Figure)
    figure.savefig({folder!r} + f"/{{number}}.png")
    figure.savefig({folder!r} + f"/{{number}}.pdf")
print(*sorted(name for name in sys.modules if "pyplot" in name), len(pictures))
"""


def test_pyplot_is_never_imported(tmp_path):
    """Every kind of picture becomes a plain figure, for screen and print, and pyplot stays out of memory."""
    code = EVERY_KIND.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["7"]
    assert len(list(tmp_path.iterdir())) == 14


def record_of(values):
    identity = torch.nn.Identity()
    return sp.capture(identity, values, layers="")[""]


def drawn(figure):
    """The figure as an image (H, W, 3) at its own resolution."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def words_of(svg):
    """Every text of an SVG."""
    return [html.unescape(words) for words in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_numbers_are_text_in_files_of_vectors(tmp_path):
    """Channel numbers, the ends of the bar, title and caption are text in an SVG and PDF, and not letters of pixels."""
    values = torch.rand(1, 12, 20, 20)
    values[0, 0, 0, 0], values[0, 7] = 60, 0
    mosaic = sp.feature_maps(record_of(values))
    words = words_of(mosaic.save(tmp_path / "maps.svg").read_text())
    assert {str(channel) for channel in range(12) if channel != 7} | {"7 dead"} <= set(words)
    assert mosaic.color_bar.ends[1] in words
    assert mosaic.title in words
    assert any("99.5th percentile" in line for line in words)
    assert mosaic.unwritten().shape == mosaic.array.shape
    assert not np.array_equal(mosaic.unwritten(), mosaic.array)
    strip = mosaic.unwritten(codes=True)[4:18]  # where the first row of numbers stands
    assert (strip == PAPER).all()
    assert b"/Font" in mosaic.save(tmp_path / "maps.pdf").read_bytes()


def test_control_characters_are_escaped(tmp_path):
    """Control characters in a name, which XML and PNG forbid, are escaped: the SVG can be read, and says the same."""
    mosaic = sp.kernels(torch.nn.Conv2d(1, 2, 3)).with_source("red\x1b[31m\0")
    escaped = mosaic.title.replace("\x1b", r"\x1b").replace("\0", r"\x00")
    page = ElementTree.parse(mosaic.save(tmp_path / "kernels.svg"))
    assert escaped in [text.text for text in page.iter("{http://www.w3.org/2000/svg}text")]
    with Image.open(mosaic.save(tmp_path / "kernels.png")) as opened:
        assert (opened.text["Title"], opened.text["Source"]) == (escaped, r"red\x1b[31m\x00")


@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_numbers_of_the_bar_fit_the_page(scale):
    """However long the numbers beside a color bar are, the page is wide enough for them."""
    mosaic = sp.feature_maps(record_of((torch.rand(1, 2, 20, 20) - 0.5) * 1.23456 * scale))
    figure = mosaic.figure()
    FigureCanvasAgg(figure).draw()
    bar = figure.axes[-1]
    assert max(label.get_window_extent().x1 for label in bar.get_yticklabels()) < figure.bbox.x1 - 4
    across = int(re.search(r'viewBox="0 0 (\d+)', mosaic._repr_html_())[1])
    assert across - mosaic.pixels.shape[1] - 32 >= 6 * max(map(len, mosaic.color_bar.ends))


def test_steps_rows_and_patches_are_written_as_text(tmp_path):
    """Names of steps, of channels and of samples too, wherever a sheet is put together from others."""
    steps = {f"epoch {step}": record_of(torch.rand(1, 5, 9, 9)) for step in range(3)}
    words = words_of(sp.evolution(steps).save(tmp_path / "columns.svg").read_text())
    assert {"epoch 0", "epoch 1", "epoch 2", "0", "4"} <= set(words)
    uneven = [record_of(torch.rand(1, 5, 9, 9)), record_of(torch.rand(1, 3, 12, 12))]
    panels = sp.evolution(uneven, names=["shallow", "deep"], scale="layer").save(tmp_path / "panels.svg").read_text()
    assert {"shallow   5 of 5 channels", "deep   3 of 3 channels"} <= set(words_of(panels))
    top = exemplars_of(torch.rand(6, 2, 8, 8), 3)
    patches = sp.exemplar_patches(top, torch.rand(6, 3, 8, 8), Field())
    words = words_of(patches.save(tmp_path / "patches.svg").read_text())
    assert sum("#" in word for word in words) == 6 + 1  # a label each, and the caption


@pytest.mark.parametrize("kind", ["maps", "overlay", "histogram", "gallery"])
def test_width_and_dpi(kind):
    """A page is as wide as asked, and has as many pixels as its dots per inch say, with all words on it."""
    record = record_of(torch.rand(1, 30, 9, 9))
    picture = {
        "maps": lambda: sp.feature_maps(record),
        "overlay": lambda: sp.receptive_field_overlay(torch.rand(3, 8, 8), Field(), (2, 3)),
        "histogram": lambda: sp.activation_histogram(record),
        "gallery": lambda: sp.feature_maps({"a": record, "b": record}),
    }[kind]()
    for width in (3.5, 9.0):
        figure = picture.figure(width=width, dpi=150)
        assert figure.get_size_inches()[0] == pytest.approx(width)
        assert drawn(figure).shape[1] == pytest.approx(150 * width, abs=1)
        for text in figure.texts:
            box = text.get_window_extent()
            assert 0 <= box.x0 <= box.x1 <= 150 * width
            assert box.y0 >= 0
    for wrong in ({"width": 0.2}, {"width": "wide"}, {"dpi": 5}, {"dpi": float("inf")}):
        with pytest.raises(sp.ArgumentError, match=next(iter(wrong))):
            picture.figure(**wrong)


def test_long_names_stay_on_the_page():
    """A word that is wider than the page, such as a layer's dotted name, is broken, and nothing of it is lost."""
    name = "backbone.stages.3.token_mixer." * 6
    figure = sp.kernels(torch.nn.Conv2d(1, 2, 3)).figure(name)
    assert any("".join(text.get_text().split()) == name for text in figure.texts)
    assert (drawn(figure)[:, -10:] == 255).all()


def test_twice_the_dots_are_sharp():
    """At 200 dpi each pixel of the mosaic is a square of four, and numbers are drawn with four times the dots."""
    mosaic = sp.feature_maps(record_of(torch.rand(1, 6, 8, 8)))
    once, twice = drawn(mosaic.figure()), drawn(mosaic.figure(dpi=200))
    sheet = mosaic.unwritten()
    inner = sheet[20:60, 6:60]
    assert holds(once, inner)
    assert holds(twice, inner.repeat(2, axis=0).repeat(2, axis=1))
    dark = [(image.max(axis=2) < 90).sum() for image in (once, twice)]
    assert 3 < dark[1] / dark[0] < 5


def holds(page, part):
    """Whether a part is somewhere on a page, pixel for pixel."""
    height, width = part.shape[:2]
    rows, columns = page.shape[0] - height + 1, page.shape[1] - width + 1
    corners = (page[:rows, :columns] == part[0, 0]).all(axis=2) & (page[height - 1 :, width - 1 :] == part[-1, -1]).all(
        axis=2
    )
    return any(np.array_equal(page[y : y + height, x : x + width], part) for y, x in np.argwhere(corners))


def test_figures_show_themselves():
    """A notebook shows a figure at the end of a cell, with twice the dots that its size says."""
    figure = sp.feature_maps(record_of(torch.rand(1, 2, 8, 8))).figure()
    data, size = figure._repr_png_()
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == (2 * size["width"], 2 * size["height"])


def test_a_notebook_gets_text_and_bar():
    """In a notebook numbers, title, ends of the bar and caption are text beside the picture, and names stay text."""
    values = torch.rand(1, 12, 20, 20) - 0.5
    values[0, 0, 0, 0] = 60
    mosaic = replace(sp.feature_maps(record_of(values)), title="<script>alert(1)</script>")
    page = mosaic._repr_html_()
    assert set(map(str, range(12))) | {"0", *mosaic.color_bar.ends} <= set(words_of(page))
    assert "lie beyond" in page
    assert "<script>" not in page
    encoded = re.search(r"data:image/png;base64,([^\"]+)", page).group(1)
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as opened:
        assert np.array_equal(np.asarray(opened.convert("RGB")), mosaic.unwritten())
