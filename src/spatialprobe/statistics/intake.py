"""The intake of live values: each is checked, and passed to the reducers of its layer once its layout is known."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import nn

from spatialprobe.activations.guard import version_of
from spatialprobe.errors import (
    ArgumentError,
    NonFiniteActivationError,
    SpatialProbeError,
    SweepError,
    UnsupportedOutputError,
    describe_error,
)
from spatialprobe.model.layout import Layout, channels_second, describe_rows
from spatialprobe.model.select import Layer
from spatialprobe.model.settings import disable_autocast
from spatialprobe.model.weights import lacks_batch
from spatialprobe.statistics.batches import Batch
from spatialprobe.statistics.layouts import Layouts
from spatialprobe.statistics.reducer import Taker, counts_channels
from spatialprobe.tensors import dense_values, widen
from spatialprobe.text import format_count, kind_of

NonFinite = Literal["error", "count"]


class Writer(Protocol):
    """A destination to which activations are written as they are computed."""

    def write(
        self, layer: Layer, call: int, activation: torch.Tensor, batch: Batch, layout: Layout | None = None
    ) -> None:
        """Write the output of a layer in one run; the layout names its axes."""


class Intake:
    """The way of live values to the reducers of their layers.

    Args:
        reducers: of each layer, by name; another mapping of the same layers may take its place between two batches.
        layouts: of the layers' outputs.
        nonfinite: whether infinite values and NaN raise.
        advice: what the error says that the user can do about them, beside looking at the sample.
        exact: layers that were chosen by name: what leaves others out is an error for them.
        left_out: the reasons why layers are left out, by name; modified in place.
        writer: a destination to which the values are written, too.
    """

    def __init__(
        self,
        reducers: Mapping[str, Mapping[str, Taker]],
        layouts: Layouts,
        *,
        nonfinite: NonFinite,
        advice: str = "",
        exact: frozenset[str],
        left_out: dict[str, str],
        writer: Writer | None = None,
    ) -> None:
        self.reducers = reducers
        self.reason: type[SpatialProbeError] = UnsupportedOutputError  # of the first layer that is left out
        self._layouts = layouts
        self._nonfinite = nonfinite
        self._advice = advice
        self._exact = exact
        self._left_out = left_out
        self._writer = writer
        self._batch: Batch
        self._waiting: list[tuple[Layer, int, torch.Tensor]] = []  # values of layers whose layout is unclear

    def begin(self, batch: Batch) -> None:
        """Begin a batch; values that wait are dropped."""
        self._batch = batch
        self._waiting = []
        self._layouts.begin(batch.inputs)

    def take(self, layer: Layer, call: int, value: torch.Tensor) -> None:
        """Check and reduce the live value of one run of a layer, or keep it until its layout is known.

        Raises:
            NonFiniteActivationError: it has infinite values or NaN, and `nonfinite` is "error".
            UnsupportedOutputError: the layer was chosen by name, and its output is not one plain tensor with the
                samples along its first axis.
            ArgumentError: the layer took the batch for one image.
            SweepError: a reducer raised.
        """
        if layer.name in self._left_out:
            return
        try:
            dense = dense_values(layer.name, value)
            computable = widen(dense)
            self._check(layer, computable)
            if self._layouts.must_wait(layer, call, tuple(dense.shape)):
                self._waiting.append((layer, call, dense.clone()))
            else:
                self._use(layer, call, dense, computable)
        except UnsupportedOutputError as error:
            self.leave_out(layer, error)

    def leave_out(self, layer: Layer, error: SpatialProbeError) -> None:
        """Leave out a layer that was chosen by a pattern or type; raise the error for one chosen by name."""
        if layer.name in self._exact:
            raise error
        if not self._left_out:
            self.reason = type(error)
        self._left_out.setdefault(layer.name, str(error))

    def settle(self, model: nn.Module, inputs: Callable[[], Any]) -> None:
        """Determine the layouts that were unclear in this batch, and reduce the values that waited for them.

        Args:
            model: the one that ran, in which hooks may stay.
            inputs: returns a copy of the batch, only if it is needed.
        """
        if not self._waiting:
            return
        doubted = [(layer, call, tuple(value.shape)) for layer, call, value in self._waiting]
        self._layouts.settle(model, inputs(), doubted)
        for layer, call, value in self._waiting:
            try:
                self._use(layer, call, value, widen(value))
            except UnsupportedOutputError as error:
                self.leave_out(layer, error)
        self._waiting = []

    def _use(self, layer: Layer, call: int, dense: torch.Tensor, computable: torch.Tensor) -> None:
        layout = self._layouts.of(layer, call, tuple(dense.shape))
        if self._layouts.leaves_out(layer):
            return
        self._reduce(layer, computable, layout or "channels_first")
        if self._writer is not None:
            self._writer.write(layer, call, dense, self._batch, layout)

    def _reduce(self, layer: Layer, value: torch.Tensor, layout: Layout) -> None:
        version = version_of(value)
        with disable_autocast(value.device.type) if torch.is_autocast_enabled(value.device.type) else nullcontext():
            for name, reducer in self.reducers[layer.name].items():
                try:
                    turned = channels_second(value, layout) if counts_channels(reducer) else value
                    reducer.update(turned, self._batch.samples)
                except Exception as error:
                    text = (
                        f"Reducer {name!r} raised {describe_error(error)} at layer {layer.name!r} in {self._batch}, "
                        f"on an activation {tuple(value.shape)}."
                    )
                    refused = isinstance(error, (ArgumentError, UnsupportedOutputError)) and counts_channels(reducer)
                    if refused and layer.name not in self._exact:  # an output that has no channels, or complex values
                        raise UnsupportedOutputError(text) from error
                    raise SweepError(text) from error
                if version_of(value) != version:
                    raise SweepError(
                        f"Reducer {name!r} modified the output of layer {layer.name!r} in place, and so changed what "
                        "the model computes. Let it work on a new tensor, such as activation.relu() for relu_()."
                    )

    def _check(self, layer: Layer, value: torch.Tensor) -> None:
        count = len(self._batch.samples)
        if isinstance(self._batch.inputs, torch.Tensor) and lacks_batch(layer.module, self._batch.inputs, value):
            raise ArgumentError(self._describe_missing_batch(layer))
        problem = describe_rows(tuple(value.shape), count)
        if problem:
            raise UnsupportedOutputError(
                f"Layer {layer.name!r} returned {tuple(value.shape)} for the {format_count(count, 'sample')} of "
                f"{self._batch}. {problem}"
            )
        if self._nonfinite == "error" and not all_finite(value):
            raise NonFiniteActivationError(self._describe_nonfinite(layer, value))

    def _describe_missing_batch(self, layer: Layer) -> str:
        shape = tuple(self._batch.inputs.shape)
        return (
            f"Layer {layer.name!r}, {kind_of(layer.module)}, took {self._batch}, of shape {shape}, for one "
            "image without a batch axis. A list or another iterable must yield batches, and the first axis of a tensor "
            "counts samples: pass torch.stack(images), image[None], a Dataset or a DataLoader."
        )

    def _describe_nonfinite(self, layer: Layer, value: torch.Tensor) -> str:
        wrong = ~torch.isfinite(value)
        row = int(wrong.flatten(1).any(dim=1).nonzero()[0]) if value.ndim > 1 else int(wrong.nonzero()[0])
        nans, infinite = int(value[row].isnan().sum()), int(value[row].isinf().sum())
        return (
            f"The output of layer {layer.name!r} has {nans} NaN and {infinite} infinite values for sample "
            f"{int(self._batch.samples[row])}, in {self._batch}. Look at that sample and the layers before"
            f"{self._advice}."
        )


def all_finite(value: torch.Tensor) -> bool:
    """Return whether no value is infinite or NaN; the sum is then finite, unless it overflows."""
    if not (value.is_floating_point() or value.is_complex()):
        return True
    wide = torch.float32 if value.dtype in (torch.float16, torch.bfloat16) else value.dtype
    total = value.sum(dtype=wide).item()
    return cmath.isfinite(total) or bool(torch.isfinite(value).all())
