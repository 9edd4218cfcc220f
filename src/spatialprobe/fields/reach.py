"""What each element of a tensor sees of the input: an interval along every axis, and whether it is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np

from spatialprobe.fields import intervals
from spatialprobe.fields.intervals import Span
from spatialprobe.fields.regrouping import Shape, regrouping
from spatialprobe.fields.sizes import ORDINARY, Sizes, merge_sizes
from spatialprobe.fields.taps import NONE, Bools, Ints, Taps, affine


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """The intervals of a tensor's elements along each axis of the input; a constant has none.

    Its methods correspond to operations on tensors: each returns what the result of the operation sees. Rules of
    operators are composed of them.

    >>> from spatialprobe.fields import rules
    >>> seen = rules.constant((1, 3, 8, 8))  # a tensor that depends on nothing of the input
    >>> seen.is_constant, seen.tapped(2, rules.window(kernel=3), outputs=6).shape
    (True, (1, 3, 6, 8))
    """

    shape: tuple[int, ...]
    spans: tuple[Span, ...] = ()  # one per axis of the input
    exact: bool = True  # whether the intervals are what perturbing the input shows, not more
    unknown: frozenset[str] = field(default=frozenset())  # operators without a rule on the path from the input
    gaps: bool = False  # whether some elements may see nothing: those whose interval along any axis is empty
    zeros: bool = False  # whether those that see nothing may be zero, and so hide what they are multiplied with
    sizes: Sizes = ORDINARY  # how large its values are, due to the constants that it was combined with

    @property
    def is_constant(self) -> bool:
        """Whether no element depends on the input."""
        return not self.spans

    def varies(self, dim: int) -> bool:
        """Return whether elements along a dimension see different things."""
        return any(span.varies(dim) for span in self.spans)

    def inexact(self, *unknown: str) -> Reach:
        """Return the same reach as an upper bound; because of the named operators without a rule, if any."""
        return replace(self, exact=False, unknown=self.unknown | set(unknown)) if self.spans else self

    @property
    def sees_nothing_somewhere(self) -> bool:
        """Whether there is an element that does not depend on the input."""
        return any(span.has_empty for span in self.spans)

    def tapped(self, dim: int, taps: Taps, outputs: int) -> Reach:
        """Return the reach after a window or a resampling along a dimension, which then has `outputs` positions."""
        inputs = self.shape[dim]
        blanks = not any(span.extents[dim] > 1 for span in self.spans) or any(
            len(span.parts) > 1 for span in self.spans
        )
        made = self._each(
            _replace_size(self.shape, dim, outputs), lambda span: span.tapped(dim, taps, inputs, outputs, blanks=blanks)
        )
        beyond = taps.table(inputs, outputs)[1] is not None
        if not (self.gaps or beyond):
            return made
        gaps = made.sees_nothing_somewhere
        return replace(made, gaps=gaps, zeros=gaps and (self.zeros or beyond))

    def sliced(self, dim: int, start: int, step: int, outputs: int) -> Reach:
        """Return positions start, start + step, ... of a dimension."""
        return self._each(_replace_size(self.shape, dim, outputs), lambda span: span.sliced(dim, start, step, outputs))

    def gridded(self, dim: int, start: int, steps: Sequence[int], counts: Sequence[int]) -> Reach:
        """Return positions start + step * index + ... of a dimension, which becomes one dimension for each step.

        Two steps make windows of a dimension: steps (stride, dilation), counts (windows, taps).
        """
        shape = (*self.shape[:dim], *counts, *self.shape[dim + 1 :])
        return self._each(shape, lambda span: span.gridded(dim, start, steps, counts))

    def selected(self, dim: int, position: int) -> Reach:
        """Return one position of a dimension, which is removed."""
        one = self.sliced(dim, position, 1, 1)
        return one.reshaped((*self.shape[:dim], *self.shape[dim + 1 :]))

    def taken(self, dim: int, index: Ints) -> Reach:
        """Return these positions (n,) of a dimension, in any order."""
        return self._each(_replace_size(self.shape, dim, len(index)), lambda span: span.taken(dim, index))

    def rearranged(self, dim: int, index: Ints, start: int) -> Reach:
        """Return these positions of a dimension, for an operator that without borders is a shift to `start`."""

        def rearrange(span: Span) -> Span:
            shifted = [lattice.tapped(dim, affine(start, 1)) for lattice in span.lattices]
            return span.taken(dim, index, shifted)

        return self._each(_replace_size(self.shape, dim, len(index)), rearrange)

    def gathered(self, dim: int, table: Ints) -> Reach:
        """Return the union over the positions (outputs, k) of each output; NONE where there are fewer than k."""
        columns = []
        for column in table.T:
            here = self.taken(dim, np.where(column == NONE, 0, column))
            nothing = column == NONE
            columns.append(here._blanked(dim, nothing) if nothing.any() else here)
        return union(columns, _replace_size(self.shape, dim, len(table)))

    def padded(self, dim: int, before: int, outputs: int) -> Reach:
        """Return the reach padded with constants before and after; negative padding crops."""
        return self.tapped(dim, affine(-before, 1), outputs)

    def mixed(self, dims: Iterable[int]) -> Reach:
        """Return a reach of the same shape, in which each element sees what all along these dimensions see."""
        chosen = self._dims(dims)
        return self._each(self.shape, lambda span: span.reduced(chosen, self.shape))

    def reduced(self, dims: Iterable[int], *, keepdim: bool = False) -> Reach:
        """Return the union along these dimensions, which are removed, or with `keepdim` have size 1."""
        chosen = self._dims(dims)
        kept = tuple(1 if dim in chosen else size for dim, size in enumerate(self.shape))
        mixed = replace(self.mixed(chosen), shape=kept)
        if keepdim:
            return mixed
        return mixed.reshaped([size for dim, size in enumerate(self.shape) if dim not in chosen])

    def everything(self, shape: Shape) -> Reach:
        """Return a reach of this shape, in which each element sees what any element of this one sees."""
        one = self.mixed(range(len(self.shape))).reduced(range(len(self.shape)))
        return one.expanded(shape)

    def accumulated(self, dim: int) -> Reach:
        """Return the union of each position of a dimension with all before it."""
        return self._each(self.shape, lambda span: span.accumulated(dim, self.shape[dim]))

    def regrouped(self, dim: int, groups: int, outputs: int) -> Reach:
        """Return the reach with the channels of a convolution: each output sees all input channels of its group."""
        shape, inputs = self.shape, self.shape[dim]
        if groups == 1 or not self.varies(dim):
            return replace(self.mixed([dim]), shape=_replace_size(shape, dim, outputs))
        before, after = shape[:dim], shape[dim + 1 :]
        split = self.reshaped((*before, groups, inputs // groups, *after)).reduced([dim + 1], keepdim=True)
        whole = split.expanded((*before, groups, outputs // groups, *after))
        return whole.reshaped((*before, outputs, *after))

    def permuted(self, order: Sequence[int]) -> Reach:
        """Return the reach with its dimensions in another order."""
        positive = [dim % len(self.shape) for dim in order]
        return self._each([self.shape[dim] for dim in positive], lambda span: span.permuted(positive))

    def expanded(self, shape: Shape) -> Reach:
        """Return the reach broadcast to a shape."""
        if tuple(shape) == self.shape:
            return self
        return self._each(shape, lambda span: span.broadcast(self.shape, shape))

    def reshaped(self, shape: Shape) -> Reach:
        """Return the reach in another shape, in row-major order."""
        if tuple(shape) == self.shape:
            return self
        if not self.spans:
            return replace(self, shape=tuple(shape))
        if 0 in self.shape:  # no elements, which see nothing
            return Reach(tuple(shape))
        runs = regrouping(self.shape, shape)
        return self._each(shape, lambda span: span.reshaped(runs))

    def patched(self, region: Sequence[slice], new: Reach) -> Reach:
        """Return the reach with a box of it replaced by a reach of the box's shape."""
        sees = self if self.spans else new
        if not sees.spans:
            return self
        exact, unknown, sizes = _merge_marks([one for one in (self, new) if one.spans])
        if self.spans and new.spans and self._boxed(region)._sees_as(new):
            gaps, zeros = self.gaps or new.gaps, self.zeros or new.zeros
            return Reach(self.shape, self.spans, exact, unknown, gaps, zeros, sizes)
        empties = sees.empties(len(self.shape))
        old, over = (replace(one._filled(), spans=one._filled().spans or empties) for one in (self, new))
        here = old._boxed(region)
        spans = tuple(
            span.patched(region, self.shape, *pair)
            for span, *pair in zip(old.spans, here.spans, over.spans, strict=True)
        )
        return Reach(self.shape, spans, exact, unknown, gaps=True, zeros=True, sizes=sizes)

    def emptied(self, where: Bools) -> Reach:
        """Return the reach, seeing nothing wherever a mask, broadcast against the tensor, is True."""
        if not self.spans or not where.any():
            return self
        if where.all():
            return constant(self.shape)
        nothing = where.reshape((1,) * (len(self.shape) - where.ndim) + where.shape)
        return replace(self._each(self.shape, lambda span: span.emptied([nothing])), gaps=True, zeros=True)

    def dense(self) -> Ints:
        """Return all bounds of all elements, (axes, 4, *shape): lo and hi, then those of an input without borders."""
        return np.stack([span.dense(self.shape) for span in self._filled().spans])

    def empties(self, ndim: int) -> tuple[Span, ...]:
        """Return as many empty spans as this reach has, for a tensor of `ndim` dimensions."""
        return tuple(Span.empty(ndim) for _ in self.spans)

    def from_dense(self, bounds: Ints) -> Reach:
        """Return a reach like this one, with the bounds (axes, 4, *shape) of an operator that moves single elements."""
        shape = bounds.shape[2:]
        same = len(shape) == len(self.shape)
        spaced = [
            dim
            for dim in range(len(shape))
            if same and any(lattice.shift[dim] for span in self.spans for lattice in span.lattices)
        ]
        spans = tuple(Span.from_dense(one, spaced) for one in bounds)
        made = replace(self, shape=tuple(shape), spans=spans)
        gaps = made.sees_nothing_somewhere
        return replace(made, gaps=gaps, zeros=gaps and (self.zeros or not self.gaps))

    def _boxed(self, region: Sequence[slice]) -> Reach:
        """Return a box of the reach."""
        here = self
        for dim, part in enumerate(region):
            places = range(self.shape[dim])[part]
            if len(places) < self.shape[dim]:
                here = here.sliced(dim, places.start, places.step, len(places))
        return here

    def _sees_as(self, other: Reach) -> bool:
        """Return whether the elements of two reaches of a shape see the same, as far as their forms show it at once."""
        return all(one.is_like(another) for one, another in zip(self.spans, other.spans, strict=True))

    def _each(self, shape: Shape, change: Callable[[Span], Span]) -> Reach:
        """Return the reach with a change of each span."""
        spans = tuple(map(change, self.spans))
        return Reach(tuple(shape), spans, self.exact, self.unknown, self.gaps, self.zeros, self.sizes)

    def _dims(self, dims: Iterable[int]) -> list[int]:
        """Return dimensions counted from 0, sorted, each once."""
        return sorted({dim % len(self.shape) for dim in dims}) if self.shape else []

    def _blanked(self, dim: int, nothing: Bools) -> Reach:
        """Return the reach, seeing nothing at some positions (size,) of a dimension."""
        return replace(self._each(self.shape, lambda span: span.blanked(dim, nothing)), gaps=True, zeros=True)

    def _filled(self) -> Reach:
        """Return the same reach, in which an element that is empty along one axis is empty along all."""
        if not self.gaps:
            return self
        parts = intervals.parts_of(self.spans)
        empty = [reduce(np.logical_or, (lo > hi for lo, hi in axes)) for axes in parts]
        if not any(where.any() for where in empty):
            return self
        return self._each(self.shape, lambda span: span.emptied(empty))


