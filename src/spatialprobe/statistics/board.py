"""What processes post for one another in the store of torch.distributed; no access to it waits for ever."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from spatialprobe.errors import SweepError, describe_error

_LAST = 2.0  # seconds, for a word that may be in vain

_Found = TypeVar("_Found")


class StoreGoneError(SweepError):
    """The store does not answer."""


class Board:
    """The texts that the processes of one sweep post.

    Args:
        store: of torch.distributed.
        name: of the sweep, under which no other has posted anything.
        timeout: seconds that an access may take.
    """

    def __init__(self, store: Any, name: str, timeout: float) -> None:
        self._store, self._name, self._timeout = store, name, timeout

    def post(self, key: str, text: str) -> None:
        """Post a text.

        Raises:
            StoreGoneError: the store cannot be reached.
        """
        self._do(lambda: self._store.set(f"{self._name}/{key}", text))

    def post_last(self, key: str, text: str) -> None:
        """Post a text if the store can be reached, and do not wait for long: something else is wrong already."""
        with suppress(StoreGoneError):
            call_with_timeout(lambda: self._store.set(f"{self._name}/{key}", text), _LAST, "The store")

    def read(self, key: str) -> str | None:
        """Return a text, None where it was not posted yet.

        Raises:
            StoreGoneError: the store cannot be reached.
        """
        name = f"{self._name}/{key}"
        found: bytes | None = self._do(lambda: self._store.get(name) if self._store.check([name]) else None)
        return None if found is None else found.decode()

    def remove(self, key: str) -> None:
        """Take a text down, where the store can."""
        with suppress(StoreGoneError):
            self._do(lambda: self._store.delete_key(f"{self._name}/{key}"))

    def _do(self, call: Callable[[], _Found]) -> _Found:
        return call_with_timeout(
            call, self._timeout, "The store of torch.distributed, in which processes find one another,"
        )


def call_with_timeout(call: Callable[[], _Found], seconds: float, what: str) -> _Found:
    """Return what a call returns that may wait for another process, in torch, where nothing can interrupt it.

    Raises:
        StoreGoneError: it raised, or did not return in time; a thread waits on then.
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
        first, *_ = describe_error(found).splitlines()  # traces of C++ follow
        raise StoreGoneError(f"{what} cannot be reached: {first}") from found
    answer: _Found = found
    return answer
