"""The page in headless Chromium: what a person sees and does with mouse, keys, links, and a narrow screen."""

from __future__ import annotations

import re
import time

import pytest
import torch
from page_browser import HOSTILE, Opened
from report_reader import read
from torch import nn
from turned import TURNED

import spatialprobe as sp

pytestmark = pytest.mark.usefixtures("nothing_went_wrong")


def test_opens_with_something_to_see(page, model, images):
    """The channel that has most to show, at its strongest unit inside, in pictures that are not empty."""
    assert not page.run("return document.getElementById('app').hidden")
    assert page.run("return document.getElementById('plain').hidden")
    assert page.run("return document.getElementById('stills').hidden")
    channel = int(re.fullmatch(r"Channel (\d)", page.text("channel-title"))[1])
    assert channel not in (2, 3)  # dead, and constant
    record = sp.capture(model, images[:1], layers="conv1", at="post_activation")["conv1"].tensor[0, channel]
    inside = record[1:-1, 1:-1]
    y, x = divmod(int(inside.argmax()), 30)
    assert f"Unit row {y + 1}, column {x + 1} of conv1" in page.status
    for name in ("mosaic", "map", "input", "bar-colors", "kernel-picture"):
        assert page.colors(name) > 4, name
    assert page.run("return document.querySelectorAll('#exemplar-picture canvas').length") == 9
    assert [page.run("return document.getElementById('bar-numbers').children[0].textContent")] == ["0"]
    assert "30 samples" in page.text("samples")
    assert "9 units with the largest values among 30 samples" in page.text("exemplar-words")


def test_hover_tells_value_and_field(page, model, images, path):
    """The sentence names the unit under the mouse, its value, and the rows and columns that it sees."""
    record = sp.capture(model, images[:1], layers="conv2", at="post_activation")["conv2"].tensor[0]
    field = sp.receptive_fields(model, (1, 3, 32, 32))["conv2"]
    page.open("#conv2/3/5/5")
    step = float(record[3].max() - record[3].min()) / 254
    for y, x in ((8, 8), (3, 12), (0, 0), (15, 9)):
        page.point("map", (y + 0.5) / 16, (x + 0.5) / 16)
        page.says(f"Unit row {y}, column {x} of conv2, channel 3: activation ")
        value = float(re.search(r"activation (\S+)\. It", page.status)[1])
        assert abs(value - float(record[3, y, x])) <= step
        y0, x0, y1, x1 = field.box(y, x)
        assert f"It sees rows {y0}-{y1 - 1}, columns {x0}-{x1 - 1} of the input." in page.status
        cut = field.box(y, x) != field.box(y, x, clip=False)
        assert ("The border cuts its field" in page.status) == cut
    page.point("map", 0.5 / 16, 0.5 / 16)
    page.says("3 rows above it and 3 columns left of it are padding")
    page.point("layer-title", 0.5, 0.5)
    page.says("Unit row 5, column 5")


def test_click_keeps_the_unit(page):
    """A click makes the unit the one that is linked; the mouse may leave."""
    page.open("#conv1/1/2/2")
    page.point("map", 20.5 / 32, 10.5 / 32, click=True)
    page.says("Unit row 20, column 10")
    page.point("layer-title", 0.5, 0.5)
    page.wait("location.hash === '#conv1/1/20/10'")
    page.says("Unit row 20, column 10")


def test_box_on_the_input_follows_the_unit(page):
    """The input's picture is another for another unit, and says in words what it shows."""
    page.open("#conv2/3/5/5")
    before = page.pixels("input")
    page.press("map", "ARROW_DOWN")
    page.says("row 6, column 5")
    assert page.pixels("input") != before
    assert "It sees rows 9-16, columns 7-14" in page.run("return document.getElementById('input').ariaLabel")


def test_arrow_keys_move_the_unit_and_stop_at_the_border(page):
    """Each arrow moves by one unit; Home and End go to the corners; nothing goes beyond."""
    page.open("#conv2/3/0/7")
    page.press("map", "ARROW_UP", "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_DOWN", "ARROW_LEFT")
    page.says("Unit row 1, column 8 of conv2, channel 3")
    page.press("map", "END")
    page.says("Unit row 15, column 15")
    page.press("map", "HOME")
    page.says("Unit row 0, column 0")


