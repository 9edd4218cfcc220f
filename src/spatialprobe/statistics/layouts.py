"""The layouts of swept layers, determined once for each size of images, and only for layers where they are unclear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spatialprobe.errors import SpatialProbeError, UnsupportedOutputError
from spatialprobe.model.batch import tensors_of
from spatialprobe.model.forward import with_one_tensor
from spatialprobe.model.layout import (
    WAYS,
    Layout,
    LayoutChoice,
    Signs,
    describe_doubt,
    describe_misfit,
    fits,
    is_channels_first,
)
from spatialprobe.model.select import Layer
from spatialprobe.model.tokens import Tokens
from spatialprobe.statistics.reducer import Taker, counts_channels

_HOW = (
    f"Pass {WAYS}; or a reducer of your own, which gets the output as it is, such as one that permutes it; or "
    "leave the layer out of layers=."
)
_Size = tuple[tuple[int, ...], ...]  # of the tensors of a batch, without their first axes


class Layouts:
    """The layouts of the layers of a sweep.

    Args:
        choice: the layout of all of them, or "auto".
        exact: the layers that were selected by name: an unclear layout of one raises, while other layers are left out.
        left_out: the reasons why layers are left out, by name; modified in place.
        stored: whether the outputs of the layers are written to a store, whose arrays name their axes.
    """

    def __init__(
        self,
        model: nn.Module,
        reducers: Mapping[str, Mapping[str, Taker]],
        choice: LayoutChoice,
        *,
        exact: frozenset[str],
        left_out: dict[str, str],
        stored: bool,
    ) -> None:
        self._model = model
        self._choice = choice
        self._exact = exact
        self._left_out = left_out
        self._counting = {
            name for name, mine in reducers.items() if any(counts_channels(reducer) for reducer in mine.values())
        }
        self._stored = stored
        self._signs: Signs | None = None
        self._size: _Size = ()
        self._known: dict[str, dict[_Size, tuple[Layout | None, ...]]] = {}  # by layer and size: of each run

    def begin(self, inputs: Any) -> None:
        """Note the size of the next batch: a grid of tokens belongs to images of one size."""
        tensors = [inputs] if isinstance(inputs, torch.Tensor) else tensors_of(inputs)
        self._size = tuple(tuple(tensor.shape[1:]) for tensor in tensors)

    def leaves_out(self, layer: Layer) -> bool:
        """Return whether this layer is left out."""
        return layer.name in self._left_out

    def must_wait(self, layer: Layer, call: int, shape: tuple[int, ...]) -> bool:
        """Return whether this layer's layout must be determined before an output of this shape is used."""
        needed = self._choice == "auto" and (self._stored or layer.name in self._counting)
        if not needed or self._runs(layer.name) is not None:
            return False
        return self.of(layer, call, shape) is None and not self.leaves_out(layer)

    def of(self, layer: Layer, call: int, shape: tuple[int, ...]) -> Layout | None:
        """Return the layout of a run's output of this shape; None if it is unclear, or does not fit the output.

        Raises:
            UnsupportedOutputError: it does not fit, and the layer was selected by name.
        """
        if self.leaves_out(layer):
            return None
        if self._choice != "auto":
            return self._choice if self._check_fit(layer, shape, self._choice) else None
        runs = self._runs(layer.name)
        if runs is not None:
            layout = runs[call] if call < len(runs) else runs[-1]
            return layout if layout is None or self._check_fit(layer, shape, layout) else None
        if is_channels_first(layer.module):
            return "channels_first"
        if self._signs is None:
            self._signs = Signs.of(self._model)
        return self._signs.layout_of(layer.module, shape)

    def settle(self, model: nn.Module, inputs: Any, doubted: Sequence[tuple[Layer, int, tuple[int, ...]]]) -> None:
        """Determine the layouts of unclear runs, from a pass without values on inputs of this shape.

        Args:
            model: the one that is swept, in which hooks may stay.
            inputs: a batch, of which one tensor is followed: the first of the most axes.
            doubted: layers, their runs, and the shapes of their outputs.

        Raises:
            UnsupportedOutputError: the layout of a layer that was selected by name stays unclear.
        """
        from spatialprobe.fields.layout import layouts_of  # needed only by sweeps of such layers

        try:
            found = layouts_of(*with_one_tensor(model, inputs), [layer.name for layer, _, _ in doubted])
        except SpatialProbeError:  # a model that cannot be followed
            found = {}
        for layer, call, shape in doubted:
            runs = found.get(layer.name) or (None,)
            if not self._stored and len(set(map(_kind, runs))) > 1:  # one reducer takes all runs
                runs = (None,)
            self._known.setdefault(layer.name, {})[self._size] = runs
            layout = runs[call] if call < len(runs) else runs[-1]
            if layer.name in self._counting and (layout is None or not self._check_fit(layer, shape, layout)):
                self._leave_out(layer, describe_doubt(layer.name, shape, _HOW))

    def _runs(self, name: str) -> tuple[Layout | None, ...] | None:
        """Return the layouts of a layer's runs on inputs of the present size; None if not determined."""
        sizes = self._known.get(name)
        if not sizes:
            return None
        if self._size in sizes:
            return sizes[self._size]
        some = next(iter(sizes.values()))
        return None if any(isinstance(layout, Tokens) for layout in some) else some

    def _check_fit(self, layer: Layer, shape: tuple[int, ...], layout: Layout) -> bool:
        if fits(layout, shape):
            return True
        if layer.name in self._counting:
            self._leave_out(layer, describe_misfit(layer.name, shape, layout))
        return False

    def _leave_out(self, layer: Layer, why: str) -> None:
        if layer.name in self._exact:
            raise UnsupportedOutputError(why)
        self._left_out.setdefault(layer.name, why)


def _kind(layout: Layout | None) -> str | None:
    return "tokens" if isinstance(layout, Tokens) else layout
