"""Signals and volumes in headless Chromium: lines and intervals, slices by keys, mouse and touch, boxes in all axes."""

from __future__ import annotations

import pytest
import torch
from page_browser import Opened
from torch import nn

import spatialprobe as sp

pytestmark = pytest.mark.usefixtures("nothing_went_wrong")


SLICE_COLOR = """const canvas = document.getElementById('input');
return [...canvas.getContext('2d').getImageData(9, 9, 1, 1).data]"""  # red, green and blue in the slice's upper left


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 6, 5, padding=2), nn.ReLU(), nn.Conv1d(6, 4, 3, stride=2)).eval()
    data = torch.sin(torch.arange(64) / 5) + torch.rand(12, 2, 64, generator=torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("signals") / "page.html"
    sp.explore(model, data[:2], data, layers=nn.Conv1d, path=path, open=False)
    return path


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    torch.manual_seed(0)
    convs = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 6, (3, 2, 2), stride=(1, 2, 2))
    model, data = nn.Sequential(convs[0], nn.ReLU(), convs[1]).eval(), torch.rand(5, 1, 8, 16, 12)
    path = tmp_path_factory.mktemp("volumes") / "page.html"
    step = (torch.arange(8) < 4).float().mul(2).sub(1)[None, :, None, None].expand(2, 8, 1, 1)
    sp.explore(model, data[:2], data, layers=nn.Conv3d, path=path, open=False, overlays={"step": step})
    return path


def test_images_of_several_sizes(driver, tmp_path):
    """Another image turns map, fields and the strip to its own size; a clicked pixel is let go, and links lead back."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2)).eval()
    images = [torch.rand(3, *size) for size in ((12, 20), (24, 10))]
    path = tmp_path / "page.html"
    sp.write_report(path, model, images, forward=lambda one, batch: one(torch.stack(batch)))
    page = Opened(driver, path)
    page.open("#2/1/1/7")
    page.says("It sees rows 2-6, columns 14-18 of the input.")
    assert "4 × 8" in page.text("strip")
    page.point("input", 0.9, 0.5, click=True)
    page.wait("!document.getElementById('pixel').hidden")
    page.choose("image", "1")
    page.wait("location.hash.includes('image=1')")
    page.says("Unit row 3, column 2 of 2")
    page.says("It sees rows 6-10, columns 4-8 of the input.")
    assert "10 × 3" in page.text("strip")
    assert page.run("return document.getElementById('pixel').hidden")
    page.press("map", "ARROW_DOWN")
    page.says("It sees rows 8-12")
    page.open("#0/1/21/7?image=1")
    page.says("It sees rows 21-23, columns 7-9 of the input.")


def test_maps_over_volumes(driver, volumes):
    """What lies over a volume is shown slice by slice: violet before the middle, orange behind."""
    page = Opened(driver, volumes)
    page.open("#0/1/8/6/1?over=1")
    page.says("sees slices 0-2")
    before = page.run(SLICE_COLOR)
    page.open("#0/1/8/6/6?over=1")
    page.says("sees slices 5-7")
    after = page.run(SLICE_COLOR)
    assert before[2] > before[0] + 50
    assert after[0] > after[2] + 50
    assert "Over the input: step" in page.text("over-words")


def test_lines(driver, signals):
    """A unit of a line sees an interval; mouse, keys and a click on the input's line are read along it."""
    page = Opened(driver, signals)
    page.open("#2/1/0/10")
    page.says("Unit 10 of 2, channel 1: activation ")
    page.says("It sees positions 18-24 of the input.")
    for name in ("mosaic", "map", "input", "kernel-picture"):
        assert page.colors(name) > 3, name
    page.press("map", "ARROW_RIGHT", "ARROW_DOWN")
    page.says("Unit 11 of 2")
    before = page.pixels("input")
    page.point("map", 0.5, 0.5 / 31)
    page.says("Unit 0 of 2")
    page.says("2 positions before it are padding")
    assert page.pixels("input") != before
    page.point("input", 0.5, 0.5, click=True)
    page.wait("document.getElementById('pixel-title').textContent.startsWith('Position 3')")
    assert "units 1" in page.text("pixel-words")
    assert "Lines run between" in page.text("exemplar-words")
    assert (
        page.run("return document.querySelector('#exemplar-picture button').ariaLabel")
        .split(" in ")[1]
        .startswith("sample ")
    )
    page.choose("image", "1")
    page.wait("location.hash.includes('image=1')")


def test_slices_by_slider_keys_and_touch(driver, volumes):
    """The map's slider and its keys move the unit through the slices, the input's looks through the field."""
    page = Opened(driver, volumes)
    page.open("#2/1/3/2/4")
    page.says("Unit slice 4, row 3, column 2 of 2, channel 1: activation ")
    page.says("It sees slices 3-7, rows 5-8, columns 3-6 of the input.")
    mosaic, photo = page.pixels("mosaic"), page.pixels("input")
    page.press("map-slice", "ARROW_LEFT")
    page.says("Unit slice 3, row 3, column 2")
    assert page.pixels("mosaic") != mosaic
    assert page.pixels("input") != photo
    page.wait("location.hash === '#2/1/3/2/3'")
    page.run(
        "document.getElementById('map').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowUp', shiftKey: true}))"
    )
    page.says("Unit slice 2, row 3, column 2")
    assert page.text("input-slice-number") == "3 of 8"
    page.press("input-slice", "END")
    assert page.text("input-slice-number") == "7 of 8"
    page.says("Unit slice 2, row 3, column 2")
    page.open("#2/1/3/2/4", width=390, height=844)
    page.tap("map-slice", 0.5, 0.02)
    page.says("Unit slice 0, row 3, column 2")


def test_voxels_are_clicked_in_slice_and_sections(driver, volumes):
    """The slice gives row and column, the sections beside and below it the slice; who sees the voxel is told."""
    page = Opened(driver, volumes)
    page.open("#0/1/3/2/4")
    page.point("input", 0.2, 0.2, click=True)
    page.wait("/^Voxel slice 4, row [4-5], column [3-4] of/.test(document.getElementById('pixel-title').textContent)")
    assert "Seen by slices 3-5, rows " in page.text("pixel-words")
    page.point("input", 0.2, 0.97, click=True)
    page.wait("/^Voxel slice 7, row [4-5], /.test(document.getElementById('pixel-title').textContent)")
    page.point("input", 0.72, 0.2, click=True)
    page.wait("/^Voxel slice [01], row 3, column [3-4]/.test(document.getElementById('pixel-title').textContent)")
    page.run("document.querySelector('#responses button').click()")
    page.says("Unit slice ")
    assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