def test_keys_in_a_row_are_all_heard(page):
    """Keys that come faster than pictures are drawn each count, and none undoes the choice of a layer before it."""
    page.open("#conv1/0/4/4")
    page.run(
        "const key = (k) => document.getElementById('map').dispatchEvent(new KeyboardEvent('keydown', {key: k}));"
        "for (let i = 0; i < 9; i++) key('ArrowRight');"
    )
    page.says("Unit row 4, column 13 of conv1")
    page.run(
        "const layer = document.getElementById('layer'), map = document.getElementById('map');"
        "layer.value = '1'; layer.dispatchEvent(new Event('change'));"
        "map.dispatchEvent(new KeyboardEvent('keydown', {key: 'Home'}));"
    )
    page.says("Unit row 0, column 0 of conv2")


def test_page_keys_change_the_channel_in_the_order_shown(page):
    """Page Down and Page Up go through the channels, on map and mosaic, and end at the last."""
    page.open("#conv2/3/4/4")
    page.press("map", "PAGE_DOWN")
    page.says("channel 4:")
    page.press("mosaic", "PAGE_UP", "PAGE_UP")
    page.says("channel 2:")
    page.press("mosaic", "END", "PAGE_DOWN")
    page.says("channel 11:")
    page.press("mosaic", "HOME", "ARROW_RIGHT")
    page.says("channel 1:")
    page.says("Unit row 4, column 4")


def test_mosaic_is_clicked(page):
    """A click on a tile chooses its channel."""
    page.open("#conv2/0/4/4")
    rect = page.run(
        "const m = document.getElementById('mosaic').getBoundingClientRect(),"
        " c = document.getElementById('chosen').getBoundingClientRect();"
        "return [(c.top + c.height / 2 - m.top) / m.height, (c.right + c.width / 2 - m.left) / m.width]"
    )
    page.point("mosaic", *rect, click=True)
    page.says("channel 1:")


def test_focus_is_visible_and_the_status_is_live(page):
    """Map and mosaic are reached by the tab key and ringed; the sentence is a status that readers are told of."""
    from selenium.webdriver import ActionChains, Keys

    page.run("document.getElementById('order').focus()")
    for name in ("mosaic", "map", "input"):
        for _ in range(4):
            ActionChains(page.driver, duration=0).send_keys(Keys.TAB).perform()
            if page.run("return document.activeElement.id") == name:
                break
        assert page.run("return document.activeElement.id") == name
        assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert page.run("return document.activeElement.ariaLabel")
    assert page.run("return document.getElementById('status').getAttribute('role')") == "status"
    for name in ("layer", "image", "scale", "order"):
        assert page.run("return document.getElementById(arguments[0]).labels.length", name) == 1


def test_layers_are_switched(page):
    """Another layer shows its channels and its kernel; the unit stays where it was in the image."""
    page.open("#conv1/0/20/10")
    before = page.pixels("mosaic")
    page.choose("layer", "conv2")
    page.says("Unit row 10, column 5 of conv2, channel ")
    assert page.text("layer-title") == "conv2"
    assert "12 channels of 16 x 16 units; each sees 8 x 8 pixels" in page.text("layer-words")
    assert page.pixels("mosaic") != before
    page.wait("/^#conv2.[0-9]+.10.5$/.test(location.hash)")


def test_images_are_switched(page):
    """Another image shows its own maps and its own picture."""
    page.open("#conv2/3/5/5")
    before = page.pixels("map"), page.pixels("input")
    page.choose("image", "1: dog")
    page.wait("location.hash === '#conv2/3/5/5?image=1'")
    assert page.text("input-title") == "Input image 1: dog"
    assert page.pixels("map") != before[0]
    assert page.pixels("input") != before[1]


def test_scales_are_switched_and_named(page, path):
    """Each scale has its numbers at the bar and its name below it, and colors change with it."""
    data, seen = read(path), set()
    highs = data.numbers("conv2", 0)[1]
    weak = min((high, channel) for channel, high in enumerate(highs) if high > 0)[1]
    page.open(f"#conv2/{weak}/5/5")
    reaches = {
        "each map": float(highs[weak]),
        "this layer, robust": data.layer("conv2")["robust"],
        "this layer": data.layer("conv2")["reach"],
        "all layers": max(layer["reach"] for layer in data.data["layers"]),
    }
    names = {
        "each map": "cannot be compared",
        "this layer, robust": "99.5th percentile",
        "this layer": "all maps of this layer",
        "all layers": "all layers",
    }
    for choice, reach in reaches.items():
        page.choose("scale", choice)
        page.wait(f"document.getElementById('scale-words').textContent.includes({names[choice]!r})")
        high = page.run("return document.getElementById('bar-numbers').children[2].textContent")
        assert float(high.removeprefix("≥ ")) == pytest.approx(reach, rel=0.006)
        assert high.startswith("≥") == (choice == "this layer, robust")
        seen.add(page.pixels("map"))
    assert len(seen) == 4


