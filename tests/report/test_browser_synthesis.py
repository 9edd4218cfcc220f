"""The page in headless Chromium: what was synthesized for channels, and the concepts that they align with."""

from __future__ import annotations

import pytest

import spatialprobe as sp

pytestmark = pytest.mark.usefixtures("nothing_went_wrong")


@pytest.fixture(scope="module")
def results(model, images):
    """The images made for two channels of a layer, and the concepts of all of them."""
    made = sp.maximize_activation(model, "conv1", [1, 0], shape=(3, 32, 32), steps=2, progress=False)
    data = [(image, (image[0] > 0.7).long() + (image[1] > 0.7)) for image in images]
    aligned = sp.evidence.concept_alignment(
        model, data, "conv1", concepts=["one", "both"], quantile=0.1, progress=False
    )
    return made, aligned["conv1"]


@pytest.fixture(scope="module")
def path(model, images, results, tmp_path_factory):
    target = tmp_path_factory.mktemp("page") / "report.html"
    made, aligned = results
    sp.write_report(target, model, images[:2], layers=["conv1", "conv2"], synthesized=made, concepts=aligned)
    return target


def test_what_channels_respond_to(page, results):
    """Image, value and concepts are the channel's; what is missing says so; the mosaic shows all images."""
    made, aligned = results
    page.open("#conv1/1")
    assert page.colors("synthesis-picture") > 4
    assert page.text("made-value") == f"{made.reached[0]:.3g}"
    assert "the 3 x 3 pixels that the unit in row 16, column 16 sees." in page.text("synthesis-words")
    rows = page.run("return [...document.querySelectorAll('#concepts tbody tr')].map((row) => row.textContent)")
    best = int(aligned.best[1])
    assert rows[0].startswith(f"{aligned.concepts[best]}{aligned.iou[1, best]:.3f}")
    assert len(rows) == 2
    page.press("map", "PAGE_DOWN")
    page.says("channel 2:")
    assert page.text("synthesis-words") == "No image was synthesized for this channel."
    assert not page.run("return document.getElementById('made').checkVisibility()")
    maps = page.pixels("mosaic")
    page.run("document.querySelector('#wall [value=synthesized]').click()")
    page.wait("location.hash.includes('wall=synthesized')")
    assert page.pixels("mosaic") != maps
    page.open("#conv2?wall=synthesized", width=390, height=844)
    assert page.text("synthesis-words") == "No image was synthesized for conv2."
    assert page.text("concept-words") == "conv2 was held against no concepts."
    assert not page.run("return document.getElementById('wall').checkVisibility()")
    assert page.run("return document.documentElement.scrollWidth") <= 390
