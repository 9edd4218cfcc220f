"""The page in headless Chromium: the first look, the strip of layers, the photo, the wall and whole images."""

from __future__ import annotations

import re

import pytest
import torch
from page_browser import HOSTILE, Opened
from report_reader import read

import spatialprobe as sp

pytestmark = pytest.mark.usefixtures("nothing_went_wrong")


def current(page, row):
    """Which thumbnail of a row is the current one."""
    return page.run(
        "return [...document.getElementById(arguments[0]).children].findIndex((one) => one.ariaCurrent === 'true')", row
    )


def test_strip_shows_every_layer(page):
    """Each layer has a thumbnail with its map, its depth, its units and its field; the one shown is marked."""
    texts = page.run("return [...document.querySelectorAll('#strip button')].map((one) => one.textContent)")
    assert texts == ["conv1#1 · 32 × 32 · sees 3", "conv2#2 · 16 × 16 · sees 8", f"{HOSTILE}#3 · 16 × 16 · sees 8"]
    assert current(page, "strip") == 0
    page.wait("[...document.querySelectorAll('#strip canvas')].every((one) => one.style.width)")
    counts = page.run(
        "return [...document.querySelectorAll('#strip canvas')].map((c) => new Set(new Uint32Array("
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size)"
    )
    assert min(counts) > 4


def test_strip_by_mouse_and_keys(page):
    """A click chooses a layer; arrow keys move along the layers, Home and End to the ends, and stop there."""
    page.run("document.querySelectorAll('#strip button')[1].click()")
    page.says("of conv2, channel ")
    assert page.run("return document.getElementById('layer').value") == "1"
    page.run("document.querySelectorAll('#strip button')[1].focus()")
    page.press_on("ARROW_LEFT")
    page.says("of conv1, channel ")
    page.press_on("ARROW_LEFT")
    page.says("of conv1, channel ")
    page.press_on("END")
    page.says(f"of {HOSTILE}, channel ")
    assert current(page, "strip") == 2
    assert page.run("return document.activeElement === document.querySelectorAll('#strip button')[2]")


def test_images_are_thumbnails(page):
    """A click on an image's thumbnail shows it; arrow keys move along."""
    page.open("#conv2/3/5/5")
    page.run("document.querySelectorAll('#images button')[1].click()")
    page.wait("location.hash === '#conv2/3/5/5?image=1'")
    assert page.text("input-title") == "Input image 1: dog"
    page.run("document.querySelectorAll('#images button')[1].focus()")
    page.press_on("ARROW_RIGHT")
    page.wait("location.hash === '#conv2/3/5/5?image=2'")
    assert current(page, "images") == 2


def test_hovering_the_mosaic_shows_the_channel_large(page):
    """The channel under the mouse is drawn as the map and named; when the mouse leaves, the chosen one is back."""
    page.open("#conv2/0/4/4")
    before = page.pixels("map")
    place = page.run(
        "const m = document.getElementById('mosaic').getBoundingClientRect(),"
        " c = document.getElementById('chosen').getBoundingClientRect();"
        "return [(c.top + c.height / 2 - m.top) / m.height, (c.right + c.width / 2 - m.left) / m.width]"
    )
    page.point("mosaic", *place)
    page.says("channel 1:")
    assert page.text("channel-title") == "Channel 1"
    assert page.pixels("map") != before
    page.point("layer-title", 0.5, 0.5)
    page.says("channel 0:")
    page.wait("location.hash === '#conv2/0/4/4'")
    assert page.pixels("map") == before


def test_input_is_plain_until_the_map_is_pointed_at(page):
    """The input's corner has the image's own color, and is dimmed only while the mouse is on the map."""
    page.open("#conv2/3/8/8")
    corner = (
        "const c = document.getElementById('input'), copy = document.createElement('canvas').getContext('2d');"
        "copy.drawImage(c, c.width - 12, c.height - 12, 1, 1, 0, 0, 1, 1);"
        "return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3)"
    )
    plain = page.run(corner)
    page.point("map", 0.3, 0.3)
    page.says("Unit row 4, column 4")
    assert page.run(corner) != plain
    page.point("layer-title", 0.5, 0.5)
    page.says("Unit row 8, column 8")
    assert page.run(corner) == plain


def pixel_found(page):
    """The pixel, and the rows and columns of units, that the page names."""
    title, words = page.text("pixel-title"), page.text("pixel-words")
    pixel = tuple(map(int, re.fullmatch(r"Pixel row (\d+), column (\d+) of the input", title).groups()))
    ranges = re.search(r"Seen by rows? (\d+)(?:-(\d+))?, columns? (\d+)(?:-(\d+))? of", words).groups()
    y0, y1, x0, x1 = (int(one) if one else None for one in ranges)
    return pixel, (y0, x0, (y0 if y1 is None else y1) + 1, (x0 if x1 is None else x1) + 1)


