"""The hooks of an active probe, and the values that they have recorded."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

from spatialprobe.activations.checkpoints import hide_from_checkpoints
from spatialprobe.activations.gradient import Gradient, require_gradients
from spatialprobe.activations.graphs import Graphs, begin_graph_again, origin_of
from spatialprobe.activations.guard import Guard, KeptValue, WriteWatch
from spatialprobe.activations.keeper import Keeper, Keeping
from spatialprobe.activations.post import NonlinearityMode, Trail
from spatialprobe.activations.recompute import Replay
from spatialprobe.activations.records import At
from spatialprobe.activations.watch import is_backward
from spatialprobe.errors import UnsupportedOutputError
from spatialprobe.model.hooks import ProbeHook, keep_last
from spatialprobe.model.modes import leave_function_mode
from spatialprobe.model.outputs import describe_leaves
from spatialprobe.model.select import Layer, describe_scripted, takes_hooks
from spatialprobe.tensors import is_batched
from spatialprobe.text import kind_of

OutputPicker = Callable[[Any], torch.Tensor]
Take = Callable[[Layer, int, torch.Tensor], None]  # the layer, its run in this forward, and the live value
Threads = Literal["owner", "all"]

IN_REPLICAS = (
    "Replicas ran, which nn.DataParallel makes for each forward, each in a thread of its own on a part of the batch: "
    "probe and run the model inside it, `model.module`."
)


@dataclass(frozen=True)
class Recording:
    """The user's options of what is recorded."""

    at: At = "output"
    gradients: bool = False
    threads: Threads = "owner"
    pick: OutputPicker | None = None
    keeping: Keeping = field(default_factory=Keeping)
    required: frozenset[str] | None = None  # layers that must return a tensor, others are left out; None: all of them
    take: Take | None = None  # called with each live value, which is then not kept


class Entry(NamedTuple):
    """One run of a layer, from which its record is made when it is first requested."""

    layer: Layer
    call: int
    forward: int
    kept: KeptValue
    gradient: Gradient | None


class Pass:
    """One forward pass of the model, while it runs."""

    __slots__ = ("calls", "forward", "graphs", "shared", "trails", "watches")

    def __init__(self, forward: int, graphs: Graphs | None) -> None:
        self.forward = forward
        self.graphs = graphs  # for gradients only
        self.calls: dict[str, int] = {}  # runs so far, by layer
        self.watches: list[WriteWatch] = []  # of what was copied
        self.shared: list[KeptValue] = []
        self.trails: list[tuple[Trail, list[Entry]]] = []  # the trail of each output, with its entries


class ThreadView:
    """The state of one thread: its forward passes that have not ended, the innermost last."""

    __slots__ = ("always", "follower", "following", "passes")

    def __init__(self, loose: Pass, follower: NonlinearityMode | None) -> None:
        self.passes = [loose]  # the first is for layers that are called outside of the model's forward
        self.follower = follower
        self.following = False
        self.always = False  # whether functions outside of the model's forward are followed


