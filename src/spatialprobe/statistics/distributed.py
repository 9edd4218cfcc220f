"""The processes of one sweep: each takes its share, all get the merged result, and all fail together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

from spatialprobe.arguments import as_float
from spatialprobe.errors import ArgumentError, SpatialProbeError, SweepError, describe_error
from spatialprobe.statistics.rendezvous import form_group
from spatialprobe.statistics.terms import Terms, describe_differences
from spatialprobe.statistics.wire import Wire, children, parent

TIMEOUT = 60.0  # seconds, by default
_SHORTEST, _LONGEST = 1.0, 1e6

_Merged = TypeVar("_Merged")


class Form(Protocol):
    """The serialization of results that ranks send one another, whose reading cannot run foreign code."""

    def dumps(self, value: Any) -> bytes:
        """Return a value as bytes."""

    def loads(self, data: bytes) -> Any:
        """Return the value that was written."""


class Peers:
    """The processes of a sweep, as seen from one of them; without a wire it is alone."""

    def __init__(self, wire: Wire | None = None) -> None:
        self._wire = wire
        self.rank = wire.rank if wire is not None else 0
        self.size = wire.size if wire is not None else 1

    def after_batch(self) -> None:
        """Process messages from the other ranks, without waiting for them.

        Raises:
            SweepError: another rank has failed, or is gone.
        """
        if self._wire is not None:
            self._wire.listen()

    def meet(self) -> None:
        """Wait until all ranks have called this.

        Raises:
            SweepError: another rank has failed, or is gone.
        """
        if self._wire is not None:
            self._wire.gather(b"")
            self._wire.broadcast(b"")

    def compare(self, terms: Callable[[], Terms]) -> None:
        """Compare the terms of the sweep of all ranks.

        Raises:
            SweepError: they differ; every rank raises the same error, which says what differs, and on which rank.
        """
        if self._wire is None:
            return
        self._wire.listen()
        found = self._wire.gather(terms().dumps())
        problem = "" if found is None else describe_differences([Terms.loads(one) for one in found])
        problem = self._wire.broadcast(problem.encode()).decode()
        if problem:
            raise SweepError(problem)

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Run a block that succeeds on every rank or fails on every rank, with its own error or that of another."""
        try:
            yield
        except BaseException as error:
            if self._wire is not None:
                self._wire.fail(describe_error(error))
            raise

    def merge_all(self, mine: _Merged, merge: Callable[[_Merged, _Merged], None], form: Form | None) -> _Merged:
        """Return the values of all ranks, merged in the order of ranks; every rank gets the same.

        Args:
            mine: the value of this rank.
            merge: merges the second value into the first.
            form: the serialization of values; needed if there are other ranks.

        Raises:
            SweepError: a rank could not send or merge.
        """
        if self._wire is None or form is None:
            return mine
        held: Any = mine
        for rank in children(self.rank, self.size):
            held = _try_merge(held, _unpack(self._wire.receive(rank), form), merge)
        if self.rank > 0:
            self._wire.send(_pack(held, form), parent(self.rank))
        whole = _unpack(self._wire.broadcast(_pack(held, form) if self.rank == 0 else b""), form)
        if isinstance(whole, _Failure):
            raise SweepError(f"The results of the {self.size} processes could not be merged: {whole.text}")
        return cast(_Merged, whole)

    def disconnect(self) -> None:
        """Disconnect from the other ranks after success."""
        if self._wire is not None:
            self._wire.disconnect()

    def close(self) -> None:
        """Close the connections to the other ranks."""
        if self._wire is not None:
            self._wire.close()


@contextmanager
def join_peers(timeout: float = TIMEOUT) -> Iterator[Peers]:
    """Yield the processes that sweep together: those of the default group, or those that `torchrun` started.

    Args:
        timeout: the seconds for all to get here, and for a sign of life of each after that. An invalid one raises only
            inside the block, so that all processes fail together.

    Raises:
        SweepError: a process did not join.
    """
    wire = form_group(timeout if _is_timeout(timeout) else TIMEOUT)
    others = Peers(wire)
    try:
        with others.failing_together():
            check_timeout(timeout)
            yield others
        others.disconnect()
    finally:
        others.close()


def check_timeout(timeout: object) -> None:
    """Check that `timeout` is a number of seconds in the supported range.

    Raises:
        ArgumentError: it is not a number, too short for a sign of life to arrive in time, or too long.
    """
    if as_float(timeout, "timeout", least=_SHORTEST) > _LONGEST:
        raise ArgumentError(f"timeout must be at most {_LONGEST:g} seconds, not {timeout}.")


def _is_timeout(timeout: object) -> bool:
    try:
        check_timeout(timeout)
    except ArgumentError:
        return False
    return True


class _Failure:
    """A failure that is sent in place of a result."""

    def __init__(self, text: str) -> None:
        self.text = text


def _try_merge(held: Any, other: Any, merge: Callable[[Any, Any], None]) -> Any:
    """Return two results merged; the failure if one of them is one, or if merging failed."""
    for part in (held, other):
        if isinstance(part, _Failure):
            return part
    try:
        merge(held, other)
    except Exception as error:
        return _Failure(describe_error(error))
    return held


def _pack(held: object, form: Form) -> bytes:
    """Return a result as bytes after a "1", or the text of a failure after a "0"."""
    try:
        if not isinstance(held, _Failure):
            return b"1" + form.dumps(held)
    except SpatialProbeError as error:
        held = _Failure(describe_error(error))
    return b"0" + held.text.encode(errors="replace")


def _unpack(packed: bytes, form: Form) -> Any:
    try:
        return form.loads(packed[1:]) if packed[:1] == b"1" else _Failure(packed[1:].decode(errors="replace"))
    except SpatialProbeError as error:
        return _Failure(f"what a rank sent {error}")