def test_signed_layers_diverge(driver, tmp_path):
    """Before the ReLU the bar reaches as far below zero as above it, and zero is in the middle."""
    target = tmp_path / "signed.html"
    torch.manual_seed(0)
    sp.write_report(target, nn.Conv2d(3, 4, 3), torch.rand(1, 3, 9, 9))
    page = Opened(driver, target)
    numbers = page.run("return [...document.getElementById('bar-numbers').children].map((one) => one.textContent)")
    low, high = (float(number.lstrip("≤≥ ")) for number in (numbers[0], numbers[2]))
    assert low == -high < 0
    assert numbers[1] == "0"
    lefts = "return ['kernel', 'status'].map((id) => document.getElementById(id).getBoundingClientRect().left)"
    assert len(set(page.run(lefts))) == 1  # without a sweep the kernel stands where patches would


def test_maps_of_one_unit_are_bars_in_the_strip(driver, tmp_path):
    """A layer of one unit has a bar for each channel's value: up from zero, or down."""
    target = tmp_path / "single.html"
    conv = nn.Conv2d(3, 2, 9)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.copy_(torch.tensor([0.5, -0.5]))
    sp.write_report(target, conv, torch.rand(1, 3, 9, 9))
    page = Opened(driver, target)
    page.wait("document.querySelector('#strip canvas').height >= 40")
    read = (
        "const { width, height } = document.querySelector('#strip canvas');"
        "const { data } = document.querySelector('#strip canvas').getContext('2d').getImageData(0, 0, width, height);"
        "const at = ([x, y]) => 4 * (Math.floor(y * height) * width + Math.floor(x * width));"
        "return [[.25, .2], [.25, .8], [.75, .2], [.75, .8]].map(at).map((i) => [...data.slice(i, i + 3)])"
    )
    above_first, below_first, above_second, below_second = page.run(read)
    assert below_first == above_second  # zero
    assert above_first[2] > above_first[0]  # violet
    assert below_second[0] > below_second[2]  # orange
    assert "1 × 1" in page.text("strip")


def test_channels_are_ordered(page, path):
    """By strength the largest magnitude comes first, by sparsity the channel with the most units at or below zero."""
    page.open("#conv2/0/5/5")
    _, high, _, silent = read(path).numbers("conv2", 0)
    for order, first in (("strength", max(range(12), key=lambda c: high[c])), ("sparsity", silent.argmax())):
        page.choose("order", order)
        page.wait(f"document.getElementById('order-words').textContent.includes({order!r})")
        page.press("mosaic", "HOME")
        page.says(f"channel {first}:")
    assert (
        "order=sparsity" in page.run("return location.hash") or page.wait("location.hash.includes('sparsity')") is None
    )


def test_marks_are_told(page):
    """Dead and constant channels are counted under the mosaic, and named above their map."""
    page.open("#conv1/2/5/5")
    assert page.text("channel-title") == "Channel 2, dead for this image"
    assert "1 dead (zero everywhere, hatched), 1 constant" in page.text("order-words")
    page.press("mosaic", "PAGE_DOWN")
    page.wait("document.getElementById('channel-title').textContent === 'Channel 3, constant for this image'")
    page.says("activation 1.5.")


def test_values_that_are_not_finite(driver, tmp_path):
    """They are crimson, named, and have no place on the bar."""
    target = tmp_path / "nan.html"
    images = torch.rand(1, 3, 9, 9)
    images[0, 0, 0, 0] = float("nan")
    sp.write_report(target, nn.Conv2d(3, 4, 1), images)
    page = Opened(driver, target)
    page.open("#(model)/1/0/0")
    assert page.text("channel-title") == "Channel 1, with infinite or NaN values"
    page.says("activation not finite. It sees row 0, column 0 of the input.")
    assert page.run("return document.getElementById('bar-mark').hidden")


