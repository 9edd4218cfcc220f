"""The rendezvous of the processes of a sweep: addresses in torch.distributed's store, then a link with each neighbor.

The store holds only the addresses, and whether a process has given up; everything else is sent through the links.
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
_LATER = 0.5  # seconds by which torch may exceed its timeout
_GIVEN_UP = "given up"

_group_sweeps = itertools.count()  # numbers the sweeps in default process groups, equally in every process
_meetings: dict[tuple[str | None, ...], Meeting] = {}  # by the environment; kept alive, since rank 0 may hold the store
_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")


@dataclass(frozen=True)
class Meeting:
    """The meeting point of processes: a store that all of them can reach."""

    store: Any
    rank: int
    size: int
    name: str
    sweeps: Iterator[int] = field(default_factory=itertools.count)  # numbers sweeps equally in every process


def form_group(timeout: float) -> Wire | None:
    """Return this process's links with the others of a sweep, None if it is alone.

    The others are those of the default process group, or those that `torchrun` started with this one. If one of them
    has failed or gone meanwhile, the error is raised when the links are used, so that a mistake that all processes
    make raises the same error in all of them.

    Raises:
        SweepError: a process did not join within `timeout` seconds.
    """
    meeting = _meet_in_group() or _meet_under_torchrun(timeout)
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
            _meetings.clear()  # rank 0 may hold another store the next time
        raise
    return wire


class _Gathering:
    """The links of one process while they are being established."""

    def __init__(self, board: Board, wire: Wire, timeout: float) -> None:
        self._board, self._wire, self._timeout = board, wire, timeout
        self._below = set(children(wire.rank, wire.size))  # children that have not connected yet
        self._above = {parent(wire.rank)} if wire.rank else set()  # the parent, until it has answered
        self._door = Door() if self._below else None
        self._knock: Knock | None = None
        self._seen: str | None = None  # the address that did not answer
        self._looked = 0.0  # the time of the last look into the store

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
        """Wait until all neighbors are linked.

        Raises:
            SweepError: a neighbor did not come, or another process has given up.
        """
        if self._door is not None:
            self._board.post(f"at/{self._wire.rank}", self._door.address())
        end = time.monotonic() + self._timeout
        while self._below or self._above:
            self._wire.listen()
            self._accept()
            self._poll_store()
            if self._knock is not None:
                self._continue_knock()
            if time.monotonic() > end:
                self._give_up()
            time.sleep(_PAUSE)

    def _accept(self) -> None:
        for link in self._door.accept() if self._door is not None else ():
            if link.rank in self._below:
                self._below.remove(link.rank)
                self._wire.add(link)
            else:
                link.close()

    def _poll_store(self) -> None:
        """Poll the store for the address of the parent, and for a failure of another process."""
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

    def _continue_knock(self) -> None:
        """Continue the knock; one that is not answered is tried again with the address that is posted then."""
        assert self._knock is not None
        link = self._knock.poll()
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


def _meet_in_group() -> Meeting | None:
    """Return the meeting point of the default process group, None if there is no such group."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    from torch.distributed.distributed_c10d import _get_default_store  # torch has no public function for it

    return Meeting(_get_default_store(), dist.get_rank(), dist.get_world_size(), "group", _group_sweeps)


def _meet_under_torchrun(timeout: float) -> Meeting | None:
    """Return the meeting point of the processes that `torchrun` started, None if it did not start this one.

    Raises:
        ArgumentError: the rank in the environment is not among those of the processes.
        SweepError: rank 0 did not come within `timeout` seconds.
    """
    said = tuple(map(os.environ.get, _VARIABLES))
    if said not in _meetings:
        rank, size = _read_int("RANK"), _read_int("WORLD_SIZE")
        if rank is None or size is None or size <= 1:
            return None
        if not 0 <= rank < size:
            raise ArgumentError(f"The environment says RANK={rank} and WORLD_SIZE={size}: ranks count from 0.")
        _meetings[said] = Meeting(_connect_store(timeout, rank, size), rank, size, "torchrun")
    return _meetings[said]


def _connect_store(timeout: float, rank: int, size: int) -> Any:
    """Return the store that rank 0 or the launcher holds.

    Raises:
        SweepError: it did not answer within `timeout` seconds.
    """

    def meet() -> Any:
        # With world_size=1, rank 0 does not wait here for the others; `gather` waits, and knows which are missing.
        return next(dist.rendezvous("env://", world_size=1, timeout=timedelta(seconds=timeout)))  # type: ignore[attr-defined]

    try:
        store, _, _ = call_with_timeout(meet, timeout + _LATER, "The store of torch.distributed, which rank 0 holds,")
    except StoreGoneError as error:
        raise SweepError(
            f"{error} Every process, rank 0 too, must come to the sweep within {timeout:g} s; pass a larger timeout= "
            f"if one needs longer. This is rank {rank} of {size}."
        ) from error
    return store


def _read_int(name: str) -> int | None:
    """Return an environment variable as an int, None if it is not set.

    Raises:
        ArgumentError: it is not an integer.
    """
    text = os.environ.get(name)
    try:
        return None if text is None else int(text)
    except ValueError as error:
        raise ArgumentError(f"The environment says {name}={text!r}, which is not an integer.") from error
