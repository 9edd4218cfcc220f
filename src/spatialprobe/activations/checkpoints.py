"""Find the activation checkpoints that are running their forward pass in this thread, and what they will recompute.

Torch has no public function for this. Its checkpoints are of two kinds. Reentrant ones, and those of other libraries,
are autograd functions: they are found on Python's call stack. Non-reentrant ones install saved-tensor hooks and are
found by these, or before torch 2.7 on the stack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType, GeneratorType
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn

from spatialprobe.model.undo import Undo, as_block, undo_block

SavedHooks = tuple[Callable[[torch.Tensor], Any], Callable[[Any], torch.Tensor]]


def find_running_functions() -> Iterator[Any]:
    """Yield the contexts of the autograd functions whose forward is running, the innermost first.

    Checkpoints among them hold the function that they recompute as `run_function`.
    """
    for frame, caller in _walk_stack():
        name = frame.f_code.co_varnames[:1] if frame.f_code.co_argcount else ()
        if name and frame.f_code.co_name == "forward" and caller != _MODULES:
            context = frame.f_locals[name[0]]
            if isinstance(context, torch._C._FunctionBase):
                yield context


def find_running_frames() -> list[Any]:
    """Return the non-reentrant checkpoints that are running; each holds its function as `recompute_fn`."""
    found = _find_frames_on_stack() if _top_hooks is None else _find_frames_in_hooks()
    return [frame for frame in found if hasattr(frame, "recompute_fn")]


def get_inputs_of(frame: Any) -> Any:
    """Return the inputs of a checkpoint, as far as torch exposes them."""
    if hasattr(frame, "get_inputs"):
        return frame.get_inputs()
    saver = getattr(getattr(frame, "input_saver", None), "grad_fn", None)
    return [] if saver is None else saver.get_args(saver.saved_tensors)


@as_block
def hide_from_checkpoints(undo: Undo) -> None:
    """Return a block in which checkpoints do not see the tensors that functions save for the backward pass."""
    if find_running_frames():
        pushed: list[bool] = []
        undo.add(_pop_own_hooks, pushed)
        _push_hooks(_save, _load)
        pushed.append(True)


def _find_frames_in_hooks() -> list[Any]:
    """Return the frames to which torch's saved-tensor hooks belong; None for hooks without one."""
    if _top_hooks(False) is None:
        return []
    with undo_block() as undo:
        taken: list[SavedHooks] = []
        undo.add(_restore_hooks, taken)
        while (top := _top_hooks(False)) is not None:
            taken.append(top)
            _pop_hooks()
        return [_closure_variables(pack).get("frame") for pack, _ in taken]


def _find_frames_on_stack() -> list[Any]:
    """Return the frames held by the generators in which torch runs checkpoints."""
    held = (frame.f_locals.get("gen") for frame, _ in _walk_stack() if frame.f_code.co_filename == _CHECKPOINTS)
    inner = (one.gi_frame for one in held if isinstance(one, GeneratorType))
    return [frame.f_locals.get("new_frame") for frame in inner if frame is not None]


def _walk_stack() -> Iterator[tuple[FrameType, str | None]]:
    """Yield the frames of the stack, the innermost first, each with the file of its caller."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        below, frame = frame, frame.f_back
        yield below, None if frame is None else frame.f_code.co_filename


def _restore_hooks(taken: list[SavedHooks]) -> None:
    """Push hooks back onto torch's stack, the last popped first; may be interrupted and run again."""
    while taken:
        top = _top_hooks(False)
        if top is None or top[0] is not taken[-1][0]:
            _push_hooks(*taken[-1])
        del taken[-1]


def _pop_own_hooks(pushed: list[bool]) -> None:
    top = (_save,) if _top_hooks is None and pushed else _top_hooks and _top_hooks(False)
    if top and top[0] is _save:
        pushed.clear()
        _pop_hooks()


def _save(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach()  # a checkpoint has no second derivatives either; keeping the tensor would make a cycle


def _load(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _closure_variables(function: Any) -> dict[str, Any]:
    """Return the closure variables of a function, by name."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = getattr(function, "__closure__", None) or ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=False)}


_MODULES = nn.modules.module.__file__  # the file from which the forwards of modules are called
_CHECKPOINTS = torch.utils.checkpoint.__file__
# Private names of torch, since there are no public ones; the first was added in torch 2.7.
_top_hooks: Any = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
_pop_hooks = torch._C._autograd._pop_saved_tensors_default_hooks
_push_hooks = torch._C._autograd._push_saved_tensors_default_hooks
