"""The receptive field of one layer: the pixels of the input that its units see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_int, as_ints, check_switch, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.fields.bounds import unite
from spatialprobe.fields.box import Box
from spatialprobe.fields.intervals import Span
from spatialprobe.fields.lattice import Lattice
from spatialprobe.fields.reach import Reach
from spatialprobe.fields.spacing import BEYOND
from spatialprobe.fields.taps import Ints
from spatialprobe.html_fields import format_fields_html
from spatialprobe.model.layout import Layout
from spatialprobe.text import format_count


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """The receptive field of one layer: the pixels of the input that its units can see.

    Values per spatial axis are in input pixels, y before x. Size, stride and start are those of a unit far from every
    border; `box` returns the exact pixels of a unit. Where neighboring units differ (in decoders), `period` is the
    number of units after which they repeat, and `size` is the largest.

    >>> import spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 12, 3, padding=1))
    >>> field = sp.receptive_fields(model, (1, 3, 32, 32))["3"]
    >>> field.size, field.stride, field.start
    ((8, 8), (2, 2), (-3, -3))
    >>> field.box(0, 8)
    Box(y0=0, x0=13, y1=5, x1=21)
    >>> field.box(0, 8, clip=False)
    Box(y0=-3, x0=13, y1=5, x1=21)
    >>> field.reached_by(0, 0)
    Box(y0=0, x0=0, y1=2, x1=2)
    """

    layer: str
    call: int  # the layer's runs, counted from 0
    size: tuple[int, ...]  # pixels; unclipped: it may exceed the input
    stride: tuple[int | float, ...]  # pixels from a unit to the next, on average over a period
    start: tuple[int, ...]  # the first pixel of unit 0, negative in the padding
    period: tuple[int, ...]  # units, 1 where all fields are alike
    output_size: tuple[int, ...]  # units along each unit axis
    input_size: tuple[int, ...]  # pixels along each spatial axis
    exact: bool  # whether boxes are what perturbing the input shows; if not, they may be too large, never too small
    unknown: tuple[str, ...] = ()  # why not: operators without a rule, values read by Python or hidden by constants
    ignored: tuple[str, ...] = ()  # module types whose output was treated as a constant gate
    fallback: str | None = None  # why the pass ran on the real device instead of on meta tensors; None if it did not
    at: At = "output"  # or "post_activation": the field of the output of the layer's nonlinearity
    source: str | None = None  # the layer in whose units boxes are; None if they are in the input's pixels
    layout: Layout | None = None  # of the output; None if unit_axes= named the axes that count units
    _reach: Reach = field(repr=False, kw_only=True)  # of (channels, *units)

    def _repr_html_(self) -> str:
        """The numbers for a notebook."""
        return format_fields_html(self, self.layer)

    @property
    def padding(self) -> tuple[int, ...]:
        """The number of pixels by which unit 0 extends beyond the input's first pixel: -start."""
        return tuple(-start for start in self.start)

    @cached_property
    def is_global(self) -> bool:
        """Whether every unit sees all of the input's extent."""
        pairs = zip(self._united.spans, self.input_size, strict=False)
        return bool(self._reach.spans) and all((span.lo <= 0).all() and (span.hi >= n).all() for span, n in pairs)

    def box(self, *unit: int, channel: int | None = None, clip: bool = True) -> Box | None:
        """Return the pixels that a unit can see; None if it sees only padding.

        Args:
            unit: its position along each unit axis, (y, x) in a map of two.
            channel: of this channel only; by default of any.
            clip: whether the box ends at the input's border, or extends into the padding.

        Raises:
            ArgumentError: there is no such unit or channel.
        """
        check_switch(clip, "clip")
        self._check_position(unit, self.output_size, "unit", "units")
        reach = self._reach_of(channel)
        index = (0, *unit)
        sides = [_bounds_at(span, index, clip=clip) for span in reach.spans]
        if not sides or any(lo >= hi for lo, hi in sides) or (not clip and self.box(*unit, channel=channel) is None):
            return None
        return Box(*(lo for lo, _ in sides), *(hi for _, hi in sides))

    def boxes(self, channel: int | None = None, *, clip: bool = True) -> npt.NDArray[np.int64]:
        """Return the boxes of all units, (*output_size, 2 * axes) in the order of `Box`; zeros where one sees nothing.

        Args:
            channel: of this channel only; by default of any.
            clip: whether boxes end at the input's border, or extend into the padding.

        Raises:
            ArgumentError: there is no such channel.
        """
        check_switch(clip, "clip")
        reach, axes = self._reach_of(channel), len(self.input_size)
        made, empty = np.zeros((1, *self.output_size, 2 * axes), np.int64), np.zeros((), np.bool_)
        for axis, span in enumerate(reach.spans):
            lo, hi = (span.lo, span.hi) if clip else _unclipped_bounds(span, (1, *self.output_size))
            made[..., axis], made[..., axes + axis] = lo, hi
            empty = empty | (span.lo >= span.hi) | (lo >= hi)
        made[np.broadcast_to(empty, made.shape[:-1])] = 0
        return made.reshape(made.shape[1:])

    @property
    def per_channel(self) -> bool:
        """Whether channels see different pixels, as those that come from different branches do."""
        return any(span.extents[0] > 1 for span in self._reach.spans)

    def reached_by(self, *pixel: int, channel: int | None = None) -> Box | None:
        """Return the units that an input pixel reaches, as a box in the layer's grid; None if it reaches none.

        This is the projective field of the pixel: if the units it reaches have gaps between them, the box includes
        those too.

        Raises:
            ArgumentError: there is no such pixel or channel.
        """
        self._check_position(pixel, self.input_size, "pixel", "pixels")
        if not self.output_size:
            raise ArgumentError(f"Layer {self.layer!r} has no unit axes: all its units see the same pixels.")
        reached = np.ones((1,) * (len(self.output_size) + 1), bool)
        for span, position in zip(self._reach_of(channel).spans, pixel, strict=False):
            reached = reached & (span.lo <= position) & (position < span.hi)
        if not self._reach.spans or not reached.any():
            return None
        starts, stops = [], []
        for dim, size in enumerate(self.output_size, start=1):
            others = tuple(other for other in range(reached.ndim) if other != dim)
            along = np.flatnonzero(np.broadcast_to(reached.any(axis=others), (size,)))
            starts.append(int(along[0]))
            stops.append(int(along[-1]) + 1)
        return Box(*starts, *stops)

    @cached_property
    def _united(self) -> Reach:
        """The union over channels, of shape (1, *units)."""
        return self._reach.reduced([0], keepdim=True)._filled()

    def _reach_of(self, channel: int | None) -> Reach:
        """Return what the units of a channel see, (1, *units); of all channels if it is None."""
        if channel is None:
            return self._united
        channels = self._reach.shape[0]
        channel = as_int(channel, "channel")
        if not 0 <= channel < channels:
            raise ArgumentError(f"Layer {self.layer!r} has channels 0 to {channels - 1}, not {channel}.")
        return self._reach.sliced(0, channel, 1, 1)._filled()

    def _check_position(self, position: Sequence[int], sizes: Sequence[int], one: str, many: str) -> None:
        """Raise an error unless a unit or a pixel exists."""
        if len(position) != len(sizes):
            raise ArgumentError(
                f"Layer {self.layer!r} has {many} along {format_count(len(sizes), 'axis')}, "
                f"{' x '.join(map(str, sizes)) or 'none'}. Pass a number for each, not {short_repr(tuple(position))}."
            )
        if any(not 0 <= at < size for at, size in zip(as_ints(position, one), sizes, strict=True)):
            raise ArgumentError(
                f"There is no {one} {short_repr(tuple(position))} of layer {self.layer!r}: its {many} are "
                f"{' x '.join(map(str, sizes))}, counted from 0."
            )


