"""The layouts of swept layers, determined once for a sweep, and only for layers where they are unclear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spatialprobe.errors import SpatialProbeError, UnsupportedOutputError
from spatialprobe.model.batch import tensors_of
from spatialprobe.model.forward import as_tensor_model
from spatialprobe.model.layout import Layout, LayoutChoice, Signs, describe_doubt, is_channels_first
from spatialprobe.model.select import Layer
from spatialprobe.statistics.reducer import Reducer, counts_channels

_HOW = (
    "Pass layout='channels_first' or layout='channels_last', or a reducer of your own, which gets the output as it is, "
    "such as one that permutes it; or leave the layer out of layers=."
)


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
        reducers: Mapping[str, Mapping[str, Reducer]],
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
        self._known: dict[str, Layout | None] = {}

    def is_needed(self, layer: Layer) -> bool:
        """Return whether this layer's layout must be determined."""
        return (self._stored or layer.name in self._counting) and layer.name not in self._known

    def leaves_out(self, layer: Layer) -> bool:
        """Return whether this layer is left out."""
        return layer.name in self._left_out

    def of(self, layer: Layer, shape: tuple[int, ...]) -> Layout | None:
        """Return the layout of a layer's output of this shape; None if it is unclear."""
        if self._choice != "auto":
            return self._choice
        if layer.name in self._known:
            return self._known[layer.name]
        if layer.name in self._left_out:
            return None
        if is_channels_first(layer.module):
            return "channels_first"
        if self._signs is None:
            self._signs = Signs.of(self._model)
        return self._signs.layout_of(layer.module, shape)

    def settle(self, model: nn.Module, inputs: Any, doubted: Sequence[tuple[Layer, tuple[int, ...]]]) -> None:
        """Determine the layouts of unclear layers, from a pass without values on inputs of this shape.

        Args:
            model: the one that is swept, in which hooks may stay.
            inputs: a batch, of which one tensor is followed: the first of the most axes.
            doubted: layers, and the shapes of their outputs.

        Raises:
            UnsupportedOutputError: the layout of a layer that was selected by name stays unclear.
        """
        from spatialprobe.fields.layout import layouts_of  # needed only by sweeps of such layers

        names = [layer.name for layer, _ in doubted]
        try:
            found = layouts_of(*_of_one_tensor(model, inputs), names)
        except SpatialProbeError:  # a model that cannot be followed
            found = {}
        for layer, shape in doubted:
            runs = set(found.get(layer.name, ()))
            self._known[layer.name] = runs.pop() if len(runs) == 1 else None
            if self._known[layer.name] is None and layer.name in self._counting:
                self._leave_out(layer, shape)

    def _leave_out(self, layer: Layer, shape: tuple[int, ...]) -> None:
        why = describe_doubt(layer.name, shape, _HOW)
        if layer.name in self._exact:
            raise UnsupportedOutputError(why)
        self._left_out[layer.name] = why


def _of_one_tensor(model: nn.Module, inputs: Any) -> tuple[nn.Module, torch.Tensor]:
    """Return a model of one tensor, and the tensor: of other inputs one is followed, the others stay as they are."""
    if isinstance(inputs, torch.Tensor):
        return model, inputs
    followed = max(tensors_of(inputs), key=lambda tensor: tensor.ndim)
    return as_tensor_model(model, inputs, followed), followed
