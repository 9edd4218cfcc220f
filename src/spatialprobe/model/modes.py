"""Push modes onto torch's stacks, and remove them wherever they are, also after an interrupt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from spatialprobe.model.undo import Undo, undo_block


def enter_function_mode(undo: Undo, mode: TorchFunctionMode) -> None:
    """Intercept every torch function of this thread until `undo` runs."""
    undo.add(leave_function_mode, mode)
    mode.__enter__()  # type: ignore[no-untyped-call]


def leave_function_mode(mode: TorchFunctionMode) -> None:
    """Remove a mode from this thread's stack, at any position; a mode that is not on the stack is ignored."""
    _FUNCTION_MODES.remove(mode)


def enter_dispatch_mode(undo: Undo, mode: TorchDispatchMode) -> None:
    """Intercept every operator of this thread until `undo` runs."""
    flags = {name: value for name, value in vars(_python_dispatch).items() if name.startswith("_is_in_")}
    undo.add(_restore_flags, flags)
    undo.add(_restore_keys, torch._C._dispatch_tls_local_exclude_set())
    place = getattr(mode, "_mode_key", None)  # modes such as that of fake tensors have a place below the stack
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
        """Remove all occurrences of a mode, at any position; the others stay."""
        others = [one for one in self._read() if one is not mode]
        if len(others) < len(self._read()):
            with undo_block() as undo:
                undo.add(self._become, others)

    def _become(self, modes: list[object]) -> None:
        """Replace the stack by exactly these modes; may be interrupted and run again."""
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
    """Restore the set of dispatch keys that are excluded in this thread.

    Modes exclude keys during a call by guards, which restore a wrong set if they are not freed in the reverse order of
    their creation, as in a frame that an interrupt has ended and a traceback keeps alive.
    """
    more = torch._C._dispatch_tls_local_exclude_set() - before
    while more.raw_repr():
        key = more.highestPriorityTypeId()
        torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)
        more = more.remove(key)


def _restore_flags(flags: dict[str, bool]) -> None:
    """Restore torch's flags that say whether a dispatch mode is active."""
    vars(_python_dispatch).update(flags)
    tell_compiler: Callable[[bool], object] | None = getattr(
        _python_dispatch, "set_is_in_mode_without_ignore_compile_internals", None
    )
    if tell_compiler is not None:
        tell_compiler(flags["_is_in_any_mode_without_ignore_compile_internals"])
