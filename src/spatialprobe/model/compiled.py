"""Run compiled models eagerly while a block is active, by torch's own compiler stance.

The stance belongs to the whole process, so what is counted here does too: the first block in sets it, the last
one out gives back what was there.
"""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager

import torch

_lock = threading.Lock()
_blocks = 0
_stance: AbstractContextManager[None] | None = None  # the one that was set, and knows what was there before


def hold_eager() -> bool:
    """Whatever `torch.compile` or `Module.compile` has compiled runs eagerly, with its hooks, until `release_eager`.

    False, and nothing to release, where no compiler is loaded, since then nothing is compiled.
    """
    global _blocks, _stance
    if "torch._dynamo" not in sys.modules:
        return False
    with _lock:
        if _blocks == 0:
            _stance = torch.compiler.set_stance("force_eager")  # is set by the call; entering it would set it again
        _blocks += 1
    return True


def release_eager() -> None:
    """One block less needs eager models; the last gives back the stance that was there."""
    global _blocks, _stance
    with _lock:
        _blocks -= 1
        if _blocks == 0 and _stance is not None:
            _stance.__exit__(None, None, None)
            _stance = None
