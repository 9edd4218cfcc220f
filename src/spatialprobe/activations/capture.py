"""Run a forward pass and return the outputs of its layers, in one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.guard import Copy
from spatialprobe.activations.keeper import Transform
from spatialprobe.activations.probe import Missing, Probe, choose_picker
from spatialprobe.activations.recorder import Entry, OutputPicker, Threads
from spatialprobe.activations.records import At
from spatialprobe.arguments import as_int, check_keywords, check_switch
from spatialprobe.errors import SpatialProbeError, add_note
from spatialprobe.model.forward import run_model
from spatialprobe.model.layout import Layout
from spatialprobe.model.select import Selector, check_model, model_name, without_replicas
from spatialprobe.model.settings import set_gradients
from spatialprobe.model.stop import Stopped, stop_forward
from spatialprobe.model.undo import Undo, undo_block
from spatialprobe.tensors import shape_text

_IMAGE_AXES = 3  # (C, H, W), without a batch


class _StopAfter:
    """A listener to new entries that ends the forward pass when each layer has run often enough."""

    def __init__(self, model: nn.Module, layers: tuple[str, ...], calls: int, undo: Undo) -> None:
        self._model = model
        self._calls = calls
        self._runs: Counter[str] = Counter()
        self._wanting = set(layers)
        self._undo = undo

    @property
    def is_done(self) -> bool:
        """Whether every layer has run often enough; what the model returns after that is meaningless."""
        return not self._wanting

    def __call__(self, entry: Entry) -> None:
        self._runs[entry.layer.name] += 1
        if self._runs[entry.layer.name] >= self._calls:
            self._wanting.discard(entry.layer.name)
        if self.is_done:
            stop_forward(self._model, self._undo)


def capture(
    model: nn.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    layers: Selector = nn.Conv2d,
    stop_early: bool = False,
    calls: int = 1,
    at: At = "output",
    copy: Copy = "auto",
    gradients: bool = False,
    keep_graph: bool = False,
    transform: Transform | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    max_bytes: int | None = None,
    missing: Missing | None = None,
    threads: Threads = "owner",
    pick: OutputPicker | None = None,
    output: OutputPicker | None = None,
) -> Probe:
    """Return the records of one forward pass of the model, as a mapping from layer names.

    The pass runs without gradients unless `gradients` or `keep_graph` require them; the mapping's `output` is what
    the model returned. The model stays in its current mode. It is called on copies of the input tensors, which it may
    modify in place. The other options are those of `Probe`.

    Args:
        model: any module.
        inputs: the model's positional arguments.
        kwargs: the model's keyword arguments.
        layers: as for `Probe`.
        stop_early: end the forward pass as soon as every layer has run `calls` times; later layers do not run, and
            `output` is None. With "post_activation" the pass runs until the layers' own outputs are freed, so that no
            second nonlinearity and no gate is missed; where the model keeps them, it runs to the end.
        calls: with `stop_early`, the number of runs of each layer after which the pass ends.

    Where types and sizes of the model's modules leave in doubt which axis of a layer's output holds the channels, one
    pass without values finds it, as for `receptive_fields`, so that records know their `layout`.

    Raises:
        ArgumentError: an argument cannot be used.
        SpatialProbeError: as for `Probe`. An exception that the model raises passes through unchanged, with
            a note of the inputs' shapes from Python 3.11 on.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5400, 10))
    >>> records = sp.capture(model, torch.rand(1, 3, 32, 32), at="post_activation", stop_early=True)
    >>> records["0"].shape, records.output is None
    ((1, 6, 30, 30), True)
    """
    probe = record_pass(
        model,
        inputs,
        kwargs,
        stop_early=stop_early,
        calls=calls,
        layers=layers,
        at=at,
        copy=copy,
        gradients=gradients,
        keep_graph=keep_graph,
        transform=transform,
        device=device,
        dtype=dtype,
        max_bytes=max_bytes,
        missing=missing,
        threads=threads,
        pick=choose_picker(pick, output),
    )
    doubted = probe._layers_in_doubt()
    if doubted and not kwargs:
        probe._known_layouts = _find_layouts(model, inputs, doubted)
    return probe


def record_pass(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    stop_early: bool = False,
    calls: int = 1,
    gradients: bool = False,
    keep_graph: bool = False,
    **options: Any,
) -> Probe:
    """Return the records of one forward pass, as `capture` does, without looking for layouts that are in doubt."""
    as_int(calls, "calls", least=1)
    check_switch(stop_early, "stop_early")
    check_keywords(kwargs)
    check_model(model)
    model = without_replicas(model)
    probe = Probe(model, gradients=gradients, keep_graph=keep_graph, **options)
    with undo_block() as undo, probe:
        set_gradients(undo, gradients or keep_graph)
        stopper = None
        if stop_early:
            stopper = _StopAfter(model, probe._recorder.hookable, calls, undo)
            probe._set_listener(stopper)
        try:
            returned = run_model(model, (inputs, dict(kwargs or {})), forward=_call_model)
        except Stopped:
            return probe
        except SpatialProbeError:
            raise
        except Exception as error:
            _note_shapes(error, model, inputs)
            raise
        probe.output = None if stopper is not None and stopper.is_done else returned
    return probe


def _note_shapes(error: Exception, model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Note on an error of the model the shapes that it was called on, and that an image alone is no batch."""
    tensors = [one for one in inputs if isinstance(one, torch.Tensor)]
    if not tensors:
        return
    note = f"{model_name(model)} was called on {' and '.join(shape_text(one) for one in tensors)}."
    if len(tensors) == 1 and tensors[0].ndim == _IMAGE_AXES:
        note += " If that is one image, pass a batch of it, image[None]."
    add_note(error, note)


def _find_layouts(
    model: nn.Module, inputs: tuple[Any, ...], doubted: Sequence[str]
) -> Mapping[str, tuple[Layout | None, ...]]:
    """Return the layouts of layers in doubt, from a pass without values on inputs of these shapes.

    It is not made where it would run hooks that are not the library's, or where no input is an image.
    """
    from spatialprobe.fields.layout import layouts_of  # needed only for such layers

    images = [i for i, one in enumerate(inputs) if isinstance(one, torch.Tensor) and one.ndim > 2 and one.numel()]
    if not images or any(one._forward_hooks or one._forward_pre_hooks for one in model.modules()):
        return {}
    try:
        return layouts_of(model, inputs, doubted, input=images[0])
    except SpatialProbeError:  # a model that cannot be followed
        return {}


def _call_model(model: nn.Module, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    """Return the model's output for positional and keyword arguments."""
    inputs, kwargs = arguments
    return model(*inputs, **kwargs)
