"""Run compiled models eagerly while a block is active, by setting torch's compiler stance.

The stance is global to the process, and so are the active blocks that are counted here: the first block sets the
stance, and the last one that ends restores it.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import torch

from spatialprobe.model.undo import Undo

_lock = threading.RLock()
_blocks: dict[object, None] = {}  # the active blocks, which need eager models
_before: list[Any] = []  # the user's stance, while another is set


def hold_eager(undo: Undo) -> None:
    """Let compiled functions and modules run eagerly, with their hooks, until `undo` runs.

    Nothing is changed where no compiler is loaded, since nothing is compiled then.
    """
    if "torch._dynamo" not in sys.modules:
        return
    block = object()
    undo.add(_unlock)
    undo.add(_update_blocks, _blocks.pop, block, None)
    _update_blocks(_blocks.setdefault, block, None)


def _update_blocks(change: Any, *arguments: object) -> None:
    """Add or remove a block that needs eager models, and update the stance."""
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
            _before.append(dynamo._stance)  # torch returns the old stance only after another has been set
        if dynamo._stance.stance != "force_eager":
            torch.compiler.set_stance("force_eager")
    elif _before:
        if dynamo._stance is not _before[0]:
            dynamo._set_stance(_before[0])
        _before.clear()


def _unlock() -> None:
    """Release the lock if this thread holds it, also after an interrupt between acquiring and releasing."""
    while _lock._is_owned():  # type: ignore[attr-defined]  # as in `threading.Condition`
        _lock.release()
