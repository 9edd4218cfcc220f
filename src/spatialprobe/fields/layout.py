"""The axis of each layer's output that holds the channels, inferred from what the units see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from spatialprobe.errors import SpatialProbeError
from spatialprobe.fields.forward_pass import Trace, see_units, trace_fields
from spatialprobe.fields.intervals import Span
from spatialprobe.fields.known_layouts import Layouts, identify, recall, remember
from spatialprobe.fields.lattice import Lattice
from spatialprobe.fields.question import Question
from spatialprobe.fields.reach import Reach
from spatialprobe.fields.token_grid import find_grid
from spatialprobe.model.layout import Layout, Signs, is_channels_first, units_of
from spatialprobe.model.select import Layer, all_layers

_LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
_PASSES = 16  # at most, over the grids of layers: after global attention, what is seen no longer tells the axes apart
_FRUITLESS = 3  # passes in a row that told nothing new, after which no more are made
_STILL = 16  # runs in a row whose units all see the same, after which a pass ends
_NEAREST = 3  # known layers before one in doubt whose grids are tried: the last may be on another branch


def layouts_of(
    model: nn.Module, inputs: torch.Tensor | tuple[Any, ...], wanted: Iterable[str], *, input: int = 0
) -> Layouts:
    """Return the layouts of all layers on inputs of this shape, from a pass on tensors without values.

    Args:
        model: any module.
        inputs: an input of the model, of which only the shape is used.
        wanted: the names of the layers whose layouts are needed: for these, further passes may be made.

    Raises:
        ForwardError: the model raises an error.

    What was found is kept as long as the model lives, for when the same is asked of it again and nothing in it has
    changed.
    """
    asked = Question((inputs,) if isinstance(inputs, torch.Tensor) else inputs, input, None, None, ())
    names = frozenset(wanted)
    key = identify(model, asked, names)
    found = recall(model, key)
    if found is None:
        known = all_layers(model)
        reading = _read_passes(trace_fields(model, known, asked, None), model, known, asked, names)
        found = reading.layouts()
        if not reading.met_values:
            remember(model, key, found)
    return found


def layouts_in(trace: Trace, model: nn.Module, layers: list[Layer], asked: Question, wanted: Iterable[str]) -> Layouts:
    """Return the layouts of all runs that a trace followed.

    Convolutions, norms over channels and poolings are channels first by their type. In other layers, the units lie
    along the axes along which what is seen moves. Where nothing moves, because all units see the same, the layout is
    that of the last output of the same shape, or of the same shape but for the number of channels; if there is none,
    the one that the model's modules imply; if they imply none, the recorded steps of the trace are repeated from the
    last layer whose layout is known, to find what moves over its grid. Tokens (N, L, C) that lie in the image row by
    row are a grid, `Tokens`.
    """
    return _read_passes(trace, model, layers, asked, frozenset(wanted)).layouts()


def _read_passes(
    trace: Trace, model: nn.Module, layers: list[Layer], asked: Question, names: frozenset[str]
) -> _Reading:
    """Return what a trace shows of all runs, and as many further passes as are needed."""
    by_name = {layer.name: layer for layer in layers}
    reading = _Reading(by_name, Signs.of(model), met_values=trace.fallback is not None)
    reading.begin(trace.runs)
    tried: set[str] = set()
    fruitless = 0
    while len(tried) < _PASSES and fruitless < _FRUITLESS:
        found = reading.grid_before_doubt(names, tried)
        if found is None:
            break
        doubted, name, layout = found
        tried.add(name)
        known = reading.count_known()
        with suppress(SpatialProbeError):  # fields cannot begin there, so the layout stays in doubt
            reading.read(_follow_from(trace, model, layers, replace(asked, source_layout=layout), by_name[name]))
        reading.count_failure(doubted)
        fruitless = fruitless + 1 if reading.count_known() == known else 0
        if fruitless:
            reading.give_up_alike()
    return reading


def _follow_from(
    trace: Trace, model: nn.Module, layers: list[Layer], asked: Question, origin: Layer
) -> Iterable[tuple[str, Reach | str]]:
    """Return what all runs see of a layer's grid: from the recorded steps of a trace, or by another pass."""
    if trace.recording is None:
        return trace_fields(model, layers, asked, origin).runs

    def seed(output: torch.Tensor) -> Reach:
        return see_units(asked, origin.name, tuple(output.shape))[0]

    return trace.recording.follow_from(origin.name, seed)


