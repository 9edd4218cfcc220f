"""What each element of one tensor sees of the input: an interval along every axis, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np

from spatialprobe.fields import intervals
from spatialprobe.fields.intervals import Shape, Span, regrouping
from spatialprobe.fields.sizes import ORDINARY, Sizes, merged
from spatialprobe.fields.taps import NONE, Bools, Ints, Taps, affine


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """The intervals of a tensor's elements along each axis of the input; a constant has none.

    Its verbs are those of tensors: each returns what the result of such an operation sees. They are what the rule of an
    operator is made of.

    >>> from spatialprobe.fields import rules
    >>> seen = rules.constant((1, 3, 8, 8))  # a tensor that depends on nothing of the input
    >>> seen.is_constant, seen.tapped(2, rules.window(kernel=3), outputs=6).shape
    (True, (1, 3, 6, 8))
    """

    shape: tuple[int, ...]
    spans: tuple[Span, ...] = ()  # one per axis of the input
    exact: bool = True  # whether the intervals are what perturbing the input shows, not more
    unknown: frozenset[str] = field(default=frozenset())  # operators without a rule on the way here
    gaps: bool = False  # whether some elements may see nothing: those whose interval along any axis is empty
    zeros: bool = False  # whether those that see nothing may be zero, and so hide what they are multiplied with
    sizes: Sizes = ORDINARY  # how large its values are, by the constants that it has met

    @property
    def is_constant(self) -> bool:
        """Whether no element depends on the input."""
        return not self.spans

    def varies(self, dim: int) -> bool:
        """Return whether elements along a dimension see different things."""
        return any(_varies(span, dim) for span in self.spans)

    def inexact(self, *unknown: str) -> Reach:
        """The same, as a bound that may be too large; because of operators without a rule, if named."""
        return replace(self, exact=False, unknown=self.unknown | set(unknown)) if self.spans else self

    @property
    def sees_nothing_somewhere(self) -> bool:
        """Whether there is an element that depends on nothing of the input."""
        return any(bool((span.lo > span.hi).any()) for span in self.spans)

    def tapped(self, dim: int, taps: Taps, outputs: int) -> Reach:
        """A window or a resampling along a dimension, which then has so many positions."""
        inputs = self.shape[dim]
        blanks = not any(span.lo.shape[dim] > 1 for span in self.spans)
        made = self._each(
            _resized(self.shape, dim, outputs), lambda span: span.tapped(dim, taps, inputs, outputs, blanks=blanks)
        )
        beyond = taps.table(inputs, outputs)[1] is not None
        if not (self.gaps or beyond):
            return made
        gaps = made.sees_nothing_somewhere
        return replace(made, gaps=gaps, zeros=gaps and (self.zeros or beyond))

    def sliced(self, dim: int, start: int, step: int, outputs: int) -> Reach:
        """Positions start, start + step, ... of a dimension."""
        return self._each(_resized(self.shape, dim, outputs), lambda span: span.sliced(dim, start, step, outputs))

    def gridded(self, dim: int, start: int, steps: Sequence[int], counts: Sequence[int]) -> Reach:
        """Return positions start + step * index + ... of a dimension, which becomes one dimension for each step.

        Two steps make windows of a dimension: (stride, dilation), for as many as (windows, taps).
        """
        shape = (*self.shape[:dim], *counts, *self.shape[dim + 1 :])
        return self._each(shape, lambda span: span.gridded(dim, start, steps, counts))

    def selected(self, dim: int, position: int) -> Reach:
        """One position of a dimension, which is then gone."""
        one = self.sliced(dim, position, 1, 1)
        return one.reshaped((*self.shape[:dim], *self.shape[dim + 1 :]))

    def taken(self, dim: int, index: Ints) -> Reach:
        """These positions (n,) of a dimension, in any order."""
        return self._each(_resized(self.shape, dim, len(index)), lambda span: span.taken(dim, index))

    def rearranged(self, dim: int, index: Ints, start: int) -> Reach:
        """These positions of a dimension, for an operator that without borders would only shift it to `start`."""

        def rearrange(span: Span) -> Span:
            shifted = span.lattice.tapped(dim, affine(start, 1))
            return span.taken(dim, index, shifted)

        return self._each(_resized(self.shape, dim, len(index)), rearrange)

    def gathered(self, dim: int, table: Ints) -> Reach:
        """The union over some positions for each output, (outputs, k); NONE where there are fewer than k."""
        columns = []
        for column in table.T:
            here = self.taken(dim, np.where(column == NONE, 0, column))
            nothing = column == NONE
            columns.append(here._blanked(dim, nothing) if nothing.any() else here)
        return union(columns, _resized(self.shape, dim, len(table)))

    def padded(self, dim: int, before: int, outputs: int) -> Reach:
        """With constants before and after; negative numbers cut off."""
        return self.tapped(dim, affine(-before, 1), outputs)

    def mixed(self, dims: Iterable[int]) -> Reach:
        """Of the same shape, each element seeing what all along these dimensions see."""
        chosen = self._dims(dims)
        return self._each(self.shape, lambda span: span.reduced(chosen, self.shape))

    def reduced(self, dims: Iterable[int], *, keepdim: bool = False) -> Reach:
        """The union along these dimensions, which then have size 1, or are gone."""
        chosen = self._dims(dims)
        kept = tuple(1 if dim in chosen else size for dim, size in enumerate(self.shape))
        mixed = replace(self.mixed(chosen), shape=kept)
        if keepdim:
            return mixed
        return mixed.reshaped([size for dim, size in enumerate(self.shape) if dim not in chosen])

    def everything(self, shape: Shape) -> Reach:
        """A tensor of this shape, each element of which sees what any element of this one does."""
        one = self.mixed(range(len(self.shape))).reduced(range(len(self.shape)))
        return one.expanded(shape)

    def accumulated(self, dim: int) -> Reach:
        """The union of each position of a dimension with all before it."""
        return self._each(self.shape, lambda span: span.accumulated(dim, self.shape[dim]))

    def regrouped(self, dim: int, groups: int, outputs: int) -> Reach:
        """What a convolution does to channels: each output channel sees all input channels of its group."""
        shape, inputs = self.shape, self.shape[dim]
        if groups == 1 or not self.varies(dim):
            return replace(self.mixed([dim]), shape=_resized(shape, dim, outputs))
        before, after = shape[:dim], shape[dim + 1 :]
        split = self.reshaped((*before, groups, inputs // groups, *after)).reduced([dim + 1], keepdim=True)
        whole = split.expanded((*before, groups, outputs // groups, *after))
        return whole.reshaped((*before, outputs, *after))

    def permuted(self, order: Sequence[int]) -> Reach:
        """The dimensions in another order."""
        positive = [dim % len(self.shape) for dim in order]
        return self._each([self.shape[dim] for dim in positive], lambda span: span.permuted(positive))

    def expanded(self, shape: Shape) -> Reach:
        """Broadcast to a shape."""
        if tuple(shape) == self.shape:
            return self
        return self._each(shape, lambda span: span.broadcast(self.shape, shape))

    def reshaped(self, shape: Shape) -> Reach:
        """In row-major order in another shape."""
        if tuple(shape) == self.shape:
            return self
        if not self.spans:
            return replace(self, shape=tuple(shape))
        if 0 in self.shape:  # no elements, which see nothing
            return Reach(tuple(shape))
        runs = regrouping(self.shape, shape)
        return self._each(shape, lambda span: span.reshaped(runs))

    def patched(self, region: Sequence[slice], new: Reach) -> Reach:
        """With a box of it written over by a reach of the box's shape."""
        sees = self if self.spans else new
        if not sees.spans:
            return self
        ndim = len(self.shape)
        old, over = (one._filled().spans or sees.empties(ndim) for one in (self, new))
        spans = tuple(a.patched(region, self.shape, b) for a, b in zip(old, over, strict=True))
        exact = all(one.exact for one in (self, new) if one.spans)
        sizes = merged([one.sizes for one in (self, new) if one.spans])
        return Reach(self.shape, spans, exact, self.unknown | new.unknown, gaps=True, zeros=True, sizes=sizes)

    def emptied(self, where: Bools) -> Reach:
        """Of the same shape, seeing nothing wherever an array, broadcast against the tensor, says so."""
        if not self.spans or not where.any():
            return self
        if where.all():
            return constant(self.shape)
        nothing = where.reshape((1,) * (len(self.shape) - where.ndim) + where.shape)
        return replace(self._each(self.shape, lambda span: span.emptied(nothing)), gaps=True, zeros=True)

    def dense(self) -> Ints:
        """Every bound of every element, (axes, 4, *shape): lo and hi, then those of an input without borders."""
        return np.stack([span.dense(self.shape) for span in self._filled().spans])

    def empties(self, ndim: int) -> tuple[Span, ...]:
        """As many empty spans as this one has, of a tensor of so many dimensions."""
        return tuple(Span.empty(ndim) for _ in self.spans)

    def from_dense(self, bounds: Ints) -> Reach:
        """Like this one, but with the bounds (axes, 4, *shape) of an operator that moves single elements about."""
        shape = bounds.shape[2:]
        same = len(shape) == len(self.shape)
        spaced = [dim for dim in range(len(shape)) if any(same and span.lattice.shift[dim] for span in self.spans)]
        spans = tuple(Span.from_dense(one, spaced) for one in bounds)
        made = replace(self, shape=tuple(shape), spans=spans)
        gaps = made.sees_nothing_somewhere
        return replace(made, gaps=gaps, zeros=gaps and (self.zeros or not self.gaps))

    def _each(self, shape: Shape, change: Callable[[Span], Span]) -> Reach:
        spans = tuple(map(change, self.spans))
        return Reach(tuple(shape), spans, self.exact, self.unknown, self.gaps, self.zeros, self.sizes)

    def _dims(self, dims: Iterable[int]) -> list[int]:
        return sorted({dim % len(self.shape) for dim in dims}) if self.shape else []

    def _blanked(self, dim: int, nothing: Bools) -> Reach:
        return replace(self._each(self.shape, lambda span: span.blanked(dim, nothing)), gaps=True, zeros=True)

    def _filled(self) -> Reach:
        """The same, where an element that is empty along one axis is so along all."""
        if not self.gaps:
            return self
        empty = reduce(np.logical_or, (span.lo > span.hi for span in self.spans))
        return self._each(self.shape, lambda span: span.emptied(empty))


