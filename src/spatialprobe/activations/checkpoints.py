"""Which activation checkpoints are running their forward pass in this thread, and what they will compute again.

Torch has no public way to ask. Its checkpoints are of two kinds. Reentrant ones, and those of other libraries, are
functions with a backward pass of their own: they are found on the stack of Python. The others take over what functions
save for the backward pass, and are found by that, or before torch 2.7 on the stack.
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
    """Yield the contexts of the functions with a backward pass of their own that are running, the innermost first.

    Checkpoints among them keep what they compute again as `run_function`.
    """
    for frame, caller in _walk_stack():
        name = frame.f_code.co_varnames[:1] if frame.f_code.co_argcount else ()
        if name and frame.f_code.co_name == "forward" and caller != _MODULES:
            context = frame.f_locals[name[0]]
            if isinstance(context, torch._C._FunctionBase):
                yield context


def find_running_frames() -> list[Any]:
    """Return the checkpoints of the other kind that are running; each keeps its function as `recompute_fn`."""
    found = _find_frames_on_stack() if _top_hooks is None else _find_frames_in_hooks()
    return [frame for frame in found if hasattr(frame, "recompute_fn")]


def get_inputs_of(frame: Any) -> Any:
    """Return what a checkpoint takes, as far as torch shows it."""
    if hasattr(frame, "get_inputs"):
        return frame.get_inputs()
    saver = getattr(getattr(frame, "input_saver", None), "grad_fn", None)
    return [] if saver is None else saver.get_args(saver.saved_tensors)


@as_block
def hide_from_checkpoints(undo: Undo) -> None:
    """Inside the block, what functions save for the backward pass is none of what a checkpoint computes again."""
    if find_running_frames():
        pushed: list[bool] = []
        undo.add(_pop_own_hooks, pushed)
        _push_hooks(_save, _load)
        pushed.append(True)


def _find_frames_in_hooks() -> list[Any]:
    """Return what torch's hooks of saved tensors belong to, as far as they say it."""
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
    """Return what the generators hold in which torch runs checkpoints."""
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
    """Put hooks back on torch's stack, the last taken first; may be interrupted and begun again."""
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
    return tensor.detach()  # a checkpoint has no second derivatives either; the tensor itself would be a cycle


def _load(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _closure_variables(function: Any) -> dict[str, Any]:
    """Return the variables that a function took from around it."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = getattr(function, "__closure__", None) or ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=False)}


_MODULES = nn.modules.module.__file__  # where the forwards of modules are called
_CHECKPOINTS = torch.utils.checkpoint.__file__
# Private names of torch, for want of public ones; the first came with torch 2.7.
_top_hooks: Any = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
_pop_hooks = torch._C._autograd._pop_saved_tensors_default_hooks
_push_hooks = torch._C._autograd._push_saved_tensors_default_hooks