class _Reading:
    """The layouts of all runs, as far as the passes so far have shown them."""

    def __init__(self, layers: Mapping[str, Layer], signs: Signs, *, met_values: bool) -> None:
        self._layers = layers
        self._signs = signs
        self._runs: list[tuple[str, tuple[int, ...] | None]] = []  # layer and output shape; None if it is not a tensor
        self._known: list[Layout | None] = []
        self._hopeless: set[int] = set()  # runs that see no pixel, or of which no further pass shows more
        self._failures: Counter[tuple[type[nn.Module], int]] = Counter()  # passes without success, by kind of layer
        self.met_values = met_values  # whether the pass ran on values of the input, and so may have been led by them

    def begin(self, runs: Sequence[tuple[str, Reach | str]]) -> None:
        """Read the layouts that the pass from the input shows; of runs that do not see it, no pass shows more."""
        self._runs = [(name, reach.shape if isinstance(reach, Reach) else None) for name, reach in runs]
        self._known = [None] * len(runs)
        self.read(runs, patience=None)
        for index, (_, reach) in enumerate(runs):
            if self._known[index] is None and isinstance(reach, Reach) and reach.is_constant:
                self._hopeless.add(index)

    def read(self, runs: Iterable[tuple[str, Reach | str]], patience: int | None = _STILL) -> None:
        """Add the layouts that a pass shows of runs that are not known yet.

        The pass ends where the units of so many runs in a row all see the same, with a patience of None never.
        """
        history, found, still, index = _History(), list(self._known), 0, -1
        seen: dict[Reach, Layout | None] = {}  # a container returns the same tensor as its last layer
        for index, (name, reach) in enumerate(runs):
            shape = reach.shape if isinstance(reach, Reach) else None
            if index >= len(found) or (name, shape) != self._runs[index]:
                return  # the model does not run the same way twice
            if not isinstance(reach, Reach):
                continue
            if patience is not None and reach not in seen:
                still = 0 if _all_moving_axes(reach) else still + bool(reach.spans)
            if found[index] is None and reach not in seen:
                found[index] = self._infer_layout(self._layers[name].module, reach, history)
            found[index] = seen[reach] = found[index] or seen.get(reach)
            if found[index] is None and _moves_for_good(reach):
                self._hopeless.add(index)
            history.note(reach.shape, found[index])
            if patience is not None and still > patience:
                break
        self._known = found
        self._recall_shapes(history, index + 1)

    def _recall_shapes(self, history: _History, first: int) -> None:
        """Add the layouts of runs from one on that are those of an earlier output of their shape."""
        for index in range(first, len(self._runs)):
            _, shape = self._runs[index]
            if shape is not None and len(shape) > 2:
                self._known[index] = self._known[index] or history.of(shape)
                history.note(shape, self._known[index])

    def grid_before_doubt(self, wanted: frozenset[str], tried: set[str]) -> tuple[int, str, Layout] | None:
        """Return a run of a wanted layer in doubt, the last known layer before it, and its layout.

        Layers of a type and a number of axes of which fewer passes failed come first; None if none is left to try.
        """
        doubts = [
            run
            for run, (name, shape) in enumerate(self._runs)
            if name in wanted and shape is not None and self._known[run] is None and run not in self._hopeless
        ]
        doubts.sort(key=lambda run: self._failures[self._kind(run)])
        for nearest in range(_NEAREST):
            for run in doubts:
                origin = next(islice(self._known_before(run), nearest, None), None)
                if origin is not None and origin[0] not in tried:
                    return run, *origin
        return None

    def count_failure(self, run: int) -> None:
        """Note whether the pass that was made for a run has left it in doubt."""
        self._failures[self._kind(run)] += self._known[run] is None

    def give_up_alike(self) -> None:
        """Look no further for the layouts of layers of the types and numbers of axes of those that are hopeless."""
        kinds = {self._kind(index) for index in self._hopeless}
        self._hopeless.update(index for index in range(len(self._runs)) if self._kind(index) in kinds)

    def _kind(self, run: int) -> tuple[type[nn.Module], int]:
        """Return the type of a layer and the number of axes of its output."""
        name, shape = self._runs[run]
        return type(self._layers[name].module), len(shape or ())

    def _known_before(self, run: int) -> Iterator[tuple[str, Layout]]:
        """Yield the layers with units that ran once before a run and whose layouts are known, the nearest first."""
        ran = Counter(name for name, _ in self._runs)
        for index in reversed(range(run)):
            (name, grid), layout = self._runs[index], self._known[index]
            if grid is not None and layout is not None and len(grid) > 2 and ran[name] == 1:
                yield name, layout

    def count_known(self) -> int:
        """Return of how many runs the layout is known."""
        return sum(layout is not None for layout in self._known)

    def layouts(self) -> Layouts:
        """Return the layouts of all runs, None where one is in doubt."""
        found: dict[str, tuple[Layout | None, ...]] = {}
        for (name, _), layout in zip(self._runs, self._known, strict=True):
            found[name] = (*found.get(name, ()), layout)
        return found

    def _infer_layout(self, module: nn.Module, reach: Reach, history: _History) -> Layout | None:
        """Return the layout of a module's output; None if it is in doubt."""
        if len(reach.shape) <= 2 or is_channels_first(module):
            return "channels_first"
        moving = _all_moving_axes(reach)
        found = _find_layout(moving, reach.shape)
        found = (find_grid(reach) if found == "channels_last" else None) or found or history.of(reach.shape)
        if found is None and 0 not in moving:  # the first axis counts samples
            found = self._signs.layout_of(module, reach.shape)
        return found


