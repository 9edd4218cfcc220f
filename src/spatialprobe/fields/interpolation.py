"""The positions that an interpolation reads, found by running torch's own kernels, whose rounding decides them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.fields.taps import NONE, Bools, Ints, Taps, antialiased, interpolated, list_taps, nearest

_FINEST = 10**6  # the largest denominator of a factor's fraction
_MARGIN = 2  # positions by which rounding may differ from the exact fraction
_SIGNAL = 4096.0  # the value of a probe, so that small weights do not underflow
_CLEAR = {torch.float32: 2e-6, torch.float64: 1e-9}  # a smaller weight may be due to rounding
_SMALL_OUTPUT = 128  # height and width together: up to this size, torch uses another kernel


@dataclass(frozen=True, slots=True)
class Resize:
    """One axis of an interpolation, and everything that decides which kernel computes it."""

    operator: str  # "aten::upsample_bilinear2d"
    axes: int
    axis: int  # which of them
    inputs: int
    outputs: int
    beside: int  # positions along the other axis of two while this one is computed; 1 for one axis or three
    factor: float | None  # outputs per input, where a factor was passed and is used
    align_corners: bool
    channels: int  # up to four, the number of channels decides the kernel
    channels_last: bool
    dtype: torch.dtype

    @property
    def antialiased(self) -> bool:
        """Whether the window widens with the scale."""
        return self.operator.endswith("_aa")

    @property
    def scale(self) -> Fraction:
        """The number of inputs per output, in an input without borders."""
        if self.align_corners:
            return Fraction(self.inputs - 1, self.outputs - 1) if self.outputs > 1 else Fraction(0)
        if self.factor is not None and self.factor > 0:
            return 1 / (Fraction(self.factor).limit_denominator(_FINEST) or Fraction(1, _FINEST))
        return Fraction(self.inputs, self.outputs)


@lru_cache(maxsize=1024)
def resize_taps(resize: Resize) -> tuple[Taps, bool]:
    """Return the taps of an axis, and whether they are exact.

    Torch computes positions in float32, or in float64 for tensors of that dtype, so that rounding decides which pixels
    count where a position is near an integer. The taps are those of its CPU kernel in the tensor's own dtype; they are
    an upper bound where a weight at the edge of a window is so small that it may be due to rounding alone. Without
    borders they follow exact fractions.
    """
    ideal = _exact_taps(resize)
    first, width = _find_windows(ideal, resize)
    weights = _measure_weights(resize, first, width)
    rows = np.where(weights != 0, first[:, None] + np.arange(width), NONE)
    clear = weights > _CLEAR.get(resize.dtype, 0.0)
    exact = _have_same_ends(weights != 0, clear) and (resize.dtype.is_floating_point or "nearest" in resize.operator)
    return list_taps(ideal, resize.inputs, rows), exact


def _exact_taps(resize: Resize) -> Taps:
    """Return the taps by exact fractions."""
    name = resize.operator
    if "nearest" in name:
        return nearest(resize.scale, centered="exact" in name)
    if resize.antialiased:
        return antialiased(resize.scale, radius=3 if "lanczos" in name else 2 if "cubic" in name else 1)
    return interpolated(resize.scale, cubic="cubic" in name, align_corners=resize.align_corners)


def _find_windows(ideal: Taps, resize: Resize) -> tuple[Ints, int]:
    """Return where each output's window of candidates begins (outputs,), and the width of all windows."""
    found = ideal.positions(np.arange(resize.outputs))
    inside = found.clip(0, resize.inputs - 1)
    first = np.where(found == NONE, resize.inputs, inside).min(axis=1) - _MARGIN
    width = int((inside.max(axis=1) - first).max()) + 1 + _MARGIN
    fits = abs(resize.outputs * resize.scale - resize.inputs) <= resize.scale + 1 or resize.align_corners
    if width >= resize.inputs or not fits or (resize.antialiased and resize.beside == 1):
        return np.zeros(resize.outputs, np.int64), resize.inputs
    return first, width


def _measure_weights(resize: Resize, first: Ints, width: int) -> npt.NDArray[np.float64]:
    """Return the weight of each candidate (outputs, width), without its sign.

    Positions that lie a whole number of widths apart share a probe, since no window holds two of them.
    """
    probes = torch.from_numpy(np.where(np.arange(resize.inputs) % width == np.arange(width)[:, None], _SIGNAL, 0.0))
    dtype = resize.dtype if resize.dtype.is_floating_point else torch.float32
    try:
        responses = _run_kernel(resize, probes.to(dtype))
    except RuntimeError:  # some kernels do not support half precision
        if dtype.itemsize > 2:
            raise
        responses = _run_kernel(resize, probes.to(torch.float32))
    candidates = (first[:, None] + np.arange(width)) % width
    found: npt.NDArray[np.float64] = np.take_along_axis(responses.double().numpy().T, candidates, axis=1)
    return abs(found) / _SIGNAL


def _run_kernel(resize: Resize, probes: torch.Tensor) -> torch.Tensor:
    """Return the outputs (probes, outputs) of torch's kernel for probes (probes, inputs) along one axis."""
    row = [1] * resize.axes
    row[resize.axis] = resize.inputs
    shape, sizes = _choose_sizes(resize)
    images = probes.reshape(len(probes), 1, *row).repeat(
        1, 1 if resize.antialiased else resize.channels, *(a // b for a, b in zip(shape, row, strict=True))
    )
    if resize.channels_last:
        images = images.to(memory_format=torch.channels_last if resize.axes == 2 else torch.channels_last_3d)
    operator = getattr(torch.ops.aten, resize.operator.removeprefix("aten::")).default
    names = [argument.name for argument in operator._schema.arguments]
    factors = [name for name in names if name.startswith("scales")]
    options = {"align_corners": resize.align_corners, factors[resize.axis]: resize.factor}
    resized: torch.Tensor = operator(images, sizes, **{name: options[name] for name in options if name in names})
    return resized[:, 0].movedim(resize.axis + 1, 1).reshape(len(probes), resize.outputs, -1)[..., 0]


def _choose_sizes(resize: Resize) -> tuple[list[int], list[int]]:
    """Return the sizes before and after, with the other axes as small as the same kernel allows."""
    before = after = 1
    if resize.antialiased:  # torch reads other pixels if there is only one column
        before = after = min(2, resize.beside)
    elif resize.axes == 2 and resize.outputs + resize.beside > _SMALL_OUTPUT:
        after = max(1, _SMALL_OUTPUT + 1 - resize.outputs)
    shape, sizes = [before] * resize.axes, [after] * resize.axes
    shape[resize.axis], sizes[resize.axis] = resize.inputs, resize.outputs
    return shape, sizes


def _have_same_ends(one: Bools, other: Bools) -> bool:
    """Return whether each row has the same first and last True in both masks."""
    ends = [(rows.argmax(axis=1), rows[:, ::-1].argmax(axis=1), rows.any(axis=1)) for rows in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))
