"""The page in headless Chromium: contributions by mouse, touch and keys, over the input, in links, on a phone."""

from __future__ import annotations

import pytest
import torch

import spatialprobe as sp

pytestmark = pytest.mark.usefixtures("nothing_went_wrong")


@pytest.fixture(scope="module")
def path(explained):
    return explained[0]


@pytest.fixture(scope="module")
def explained(model, images, tmp_path_factory):
    """The page with contributions to a score, what they are, and a map of other origin."""
    target = tmp_path_factory.mktemp("page") / "report.html"
    layers, at = ["conv1", "conv2"], "post_activation"

    def score(output):
        return output[:, :150].mean((1, 2, 3))

    overlay = torch.linspace(-1, 1, 3 * 64).reshape(3, 8, 8)
    sp.write_report(
        target, model, images, layers=layers, at=at, targets=score, overlays={"ramp": overlay}, progress=False
    )
    return target, sp.attribute(model, images, score, layers=layers, at=at)


def order_of(explained, image):
    return explained[1]["conv2"].channels[image].argsort(descending=True, stable=True).tolist()


def test_what_contributes_most_comes_first(page, explained):
    """Contributions are the order at first, and the first of them is chosen; other orders stay."""
    page.open("#conv2")
    first = order_of(explained, 0)[0]
    page.says(f"channel {first}:")
    value = float(explained[1]["conv2"].channels[0, first])
    words = page.text("contribution-words")
    assert f"Channel {first} contributes +{value:.3g}, number 1 of 12. When it alone is ablated" in words
    assert page.text("check-words").startswith("Checked by removal: without the 1 of 12 channels")
    page.choose("order", "index")
    page.wait("location.hash.includes('order=index')")
    page.choose("image", "2")
    page.choose("order", "contribution")
    page.wait("!location.hash.includes('order=')")
    page.press("mosaic", "HOME")
    page.says(f"channel {order_of(explained, 2)[0]}:")


def test_bars_by_mouse_keys_and_touch(page, explained):
    """A click or a touch chooses the channel of a bar, the mouse shows it, and arrow keys move along the bars."""
    page.open("#conv2")
    order = order_of(explained, 0)
    width = page.run("return document.getElementById('bars').clientWidth")
    place = [(i + 0.5) * (width - 60) / 12 / width for i in range(12)]
    page.point("bars", 0.5, place[4], click=True)
    page.says(f"channel {order[4]}:")
    page.press("bars", "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_LEFT")
    page.says(f"channel {order[5]}:")
    page.point("bars", 0.5, place[9])
    page.says(f"channel {order[9]}:")
    assert f"Channel {order[9]} contributes" in page.text("contribution-words")
    page.point("layer-title", 0.5, 0.5)
    page.says(f"channel {order[5]}:")
    page.open("#conv2", width=390, height=844)
    width = page.run("return document.getElementById('bars').clientWidth")
    page.tap("bars", 0.5, 2.5 * (width - 60) / 12 / width)
    page.says(f"channel {order[2]}:")
    assert page.run("return document.documentElement.scrollWidth") <= 390


def test_what_lies_over_the_input(page):
    """Contributions at first, then nothing, or the user's map; each another picture, with its scale in words."""
    page.open("#conv2/3/5/5")
    assert "contributions per pixel, one scale" in page.text("over-words")
    assert page.run("return document.getElementById('over-numbers').firstChild.textContent").startswith("≤ −")
    pictures = [page.pixels("input")]
    for choice, words in (("ramp", "Over the input: ramp, one scale for all images"), ("nothing", "")):
        page.choose("over", choice)
        page.wait(f"location.hash.includes('over={'2' if words else '0'}')")
        pictures.append(page.pixels("input"))
        assert page.run("return document.getElementById('over-words').hidden") == (not words)
        assert words in page.text("over-words")
    assert len(set(pictures)) == 3
    page.open("#conv2/3/5/5?over=2", dark=True)
    assert page.run("return document.getElementById('over').value") == "2"


def test_colors_are_the_signs(page):
    """Where the user's map is lowest the input is orange, where it is highest violet."""
    page.open("#conv2/3/5/5?over=2&image=1")
    corners = page.run(
        "const c = document.getElementById('input'), d = c.getContext('2d');"
        "const all = d.getImageData(0, 0, c.width, c.height).data;"
        "const at = (x, y) => [...all.slice(4 * (y * c.width + x), 4 * (y * c.width + x) + 3)];"
        "return [at(8, 8), at(c.width - 9, c.height - 9)]"
    )
    low, high = corners
    assert low[0] > low[2]  # the second map runs from -1/3 to 1/3
    assert high[2] > high[0]


def test_laptop_shows_the_kernel(page):
    """On 1280 x 720 contributions begin, and the kernel lies, on the screen without scrolling."""
    page.open("#conv1/1/5/5", width=1280, height=720)
    assert page.run("return document.getElementById('kernel-picture').getBoundingClientRect().bottom") <= 720
    left = "return document.getElementById(arguments[0]).getBoundingClientRect().left"
    assert page.run(left, "kernel") > page.run(left, "contributions")
    assert page.run("return document.getElementById('bars').getBoundingClientRect().top") < 700
