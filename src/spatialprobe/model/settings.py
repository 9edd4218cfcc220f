"""Settings of torch that are changed for a while: gradients, inference mode, random state, modes on its stacks."""

from __future__ import annotations

import random
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import _GeneratorContextManager, suppress
from types import FrameType, GeneratorType
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from spatialprobe.model.undo import Undo, as_block, undoing


def set_gradients(undo: Undo, enabled: bool) -> None:
    """Compute with gradients, or without, until `undo` runs."""
    undo.add(torch.set_grad_enabled, torch.is_grad_enabled())
    torch.set_grad_enabled(enabled)


@as_block
def without_gradients(undo: Undo) -> None:
    """Compute without gradients inside the block."""
    set_gradients(undo, False)


def leave_inference_mode(undo: Undo) -> None:
    """Compute outside of inference mode, if this thread is in it, until `undo` runs."""
    if torch.is_inference_mode_enabled():
        outside = torch.inference_mode(False)
        undo.add(_reenter_inference_mode, outside)
        outside.__enter__()


class RandomState:
    """The state of each random generator that a forward pass on some devices may use: Python's, numpy's, torch's.

    >>> state = RandomState([torch.device("cpu")])
    >>> first = torch.rand(1), random.random()
    >>> state.restore()
    >>> first == (torch.rand(1), random.random())
    True
    """

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._python = random.getstate()
        self._numpy = np.random.get_state()
        self._torch = torch.get_rng_state()
        self._cuda = {device: torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"}

    def restore(self) -> None:
        """Set every generator to the state that it was in."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)


def seed_generators(undo: Undo, seed: int, devices: Iterable[torch.device]) -> None:
    """Let torch's generators on the CPU and on these devices begin at a seed; restore all when `undo` runs."""
    cuda = [device for device in devices if device.type == "cuda"]
    undo.add(RandomState(cuda).restore)
    torch.default_generator.manual_seed(seed)
    for device in cuda:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def enter_function_mode(undo: Undo, mode: TorchFunctionMode) -> None:
    """See every torch function of this thread until `undo` runs."""
    undo.add(leave_function_mode, mode)
    mode.__enter__()  # type: ignore[no-untyped-call]


def leave_function_mode(mode: TorchFunctionMode) -> None:
    """Take a mode off this thread's stack, wherever it lies; nothing happens where it is not on it."""
    _end_interrupted()
    _FUNCTION_MODES.remove(mode)


def enter_dispatch_mode(undo: Undo, mode: TorchDispatchMode) -> None:
    """See every operator of this thread until `undo` runs."""
    flags = {name: value for name, value in vars(_python_dispatch).items() if name.startswith("_is_in_")}
    undo.add(_leave_dispatch_mode, mode, flags)
    mode.__enter__()  # type: ignore[no-untyped-call]


class _Stack:
    """One of torch's stacks of modes."""

    def __init__(
        self, read: Callable[[], Sequence[Any]], push: Callable[[Any], object], pop: Callable[[], object]
    ) -> None:
        self._read = read
        self._push = push
        self._pop = pop

    def remove(self, mode: object) -> None:
        """Take a mode off, wherever it lies and however often; the others stay as they are."""
        others = [one for one in self._read() if one is not mode]
        if len(others) < len(self._read()):
            with undoing() as undo:
                undo.add(self._become, others)

    def _become(self, modes: list[object]) -> None:
        """Hold exactly these; may be interrupted and begun again."""
        found = self._read()
        shared = next(
            (i for i, (a, b) in enumerate(zip(found, modes, strict=False)) if a is not b), min(len(found), len(modes))
        )
        for _ in found[shared:]:
            self._pop()
        for mode in modes[shared:]:
            self._push(mode)


_TAKEN_OFF_FOR_A_CALL = [
    module._pop_mode_temporarily.__wrapped__.__code__ for module in (torch.overrides, _python_dispatch)
]
_FUNCTION_MODES = _Stack(
    torch.overrides._get_current_function_mode_stack,
    torch.overrides._push_mode,
    torch.overrides._pop_mode,
)
_DISPATCH_MODES = _Stack(
    _python_dispatch._get_current_dispatch_mode_stack,
    _python_dispatch._push_mode,
    _python_dispatch._pop_mode,
)


def _end_interrupted() -> None:
    """End what takes a mode off torch's stacks for one call, where the exception that passes came in between.

    It would put the mode back when the traceback is freed, and there it would stay.
    """
    error = sys.exc_info()[1]
    for frame, _ in traceback.walk_tb(None if error is None else error.__traceback__):
        held = frame.f_locals.values()
        looked_at = [one.f_locals.get("self") for one in held if isinstance(one, FrameType)]  # by a debugger
        for manager in (frame.f_locals.get("self"), *looked_at):
            generator = getattr(manager, "gen", None) if isinstance(manager, _GeneratorContextManager) else None
            if isinstance(generator, GeneratorType) and generator.gi_code in _TAKEN_OFF_FOR_A_CALL:
                generator.close()


def _leave_dispatch_mode(mode: TorchDispatchMode, flags: dict[str, bool]) -> None:
    _end_interrupted()
    _DISPATCH_MODES.remove(mode)
    vars(_python_dispatch).update(flags)
    tell_compiler: Callable[[bool], object] | None = getattr(
        _python_dispatch, "set_is_in_mode_without_ignore_compile_internals", None
    )
    if tell_compiler is not None:
        tell_compiler(flags["_is_in_any_mode_without_ignore_compile_internals"])


def _reenter_inference_mode(outside: torch.inference_mode) -> None:
    with suppress(AttributeError):  # it was never entered
        outside.__exit__(None, None, None)