def test_hash_is_restored_and_followed(page):
    """A link opens its unit, image, scale and order; a new hash in the same page is followed; nonsense is not."""
    page.open("#conv2/7/3/4?image=2&scale=all&order=strength")
    page.says("Unit row 3, column 4 of conv2, channel 7")
    assert page.run("return ['image', 'scale', 'order'].map((n) => document.getElementById(n).value)") == [
        *("2", "all", "strength")
    ]
    page.run("location.hash = '#conv1/5/30/31'")
    page.says("Unit row 30, column 31 of conv1, channel 5")
    for nonsense in ("#nothing/1/2/3", "#%E0%A4%A/1", "#conv1/999/99999/-4", "#"):
        page.run("location.hash = arguments[0]", nonsense)
        time.sleep(0.05)
        assert "of conv1, channel" in page.status


def test_links_come_before_the_pages_own_address(page):
    """A link that is followed just before the page writes its address wins: the page does not write over it."""
    page.open("#conv2/7/3/4")
    page.run(
        """
        const plain = window.setTimeout;
        let write = null;
        window.setTimeout = (callback) => { write = callback; return 0; };
        const scale = document.getElementById("scale");
        scale.value = "map";
        scale.dispatchEvent(new Event("change"));
        window.setTimeout = plain;
        location.hash = "#conv1/5/30/31";
        write();
        """
    )
    page.says("Unit row 30, column 31 of conv1, channel 5")
    page.wait("location.hash === '#conv1/5/30/31'")


def test_still_picture_leads_to_its_layer(page):
    """A click on a layer's still picture shows that layer."""
    page.run("document.querySelectorAll('#stills a')[1].click()")
    page.says("of conv2, channel 0")


def test_hostile_name_stays_text(page):
    """A layer whose name is markup is listed, shown and linked as text, and none of it runs."""
    page.choose("layer", HOSTILE)
    page.says(f"of {HOSTILE}, channel")
    page.wait("location.hash.startsWith('#%3C%2Fscript%3E')")
    address = page.run("return location.hash")
    page.open(address)
    page.says(f"of {HOSTILE}, channel")
    assert page.text("layer-title") == HOSTILE
    assert page.run("return window.name") != "taken"
    assert page.run("return document.images.length") == 9  # three of them in the row of images, six still ones
    assert page.run("return document.querySelectorAll('script').length") == 4


@pytest.mark.parametrize("hash", ["", "#conv2/3/5/5", "#" + HOSTILE.replace("/", "%2F")])
def test_narrow_screen(page, hash):
    """On a phone there is one column, nothing is wider than the screen, and controls are large enough to touch."""
    page.open(hash, width=390, height=844)
    assert page.run("return document.documentElement.scrollWidth") <= 390
    lefts = page.run("return [...document.querySelectorAll('#columns > section')].map((s) => s.offsetLeft)")
    assert len(set(lefts)) == 1
    names = ("input", "map", "mosaic", "exemplars")
    tops = [
        page.run("return document.getElementById(arguments[0]).getBoundingClientRect().top", name) for name in names
    ]
    assert tops == sorted(tops)
    for top in (0, 400, 900):  # the sentence stays at the foot of the screen
        page.run("window.scrollTo(0, arguments[0])", top)
        assert page.run("return document.getElementById('status').getBoundingClientRect().bottom") == pytest.approx(
            844, abs=1
        )
    assert page.run("return document.getElementById('layer').offsetHeight") >= 34


def test_touch(page):
    """A tap on the map chooses the unit."""
    page.open("#conv2/3/5/5", width=390, height=844)
    page.run("document.getElementById('map').scrollIntoView({block: 'center'})")
    x, y, width, height = page.run(
        "const r = document.getElementById('map').getBoundingClientRect(); return [r.left, r.top, r.width, r.height]"
    )
    point = {"x": x + width * 2.5 / 16, "y": y + height * 9.5 / 16}
    page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.says("Unit row 9, column 2")
    page.wait("location.hash === '#conv2/3/9/2'")


def test_dark_scheme(page):
    """In the dark the paper is dark and the ink is light; what is written keeps its contrast in both."""
    contrasts = {}
    for dark in (False, True):
        page.open(dark=dark)
        paper, ink, quiet = page.run(
            "const s = (e) => getComputedStyle(e);"
            "return [s(document.documentElement).backgroundColor, s(document.body).color,"
            " s(document.getElementById('layer-words')).color]"
        )
        contrasts[dark] = brightness(paper)
        for color in (ink, quiet):
            light, deep = sorted((brightness(color), brightness(paper)), reverse=True)
            assert (light + 0.05) / (deep + 0.05) > 4.5
    assert contrasts[True] < 0.05 < 0.8 < contrasts[False]


