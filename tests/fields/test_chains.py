"""Chains of layers against the closed formula for them, whatever is done to the maps on the way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import spatialprobe as sp
from fields.graphs import Named

CHANNELS = 4


def canvas(x):
    made = x.new_zeros(len(x), CHANNELS + 1, *x.shape[2:])
    made[:, 1:] = x
    return made[:, 1:]


def by_hand(x):
    """A linear layer on maps, as ConvNeXt has it."""
    return F.linear(x.permute(0, 2, 3, 1), torch.ones(CHANNELS, CHANNELS, device=x.device)).permute(0, 3, 1, 2)


def tokens(x):
    """A linear map of tokens, as a transformer has it."""
    mixed = x.flatten(2).transpose(1, 2) @ torch.ones(CHANNELS, CHANNELS, device=x.device)
    return mixed.transpose(1, 2).reshape(x.shape)


def windows(x):
    """Pairs of columns, each pair with all rows, one after the other, and back."""
    if x.shape[3] % 2:
        return x
    pairs = x.unflatten(3, (-1, 2)).transpose(2, 3)  # (N, C, W / 2, H, 2)
    apart = pairs.flatten(2, 3) * 2
    return apart.unflatten(2, pairs.shape[2:4]).transpose(2, 3).flatten(3)


def sorted_out(x):
    made = torch.empty_like(x)
    for channel in range(CHANNELS):
        made[:, channel] = x[:, CHANNELS - 1 - channel]
    return made


# What changes nothing about which pixels are seen: each of these gives back maps of the shape that it was given.
NEUTRAL = {
    "relu": lambda x: x.relu(),
    "linear": by_hand,
    "flat and back": lambda x: (x.flatten(1) * 2).view(x.shape),
    "rows and back": lambda x: (x.flatten(2) + 1).unflatten(2, x.shape[2:]),
    "turned": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "reshaped while channels last": lambda x: x.permute(0, 2, 3, 1).reshape(-1, CHANNELS).view(
        len(x), *x.shape[2:], CHANNELS
    ).permute(0, 3, 1, 2),
    "zeros beside": lambda x: torch.cat([x, torch.zeros_like(x)], 1)[:, :CHANNELS],
    "canvas": canvas,
    "channel by channel": sorted_out,
    "halves": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "two images": lambda x: torch.cat([x, x])[: len(x)],
    "residual": lambda x: x + x.tanh(),
    "shuffled and back": lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2),
    "einsum": lambda x: torch.einsum("nchw,cd->ndhw", x, torch.ones(CHANNELS, CHANNELS, device=x.device)),
    "unfolded": lambda x: F.fold(F.unfold(x, 1), x.shape[2:], 1),
    "padded and cropped": lambda x: F.pad(x, (1, 2, 3, 4))[:, :, 3:-4, 1:-2],
    "row by row": lambda x: torch.stack(x.unbind(2), 2),
    "tokens": tokens,
    "chosen rows": lambda x: x[:, :, torch.arange(x.shape[2], device=x.device)],
    "flipped twice": lambda x: x.flip(2, 3).add(1).flip(2, 3),
    "rolled twice": lambda x: x.roll((3, -2), (2, 3)).mul(2).roll((-3, 2), (2, 3)),
    "parts of rows": lambda x: torch.cat([part * 2 for part in x.split(5, 2)], 2),
    "windows and back": windows,
    "normalised": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (CHANNELS,)).permute(0, 3, 1, 2),
    "where": lambda x: torch.where(x > 0, x, torch.zeros((), device=x.device)),
    "repeated": lambda x: x.repeat(1, 2, 1, 1)[:, ::2],
    "in place": lambda x: x.clone().mul_(2).add_(x),
    "gated": lambda x: x * x.sigmoid(),
    "stacked": lambda x: torch.stack([x, x], 1).flatten(1, 2)[:, ::2],
}  # fmt: skip

WINDOWS = st.tuples(
    st.sampled_from(["conv", "max", "average", "depthwise"]),
    st.integers(1, 3),  # kernel
    st.sampled_from([1, 1, 2]),  # stride
    st.integers(1, 2),  # dilation, of convolutions
)


def window(kind, kernel, stride, dilation):
    """The layer, and its kernel, stride, dilation and padding, alike along both axes."""
    padding = kernel // 2
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, padding), (kernel, stride, 1, padding)
    if kind == "average":
        return nn.AvgPool2d(kernel, stride, padding), (kernel, stride, 1, padding)
    groups = CHANNELS if kind == "depthwise" else 1
    conv = nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, dilation, groups=groups)
    return conv, (kernel, stride, dilation, padding)


@given(st.lists(st.tuples(WINDOWS, st.sampled_from(sorted(NEUTRAL))), min_size=1, max_size=5))
@settings(derandomize=True)
def test_chains_follow_the_formula(steps):
    """Size, stride and start [Araujo et al. 2019, eqs. 2 and 3], after every step of every chain."""
    layers, expected = [], []
    size, stride, start = 1, 1, 0
    for arguments, neutral in steps:
        layer, (kernel, step, dilation, padding) = window(*arguments)
        size, start = size + dilation * (kernel - 1) * stride, start - padding * stride
        stride *= step
        layers += [layer, Named(neutral, NEUTRAL[neutral])]
        expected += [(size, stride, start)] * 2
    fields = sp.receptive_fields(nn.Sequential(*layers), (1, CHANNELS, 64, 96))
    for number, (size, stride, start) in enumerate(expected):
        field = fields[str(number)]
        found = field.size, field.stride, field.start, field.period, field.exact
        assert found == ((size,) * 2, (stride,) * 2, (start,) * 2, (1, 1), True), layers[: number + 1]