class _History:
    """The layouts of earlier outputs, by their shapes."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, ...], Layout] = {}
        self._grids: dict[tuple[bool, tuple[int, ...]], Layout] = {}  # by whether the channels are last, without them

    def note(self, shape: tuple[int, ...], layout: Layout | None) -> None:
        """Remember the layout of an output, in place of an earlier one of its shape."""
        if layout is not None and len(shape) > 2:
            self._last[shape] = layout
            last = layout != "channels_first"
            self._grids[last, _drop_channels(shape, last=last)] = layout

    def of(self, shape: tuple[int, ...]) -> Layout | None:
        """Return the last layout of this shape, or the one of the same shape but for the number of channels."""
        if len(set(shape[1:])) == 1:  # the same in any order of its axes
            return None
        if shape in self._last:
            return self._last[shape]
        keys = [(last, _drop_channels(shape, last=last)) for last in (False, True)]
        alike = [self._grids[key] for key in keys if key in self._grids]
        return alike[0] if len(alike) == 1 else None


def moves_over_batch(reach: Reach) -> bool:
    """Return whether units lie along the first axis, as windows do that are folded into the batch."""
    return reach.shape[:1] > (1,) and any(0 in _moving_axes(span, reach.shape) for span in reach.spans)


def _moves_for_good(reach: Reach) -> bool:
    """Return whether what units see moves along all axes of the input, or over the batch: a nearer grid shows the same.

    Windows of tokens are so, which move along two axes at once.
    """
    return moves_over_batch(reach) or (
        bool(reach.spans) and all(_moving_axes(span, reach.shape) for span in reach.spans)
    )


def _drop_channels(shape: tuple[int, ...], *, last: bool) -> tuple[int, ...]:
    """Return a shape without its channel axis, the last or the second."""
    return shape[:-1] if last else (shape[0], *shape[2:])


def _find_layout(moving: set[int], shape: tuple[int, ...]) -> Layout | None:
    """Return the one layout whose units lie along the moving axes; None if there is none, or both are possible.

    All of its unit axes must move, except those of a single unit, which cannot.
    """
    possible = [layout for layout in _LAYOUTS if moving and moving <= set(units_of(layout, len(shape)))]
    if len(possible) != 1:
        return None
    still = set(units_of(possible[0], len(shape))) - moving
    return possible[0] if all(shape[axis] == 1 for axis in still) else None


def _all_moving_axes(reach: Reach) -> set[int]:
    """Return the axes along which what units see of the input moves, along any of its axes."""
    return {axis for span in reach.spans for axis in _moving_axes(span, reach.shape)}


def _moving_axes(span: Span, shape: Sequence[int]) -> list[int]:
    """Return the axis along which both unclipped bounds move together, and furthest; several where they tie.

    Channels may see shifted pixels too, where parts of an image were concatenated: by less than a unit.
    """
    lattice = span.lattice_over(shape)
    moved = [_distance_moved(lattice, axis, size) for axis, size in enumerate(shape)]
    most = max(moved, default=0)
    return [axis for axis, far in enumerate(moved) if most and far == most]


def _distance_moved(lattice: Lattice, axis: int, size: int) -> int:
    """Return how far the unclipped bounds of units move along an axis, where both do so together; else 0."""
    if size == 1 or (lattice.lo.shape[axis] == 1 and not lattice.shift[axis]):
        return 0
    if lattice.lo.shape[axis] == 1:  # an even spacing
        return abs(lattice.shift[axis]) * (size - 1)
    bounds = lattice.at(axis, np.arange(size))
    seeing = bounds[0] < bounds[1]  # a class token sees nothing
    lo, hi = (np.where(seeing, bound, np.nan) for bound in bounds)
    if not (np.diff(lo, axis=axis) * np.diff(hi, axis=axis) > 0).any():
        return 0
    far = np.where(seeing, lo, -np.inf).max(axis=axis) - np.where(seeing, lo, np.inf).min(axis=axis)
    return int(far.max())
