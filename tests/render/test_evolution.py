"""One image through layers and checkpoints: what a sheet and an animation show, and on which scale."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.render.letters import lettering
from spatialprobe.render.palette import LEVELS, NONFINITE, palette
from spatialprobe.render.rows import Rows


def record_of(tensor):
    return sp.capture(nn.Identity(), tensor, layers="")[""]


def is_written(pixels, words):
    """Whether the words stand somewhere on a sheet of codes."""
    line = lettering(words)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, line.shape)
    corners = np.argwhere((windows[:, :, :, 0] == line[:, 0]).all(axis=2))
    return any(np.array_equal(windows[y, x], line) for y, x in corners)


def checkpoints(count=3, signed=False, seed=0):
    """One layer of one model in several states: maps (1, 4, 6, 5)."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.rand(1, 4, 6, 5, generator=generator) * (step + 1) for step in range(count)]
    return {f"epoch {step}": record_of(item - 1 if signed else item) for step, item in enumerate(maps)}


def frames_of(data):
    """The frames of a GIF as colors, with their durations in milliseconds."""
    image, frames, durations = Image.open(io.BytesIO(data)), [], []
    for index in range(image.n_frames):
        image.seek(index)
        frames.append(np.asarray(image.convert("RGB")))
        durations.append(image.info["duration"])
    return frames, durations, image


@pytest.mark.parametrize("signed", [False, True])
def test_colors_decode_back_to_values(signed):
    """Each channel is a row and each step a column, all on one scale: the colors are those of the values."""
    steps = checkpoints(signed=signed)
    picture = sp.evolution(steps, scale="auto")
    values = torch.cat([record.tensor for record in steps.values()]).numpy()
    reach = np.abs(values).max()
    low = -reach if signed else 0
    assert (picture.color_bar.low, picture.color_bar.high) == (pytest.approx(low), pytest.approx(reach))
    tiles = tiles_in_columns(picture, 4, 3, 6, 5)
    decoded = low + (tiles + 0.5) / LEVELS * (reach - low)
    assert np.abs(decoded - values.swapaxes(0, 1)).max() <= (reach - low) / LEVELS * 0.501


def tiles_in_columns(picture, channels, steps, height, width):
    """The codes of each unit, (channels, steps, height, width), found by where the values' codes are."""
    rows = Rows.of(channels, steps, height, width, max(36, 45))
    assert rows.blocks == 1
    mask = picture.pixels < LEVELS
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    factor = len(ys) // (channels * height)
    units = picture.pixels[np.ix_(ys[::factor], xs[::factor])]
    return units.reshape(channels, height, steps, width).transpose(0, 2, 1, 3)


def test_layers_are_panels():
    """Layers of different sizes are panels in the order of the model, each on its own scale, which is told."""
    model = ZOO["chain"].model()
    with sp.Probe(model, at="post_activation") as probe:
        model(ZOO["chain"].images())
    picture = sp.evolution(probe, scale="auto")
    tops = [record.tensor[0].max().item() for record in probe.records]
    assert picture.color_bar is None
    ranges = f"conv1 0 to {tops[0]:.4g}, conv2 0 to {tops[1]:.4g}"
    assert picture.metadata["Scale"] == f"One scale for each step: {ranges}."
    assert picture.caption.startswith(
        "Steps: conv1, conv2. How many of its channels are shown stands above each step. "
        "Below each step stands its own scale."
    )
    for words in ("conv1   4 of 4 channels", "conv2   5 of 5 channels", f"{tops[0]:.4g}", f"{tops[1]:.4g}"):
        assert is_written(picture.pixels, words)
    assert repr(picture).startswith("Evolution('sample 0 in 2 steps', ")
    assert [frame.title for frame in picture.frames] == ["conv1", "conv2"]


def test_robust_by_default():
    """Steps of one layer share one robust range, layers that differ have one each; ends are marked, shares stated."""
    bright = torch.rand(1, 4, 20, 20)
    bright[0, 0, 0, 0] = 50
    shared = sp.evolution({"a": record_of(bright), "b": record_of(torch.rand(1, 4, 20, 20))})
    assert shared.color_bar.high < 1
    assert shared.color_bar.ends[1].startswith("≥ 0.99")
    assert re.search(
        r"One scale for all steps: 0 to 0.99\d+ \(99.5th percentile\); 0.\d\d% of the values", shared.caption
    )
    each = sp.evolution(sp.capture(nn.Sequential(nn.Conv2d(4, 3, 3), nn.Conv2d(3, 5, 3)), bright))
    assert each.color_bar is None
    assert re.search(r"at most 0.\d\d% of a step's values lie beyond its ends", each.caption)
    assert is_written(each.pixels, "≥")


def test_signs_have_one_meaning_in_all_steps():
    """Where one step is signed, colors diverge around zero in all of them."""
    picture = sp.evolution({"a": record_of(torch.rand(1, 2, 4, 4)), "b": record_of(-torch.rand(1, 3, 5, 5))})
    assert np.array_equal(picture.colors, palette(True))


