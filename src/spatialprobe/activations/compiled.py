"""Run compiled models eagerly while a block is active, by torch's own compiler stance.

The stance belongs to the whole process, so what is counted here does too: the first block in sets it, the last
one out gives back what was there.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_lock = threading.Lock()
_blocks = 0
_stance = ExitStack()


@contextmanager
def eager() -> Iterator[None]:
    """Whatever `torch.compile` or `Module.compile` has compiled runs eagerly, with its hooks, until the end.

    Nothing is done where no compiler is loaded, since then nothing is compiled.
    """
    if "torch._dynamo" not in sys.modules:
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _blocks
    with _lock:
        if _blocks == 0:
            _stance.enter_context(torch.compiler.set_stance("force_eager"))
        _blocks += 1


def _leave() -> None:
    global _blocks
    with _lock:
        _blocks -= 1
        if _blocks == 0:
            _stance.close()