def brightness(color):
    """The relative luminance of an rgb() color [WCAG 2.2]."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_browser_without_decompression_gets_a_plain_message(driver, path):
    """Without DecompressionStream there is a message and the still pictures, and no error."""
    script = {"source": "delete window.DecompressionStream"}
    added = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        driver.get("about:blank")
        driver.get(path.as_uri())
        shown = driver.find_element("id", "plain")
        assert shown.is_displayed()
        assert "DecompressionStream" in shown.text
        assert not driver.find_element("id", "app").is_displayed()
        assert all(
            image.is_displayed() and image.get_attribute("alt") for image in driver.find_elements("tag name", "img")
        )
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_notebook_frame(driver, model, images, tmp_path):
    """The frame that a notebook shows runs the same page."""
    report = sp.write_report(tmp_path / "report.html", model, images, layers="conv2")
    outer = tmp_path / "notebook.html"
    outer.write_text(f"<!doctype html><meta charset=utf-8><link rel=icon href='data:,'>{report._repr_html_()}", "utf-8")
    driver.get(outer.as_uri())
    driver.switch_to.frame(0)
    try:
        end = time.monotonic() + 10
        while not driver.execute_script("return document.documentElement.dataset.ready"):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert "of conv2, channel " in driver.find_element("id", "status").text
    finally:
        driver.switch_to.default_content()


def test_maps_of_two_resolutions(driver, tmp_path):
    """Of a channel at half resolution the units that are kept are shown with their values; keys move among them."""
    conv, image = nn.Conv2d(3, 12, 3, padding=1), torch.rand(1, 3, 40, 40)
    path = tmp_path / "page.html"
    whole = sp.write_report(path, conv, image).nbytes
    sp.write_report(path, conv, image, max_bytes=whole - 4_000)
    maps, page = sp.capture(conv, image)[""].tensor[0], Opened(driver, path)
    order = maps.abs().amax(dim=(1, 2)).argsort(descending=True).tolist()
    fine, coarse = order[0], order[-1]
    for channel, unit in ((fine, (7, 9)), (coarse, (6, 8))):
        page.open(f"#(model)/{channel}/7/9")
        page.says(f"Unit row {unit[0]}, column {unit[1]} of (model), channel {channel}: activation ")
        value = float(re.search(r"activation (\S+)\. It", page.status)[1])
        assert abs(value - float(maps[channel][unit])) <= float(maps[channel].max() - maps[channel].min()) / 254
    assert "one of 2 rows and columns of units is kept" in page.text("layer-words")
    page.press("map", "ARROW_RIGHT", "ARROW_DOWN")
    page.says("Unit row 8, column 10")
    page.press("map", "ARROW_UP", "ARROW_UP")
    page.says("Unit row 4, column 10")


class TwoInputs(nn.Module):
    """A model of an image and of one number for each, which scales it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 4, stride=4)

    def forward(self, pixels, scale):
        return self.conv(pixels * scale[:, None, None, None])


LAYOUTS = {
    "tokens": (lambda: TURNED["tokens"][0](), "0.norm", lambda values: values[1:].T.reshape(6, 4, 6)),
    "channels last": (lambda: TURNED["mixer"][0](), "4", lambda values: values.movedim(-1, 0)),
    "several inputs": (TwoInputs, "conv", lambda values: values),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts_and_batches(driver, kind, tmp_path):
    """Rows and columns of tokens, of channels-last maps and of one of several inputs are those of the values."""
    make, layer, turn = LAYOUTS[kind]
    torch.manual_seed(0)
    model, images, scale = make().eval(), torch.rand(2, 3, 16, 24), torch.tensor([1.0, 0.3])
    inputs = (images, scale) if kind == "several inputs" else (images,)
    batch = {"pixels": images, "scale": scale} if kind == "several inputs" else images
    path = tmp_path / "page.html"
    sp.write_report(path, model, batch, layers=layer)
    maps, page = turn(sp.capture(model, *inputs, layers=layer)[layer].tensor[1]), Opened(driver, path)
    page.open(f"#{layer}/2/1/3?image=1")
    page.says(f"Unit row 1, column 3 of {layer}, channel 2: activation ")
    value = float(re.search(r"activation (\S+)\. It", page.status)[1])
    assert abs(value - float(maps[2, 1, 3])) <= float(maps[2].max() - maps[2].min()) / 254
    if kind != "channels last":  # whose pooling sees more
        page.says("It sees rows 4-7, columns 12-15 of the input.")
    page.press("map", "ARROW_DOWN")
    page.says(f"Unit row 2, column 3 of {layer}")
    assert page.colors("input") > 4