@pytest.mark.parametrize(
    ("scale", "words", "bar"),
    [
        ("auto", "One scale for all steps: 0 to", True),
        ("all", "One scale for all steps: 0 to", True),
        ("layer", "One scale for each step: epoch 0 0 to", False),
        ("map", "Each map has its own scale", False),
        ("robust", "One scale for all steps: 0 to", True),
        ((0, 2), "One given scale: 0 to 2", True),
    ],
)
def test_scales(scale, words, bar):
    """Every scale is named, and has numbers only where it holds for all."""
    picture = sp.evolution(checkpoints(), scale=scale)
    assert words in picture.caption
    assert words in picture.metadata["Scale"]
    assert (picture.color_bar is not None) == bar
    assert len(picture.figure().axes) == 1 + bar


def test_order_is_over_all_steps():
    """Where steps are columns, channels are sorted by their strength over all of them, and stay aligned."""
    first, second = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    first[0, 1], second[0, 2] = 1, 5
    picture = sp.evolution([record_of(first), record_of(second)], order="max", limit=2)
    assert picture.metadata["Channels"] == "2 1"
    assert "2 of 3 channels shown, largest maximum first." in picture.caption


def test_marks_are_told():
    """Dead maps and values that are not finite are marked in the steps where they are."""
    maps = torch.rand(3, 1, 2, 6, 6)
    maps[0, 0, 1] = 0
    maps[2, 0, 0, 0, 0] = float("nan")
    picture = sp.evolution([record_of(item) for item in maps])
    assert "Marked: 1 dead (zero everywhere, hatched), 1 with values that are not finite (crimson)." in picture.caption
    assert (picture.pixels == NONFINITE).any()


def test_animation_shows_the_same_codes():
    """Each frame of the GIF is the step's panel exactly, shown for its time, the last twice as long, without end."""
    picture = sp.evolution(checkpoints(4))
    frames, durations, image = frames_of(picture.to_gif(seconds=0.3))
    assert len(frames) == 4
    assert durations == [300, 300, 300, 600]
    assert image.info["loop"] == 0
    assert b"One scale for all steps" in image.info["comment"]
    for shown, frame in zip(frames, picture.frames, strict=True):
        assert np.array_equal(shown, frame.array)
    assert len({frame.shape for frame in frames}) == 1


def test_frames_of_layers_have_one_size():
    """Layers of different sizes are frames of one size, each with its own scale below it."""
    picture = sp.evolution([record_of(torch.rand(1, 2, 4, 4)), record_of(torch.rand(1, 9, 7, 5))], scale="layer")
    assert len({frame.pixels.shape for frame in picture.frames}) == 1


def test_save(tmp_path):
    """The name says whether the sheet or the animation is written; both whole or not at all."""
    picture = sp.evolution(checkpoints()).with_source("drawn")
    sheet, animation = picture.save(tmp_path / "steps.png"), picture.save(tmp_path / "steps.gif", seconds=0.1)
    assert Image.open(sheet).text["Steps"] == "epoch 0, epoch 1, epoch 2"
    assert Image.open(sheet).text["Source"] == "drawn"
    assert len(frames_of(animation.read_bytes())[0]) == 3
    with pytest.raises(sp.ArgumentError, match="saved as .png or .pdf or .svg or .gif, not as 'steps.mp4'"):
        picture.save(tmp_path / "steps.mp4")
    with pytest.raises(sp.ArgumentError, match="the folder .* does not exist"):
        picture.save(tmp_path / "none" / "steps.gif")
    with pytest.raises(sp.ArgumentError, match="seconds must be between"):
        picture.save(tmp_path / "late.gif", seconds=0)
    assert sorted(tmp_path.iterdir()) == [animation, sheet]


def test_names():
    """Steps are called as asked, by their keys, or by their layers, numbered where these are the same."""
    records = list(checkpoints().values())
    assert sp.evolution(records, names=["a", "b", "c"]).metadata["Steps"] == "a, b, c"
    assert sp.evolution(records).metadata["Steps"] == "1, 2, 3"
    model = ZOO["shared"].model()
    with sp.Probe(model) as probe:
        model(ZOO["shared"].images())
    assert sp.evolution(probe).metadata["Steps"] == "1 conv, 2 conv"


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([], {}, "no records"),
        (checkpoints(), {"names": ["a"]}, "3 steps, but 1 name: pass a name for each"),
        (checkpoints(), {"scale": "best"}, "scale must be"),
        (checkpoints(), {"sample": 1}, "There is no sample 1"),
        (checkpoints(), {"channels": [4]}, "has channels 0 to 3, not 4"),
        ([record_of(torch.rand(1, 3))], {}, "which is not maps"),
        (torch.rand(2, 3, 4, 4), {}, r"not a Tensor \(2, 3, 4, 4\)"),
        (nn.ReLU(), {}, r"takes a probe, or records .* not ReLU\(\)\."),
    ],
)
def test_bad_arguments(records, options, message):
    """What does not fit is refused, with what would."""
    with pytest.raises(sp.ArgumentError, match=message):
        sp.evolution(records, **options)
