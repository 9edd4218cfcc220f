"""Interrupts at every point at which Python code can be interrupted, and comparison of all state they could change."""

from __future__ import annotations

import gc
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


@dataclass(frozen=True)
class Point:
    """One visit of a place in the code where an interrupt can arrive."""

    file: str
    line: int
    event: str  # "call", "line", "return" or "opcode"
    visit: int  # counted from 0
    function: str = ""

    def __str__(self) -> str:
        return f"{self.event} {self.visit} of {self.file.rpartition('site-packages/')[2]}:{self.line} {self.function}"


class _Trace:
    """A trace function that counts the points of a run, and raises an interrupt at one of them.

    Where the point is known, only the frames of its function are followed line by line.
    """

    def __init__(self, at: Point | None, *, opcodes: bool, within: str = "") -> None:
        self.visits: dict[tuple[str, int, str, str], int] = {}
        self.raised = False
        self._at = at
        self._opcodes = opcodes
        self._within = within if at is None else at.file

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        code, at = frame.f_code, self._at
        if code.co_filename == __file__ or self._within not in code.co_filename:
            return None
        function = getattr(code, "co_qualname", code.co_name)
        if at is not None and function != at.function:
            return None
        frame.f_trace_opcodes = self._opcodes
        if event != "exception":
            self._visit((code.co_filename, frame.f_lineno, event, function))
        return self

    def _visit(self, place: tuple[str, int, str, str]) -> None:
        visit = self.visits.get(place, 0)
        self.visits[place] = visit + 1
        at = self._at
        if at is None or self.raised:
            return
        if visit == at.visit and place == (at.file, at.line, at.event, at.function):
            self.raised = True
            raise KeyboardInterrupt


def points_of(
    run: Callable[[], object], *, visits: int | None = 1, opcodes: bool = False, within: str = ""
) -> list[Point]:
    """Return every point that a run visits, with the first `visits` visits of each, or all if None.

    `within` is a part of the paths of those files whose points are wanted.
    """
    trace = _Trace(None, opcodes=opcodes, within=within)
    _traced(run, trace)
    return [
        Point(file, line, event, visit, function)
        for (file, line, event, function), count in trace.visits.items()
        for visit in range(count if visits is None else min(count, visits))
    ]


def interrupted(run: Callable[[], object], at: Point) -> BaseException | None:
    """Run, raise an interrupt at one point, and return the interrupt that came out, or None if none did."""
    trace = _Trace(at, opcodes=at.event == "opcode")
    try:
        _traced(run, trace)
    except KeyboardInterrupt as interrupt:
        return interrupt
    return None


def interrupted_after(run: Callable[[], object], seconds: float) -> BaseException | None:
    """Run, let a real signal raise an interrupt after some seconds, and return it, or None if none came out."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        run()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt as interrupt:
        return interrupt
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return None


def _traced(run: Callable[[], object], trace: _Trace) -> None:
    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # callbacks of the collector, such as hypothesis's, would run at unrepeatable steps
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()


def everything(model: nn.Module) -> dict[str, Any]:
    """Return all state of a model and the process that an interrupt could change, as values that can be compared."""
    found = {
        f"{name or 'model'}: {what}": value for name, module in model.named_modules() for what, value in _of(module)
    }
    return found | dict(_of_process())


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of values that differ; if modes are left active, only those, as the rest is not comparable."""
    modes = [key for key in ("function modes", "dispatch modes", "dispatch keys") if before[key] != after[key]]
    return modes or [key for key in before.keys() | after.keys() if not _same(before.get(key), after.get(key))]


def _of(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        yield name, _frozen(value)
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None:
            yield f"tensor {name}", (id(tensor), tensor.data_ptr(), tensor.detach().clone(), tensor.requires_grad)
            yield f"gradient of {name}", None if tensor.grad is None else tensor.grad.clone()
            yield f"hooks of {name}", _frozen(tensor._backward_hooks)


def _frozen(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return id(value), value.device, value.detach().clone()
    if isinstance(value, dict):
        return [(key, _frozen(entry)) for key, entry in value.items()]
    if isinstance(value, (list, tuple)):
        return [_frozen(entry) for entry in value]
    return value if isinstance(value, (bool, int, float, str, set, type(None))) else id(value)


def _of_process() -> Iterator[tuple[str, Any]]:
    yield "gradients", torch.is_grad_enabled()
    yield "inference mode", torch.is_inference_mode_enabled()
    yield "function modes", [id(mode) for mode in _get_current_function_mode_stack()]
    yield "dispatch modes", [id(mode) for mode in _get_current_dispatch_mode_stack()]
    sets = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    yield "dispatch keys", [keys.raw_repr() for keys in sets]
    flags = {name: value for name, value in vars(_python_dispatch).items() if name.startswith("_is_in_")}
    yield "dispatch flags", flags
    yield (
        "autocast",
        (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()),
    )
    torch.autocast_increment_nesting()
    yield "autocast nesting", torch.autocast_decrement_nesting()
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    yield "stance", None if dynamo is None else dynamo._stance
    yield "random", (torch.get_rng_state(), np.random.get_state()[1].tobytes(), hash(random.getstate()))
    yield "default dtype", torch.get_default_dtype()
    yield "backends", (torch.backends.cudnn.enabled, torch._C._get_nnpack_enabled())
    yield "TorchScript", torch._C._get_graph_executor_optimize()
    yield "warnings", list(warnings.filters)
    yield "signal handler", signal.getsignal(signal.SIGINT)
    for name, value in vars(torch_module).items():
        if name.startswith("_global_") and isinstance(value, dict):
            yield name, _frozen(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        return both and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
