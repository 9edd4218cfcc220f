"""The context manager that hooks a model's layers and collects the records."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType, TracebackType
from typing import Any, Literal

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

from spatialprobe.activations.collection import Activations
from spatialprobe.activations.guard import Copy, Guard
from spatialprobe.activations.keeper import Keeping, Transform
from spatialprobe.activations.post import unresolved_error
from spatialprobe.activations.recorder import IN_REPLICAS, Entry, OutputPicker, Recorder, Recording, Threads
from spatialprobe.activations.records import Activation, At, ConvSpec
from spatialprobe.arguments import (
    as_device,
    check_bytes,
    check_dtype,
    check_function,
    check_one_of,
    check_switch,
    short_repr,
)
from spatialprobe.errors import (
    ArgumentError,
    LayerNotFoundError,
    LayerNotRunError,
    ProbeStateError,
    SpatialProbeError,
    UnsupportedOutputError,
)
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.copies import describe_copies, find_copies
from spatialprobe.model.hooks import ProbeHook, attach
from spatialprobe.model.layout import Layout, Signs, fits, is_channels_first
from spatialprobe.model.mode import find_training_modules
from spatialprobe.model.names import is_name, list_names
from spatialprobe.model.select import (
    Selector,
    all_layers,
    check_model,
    describe_unknown_name,
    find_exact_names,
    model_name,
    select,
)
from spatialprobe.model.undo import Block, Leaving
from spatialprobe.text import describe_left_out, quote_names

Missing = Literal["error", "warn", "ignore"]


class Probe(Block, Activations):
    """A context manager that records the outputs of the chosen layers of a model.

    It is a mapping from layer names to records, in the order in which the layers first ran. The model is not changed:
    forward hooks are added, all or none, when the block is entered, and exactly those are removed when it is left,
    whatever happened in it; an exception that the model raises passes through unchanged. The records stay readable
    afterwards; entering the block again discards them.

    Args:
        model: any module; the records count its forwards.
        layers: a module type or tuple of types; a name, or a glob over whole names (`*` crosses dots); a compiled
            regex that must match the whole name; a module of the model; a predicate `(name, module) -> bool`; or
            a sequence of these, meaning all of them together.
        at: "output", the output of the layer, or "post_activation", the value of the nonlinearity that follows it.
        copy: "auto" copies a layer's output until a whole forward pass has shown that the model does not modify it in
            place, and shares it from then on, checking its version counter; "always" copies, "never" shares. Reading a
            shared value that was modified in place is an error, never a wrong value. Writes that the version counter
            does not count (through `.data` or `.numpy()`) require "always". Every value is copied where there is no
            version counter, under `inference_mode`, or none that counts all writes, for sparse, quantized, mkldnn and
            nested tensors and wrapper subclasses.
        gradients: after a backward pass, in the block or later, `record.gradient` holds the gradient of the recorded
            value, before `transform` and `dtype`; gradients of several passes are summed. In a frozen model the graph
            starts at the layer's output.
        keep_graph: `record.tensor` is a clone in the graph, so that it can be differentiated through.
        transform: a function of the live tensor, called at once; its result is kept.
        device: the device on which values are kept. From an accelerator to the CPU they are copied without waiting,
            and are complete when they are read.
        dtype: the dtype in which values are kept; complex values need a complex dtype.
        max_bytes: the memory that all kept values together may take, in bytes.
        missing: what to do, when the block ends without an exception, about layers that did not run or that no single
            nonlinearity follows: "error", "warn" or "ignore". By default those chosen by exact name or as a module are
            an error, as is an empty probe; others are left out, as are then layers that return no single tensor, and
            `left_out` says why.
        threads: "owner" records forwards of the thread that entered the block, "all" those of all threads.
        pick: for layers that do not return one tensor, a function that picks one from what they return.
        output: the former name of `pick`, deprecated.

    Raises:
        ArgumentError: an argument cannot be used.
        LayerNotFoundError: a selector matches nothing.
        LayerNotRunError: when the block ends, a layer never ran.
        UnresolvedActivationError: when the block ends, no single nonlinearity followed a layer.
        UnsupportedOutputError: in the forward pass, a layer returned something other than one plain tensor.
        MemoryBudgetError: in the forward pass, what is kept would take more than `max_bytes`.
        ProbeStateError: the probe is entered while active, or gradients are requested and the forward runs without.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 12, 3, padding=1))
    >>> with sp.Probe(model) as probe:
    ...     output = model(torch.zeros(4, 3, 32, 32))
    >>> probe["2"].shape
    (4, 12, 32, 32)
    >>> probe
    Probe of Sequential: 2 layers ran, 2 records, 288.0 KiB
      layer  type    runs  shape            dtype    size
      0      Conv2d     1  (4, 6, 32, 32)   float32  96.0 KiB
      2      Conv2d     1  (4, 12, 32, 32)  float32  192.0 KiB
    """

    _called = "probe"
    _how_to_fix = ", or probe.concatenated({layer!r}) for one tensor along the batch"
    output: Any = None  # what the model returned, where `capture` ran it

    _known_layouts: Mapping[str, tuple[Layout | None, ...]] = MappingProxyType({})  # of layers whose types do not tell

    def __init__(
        self,
        model: nn.Module,
        layers: Selector = nn.Conv2d,
        *,
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
    ) -> None:
        pick = choose_picker(pick, output)
        check_arguments(model, at=(at, At), copy=(copy, Copy), threads=(threads, Threads))
        if missing is not None:
            check_one_of(missing, "missing", Missing)
        if max_bytes is not None:
            check_bytes(max_bytes, "max_bytes")
        check_function(transform, "transform", "lambda maps: maps.mean((2, 3))")
        check_dtype(dtype)
        check_switch(gradients, "gradients")
        check_switch(keep_graph, "keep_graph")
        super().__init__(title=f"Probe of {model_name(model)}")
        keeping = Keeping(copy, transform, as_device(device), dtype, keep_graph, max_bytes)
        self._model = model
        self._in_training: list[str] = []  # norms and dropouts that were in training mode
        self._missing = missing
        self._exact = find_exact_names(model, layers)
        self._recording = Recording(at, gradients, threads, pick, keeping, None if missing == "error" else self._exact)
        self._layers = select(model, layers, scripted=True)
        self._guards = {layer.name: Guard(layer.name, copy) for layer in self._layers}
        self._recorder = Recorder(model, self._layers, self._guards, self._recording)
        self._hooks = self._recorder.hooks(self._layers)
        self._pre_hooks = self._recorder.pre_hooks()
        self._around = ProbeHook(self._recorder.forward_begins), ProbeHook(self._recorder.forward_ends)

    def __enter__(self) -> Probe:
        if self._is_active:
            raise ProbeStateError("This probe is already active: leave its block first, or make a second Probe.")
        undo = self._begin()
        try:
            self._recorder.begin()
            self._records = []
            undo.add(self._recorder.stop_following)
            self._recorder.follow()
            attach(undo, self._hooks, self._model, *self._around, before=self._pre_hooks)
        except BaseException:
            undo.run()
            raise
        return self

    @Leaving
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._active is None or not self._active.open:
            raise ProbeStateError("This probe is not active: enter its block first.")
        self._active.run()
        self._recorder.finish()
        forgotten = getattr(self._model, "training", False) and self._recorder.entries
        self._in_training = find_training_modules(self._model) if forgotten else []
        if kind is None:
            self._report_missing()

    @cached_property
    def _names(self) -> dict[str, str]:
        """Every name that finds a watched layer, mapped to the name of its records."""
        return {name: layer.name for layer in self._layers for name in layer.names}

    @property
    def watched(self) -> tuple[str, ...]:
        """The names of the layers that the selectors chose, in the model's order, whether they ran or not."""
        return tuple(layer.name for layer in self._layers)

    @property
    def silent(self) -> tuple[str, ...]:
        """The names of the watched layers that have not run."""
        known = self._recorder.ran | self._recorder.left_out.keys()
        return tuple(name for name in self.watched if name not in known)

    @property
    def left_out(self) -> Mapping[str, str]:
        """The chosen layers without a record, or without one of some of their runs, and why; known when the block ends.

        A layer that ran and has records of other runs is in the mapping of records as well.
        """
        found = dict(self._recorder.left_out)
        if self._active is not None and not self._is_active:
            found |= {name: self._why_silent(name) for name in self.silent}
            for trail in self._recorder.trails:
                reason = trail.describe_reason()
                if reason is not None:
                    found.setdefault(trail.layer, reason)
        return FrozenMapping({name: found[name] for name in self.watched if name in found})

    def _remarks(self) -> list[str]:
        return list(filter(None, [describe_left_out(self.left_out), self._describe_mode()]))

    def _describe_mode(self) -> str:
        if not self._in_training:
            return ""
        return (
            f"In training mode ran {quote_names(self._in_training)}: values depend on the batch or on chance, and "
            "differ from those after model.eval()."
        )

    @property
    def records(self) -> tuple[Activation, ...]:
        """All records, in the order of execution."""
        entries = self._recorder.entries
        for order in range(len(self._records), len(entries)):
            self._records.append(self._make_record(order, entries[order]))
        return tuple(self._records)

    def _nonlinearities(self) -> dict[str, str]:
        """Return the function that follows each layer, by name, of layers that one single nonlinearity follows."""
        trails = self._recorder.trails
        unresolved = {trail.layer for trail in trails if trail.describe_problem() is not None}
        return {trail.layer: trail.nonlinearities[0] for trail in trails if trail.layer not in unresolved}

    def _set_listener(self, listener: Callable[[Entry], None]) -> None:
        """Call the listener with each new entry, until the block is left; it may raise."""
        self._recorder.after_each = listener

    def _note_origins(self, origins: list[GradientEdge]) -> None:
        """Add to a list where backward passes end that bring the gradient of each record; whoever has it drops it."""
        self._recorder.origins = origins

    def _make_record(self, order: int, entry: Entry) -> Activation:
        """Return the record of a layer's run, with the properties of its module."""
        return Activation(
            layer=entry.layer.name,
            aliases=entry.layer.aliases,
            call=entry.call,
            forward=entry.forward,
            order=order,
            at=self._recording.at,
            module_type=type(entry.layer.module).__name__,
            conv=ConvSpec.of(entry.layer.module),
            tensor=entry.kept,  # type: ignore[arg-type]  # read through the field's descriptor
            gradient=entry.gradient,  # type: ignore[arg-type]
            layout=self._layout_of(entry),
        )

    def _layout_of(self, entry: Entry) -> Layout | None:
        """Return the layout of a record; None if it is in doubt. A transformed value counts as channels first."""
        value, module = entry.kept.value, entry.layer.module
        if is_channels_first(module) or self._recording.keeping.transform is not None or value.is_nested:
            return "channels_first"
        shape = tuple(value.shape)
        found = self._signs.layout_of(module, shape)
        if found is None:
            runs = self._known_layouts.get(entry.layer.name, ())
            found = runs[entry.call] if entry.call < len(runs) else None
        return found if found is None or fits(found, shape) else None

    def _layers_in_doubt(self) -> list[str]:
        """Return the names of the layers of whose records the layout is in doubt."""
        return list(dict.fromkeys(one.layer.name for one in self._recorder.entries if self._layout_of(one) is None))

    @cached_property
    def _signs(self) -> Signs:
        return Signs.of(self._model)

    def _name_of(self, layer: str) -> str:
        watched = list_names(self.watched)
        if not is_name(layer):
            raise LayerNotFoundError(
                f"A record is found by its layer's name, not by {short_repr(layer)}. Watched: {watched}."
            )
        if layer in self._names:
            return self._names[layer]
        layers = all_layers(self._model)
        if any(layer in other.names for other in layers):
            problem = f"Layer {layer!r} is in the model, but this probe does not watch it."
        else:
            problem = describe_unknown_name(layer, layers)
        raise LayerNotFoundError(f"{problem} Watched: {watched}.")

    def _explain_absence(self, name: str) -> str:
        if name in self._recorder.left_out:
            return self._recorder.left_out[name]
        if name in self._recorder.ran:
            return "It ran, but no single nonlinearity took its output."
        return "It has not run inside the block."

    def _why_silent(self, name: str) -> str:
        return IN_REPLICAS if name in self._recorder.replicated else "It did not run inside the block."

    def _report_missing(self) -> None:
        """Raise an error or warn about layers without a record, as `missing` says."""
        if self._missing == "ignore" or not (self.silent or self._recorder.left_out or self._recorder.trails):
            return
        all_of_them = frozenset(self.watched)
        must = all_of_them if self._missing == "error" or not self._recorder.entries else self._exact
        if self._missing == "warn" and self._recorder.ran:
            must = frozenset()
        for problem in self._problems(must):
            raise problem
        for problem in self._problems(all_of_them) if self._missing == "warn" else ():
            warnings.warn(str(problem), stacklevel=4)

    def _how_to_run(self, silent: list[str]) -> str:
        """Return what to do about layers that did not run."""
        if self._recorder.replicated.intersection(silent):
            return IN_REPLICAS
        copies = [] if self._recorder.ran else find_copies(self._model)
        if copies:
            return describe_copies(copies)
        return (
            "Run the model inside it, in this thread and not through a scripted or exported copy; or choose fewer "
            "layers; or pass missing='ignore' if they need not run."
        )

    def _problems(self, layers: frozenset[str]) -> Iterator[SpatialProbeError]:
        """Yield an error for each reason for which some of these layers have no record."""
        silent = [name for name in self.silent if name in layers]
        if silent:
            yield LayerNotRunError(
                f"These layers never ran inside the block: {list_names(silent)}. {self._how_to_run(silent)}"
            )
        unresolved = unresolved_error(trail for trail in self._recorder.trails if trail.layer in layers)
        if unresolved is not None:
            yield unresolved
        for name, why in self._recorder.left_out.items():
            if name in layers:
                yield UnsupportedOutputError(why)


def check_arguments(model: object, **options: tuple[str, Any]) -> None:
    """Check that the model is a module, and that each option has one of the values that its type allows."""
    check_model(model)
    for name, (value, kind) in options.items():
        check_one_of(value, name, kind)


def choose_picker(pick: OutputPicker | None, output: OutputPicker | None) -> OutputPicker | None:
    """Return the function that picks a tensor of a layer's output, passed as `pick` or under its former name.

    Raises:
        ArgumentError: it is not callable, or both names were passed.
    """
    if output is not None:
        if pick is not None:
            raise ArgumentError("output= is the former name of pick=: pass pick= alone.")
        warnings.warn("output= is renamed to pick=, and will be removed in 0.3.", DeprecationWarning, stacklevel=3)
        pick = output
    check_function(pick, "pick", "lambda returned: returned[0]")
    return pick
