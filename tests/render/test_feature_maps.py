"""Feature maps as a picture: what is shown, what is said about it, and what is refused."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.render.maps import flat_tiles
from spatialprobe.render.palette import HATCH, INK, LEVELS, NONFINITE, PAPER, palette
from spatialprobe.render.scale import choose_scale, quantize
from spatialprobe.render.sheet import Grid
from spatialprobe.text import format_count


def record_of(tensor):
    """A record as a probe would make it, of any values (C, H, W)."""
    identity = nn.Identity()
    with sp.Probe(identity, "") as probe:
        identity(tensor)
    return probe[""]


def tiles_of(mosaic, count, height, width, columns=None):
    """The color of each unit, (count, height, width, 3), read back from the picture."""
    grid = Grid.of(count, height, width, columns)
    corners = [grid.corner(index) for index in range(count)]
    size = (height * grid.factor, width * grid.factor)
    return np.stack([mosaic.array[y : y + size[0] : grid.factor, x : x + size[1] : grid.factor] for y, x in corners])


@given(st.integers(1, 30), st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_colors_decode_back_to_values(channels, height, width, signed):
    """Every unit of every channel has the color of its value, within the quantization."""
    values = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(channels)) + 0.01
    values[:, ::2] *= -1 if signed else 1
    mosaic = sp.feature_maps(record_of(values), scale="layer")
    drawn = tiles_of(mosaic, channels, height, width)
    colors, shown = (rgb.astype(int) @ (1 << 16, 1 << 8, 1) for rgb in (palette(bool((values < 0).any())), drawn))
    order = colors[:LEVELS].argsort()
    codes = order[np.searchsorted(colors[order], shown)]
    assert np.array_equal(colors[codes], shown)
    reach = values.abs().max().item()
    low = -reach if (values < 0).any() else 0
    decoded = low + (codes + 0.5) / LEVELS * (reach - low)
    assert np.abs(decoded - values[0].numpy()).max() <= (reach - low) / LEVELS * 0.501


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.int64, torch.bool])
def test_every_real_number_format(dtype):
    """Maps of any real number format can be drawn."""
    mosaic = sp.feature_maps(record_of((torch.arange(24).reshape(1, 2, 3, 4) % 5).to(dtype)))
    assert mosaic.array.dtype == np.uint8


@pytest.mark.parametrize("name", ["chain", "1-d", "grouped"])
def test_sizes_of_the_zoo(name):
    """The maps of every layer of one or two dimensions can be drawn."""
    model = ZOO[name].model()
    with sp.Probe(model, (nn.Conv1d, nn.Conv2d)) as probe:
        model(ZOO[name].images())
    for record in probe.records:
        assert sp.feature_maps(record, sample=-1).array.shape[2] == 3


def test_slices_of_maps_of_three_axes():
    """Every slice of every channel is there, in order, in the colors of its values."""
    values = torch.rand(1, 2, 6, 4, 3)
    mosaic = sp.feature_maps(record_of(values))
    assert "Each tile holds the 6 slices along the first axis, row by row." in mosaic.caption
    codes = quantize(values[0].numpy(), choose_scale(values[0].numpy(), "layer"))
    tiles = flat_tiles(codes, signed=False)
    factor = 64 // 4
    slices = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]  # three columns
    grid = Grid.of(2, *tiles.shape[1:])
    assert grid.factor == 1
    for channel in range(2):
        for index, (row, column) in enumerate(slices):
            y, x = grid.corner(channel)
            y, x = y + row * (4 * factor + 2), x + column * (3 * factor + 2)
            drawn = mosaic.pixels[y : y + 4 * factor : factor, x : x + 3 * factor : factor]
            assert np.array_equal(drawn, codes[channel, index])


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 1, 1, 7), (1, 4096, 1, 1), (1, 3, 5), (1, 2, 1, 1, 1), (3, 4, 2, 1, 9)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.bool])
def test_every_shape(shape, dtype):
    """Single units, single channels, thousands of channels, strips and slices are drawn in any number format."""
    mosaic = sp.feature_maps(record_of((torch.arange(math.prod(shape)).reshape(shape) % 3).to(dtype)))
    assert mosaic.caption.startswith(f"{shape[1]} of {format_count(shape[1], 'channel')} shown.")


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=4, max_dims=4, max_side=7),
        elements=st.floats(width=32) | st.sampled_from([0.0, np.nan, np.inf, -np.inf]),
    )
)
def test_any_values(values):
    """Whatever the values are, what is not finite is marked, and nothing else is."""
    mosaic = sp.feature_maps(record_of(torch.tensor(values)))
    drawn = tiles_of(mosaic, *values.shape[1:])
    marked = (drawn == palette(False)[NONFINITE]).all(axis=-1)
    assert np.array_equal(marked, ~np.isfinite(values[0]))
    assert ("not finite" in mosaic.caption) == bool(marked.any())


def test_maps_of_one_axis_are_lines():
    """The height of the line is the value, and so is the color of the area below it; zero is where the area ends."""
    ramp = torch.linspace(0, 1, 97)
    mosaic = sp.feature_maps(record_of(torch.stack([ramp, 1 - ramp])[None]), scale="layer", columns=1)
    grid = Grid.of(2, 49, 97, 1)
    y, x = grid.corner(0)
    tile = mosaic.pixels[y : y + 49 * grid.factor : grid.factor, x : x + 97 * grid.factor : grid.factor]
    ink = tile == INK.stop - 1
    heights = 48 - ink.argmax(axis=0)
    assert np.abs(heights - ramp.numpy() * 48).max() <= 1
    assert tile[47, 90] == quantize(ramp[None, None].numpy(), choose_scale(ramp[None].numpy(), "layer"))[0, 0, 90]
    signed = sp.feature_maps(record_of(torch.stack([ramp, -ramp])[None]), scale="layer", columns=1)
    y, x = grid.corner(1)
    below = signed.pixels[y : y + 49 * grid.factor : grid.factor, x + 90 * grid.factor]
    assert (below[:24] == PAPER).all()
    assert (below[24:-8] < LEVELS // 2).all()
    broken = ramp.clone()
    broken[5] = float("nan")
    marked = sp.feature_maps(record_of(broken[None, None]))
    assert (marked.pixels == NONFINITE).any(axis=0).sum() == Grid.of(1, 49, 97).factor


def test_memory_format_does_not_matter():
    """A layer whose memory is laid out channels last gives the same picture."""
    values = torch.randn(2, 6, 9, 7)
    turned = values.to(memory_format=torch.channels_last)
    assert sp.feature_maps(record_of(turned)).to_png() == sp.feature_maps(record_of(values)).to_png()


def test_array_is_what_tensorboard_takes():
    """`array` is a fresh contiguous (H, W, 3) uint8, the layout of `add_image(..., dataformats="HWC")`."""
    for picture in (sp.feature_maps(record_of(torch.rand(1, 2, 4, 4))), sp.kernels(nn.Conv2d(3, 2, 3))):
        array = picture.array
        assert (array.dtype, array.ndim, array.shape[2]) == (np.uint8, 3, 3)
        assert array.flags.c_contiguous


def test_source(tmp_path):
    """Where the data come from is told in the title of the figure and in the file."""
    mosaic = sp.feature_maps(record_of(torch.rand(1, 2, 4, 4))).with_source("CIFAR-10, test image 5")
    assert mosaic.figure().texts[0].get_text().replace("\n", " ").endswith(": CIFAR-10, test image 5")
    assert Image.open(mosaic.save(tmp_path / "maps.png")).text["Source"] == "CIFAR-10, test image 5"


def test_no_words_are_cut():
    """However long they are, titles and captions stay on their page."""
    mosaic = sp.feature_maps(record_of(torch.rand(1, 2, 4, 4)))
    figure = replace(mosaic, caption="Illimitable words. " * 40).figure("A heavy title " * 20)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 10
        assert box.x1 <= width - 10
        assert box.y0 >= 0
        assert box.y1 <= height


def test_single_image_without_a_batch():
    """A conv that was given (C, H, W) is drawn as one sample."""
    conv = nn.Conv2d(3, 5, 3)
    with sp.Probe(conv) as probe:
        conv(torch.rand(3, 8, 8))
    assert "5 of 5 channels" in sp.feature_maps(probe[""]).caption


def test_order_and_limit():
    """The strongest channels come first where asked, and what is hidden is counted."""
    values = torch.tensor([1.0, 3.0, 2.0]).reshape(1, 3, 1, 1).repeat(1, 1, 2, 2)
    values[0, 0, 0, 0] = 9
    record = record_of(values)
    channels = {order: sp.feature_maps(record, order=order, limit=2).metadata["Channels"] for order in ("max", "mean")}
    assert channels == {"max": "0 1", "mean": "0 1"}
    assert sp.feature_maps(record, order="mean", channels=[2, 1]).metadata["Channels"] == "1 2"
    assert sp.feature_maps(record, channels=[2, 1]).metadata["Channels"] == "2 1"
    assert sp.feature_maps(record, order="max", limit=2).caption.startswith(
        "2 of 3 channels shown, largest maximum first. One scale for the layer: 0 to 9."
    )


def test_hidden_channels_count_for_the_scale():
    """The scale of a layer is that of all its channels, so that two pictures of it can be compared."""
    record = record_of(torch.tensor([1.0, 8.0]).reshape(1, 2, 1, 1).repeat(1, 1, 2, 2))
    assert sp.feature_maps(record, channels=[0]).color_bar.high == 8


def test_one_bright_unit_does_not_darken_the_others():
    """The scale is robust by default: the end of the bar is marked in the figure, and the caption states the share."""
    values = torch.rand(1, 6, 20, 20)
    values[0, 0, 0, 0] = 50
    mosaic = sp.feature_maps(record_of(values))
    figure = mosaic.figure()
    numbers = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert mosaic.color_bar.high < 1
    assert numbers[-1] == f"≥ {mosaic.color_bar.high:.4g}"
    assert "(99.5th percentile); 0.46% of the values lie beyond." in mosaic.caption
    signed = sp.feature_maps(record_of(values - torch.tensor([0.5]) - 90 * (values < 0.001))).figure()
    ends = [label.get_text() for label in signed.axes[1].get_yticklabels()]
    assert (ends[0][0], ends[-1][0]) == ("≤", "≥")


def test_marks_are_told():
    """Dead, constant and non-finite maps are marked in the caption and do not look like dark maps."""
    values = torch.rand(1, 4, 12, 12) + 0.5
    values[0, 0], values[0, 1], values[0, 2, 0, 0] = 0, 1, float("nan")
    mosaic = sp.feature_maps(record_of(values))
    assert mosaic.caption.endswith(
        "Marked: 1 dead (zero everywhere, hatched), 1 constant, 1 with values that are not finite (crimson)."
    )
    grid = Grid.of(4, 12, 12)
    y, x = grid.corner(0)
    dead = mosaic.pixels[y : y + 12 * grid.factor, x : x + 12 * grid.factor]
    assert set(np.unique(dead)) == {PAPER, HATCH}  # fine lines on paper, no color of a value
    assert (dead == HATCH).any(axis=0).all()
    assert (dead == HATCH).mean() < 0.2


def test_png_explains_itself(tmp_path):
    """A saved page and the picture alone are palette PNGs whose text chunks name layer, channels, scale and range."""
    conv = nn.Conv2d(3, 6, 3)
    with sp.Probe(conv) as probe:
        conv(torch.rand(1, 3, 16, 16))
    mosaic = sp.feature_maps(probe[""])
    path = mosaic.save(tmp_path / "maps.png")
    page, alone = Image.open(path), Image.open(io.BytesIO(mosaic.to_png()))
    assert page.mode == alone.mode == "P"
    assert page.text == alone.text
    assert set(page.text) == {
        "Title", "Description", "Software", "Layer", "Sample", "Channels", "Scale", "Value range",
    }  # fmt: skip
    assert np.array_equal(np.asarray(alone.convert("RGB")), mosaic.array)
    assert list(tmp_path.iterdir()) == [path]


def test_save_refuses_clearly(tmp_path):
    """A folder that is not there and an unknown format are clear errors; nothing is left behind."""
    mosaic = sp.feature_maps(record_of(torch.rand(1, 1, 4, 4)))
    with pytest.raises(sp.ArgumentError, match="the folder .* does not exist"):
        mosaic.save(tmp_path / "none" / "maps.png")
    with pytest.raises(sp.ArgumentError, match="saved as .png or .pdf or .svg, not as 'maps.jpg'"):
        mosaic.save(tmp_path / "maps.jpg")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    """A crash while writing leaves the old picture whole and no scraps."""
    mosaic = sp.feature_maps(record_of(torch.rand(1, 1, 4, 4)))
    path = mosaic.save(tmp_path / "maps.png")
    before = path.read_bytes()

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(KeyboardInterrupt):
        sp.feature_maps(record_of(torch.rand(1, 9, 4, 4))).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_figure_names_scale_and_has_numbers_only_where_they_hold():
    """A figure has title and caption; a color bar with numbers where one scale holds for all maps."""
    record = record_of(torch.rand(1, 6, 8, 8))
    figure = record.plot(title="conv1 of my model")
    words = [text.get_text() for text in figure.texts]
    assert words[0] == "conv1 of my model"
    assert "One scale for the layer" in words[1].replace("\n", " ")
    assert len(figure.axes) == 2
    assert len(figure.axes[1].get_yticklabels()) > 2
    per_map = record.plot(scale="map")
    assert len(per_map.axes) == 1
    assert "cannot be compared" in per_map.texts[1].get_text().replace("\n", " ")


def test_figure_shows_the_mosaic_pixel_for_pixel(tmp_path):
    """At its own resolution the figure holds the mosaic unchanged, not resampled."""
    mosaic = sp.feature_maps(record_of(torch.rand(1, 6, 8, 8)))
    mosaic = replace(mosaic, pixels=mosaic.unwritten(codes=True), labels=())  # numbers are drawn as text
    mosaic.figure().savefig(tmp_path / "figure.png")
    page = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))
    height, width = mosaic.array.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(page, (height, width, 3))
    assert (windows[::1, ::1, 0, :2, :2] == mosaic.array[:2, :2]).all(axis=(2, 3, 4)).any()
    assert any(
        np.array_equal(windows[y, x, 0], mosaic.array)
        for y, x in np.argwhere((windows[:, :, 0, 20, 10] == mosaic.array[20, 10]).all(axis=2))
    )


def test_notebook_repr(tmp_path):
    """A notebook shows the maps, with the layer's name as plain text whatever it holds."""

    class Hostile(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("<script>", nn.Conv2d(1, 2, 1))

        def forward(self, x):
            return self.get_submodule("<script>")(x)

    model = Hostile()
    with sp.Probe(model) as probe:
        model(torch.rand(1, 1, 4, 4))
    shown = probe["<script>"]._repr_html_()
    assert "data:image/png;base64," in shown
    assert "<script>" not in shown
    linear = nn.Linear(3, 2)
    with sp.Probe(linear, "") as probe:
        linear(torch.rand(1, 3))
    assert "which is not maps" in probe[""]._repr_html_()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 2}, "There is no sample 2: layer '' holds 2 samples"),
        ({"channels": [3]}, "has channels 0 to 2, not 3"),
        ({"channels": []}, "channels must be at least one channel number"),
        ({"channels": [0.5]}, "channels must be integers"),
        ({"order": "size"}, "order must be"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"columns": 0}, "columns must be at least 1"),
    ],
)
def test_bad_arguments(options, message):
    """What does not fit the record is refused, with what would."""
    with pytest.raises(sp.ArgumentError, match=message):
        sp.feature_maps(record_of(torch.rand(2, 3, 4, 4)), **options)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.rand(2, 3), "which is not maps"),
        (torch.rand(1, 2, 3, 3, 3, 3), "which is not maps"),
        (torch.rand(0, 2, 3, 3), "holds 0 samples"),
        (torch.rand(1, 0, 3, 3), "nothing to draw"),
        (torch.rand(1, 2, 0, 3), "nothing to draw"),
        (torch.rand(1, 2, 3, 3).to(torch.complex64), "complex values"),
    ],
)
def test_what_is_no_picture(tensor, message):
    """A record without maps is refused with its shape."""
    with pytest.raises(sp.ArgumentError, match=message):
        sp.feature_maps(record_of(tensor))


