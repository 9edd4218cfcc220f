"""Frames of a signal, however they are made: boxes by perturbation, size, stride and start by the closed formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import spatialprobe as sp
from fields.graphs import Named
from fields.test_boxes import compare


def count(x, taps, hop, dilation):
    return (x.shape[-1] - dilation * (taps - 1) - 1) // hop + 1


def places(x, taps, hop, dilation):
    """Where each frame reads, (frames, taps)."""
    frames = torch.arange(count(x, taps, hop, dilation), device=x.device)
    return frames[:, None] * hop + torch.arange(taps, device=x.device) * dilation


def strided(x, *frame):
    return x.as_strided((*x.shape[:2], count(x, *frame), frame[0]), (*x.stride()[:2], frame[1], frame[2]))


def unfolded(x, taps, hop, dilation):
    return x.unfold(-1, dilation * (taps - 1) + 1, hop)[..., ::dilation]


def gathered(x, *frame):
    index = places(x, *frame)
    return x.gather(-1, index.flatten().expand(*x.shape[:2], -1)).unflatten(-1, index.shape)


def selected(x, *frame):
    index = places(x, *frame)
    return x.index_select(-1, index.flatten()).unflatten(-1, index.shape)


def columns(x, taps, hop, dilation):
    return F.unfold(x[..., None, :], (1, taps), (1, dilation), stride=(1, hop)).unflatten(1, (-1, taps)).transpose(2, 3)


def taken(x, *frame):
    rows = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], 1, 1)
    return x.take(rows * x.shape[-1] + places(x, *frame))


FRAMINGS = {
    "as_strided": strided,
    "unfold": unfolded,
    "index": lambda x, *frame: x[:, :, places(x, *frame)],
    "index_select": selected,
    "gather": gathered,
    "take": taken,
    "F.unfold": columns,
}


def behind(frames):
    """Frames added up, and a padded window of three behind."""
    return F.avg_pool1d(frames.sum(-1), 3, 1, 1)


@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize("samples", [37, 64])
def test_frames(name, samples):
    """Of 8 samples every 4, three frames see 16, every 4, from -4 on; boxes are what perturbation shows."""
    model = Named(name, lambda x: behind(FRAMINGS[name](x, 8, 4, 1)))
    field = compare(model, (1, 1, samples), exact=True)[""]
    assert (field.size, field.stride, field.start, field.period) == ((16,), (4,), (-4,), (1,))


@given(
    st.sampled_from(sorted(FRAMINGS)),
    st.integers(1, 9),  # taps
    st.integers(1, 7),  # hop
    st.integers(1, 3),  # dilation
    st.integers(2, 12),  # frames
    st.sampled_from(["none", "pool", "pad", "mirror", "resize"]),
)
@settings(derandomize=True)
def test_any_frames_follow_the_formula(name, taps, hop, dilation, frames, before):
    """However long, far apart and few, of a signal, of one padded in either way, and of the half or double of one."""
    span = dilation * (taps - 1) + 1
    length = span + hop * (frames - 1)
    prepared = {
        "none": (lambda x: x, length, 1, 1, 0),
        "pool": (lambda x: F.avg_pool1d(x, 2), 2 * length, 2, 2, 0),
        "pad": (lambda x: F.pad(x, (2, 0)), max(1, length - 2), 1, 1, -2),
        "mirror": (lambda x: F.pad(x, (1, 1), "reflect"), max(2, length - 2), 1, 1, -1),
        "resize": (lambda x: F.interpolate(x, scale_factor=0.5), 2 * length, 1, 2, 0),
    }
    prepare, samples, size, stride, start = prepared[before]
    model = Named(name, lambda x: FRAMINGS[name](prepare(x), taps, hop, dilation).sum(-1))
    field = sp.receptive_fields(model, (2, 2, samples))[""]
    expected = ((size + (span - 1) * stride,), (hop * stride,), (start,), (1,), True)
    assert (field.size, field.stride, field.start, field.period, field.exact) == expected


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("length", "hop", "samples"), [(8, 4, 40), (512, 160, 16000), (400, 160, 4000), (64, 64, 640)])
def test_stft(center, length, hop, samples):
    """A spectrogram's columns see one window each, a hop apart; centered ones begin half a window before the signal."""
    model = Named(
        "stft",
        lambda x: torch.stft(
            x.flatten(1), length, hop, window=torch.ones(length, device=x.device, dtype=x.dtype), center=center,
            return_complex=True,
        ).abs().sum(1, keepdim=True),
    )  # fmt: skip
    field = sp.receptive_fields(model, (1, 1, samples))[""]
    start = -(length // 2) if center else 0
    assert (field.size, field.stride, field.start, field.period) == ((length,), (hop,), (start,), (1,))
    assert field.exact
    assert field.fallback is None
    if samples == 40:
        compare(model, (1, 1, samples), exact=True)


def added(x):
    """Frames (N, 1, 9, 8) put together as `istft` does, four samples apart."""
    return torch.ops.aten.unfold_backward(x[:, 0], (len(x), 40), 1, 8, 4)[:, None]


@pytest.mark.parametrize("mixed", [True, False])
def test_frames_that_are_added_up(mixed):
    """A sample sees the two frames that lie over it: one sample of each, or all where frames are mixed before."""
    model = Named("add", lambda x: added(x + x.mean(-1, keepdim=True) if mixed else x))
    compare(model, (1, 1, 9, 8), exact=True)
    frames = torch.arange(72.0).reshape(1, 1, 9, 8)
    folded = F.fold(frames[:, 0].transpose(1, 2), (1, 40), (1, 8), stride=(1, 4))
    assert torch.equal(added(frames), folded[:, :, 0])


def patches(x):
    """Windows of 4 x 3, a step of 2 down and 3 to the right."""
    down, right = x.stride()[2:]
    return x.as_strided((*x.shape[:2], 4, 3, 4, 3), (*x.stride()[:2], 2 * down, 3 * right, down, right))


def down(x):
    return places(x[..., 0], 4, 2, 1)


def right(x):
    return places(x, 3, 3, 1)


PATCHES = {
    "as_strided": patches,
    "channels last": lambda x: patches(x.contiguous(memory_format=torch.channels_last)),
    "transposed": lambda x: patches(x.transpose(2, 3).contiguous().transpose(2, 3)),
    "index": lambda x: x[:, :, down(x)][..., right(x)].transpose(3, 4),
    "two indices": lambda x: x[:, :, down(x)[:, None, :, None], right(x)[None, :, None]],
}


@pytest.mark.parametrize("name", PATCHES)
def test_patches(name):
    """Windows of two axes at once, in any layout."""
    model = Named(name, lambda x: PATCHES[name](x).sum((-1, -2)))
    field = compare(model, (1, 2, 10, 9), exact=True)[""]
    assert (field.size, field.stride, field.start, field.period) == ((4, 3), (2, 3), (0, 0), (1, 1))


INDICES = st.sampled_from([(1,), (4,), (3, 1), (1, 4), (3, 4)])


@given(INDICES, INDICES, INDICES, st.sampled_from(["adjacent", "apart", "first"]), st.booleans(), st.integers(0, 10**6))
@settings(derandomize=True)
def test_any_index_takes_what_it_takes_of_numbers(rows, columns, channels, where, regular, seed):
    """Whatever the indices are, an element sees the pixel that the same index takes of the pixels' numbers."""
    source = np.random.default_rng(seed)

    def drawn(shape, size):
        if not regular:
            return source.integers(-size, size, shape)
        return np.arange(np.prod(shape, dtype=int)).reshape(shape) % size

    down, right, channel = drawn(rows, 6), drawn(columns, 7), drawn(channels, 3)
    key = {"adjacent": np.s_[:, :, down, right], "apart": np.s_[:, channel, :, right], "first": np.s_[:, channel]}[
        where
    ]
    try:
        taken = np.arange(126).reshape(1, 3, 6, 7)[key]
    except IndexError:  # these do not broadcast
        return
    real = tuple(torch.from_numpy(one) if isinstance(one, np.ndarray) else one for one in key)
    model = Named("take", lambda x: x[tuple(one.to(x.device) if torch.is_tensor(one) else one for one in real)])
    field = sp.receptive_fields(model, (1, 3, 6, 7), unit_axes=range(taken.ndim))[""]
    boxes, (y, x) = field.boxes(), np.divmod(taken % 42, 7)
    assert field.exact
    assert np.array_equal(boxes, np.stack([y, x, y + 1, x + 1], -1))


def test_frames_of_all_rows():
    """40 pixels at a time of rows of 32, one after another: they begin in every row, in every second, and so on."""
    model = Named("rows", lambda x: x.as_strided((1, 1, 20, 40), (1024, 1024, 40, 1)).sum(-1))
    field = sp.receptive_fields(model, (1, 1, 32, 32))[""]
    assert (field.size, field.stride, field.start, field.period) == ((2, 32), (1.25, 0), (0, 0), (4, 4))
    assert [tuple(box[::2]) for box in field.boxes().tolist()] == [
        (40 * frame // 32, (40 * frame + 39) // 32 + 1) for frame in range(20)
    ]


REPEATS = {
    "repeat": lambda x: x.repeat(1, 1, 3),
    "tile": lambda x: x.tile(3),
    "index": lambda x: x[:, :, torch.arange(3 * x.shape[2], device=x.device) % x.shape[2]],
    "concatenated": lambda x: torch.cat([x, x, x], -1),
}


@pytest.mark.parametrize("name", REPEATS)
@pytest.mark.parametrize("samples", [12, 17, 80])
def test_repeats(name, samples):
    """Copies of a signal have the spacing of one, far from where they meet."""
    model = Named(name, lambda x: F.avg_pool1d(REPEATS[name](F.avg_pool1d(x, 2, 2)), 3, 1, 1))
    field = compare(model, (1, 1, samples), exact=True)[""]
    assert (field.size, field.stride, field.start, field.period) == ((6,), (2,), (-2,), (1,))


def test_a_repeated_pixel_is_no_signal():
    """One value spread over a map has no spacing."""
    model = Named("gate", lambda x: x * 0 + x.mean((2, 3), keepdim=True).repeat(1, 1, 8, 9))
    field = sp.receptive_fields(model, (1, 1, 8, 9))[""]
    assert (field.size, field.stride, field.is_global) == ((8, 9), (0, 0), True)