def constant(shape: Shape) -> Reach:
    """Return the reach of a tensor that sees nothing of the input.

    >>> constant((1, 3)).shape, constant((1, 3)).is_constant
    ((1, 3), True)
    """
    return Reach(tuple(shape))


def union(reaches: Sequence[Reach], shape: Shape) -> Reach:
    """Return the union of reaches, broadcast to a shape.

    >>> union([constant((1, 3)), constant((4, 1))], (4, 3)).shape
    (4, 3)
    """
    seeing = [reach for reach in reaches if reach.spans]
    if not seeing:
        return constant(shape)
    if len(seeing) == 1:
        return seeing[0].expanded(shape)
    whole = [reach._filled().expanded(shape).spans for reach in seeing]
    same = all(one is first for spans in whole for one, first in zip(spans, whole[0], strict=True))
    spans = whole[0] if same else intervals.union(whole, shape)
    exact, unknown, sizes = _merge_marks(seeing)
    gaps = all(reach.gaps for reach in seeing)
    zeros = gaps and any(reach.zeros for reach in seeing)
    if zeros:  # what one does not see another may
        gaps = zeros = any(span.has_empty for span in spans)
    return Reach(tuple(shape), spans, exact, unknown, gaps, zeros, sizes)


def joined(reaches: Sequence[Reach], dim: int) -> Reach:
    """Return the reach of tensors concatenated along a dimension.

    >>> joined([constant((1, 3)), constant((1, 2))], dim=1).shape
    (1, 5)
    """
    sizes = [reach.shape[dim] for reach in reaches]
    shape = _replace_size(reaches[0].shape, dim, sum(sizes))
    seeing = [reach for reach in reaches if reach.spans]
    if not seeing:
        return constant(shape)
    nothing = seeing[0].empties(len(shape))
    spans = tuple(
        intervals.joined(axis, dim, sizes, shape)
        for axis in zip(*(reach._filled().spans or nothing for reach in reaches), strict=True)
    )
    exact, unknown, large = _merge_marks(seeing)
    beside = len(seeing) < len(reaches)
    gaps, zeros = (beside or any(getattr(one, mark) for one in seeing) for mark in ("gaps", "zeros"))
    return Reach(shape, spans, exact, unknown, gaps, zeros, large)


def _merge_marks(reaches: Sequence[Reach]) -> tuple[bool, frozenset[str], Sizes]:
    """Return whether all reaches are exact, the operators unknown to any, and how large their values are."""
    unknown = frozenset[str]().union(*(reach.unknown for reach in reaches))
    return all(reach.exact for reach in reaches), unknown, merge_sizes([reach.sizes for reach in reaches])


def _replace_size(shape: Shape, dim: int, size: int) -> tuple[int, ...]:
    """Return a shape with another size of one dimension."""
    return (*shape[:dim], size, *shape[dim + 1 :])
