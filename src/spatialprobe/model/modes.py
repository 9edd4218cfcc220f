"""Torch's stacks of modes: a mode is put on, and taken off wherever it lies, whatever was interrupted on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from spatialprobe.model.undo import Undo, undo_block


def enter_function_mode(undo: Undo, mode: TorchFunctionMode) -> None:
    """See every torch function of this thread until `undo` runs."""
    undo.add(leave_function_mode, mode)
    mode.__enter__()  # type: ignore[no-untyped-call]


def leave_function_mode(mode: TorchFunctionMode) -> None:
    """Take a mode off this thread's stack, wherever it lies; nothing happens where it is not on it."""
    _FUNCTION_MODES.remove(mode)


def enter_dispatch_mode(undo: Undo, mode: TorchDispatchMode) -> None:
    """See every operator of this thread until `undo` runs."""
    flags = {name: value for name, value in vars(_python_dispatch).items() if name.startswith("_is_in_")}
    undo.add(_restore_flags, flags)
    undo.add(_restore_keys, torch._C._dispatch_tls_local_exclude_set())
    place = getattr(mode, "_mode_key", None)  # of fake tensors and the like: a place of their own, below the stack
    if place is None:
        undo.add(_DISPATCH_MODES.remove, mode)
    else:
        undo.add(_restore_place, place, torch._C._get_dispatch_mode(place))
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
            with undo_block() as undo:
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


def _restore_place(place: Any, before: TorchDispatchMode | None) -> None:
    if torch._C._get_dispatch_mode(place) is not before:
        torch._C._unset_dispatch_mode(place)
        if before is not None:
            torch._C._set_dispatch_mode(before)


def _restore_keys(before: Any) -> None:
    """Let operators of this thread be seen by everything that saw them before.

    Modes switch this off for the time of a call, by guards that set back the wrong thing if they are freed in another
    order than they were made, as in a frame that a debugger has cut off.
    """
    more = torch._C._dispatch_tls_local_exclude_set() - before
    while more.raw_repr():
        key = more.highestPriorityTypeId()
        torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)
        more = more.remove(key)


def _restore_flags(flags: dict[str, bool]) -> None:
    """Make torch know again whether it is inside of any dispatch mode."""
    vars(_python_dispatch).update(flags)
    tell_compiler: Callable[[bool], object] | None = getattr(
        _python_dispatch, "set_is_in_mode_without_ignore_compile_internals", None
    )
    if tell_compiler is not None:
        tell_compiler(flags["_is_in_any_mode_without_ignore_compile_internals"])