def test_click_on_the_photo_shows_who_sees_the_pixel(page, model, images):
    """The units that see it are those of `reached_by`; the channels named respond most among them."""
    page.open("#conv2/3/5/5")
    page.wait("[...document.querySelectorAll('#strip canvas')].every((one) => one.style.width)")
    page.run("window.before = [...document.querySelectorAll('#strip canvas')].map((one) => one.toDataURL())")
    page.point("input", 0.5, 0.25, click=True)
    page.wait("!document.getElementById('pixel').hidden")
    pixel, region = pixel_found(page)
    assert max(abs(pixel[0] - 16), abs(pixel[1] - 8)) <= 1
    box = sp.receptive_fields(model, (1, 3, 32, 32))["conv2"].reached_by(*pixel)
    assert region == (*box.start, *box.stop)
    record = sp.capture(model, images[:1], layers="conv2", at="post_activation")["conv2"].tensor[0]
    most = record[:, box.start[0] : box.stop[0], box.start[1] : box.stop[1]].amax(dim=(1, 2))
    chips = page.run("return [...document.querySelectorAll('#responses button')].map((one) => one.textContent)")
    named = [tuple(re.fullmatch(r"channel (\d+): (\S+)", chip).groups()) for chip in chips]
    assert int(named[0][0]) == int(most.argmax())
    for channel, value in named:
        assert float(value) == pytest.approx(float(most[int(channel)]), rel=0.02, abs=0.01)
    page.wait("[...document.querySelectorAll('#strip canvas')].every((one, i) => one.toDataURL() !== window.before[i])")
    page.run("document.querySelectorAll('#responses button')[1].click()")
    page.says(f"channel {named[1][0]}:")


def test_pixel_by_keys(page):
    """On the photo arrow keys move the pixel, and Escape lets go of it."""
    page.press("input", "ARROW_RIGHT", "ARROW_DOWN", "ARROW_DOWN")
    page.wait("document.getElementById('pixel-title').textContent === 'Pixel row 18, column 17 of the input'")
    page.press("input", "ESCAPE")
    page.wait("document.getElementById('pixel').hidden")


def test_pixel_by_touch(page):
    """A tap on the photo chooses the pixel."""
    page.open("#conv2/3/5/5", width=390, height=844)
    page.tap("input", 0.75, 0.5)
    page.wait("!document.getElementById('pixel').hidden")
    (y, x), _ = pixel_found(page)
    assert max(abs(y - 24), abs(x - 16)) <= 1


def test_exemplar_wall(page):
    """The mosaic switches to the top patches of each channel and back; layers without patches have no switch."""
    page.open("#conv2/3/5/5")
    maps = page.pixels("mosaic")
    page.run("document.querySelector('#wall button[value=patches]').click()")
    page.wait("location.hash === '#conv2/3/5/5?wall=patches'")
    page.wait(f"document.getElementById('mosaic').toDataURL() !== {maps!r}")
    assert page.run("return document.querySelector('#wall button[value=patches]').ariaPressed") == "true"
    assert page.colors("mosaic") > 100
    page.press("mosaic", "ARROW_RIGHT")
    page.says("channel 4:")
    page.run("document.querySelectorAll('#strip button')[2].click()")
    page.says(f"of {HOSTILE}")
    assert page.run("return document.getElementById('wall').hidden")
    page.run("document.querySelectorAll('#strip button')[1].click()")
    page.says("of conv2")
    page.run("document.querySelector('#wall button[value=maps]').click()")
    page.wait("!location.hash.includes('wall')")


@pytest.mark.parametrize("how", ["mouse", "touch", "keys"])
def test_patch_opens_its_whole_image(page, path, how):
    """The whole image of the sample opens with what the unit saw, in words too; Escape closes it."""
    page.open("#conv2/3/5/5", width=390 if how == "touch" else 1280, height=844)
    layer = read(path).layer("conv2")["sweep"]
    if how == "keys":
        page.run("document.querySelector('.patch').focus()")
        page.press_on("ENTER")
    elif how == "touch":
        page.run("document.querySelector('.patch').id = 'first-patch'")
        page.tap("first-patch", 0.5, 0.5)
    else:
        page.run("document.querySelector('.patch').id = 'first-patch'")
        page.point("first-patch", 0.5, 0.5, click=True)
    page.wait("document.getElementById('whole').open")
    words = page.text("whole-words")
    shown = page.run("return document.querySelector('.patch').ariaLabel")
    sample, y, x = re.search(r"in sample (\d+) at row (\d+), column (\d+)", shown).groups()
    assert words.startswith(f"Sample {sample}: unit row {y}, column {x} of conv2, channel 3 reached ")
    assert "It sees rows" in words
    assert layer["columns"] == 9
    page.wait("document.getElementById('whole-picture').width > 100")
    assert page.colors("whole-picture") > 100
    page.press_on("ESCAPE")
    page.wait("!document.getElementById('whole').open")


