"""Work that is done aside, in a thread of its own and in order, while the sweep computes the next batch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

_PENDING_BYTES = 128 << 20  # waiting to be written; a single larger one is taken all the same
_PATIENCE = 5.0  # seconds for an idle thread to end


class Aside:
    """One thread that runs functions one after the other; what they hold is bounded.

    After a function has raised, none runs until the error has been raised by `finish`, and it is raised only there,
    or where the next function is added.
    """

    def __init__(self, limit: int = _PENDING_BYTES) -> None:
        self._limit = limit
        self._thread: ThreadPoolExecutor | None = None
        self._worker: threading.Thread | None = None  # the one in which functions run, once one has
        self._pending: deque[tuple[Future[None], int]] = deque()
        self._failure: BaseException | None = None
        self._turn = threading.Lock()  # held while a function runs

    def add(self, work: Callable[[], None], size: int) -> None:
        """Run a function that holds `size` bytes, after waiting until there is room for it.

        Raises:
            Exception: what an earlier function raised.
        """
        while self._pending and size + sum(held for _, held in self._pending) > self._limit:
            self._wait_for_first()
        while self._pending and self._pending[0][0].done():
            self._wait_for_first()
        self._raise_failure()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="spatialprobe-store")
        self._pending.append((self._thread.submit(self._run, self._thread, work), size))

    def finish(self) -> None:
        """Wait until all functions have run.

        Raises:
            Exception: what one of them raised.
        """
        while self._pending:
            self._wait_for_first()
        self._raise_failure()

    def end(self) -> None:
        """Wait until all functions have run, and end the thread; an error remains for `finish`.

        Of an interrupted `add` the function may have run or not; after this it does not.
        """
        while self._pending:
            self._wait_for_first()
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            if self._worker is not None:  # idle, so it ends at once; joins have hung in a process interrupted before
                self._worker.join(_PATIENCE)
            with self._turn:  # an interrupt of `add` may leave a function, and the thread just started, unknown here
                self._thread = self._worker = None

    def _run(self, thread: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        with self._turn:
            if self._thread is thread and self._failure is None:
                self._worker = threading.current_thread()
                try:
                    work()
                except BaseException as error:
                    self._failure = error

    def _wait_for_first(self) -> None:
        self._pending[0][0].result()  # an interrupt leaves it the first
        self._pending.popleft()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