def _bounds_at(span: Span, index: tuple[int, ...], *, clip: bool) -> tuple[int, int]:
    """Return the bounds of one element, in the real input or in one without borders."""
    if clip:
        place = tuple(min(i, extent - 1) for i, extent in zip(index, span.lo.shape, strict=True))
        return int(span.lo[place]), int(span.hi[place])
    lo, hi = _bounds_along(span, [np.array([i]) for i in index])
    return int(lo.flat[0]), int(hi.flat[0])


def _unclipped_bounds(span: Span, shape: Sequence[int]) -> tuple[Ints, Ints]:
    """Return the bounds of all elements in an input without borders."""
    return _bounds_along(span, [np.arange(size) for size in shape])


def _bounds_along(span: Span, indices: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Return the bounds at these indices along each dimension, in an input without borders."""
    parts = []
    for lattice in span.lattices:
        for dim, index in enumerate(indices):
            lattice = Lattice(*lattice.at(dim, index), (*lattice.shift[:dim], 0, *lattice.shift[dim + 1 :]))
        parts.append((lattice.lo, lattice.hi))
    return unite(parts)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Size, stride, start and period along one axis of the input, of a unit far from every border."""

    size: int
    stride: int | float
    start: int
    period: int

    @staticmethod
    def of(lattice: Lattice, axis: int, same_axes: bool) -> Geometry:
        """Return the geometry of a lattice (1, *units); with `same_axes`, unit axis i is input axis i."""
        filled: Ints = lattice.hi - lattice.lo
        size = int(filled.max())
        if size <= 0 or size >= BEYOND // 2:
            return Geometry(0, 0, 0, 1)
        lo = lattice.lo.flat[0] if filled.flat[0] > 0 else lattice.lo[filled > 0].min()
        varying = [d for d in range(1, lattice.lo.ndim) if lattice.lo.shape[d] > 1 or lattice.shift[d]]
        if not varying:
            return Geometry(size, 0, int(lo), 1)
        dim = axis + 1 if same_axes and axis + 1 in varying else varying[0]
        period, shift = lattice.lo.shape[dim], lattice.shift[dim]
        stride = shift // period if shift % period == 0 else shift / period
        return Geometry(size, stride, int(lo), period)
