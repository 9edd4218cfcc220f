"""A message board for processes in the store of torch.distributed, where every access has a timeout."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from spatialprobe.errors import SweepError, describe_error

_LAST = 2.0  # seconds for a last message, which may not get through

_Found = TypeVar("_Found")


class StoreGoneError(SweepError):
    """The store cannot be reached, or does not answer in time."""


class Board:
    """The texts that the processes of one sweep post.

    Args:
        store: the store of torch.distributed.
        name: the name of the sweep, a prefix of its keys that no other sweep has used.
        timeout: the seconds that an access may take.
    """

    def __init__(self, store: Any, name: str, timeout: float) -> None:
        self._store, self._name, self._timeout = store, name, timeout

    def post(self, key: str, text: str) -> None:
        """Post a text.

        Raises:
            StoreGoneError: the store cannot be reached.
        """
        self._call(lambda: self._store.set(f"{self._name}/{key}", text))

    def post_last(self, key: str, text: str) -> None:
        """Post a text if the store can be reached soon, and ignore failure: another error is being handled already."""
        with suppress(StoreGoneError):
            call_with_timeout(lambda: self._store.set(f"{self._name}/{key}", text), _LAST, "The store")

    def read(self, key: str) -> str | None:
        """Return the text posted under a key, None if there is none yet.

        Raises:
            StoreGoneError: the store cannot be reached.
        """
        name = f"{self._name}/{key}"
        found: bytes | None = self._call(lambda: self._store.get(name) if self._store.check([name]) else None)
        return None if found is None else found.decode()

    def remove(self, key: str) -> None:
        """Remove a text if the store supports it."""
        with suppress(StoreGoneError):
            self._call(lambda: self._store.delete_key(f"{self._name}/{key}"))

    def _call(self, call: Callable[[], _Found]) -> _Found:
        return call_with_timeout(
            call, self._timeout, "The store of torch.distributed, through which processes find one another,"
        )


def call_with_timeout(call: Callable[[], _Found], seconds: float, what: str) -> _Found:
    """Return the value of a call that may block inside torch, where it cannot be interrupted.

    Raises:
        StoreGoneError: it raised, or did not return in time; its thread then keeps waiting in the background.
    """
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((True, call()))
        except Exception as error:
            outcome.put((False, error))

    threading.Thread(target=run, name="spatialprobe asks a store", daemon=True).start()
    try:
        well, found = outcome.get(timeout=seconds)
    except queue.Empty:
        raise StoreGoneError(f"{what} did not answer within {seconds:g} s.") from None
    if not well:
        first, *_ = describe_error(found).splitlines()  # a C++ trace follows
        raise StoreGoneError(f"{what} cannot be reached: {first}") from found
    answer: _Found = found
    return answer