def test_many_channels():
    """4,096 channels fit on one sheet with their numbers."""
    mosaic = sp.feature_maps(record_of(torch.rand(1, 4096, 2, 2)))
    assert mosaic.caption.startswith("4096 of 4096 channels shown.")


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (6, 3), (12, 4), (64, 8), (512, 32), (7, 4)])
def test_columns(count, columns):
    """A sheet is wider than high, with few empty places."""
    assert Grid.of(count, 10, 10).columns == columns


def test_maps_from_anywhere():
    """A tensor or an array (N, C, H, W) is drawn as the record that holds it."""
    values = torch.rand(2, 5, 6, 7, requires_grad=True)
    expected = sp.feature_maps(record_of(values.detach()), sample=1)
    for maps in (values, values.detach().numpy()):
        found = sp.feature_maps(maps, sample=1)
        assert np.array_equal(found.array, expected.array)
        assert found.title == "Tensor, output, sample 1"
    with pytest.raises(sp.ArgumentError, match="not of object"):
        sp.feature_maps(np.array([{}]))


def test_what_is_no_record():
    """A list is refused, with where records come from."""
    with pytest.raises(sp.ArgumentError, match=r"not a list: with sp.Probe\(model\) as probe"):
        sp.feature_maps([torch.rand(1, 3, 4, 4)])
