"""Several processes with one sweep: each takes its share, all get the merged result, and all fail if one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

from spatialprobe.arguments import as_float
from spatialprobe.errors import ArgumentError, SpatialProbeError, SweepError, describe_error
from spatialprobe.statistics.rendezvous import form_group
from spatialprobe.statistics.terms import Terms, differences
from spatialprobe.statistics.wire import Wire, children, parent

TIMEOUT = 60.0  # seconds, unless others are passed
_SHORTEST, _LONGEST = 1.0, 1e6

_Merged = TypeVar("_Merged")


class Form(Protocol):
    """How what ranks send one another is written and read, so that what is read can run no foreign code."""

    def dumps(self, value: Any) -> bytes:
        """Return it as bytes."""

    def loads(self, data: bytes) -> Any:
        """Return what was written."""


class Peers:
    """The processes of a sweep, as one of them sees the others; alone without a wire."""

    def __init__(self, wire: Wire | None = None) -> None:
        self._wire = wire
        self.rank = wire.rank if wire is not None else 0
        self.size = wire.size if wire is not None else 1

    def after_batch(self) -> None:
        """Hear from the others, without waiting for them.

        Raises:
            SweepError: another rank has failed, or is gone.
        """
        if self._wire is not None:
            self._wire.listen()

    def meet(self) -> None:
        """Wait until all are here.

        Raises:
            SweepError: another rank has failed, or is gone.
        """
        if self._wire is not None:
            self._wire.gather(b"")
            self._wire.broadcast(b"")

    def compare(self, terms: Callable[[], Terms]) -> None:
        """Compare what every rank was asked to do.

        Raises:
            SweepError: they differ; on every rank the same error, which says what differs where.
        """
        if self._wire is None:
            return
        self._wire.listen()
        found = self._wire.gather(terms().dumps())
        problem = "" if found is None else differences([Terms.loads(one) for one in found])
        problem = self._wire.broadcast(problem.encode()).decode()
        if problem:
            raise SweepError(problem)

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """A block that ends well on every rank, or on every rank with an error: its own, or that of one that failed."""
        try:
            yield
        except BaseException as error:
            if self._wire is not None:
                self._wire.fail(describe_error(error))
            raise

    def merged(self, mine: _Merged, merge: Callable[[_Merged, _Merged], None], form: Form | None) -> _Merged:
        """What all ranks have, merged in the order of ranks, and the same on every rank.

        Args:
            mine: what this rank has.
            merge: takes the second into the first.
            form: how it is written and read; needed where there are other ranks.

        Raises:
            SweepError: some rank could not send or merge.
        """
        if self._wire is None or form is None:
            return mine
        held: Any = mine
        for rank in children(self.rank, self.size):
            held = _joined(held, _unpacked(self._wire.receive(rank), form), merge)
        if self.rank > 0:
            self._wire.send(_packed(held, form), parent(self.rank))
        whole = _unpacked(self._wire.broadcast(_packed(held, form) if self.rank == 0 else b""), form)
        if isinstance(whole, _Failure):
            raise SweepError(f"The results of the {self.size} processes could not be merged: {whole.text}")
        return cast(_Merged, whole)

    def part(self) -> None:
        """Part from the others after all went well."""
        if self._wire is not None:
            self._wire.part()

    def close(self) -> None:
        """Let go of the others."""
        if self._wire is not None:
            self._wire.close()


@contextmanager
def join_peers(timeout: float = TIMEOUT) -> Iterator[Peers]:
    """Yield the processes that sweep together: those of the default group, or those that `torchrun` started.

    Args:
        timeout: seconds for all to come here, and for a sign of life of each after that. One that is not such a number
            is an error only inside, so that all learn of it.

    Raises:
        SweepError: some did not come.
    """
    wire = form_group(timeout if _is_timeout(timeout) else TIMEOUT)
    others = Peers(wire)
    try:
        with others.failing_together():
            check_timeout(timeout)
            yield others
        others.part()
    finally:
        others.close()


def check_timeout(timeout: object) -> None:
    """Check that it is a number of seconds.

    Raises:
        ArgumentError: it is not, or too short for a sign of life to come in time.
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
    """Goes where a result should have gone."""

    def __init__(self, text: str) -> None:
        self.text = text


def _joined(held: Any, other: Any, merge: Callable[[Any, Any], None]) -> Any:
    """Two results in one, or the failure that one of them is, or that merging them was."""
    for part in (held, other):
        if isinstance(part, _Failure):
            return part
    try:
        merge(held, other)
    except Exception as error:
        return _Failure(describe_error(error))
    return held


def _packed(held: object, form: Form) -> bytes:
    """Return a result as bytes behind a 1, or the text of a failure behind a 0."""
    try:
        if not isinstance(held, _Failure):
            return b"1" + form.dumps(held)
    except SpatialProbeError as error:
        held = _Failure(describe_error(error))
    return b"0" + held.text.encode(errors="replace")


def _unpacked(packed: bytes, form: Form) -> Any:
    try:
        return form.loads(packed[1:]) if packed[:1] == b"1" else _Failure(packed[1:].decode(errors="replace"))
    except SpatialProbeError as error:
        return _Failure(f"what a rank sent {error}")
