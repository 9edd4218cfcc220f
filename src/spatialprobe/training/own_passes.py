"""Passes of a model that this package runs itself, and that no monitor counts."""

from __future__ import annotations

import threading

from spatialprobe.model.undo import Undo, as_block


class _Passes(threading.local):
    """The passes that the current thread runs."""

    def __init__(self) -> None:
        self.running: dict[object, None] = {}


_passes = _Passes()


@as_block
def own_pass(undo: Undo) -> None:
    """Return a block in which the current thread's forwards are no steps of a training.

    >>> with own_pass():
    ...     print(is_own_pass())
    True
    >>> is_own_pass()
    False
    """
    key = object()
    undo.add(_passes.running.pop, key, None)
    _passes.running[key] = None


def is_own_pass() -> bool:
    """Return whether the current thread runs such a pass."""
    return bool(_passes.running)
