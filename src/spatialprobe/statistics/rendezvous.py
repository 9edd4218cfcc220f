"""How the processes of a sweep find one another: by torch.distributed's store, and then a link with each neighbor.

The store only says where a process listens, and whether the others have given up; all else goes by the links.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from spatialprobe.errors import ArgumentError, SweepError, describe_error
from spatialprobe.statistics.board import Board, StoreGoneError, call_with_timeout
from spatialprobe.statistics.door import Door, Knock
from spatialprobe.statistics.wire import Failure, Wire, children, parent

_PAUSE = 0.005  # seconds between two looks at the sockets
_LOOK = 0.05  # seconds between two looks into the store
_LATER = 0.5  # seconds that torch may take longer than it was given
_GIVEN_UP = "given up"

_in_groups = itertools.count()  # sweeps in default process groups; every process counts alike
_own: dict[tuple[str | None, ...], Meeting] = {}  # by what `torchrun` says: kept, since rank 0 may hold the store
_SAYS = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")


@dataclass(frozen=True)
class Meeting:
    """Where processes meet: a store that all of them reach."""

    store: Any
    rank: int
    size: int
    name: str
    sweeps: Iterator[int] = field(default_factory=itertools.count)  # every process counts alike


def form_group(timeout: float) -> Wire | None:
    """Return this process's links with the others of a sweep, None where it is alone.

    The others are those of the default process group, or those that `torchrun` started with this one. If one of them
    has failed or is gone meanwhile, that is raised when the links are used: so a mistake that all processes make is the
    same error in all of them.

    Raises:
        SweepError: some did not come within so many seconds.
    """
    meeting = _group() or _started_together(timeout)
    if meeting is None or meeting.size == 1:
        return None
    board = Board(meeting.store, f"spatialprobe/{meeting.name}/{next(meeting.sweeps)}", timeout)
    wire = Wire(meeting.rank, meeting.size, timeout)
    try:
        with _Gathering(board, wire, timeout) as gathering:
            gathering.gather()
    except BaseException as error:
        if isinstance(error, SweepError) and wire.failure is not None and wire.failure.rank != wire.rank:
            return wire
        wire.close()
        if isinstance(error, StoreGoneError):
            _own.clear()  # rank 0 may hold another one the next time
        raise
    return wire


class _Gathering:
    """The links of one process as they come about."""

    def __init__(self, board: Board, wire: Wire, timeout: float) -> None:
        self._board, self._wire, self._timeout = board, wire, timeout
        self._below = set(children(wire.rank, wire.size))  # ranks that have not knocked yet
        self._above = {parent(wire.rank)} if wire.rank else set()  # the rank that has not answered yet
        self._door = Door() if self._below else None
        self._knock: Knock | None = None
        self._seen: str | None = None  # the address that did not answer
        self._looked = 0.0  # into the store

    def __enter__(self) -> _Gathering:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        failure = None
        if error is not None:
            self._wire.fail(describe_error(error))
            assert self._wire.failure is not None
            failure = self._wire.failure.dumps()
            if not isinstance(error, StoreGoneError):
                self._board.post_last(_GIVEN_UP, failure.decode())
        if self._door is not None:
            self._door.close(failure)
        if self._knock is not None:
            self._knock.close()

    def gather(self) -> None:
        """Wait for all neighbors.

        Raises:
            SweepError: some did not come, or the others have given up.
        """
        if self._door is not None:
            self._board.post(f"at/{self._wire.rank}", self._door.address())
        end = time.monotonic() + self._timeout
        while self._below or self._above:
            self._wire.listen()
            self._let_in()
            self._look()
            if self._knock is not None:
                self._try()
            if time.monotonic() > end:
                self._give_up()
            time.sleep(_PAUSE)

    def _let_in(self) -> None:
        for link in self._door.arrived() if self._door is not None else ():
            if link.rank in self._below:
                self._below.remove(link.rank)
                self._wire.add(link)
            else:
                link.close()

    def _look(self) -> None:
        """Look into the store, now and then, for the address of the rank above and for a word that all is over."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        given_up = self._board.read(_GIVEN_UP)
        if given_up is not None:
            self._wire.learn(Failure.loads(given_up.encode(), self._wire.rank))
        for rank in self._above if self._knock is None else ():
            address = self._board.read(f"at/{rank}")
            if address is not None:
                self._knock = Knock(address, self._wire.rank, rank)

    def _try(self) -> None:
        """Go on with the knock; one that nobody answers is tried again, with whatever address is posted then."""
        assert self._knock is not None
        link = self._knock.answered()
        if link is not None:
            self._above.clear()
            self._wire.add(link)
        if link is not None or self._knock.failed:
            self._knock = None

    def _give_up(self) -> None:
        missing = sorted(self._below | self._above)
        ranks = f"Rank{'s' * (len(missing) > 1)} {', '.join(map(str, missing))} of {self._wire.size}"
        text = (
            f"{ranks} did not come to the sweep within {self._timeout:g} s. Every process must call it; pass a larger "
            "timeout= if one needs longer to get there."
        )
        raise SweepError(text)


def _group() -> Meeting | None:
    """Return where the processes of the default group meet, None where there is no such group."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    from torch.distributed.distributed_c10d import _get_default_store  # torch has no public name for it

    return Meeting(_get_default_store(), dist.get_rank(), dist.get_world_size(), "group", _in_groups)


def _started_together(timeout: float) -> Meeting | None:
    """Return where the processes that `torchrun` started meet, None where it did not start this one.

    Raises:
        ArgumentError: the environment names no rank among the processes.
        SweepError: rank 0 did not come within so many seconds.
    """
    said = tuple(map(os.environ.get, _SAYS))
    if said not in _own:
        rank, size = _number("RANK"), _number("WORLD_SIZE")
        if rank is None or size is None or size <= 1:
            return None
        if not 0 <= rank < size:
            raise ArgumentError(f"The environment says RANK={rank} and WORLD_SIZE={size}: ranks count from 0.")
        _own[said] = Meeting(_store_of_torchrun(timeout, rank, size), rank, size, "torchrun")
    return _own[said]


def _store_of_torchrun(timeout: float, rank: int, size: int) -> Any:
    """Return the store that rank 0, or the launcher, holds."""

    def meet() -> Any:
        # With a world of one rank 0 does not wait here for the others, but below, where it can tell which are missing.
        return next(dist.rendezvous("env://", world_size=1, timeout=timedelta(seconds=timeout)))  # type: ignore[attr-defined]

    try:
        store, _, _ = call_with_timeout(meet, timeout + _LATER, "The store of torch.distributed, which rank 0 holds,")
    except StoreGoneError as error:
        raise SweepError(
            f"{error} Every process, rank 0 too, must come to the sweep within {timeout:g} s; pass a larger timeout= "
            f"if one needs longer. This is rank {rank} of {size}."
        ) from error
    return store


def _number(name: str) -> int | None:
    """Return a number of the environment's, None where it has none of this name.

    Raises:
        ArgumentError: it is no number.
    """
    text = os.environ.get(name)
    try:
        return None if text is None else int(text)
    except ValueError as error:
        raise ArgumentError(f"The environment says {name}={text!r}, which is no number.") from error