def test_patches_of_large_fields_are_cut_from_whole_images(driver, tmp_path):
    """Where fields are too large for a sheet, patches are drawn from the stored images, and labels are named."""
    torch.manual_seed(0)
    deep = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 31, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 9))
    data = torch.utils.data.TensorDataset(torch.rand(12, 3, 96, 96), torch.arange(12) % 2)
    sweep = sp.sweep(deep, data, {"top": sp.Exemplars}, progress=False)
    target = tmp_path / "deep.html"
    sp.write_report(target, deep, data.tensors[0][:1], sweep=sweep, dataset=data)
    assert "patches" not in read(target).layer("2")["sweep"]
    page = Opened(driver, target)
    page.open("#2/1/3/3")
    page.wait(
        "[...document.querySelectorAll('.patch canvas')].every((c) => new Set(new Uint32Array("
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size > 50)"
    )
    page.run("document.querySelector('.patch').click()")
    page.wait("document.getElementById('whole').open")
    sample = int(re.match(r"Sample (\d+), class (\d): ", page.text("whole-words"))[1])
    assert page.text("whole-words").startswith(f"Sample {sample}, class {sample % 2}: ")


def test_laptop_shows_it_all(page):
    """On 1280 x 720 map, input, sentence, exemplars and kernel lie on the screen without scrolling."""
    page.open("#conv2/3/5/5", width=1280, height=720)
    for name in ("strip", "map", "input", "status", "exemplar-picture", "kernel-picture", "mosaic"):
        bottom = page.run("return document.getElementById(arguments[0]).getBoundingClientRect().bottom", name)
        if name != "mosaic":
            assert bottom <= 720, name


def test_print_is_clean(page):
    """On paper there are pictures and words, and nothing to press."""
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        for name in ("strip", "controls", "wall", "keys", "stills"):
            assert page.run("return getComputedStyle(document.getElementById(arguments[0])).display", name) == "none", (
                name
            )
        assert page.run("return document.documentElement.scrollWidth") <= 1280
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def tap_numbers(page):
    """The numbers in the sentence about a weight: input, weight and product."""
    found = re.search(r"input \d+: (\S+) × (\S+) = (\S+?)\. All", page.text("tap-words"))
    return tuple(map(float, found.groups()))


@pytest.mark.parametrize("how", ["mouse", "touch", "keys"])
def test_weight_of_a_kernel(driver, tmp_path, how):
    """A weight that is clicked is multiplied with its input; the products and the bias make the unit's value."""
    torch.manual_seed(0)
    chain = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1, stride=2), torch.nn.Conv2d(6, 5, 3, dilation=2))
    images = torch.randn(1, 3, 24, 24)
    sp.write_report(tmp_path / "chain.html", chain, images)
    page = Opened(driver, tmp_path / "chain.html")
    page.open("#1/3/4/5", width=390 if how == "touch" else 1280, height=844)
    if how == "keys":
        page.press("kernel-picture", "ENTER", "ARROW_UP", "ARROW_RIGHT", "PAGE_DOWN")
    else:
        place = page.run(
            "const c = document.getElementById('kernel-picture').getBoundingClientRect();"
            "const tile = Math.min(40, (document.getElementById('kernel').clientWidth + 6) / 8 - 6);"
            "return [(16 + tile / 6) / c.height, (tile + 6 + tile * 5 / 6) / c.width]"
        )
        if how == "touch":
            page.tap("kernel-picture", *place)
        else:
            page.point("kernel-picture", *place, click=True)
    page.wait("document.getElementById('tap-words').textContent.includes('=')")
    assert page.text("tap-words").startswith("Weight row 0, column 2 over input 1: ")
    value, weight, product = tap_numbers(page)
    taken = sp.capture(chain, images)["0"].tensor[0]
    assert value == pytest.approx(float(taken[1, 4, 5 + 4]), abs=0.02)
    assert weight == pytest.approx(float(chain[1].weight[3, 1, 0, 2].detach()), abs=0.003)
    assert product == pytest.approx(value * weight, rel=0.02, abs=0.002)
    rest, unit = map(float, re.search(r"With rounding, (\S+), the unit's (\S+)\.$", page.text("tap-words")).groups())
    assert unit == pytest.approx(float(chain(images)[0, 3, 4, 5].detach()), abs=0.01)
    assert abs(rest) < 0.02
    before = page.text("tap-words")
    page.press("map", "ARROW_DOWN")
    page.wait(f"document.getElementById('tap-words').textContent !== {before!r}")
    page.press("kernel-picture", "ESCAPE")
    page.wait("document.getElementById('tap-words').hidden")
    page.open("#0/2/4/5")
    page.press("kernel-picture", "ENTER")
    page.wait("document.getElementById('tap-words').textContent.includes('=')")
    value, _, _ = tap_numbers(page)
    assert value == pytest.approx(float(images[0, 0, 8, 10]), abs=0.03)