class Recorder:
    """Collects the outputs of layers, in the thread that called `begin` or in all threads."""

    def __init__(
        self, model: nn.Module, layers: list[Layer], guards: Mapping[str, Guard], recording: Recording
    ) -> None:
        self.after_each: Callable[[Entry], None] | None = None  # called with every new entry; may raise
        self.origins: list[GradientEdge] | None = None  # where backward passes end that bring all gradients, if asked
        self._model = model
        self._guards = guards
        self._recording = recording
        self._layers = layers
        self._paused = False
        self._pick = recording.pick
        self._keeper = Keeper(recording.keeping)
        self._scripted = {one.name: describe_scripted(one.name) for one in layers if not takes_hooks(one.module)}
        self._reset()

    def begin(self) -> None:
        """Discard all entries; the thread that calls this is the owner."""
        self._reset()
        if self._recording.gradients:
            again = partial(begin_graph_again, self._model, self._pick, self._replay)
            hooked = [layer for layer in self._layers if takes_hooks(layer.module)]
            self._replay.open([(layer.module, ProbeHook(again, layer.name)) for layer in hooked])

    def _reset(self) -> None:
        self._replay = Replay("began a graph (gradients=True where all is frozen)")
        self.entries: list[Entry] = []
        self.ran: set[str] = set()  # names of the layers that ran
        self.left_out = dict(self._scripted)  # and layers that returned no single tensor, and what they did return
        self.replicated: set[str] = set()  # layers of which replicas ran, as those of DataParallel
        self.trails: list[Trail] = []  # of each output, for "post_activation" only
        self._keeper.budget.held = 0
        self._numbers = itertools.count()  # of forwards
        self._started = 0
        self._views = {threading.get_ident(): self._new_view()}

    def hooks(self, layers: list[Layer]) -> list[tuple[nn.Module, ProbeHook]]:
        """Return the forward hook of each layer; the hooks refer to the recorder, never the recorder to its hooks."""
        return [(layer.module, ProbeHook(self._record_output, layer)) for layer in layers if takes_hooks(layer.module)]

    @property
    def hookable(self) -> tuple[str, ...]:
        """The names of the layers that take hooks."""
        return tuple(layer.name for layer in self._layers if takes_hooks(layer.module))

    def pre_hooks(self) -> list[tuple[nn.Module, ProbeHook]]:
        """Return the forward pre-hook of each layer; there are none without gradients."""
        layers = self._layers if self._recording.gradients else []
        return [(layer.module, ProbeHook(self._note_inputs, layer)) for layer in layers if takes_hooks(layer.module)]

    def forward_begins(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Begin a pass; the model's forward pre-hook. Returns aliases of the inputs if gradients are collected."""
        view = self._view()
        if view is None or model is not self._model:
            return None
        for layer in self._layers:
            keep_last(layer.module)
        if len(view.passes) == 1 and view.follower is not None:
            self._end_trails(view.passes[0])  # of what other methods of the model ran before
            view.follower.forget()
        begun = Pass(next(self._numbers), self._new_graphs(by_hand=False))
        view.passes.append(begun)
        self._started += 1
        _follow(view)
        return None if begun.graphs is None else begun.graphs.take_inputs((args, kwargs))

    def forward_ends(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """End a pass; the model's forward hook, which is also called after an exception."""
        view = self._view()
        if view is None or model is not self._model or len(view.passes) == 1:
            return
        ended = view.passes.pop()
        whole = output is not None  # after an exception there is no output
        try:
            if view.follower is not None and whole:
                view.follower.settle(over=len(view.passes) == 1)  # may stop the forward
        finally:
            if len(view.passes) == 1:
                _stop_following(view, between=view.always)
            self._settle(ended, whole=whole)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Return a block in which runs of the model are not recorded."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def follow(self) -> None:
        """Watch the torch functions of this thread also outside of the model's forward, as in `model.encode(x)`."""
        view = self._views[threading.get_ident()]
        view.always = True
        _follow(view)

    def stop_following(self) -> None:
        """Stop watching the torch functions of this thread, also where a forward has not ended."""
        view = self._views.get(threading.get_ident())
        if view is not None and view.follower is not None:
            _stop_following(view)
            leave_function_mode(view.follower)  # torch may have pushed it again at the end of an interrupted call

    def finish(self) -> None:
        """End the block: settle the passes that have not ended."""
        self.after_each = None
        self._replay.close()
        for view in self._views.values():
            _stop_following(view)
            for unended in reversed(view.passes):
                self._settle(unended, whole=unended is view.passes[0])
            del view.passes[1:]

    def _new_view(self) -> ThreadView:
        loose = Pass(0, self._new_graphs(by_hand=True))
        return ThreadView(loose, NonlinearityMode() if self._recording.at == "post_activation" else None)

    def _new_graphs(self, *, by_hand: bool) -> Graphs | None:
        return Graphs(self._model, self._pick, self._replay, by_hand=by_hand) if self._recording.gradients else None

    def _view(self) -> ThreadView | None:
        """Return the state of the current thread; None if this probe ignores it."""
        if self._paused or is_backward():  # recomputation for a checkpoint
            return None
        view = self._views.get(threading.get_ident())
        if view is None and self._recording.threads == "all":
            view = self._views.setdefault(threading.get_ident(), self._new_view())
        return view

    def _note_inputs(self, layer: Layer, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember the inputs of a layer; its forward pre-hook."""
        view = self._view()
        graphs = None if view is None else view.passes[-1].graphs
        if graphs is not None and module is layer.module:
            graphs.note_inputs(layer.name, args, kwargs)

    def _record_output(self, layer: Layer, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Record the output of a layer; its forward hook. Returns an alias of the output only if gradients need one."""
        if module is not layer.module:
            if getattr(module, "_is_replica", False):
                self.replicated.add(layer.name)
            return None
        view = self._view()
        if view is None:
            return begin_graph_again(self._model, self._pick, self._replay, layer.name, module, args, output)
        current = view.passes[-1]
        if len(view.passes) == 1:
            current.forward = self._started  # called outside of a forward: counts towards the next one
        call = current.calls.get(layer.name, 0)
        current.calls[layer.name] = call + 1
        self.ran.add(layer.name)
        value = output if self._pick is None else self._pick(output)
        if not isinstance(value, torch.Tensor) or is_batched(value):
            why = _describe_unusable(layer, output, value, self._recording)
            if self._is_required(layer) or self._pick is not None or isinstance(value, torch.Tensor):
                raise UnsupportedOutputError(why)
            self.left_out.setdefault(layer.name, why)
            return None
        changed, source = None, None
        if current.graphs is not None:
            reached = current.graphs.reach(layer.name, output, value, args)
            value, source = reached.value, reached.source
            changed = None if reached.output is output else reached.output
        if view.follower is None:
            then = self._keep(layer, call, current, self.entries, value, source)
            if then is not None:
                then()
        else:
            kept: list[Entry] = []
            trail = Trail(layer.name, partial(self._keep, layer, call, current, kept))
            current.trails.append((trail, kept))
            view.follower.follow(value, [trail])
        return changed

    def _is_required(self, layer: Layer) -> bool:
        return self._recording.required is None or layer.name in self._recording.required

    def _keep(
        self,
        layer: Layer,
        call: int,
        current: Pass,
        into: list[Entry],
        value: torch.Tensor,
        source: torch.Tensor | None = None,
    ) -> Callable[[], None] | None:
        """Keep a value; return a function to call when it is certain that the value stays, or None.

        Its gradient is collected from `source`, of which it is a part, if that is not None.
        """
        if self._recording.take is not None:
            self._recording.take(layer, call, value)
            return None
        gradient = None
        if self._recording.gradients or self._recording.keeping.keep_graph:
            require_gradients(layer.name, value)
        if current.graphs is not None:
            gradient = Gradient(layer.name, self._keeper.budget, self._recording.keeping.device)
            current.graphs.watch(gradient, value, value if source is None else source)
            if self.origins is not None:
                self.origins.append(origin_of(value if source is None else source))
        kept = self._keep_value(layer, value, current)
        if kept.version is not None:
            current.shared.append(kept)
        entry = Entry(layer, call, current.forward, kept, gradient)
        into.append(entry)
        return None if self.after_each is None else partial(self.after_each, entry)

    def _keep_value(self, layer: Layer, value: torch.Tensor, current: Pass) -> KeptValue:
        """Return the kept value of a live one."""
        guard = self._guards[layer.name]
        if not self._recording.keeping.keep_graph:
            return self._keeper.keep(guard, value, current.watches)
        with hide_from_checkpoints():
            return self._keeper.keep(guard, value, current.watches)

    def _settle(self, ended: Pass, *, whole: bool) -> None:
        """Check shared and watched values, and end the trails of outputs."""
        if ended.graphs is not None:
            ended.graphs.settle(over=True)
        for watch in ended.watches:
            watch.settle(whole=whole)
        ended.watches.clear()
        for kept in ended.shared:
            kept.check_intact()
        ended.shared.clear()
        self._end_trails(ended)

    def _end_trails(self, ended: Pass) -> None:
        """Add the entries of outputs that one nonlinearity followed."""
        for trail, entries in ended.trails:
            self.trails.append(trail)
            trail.end()
            if trail.describe_problem() is None:
                self.entries += entries
        ended.trails.clear()


def _follow(view: ThreadView) -> None:
    """Watch the torch functions of the thread."""
    if view.follower is not None and not view.following:
        view.following = True
        view.follower.__enter__()  # type: ignore[no-untyped-call]


def _stop_following(view: ThreadView, *, between: bool = False) -> None:
    """Stop watching the torch functions of the thread; or only forget what was followed, `between` two forwards."""
    if view.follower is not None and view.following:
        if not between:
            leave_function_mode(view.follower)
            view.following = False
        view.follower.forget()


def _describe_unusable(layer: Layer, output: Any, value: Any, recording: Recording) -> str:
    """Return why the output of a layer, or the value picked from it, cannot be kept."""
    if isinstance(value, torch.Tensor):
        return (
            f"Layer {layer.name!r} ran inside a functorch transform (vmap, grad, jvp, ...), where its output is a "
            "wrapper that is invalid outside. Probe the model outside the transform."
        )
    if recording.pick is not None:
        return (
            f"pick= returned {kind_of(value)} for layer {layer.name!r}, whose output is {describe_leaves(output)}: "
            "return a tensor."
        )
    if recording.take is None:
        advice = "Pass pick= to a probe, such as pick=lambda out: out[0]; elsewhere choose other layers."
    else:
        advice = "Choose other layers, such as those inside it or behind it."
    return (
        f"Layer {layer.name or '(model)'!r} ({type(layer.module).__name__}) returned no single tensor but "
        f"{describe_leaves(output)}. {advice}"
    )