def constant(shape: Shape) -> Reach:
    """A tensor that sees nothing of the input.

    >>> constant((1, 3)).shape, constant((1, 3)).is_constant
    ((1, 3), True)
    """
    return Reach(tuple(shape))


def union(reaches: Sequence[Reach], shape: Shape) -> Reach:
    """What any of them sees, broadcast to a shape.

    >>> union([constant((1, 3)), constant((4, 1))], (4, 3)).shape
    (4, 3)
    """
    seeing = [reach for reach in reaches if reach.spans]
    if not seeing:
        return constant(shape)
    if len(seeing) == 1:
        return seeing[0].expanded(shape)
    whole = [reach._filled().expanded(shape).spans for reach in seeing]
    spans = tuple(intervals.union(axis, shape) for axis in zip(*whole, strict=True))
    gaps, (exact, unknown, sizes) = all(reach.gaps for reach in seeing), _marks(seeing)
    return Reach(tuple(shape), spans, exact, unknown, gaps, gaps and any(reach.zeros for reach in seeing), sizes)


def joined(reaches: Sequence[Reach], dim: int) -> Reach:
    """Tensors one after another along a dimension.

    >>> joined([constant((1, 3)), constant((1, 2))], dim=1).shape
    (1, 5)
    """
    sizes = [reach.shape[dim] for reach in reaches]
    shape = _resized(reaches[0].shape, dim, sum(sizes))
    seeing = [reach for reach in reaches if reach.spans]
    if not seeing:
        return constant(shape)
    nothing = seeing[0].empties(len(shape))
    spans = tuple(
        intervals.joined(axis, dim, sizes, shape)
        for axis in zip(*(reach._filled().spans or nothing for reach in reaches), strict=True)
    )
    exact, unknown, large = _marks(seeing)
    beside = len(seeing) < len(reaches)
    gaps, zeros = (beside or any(getattr(one, mark) for one in seeing) for mark in ("gaps", "zeros"))
    return Reach(shape, spans, exact, unknown, gaps, zeros, large)


def _marks(reaches: Sequence[Reach]) -> tuple[bool, frozenset[str], Sizes]:
    """Of several reaches together: whether all are exact, what is unknown to any, and how large they are."""
    unknown = frozenset[str]().union(*(reach.unknown for reach in reaches))
    return all(reach.exact for reach in reaches), unknown, merged([reach.sizes for reach in reaches])


def _varies(span: Span, dim: int) -> bool:
    """Whether elements along a dimension see different things."""
    return span.lo.shape[dim] > 1 or span.lattice.lo.shape[dim] > 1 or bool(span.lattice.shift[dim])


def _resized(shape: Shape, dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])
