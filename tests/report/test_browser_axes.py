"""Signals and volumes in headless Chromium: lines and intervals, slices by keys, mouse and touch, boxes in all axes."""

from __future__ import annotations

import pytest
import torch
from page_browser import Opened
from torch import nn

import spatialprobe as sp

pytestmark = pytest.mark.usefixtures("nothing_went_wrong")


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
    sp.explore(model, data[:2], data, layers=nn.Conv3d, path=path, open=False)
    return path


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
    assert "in sample " in page.text("exemplar-words")
    assert "at unit " in page.text("exemplar-words")
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
