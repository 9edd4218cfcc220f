"""Run compiled models eagerly while a block is active, by torch's own compiler stance.

The stance belongs to the whole process, so what is counted here does too: the first block in sets it, the last
one out restores what was there.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import torch

from spatialprobe.model.undo import Undo

_lock = threading.RLock()
_blocks: dict[object, None] = {}  # those that need eager models
_before: list[Any] = []  # the stance that was there, while another is set


def hold_eager(undo: Undo) -> None:
    """Whatever `torch.compile` or `Module.compile` has compiled runs eagerly, with its hooks, until `undo` runs.

    Nothing is changed where no compiler is loaded, since then nothing is compiled.
    """
    if "torch._dynamo" not in sys.modules:
        return
    block = object()
    undo.add(_unlock)
    undo.add(_update_blocks, _blocks.pop, block, None)
    _update_blocks(_blocks.setdefault, block, None)


def _update_blocks(change: Any, *arguments: object) -> None:
    """Change which blocks need eager models, and with them the stance."""
    try:
        _lock.acquire()
        change(*arguments)
        _set_stance()
    finally:
        _unlock()


def _set_stance() -> None:
    dynamo: Any = sys.modules.get("torch._dynamo.eval_frame") or importlib.import_module("torch._dynamo.eval_frame")
    if _blocks:
        if not _before:
            _before.append(dynamo._stance)  # torch itself tells what was there only when another has been set
        if dynamo._stance.stance != "force_eager":
            torch.compiler.set_stance("force_eager")
    elif _before:
        if dynamo._stance is not _before[0]:
            dynamo._set_stance(_before[0])
        _before.clear()


def _unlock() -> None:
    """Let other threads have the lock, if this one holds it: an interrupt may have come between."""
    while _lock._is_owned():  # type: ignore[attr-defined]  # as `threading.Condition` asks it
        _lock.release()
