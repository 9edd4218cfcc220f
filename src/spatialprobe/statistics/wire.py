"""Communication among the processes of a sweep: a tree of links, through which all learn of a failure in any of them.

The parent of rank r is r without its lowest set bit; each rank is linked with its parent and its children. When a
process ends, for whatever reason, its connections are closed: its neighbors notice that at once and tell theirs, so all
end in a time that grows with the logarithm of their number. A process that is stopped, or whose machine is lost, sends
no signs of life, and is given up after a timeout; a slow process is never given up.
"""

from __future__ import annotations

import json
import selectors
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NoReturn
from weakref import ref

from spatialprobe.errors import SweepError
from spatialprobe.statistics.link import Link

_TURN = 0.5  # seconds, the longest wait before silences are checked
_BEATS = 4  # the least number of signs of life within a timeout
_GRACE = 2.0  # seconds for a failure to be sent
_LONGEST = 100_000  # characters of a failure
_ENTRY = struct.Struct("!IQ")  # a rank, and the number of bytes that it sent


class PeerGoneError(SweepError):
    """Another process is gone, or does not answer any more."""


@dataclass(frozen=True)
class Failure:
    """The failure that ended a sweep, as it is sent to all processes."""

    rank: int
    text: str
    gone: bool  # whether the process is gone, rather than having reported its failure itself

    def dumps(self) -> bytes:
        """Return the failure as bytes."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def loads(data: bytes, rank: int) -> Failure:
        """Return the failure that `dumps` has written, or for invalid bytes a failure of the rank that sent them."""
        try:
            found = json.loads(data)
            return Failure(int(found["rank"]), str(found["text"]), bool(found["gone"]))
        except (ValueError, TypeError, KeyError):
            return Failure(rank, "it sent invalid data instead of its failure", gone=True)

    def error(self, size: int) -> SweepError:
        """Return the error that the other ranks raise."""
        if self.gone:
            return PeerGoneError(f"A process of the sweep is gone: rank {self.rank} of {size}: {self.text}.")
        return SweepError(f"Rank {self.rank} of {size} failed, and with it the sweep: {self.text}")


class Wire:
    """The links of one process in the tree.

    Args:
        rank: the rank of this process.
        size: the number of processes.
        timeout: the seconds without a sign of life after which a process is given up.
    """

    def __init__(self, rank: int, size: int, timeout: float) -> None:
        self.rank, self.size = rank, size
        self._timeout = timeout
        self._links: dict[int, Link] = {}
        self.failure: Failure | None = None  # the failure that ends the sweep
        self._selector = selectors.DefaultSelector()
        self._last = time.monotonic()  # when silences were last counted
        self._closing = threading.Event()
        # The thread holds only a weak reference: a wire left behind by an interrupt closes its links when collected.
        arguments = (ref(self), self._closing, min(1.0, timeout / _BEATS))
        self._beats = threading.Thread(target=_beat, args=arguments, name="spatialprobe signs of life", daemon=True)
        self._beats.start()

    def add(self, link: Link) -> None:
        """Add a link to another process."""
        self._links[link.rank] = link
        self._selector.register(link.channel, selectors.EVENT_READ, link)

    def listen(self) -> None:
        """Process what has been received, without waiting.

        Raises:
            PeerGoneError: another process is gone.
            SweepError: another process has failed.
        """
        self._turn(0)
        if self.failure is not None:
            self._give_up()

    def send(self, data: bytes, rank: int) -> None:
        """Send bytes to a linked process.

        Raises:
            SweepError: some process has failed or is gone.
        """
        self._send(data, [self._links[rank]])

    def receive(self, rank: int) -> bytes:
        """Return the bytes that a linked process sends; waits for them, however long it takes.

        Raises:
            SweepError: some process has failed or is gone.
        """
        link = self._links[rank]
        self._wait([link], lambda: bool(link.messages))
        return link.messages.popleft()

    def broadcast(self, data: bytes) -> bytes:
        """Return the bytes of the first process, on every process.

        Raises:
            SweepError: some process has failed or is gone.
        """
        whole = data if self.rank == 0 else self.receive(parent(self.rank))
        self._send(whole, [self._links[rank] for rank in children(self.rank, self.size)])
        return whole

    def gather(self, data: bytes) -> list[bytes] | None:
        """Return the bytes of every process, in the order of ranks, on the first process; None on the others.

        Raises:
            SweepError: some process has failed or is gone.
        """
        found = _ENTRY.pack(self.rank, len(data)) + data
        for rank in children(self.rank, self.size):
            found += self.receive(rank)
        if self.rank > 0:
            self.send(found, parent(self.rank))
            return None
        return _unpack_entries(found)

    def fail(self, text: str) -> None:
        """Send the failure of this process to all, unless another failure is being sent already."""
        if self.failure is None:
            self._broadcast_failure(Failure(self.rank, text[:_LONGEST], gone=False))

    def learn(self, failure: Failure) -> NoReturn:
        """Raise a failure of another process that was not received through a link, and send it to the neighbors.

        Raises:
            SweepError: always.
        """
        if self.failure is None:
            self._broadcast_failure(failure)
        self._give_up()

    def disconnect(self) -> None:
        """Disconnect from the others after success: wait until none needs anything from this process."""
        links = self._links.values()
        for link in links:
            link.put_farewell()
        while self.failure is None and any(link.unsent or not (link.left or link.ended) for link in links):
            self._turn(_TURN)

    def close(self) -> None:
        """Close all links, once everything queued has been sent or a grace period has passed."""
        end = time.monotonic() + _GRACE
        while any(link.unsent for link in self._links.values()) and time.monotonic() < end:
            self._turn(_GRACE / 10)
        self._closing.set()
        self._beats.join()
        for link in self._links.values():
            link.close()
        self._selector.close()

    def _send(self, data: bytes, links: Sequence[Link]) -> None:
        for link in links:
            link.put(data)
        self._wait(links, lambda: not any(link.unsent for link in links))

    def _wait(self, links: Sequence[Link], until: Callable[[], bool]) -> None:
        """Send and receive until a condition on some links is true.

        Raises:
            SweepError: a process has failed or is gone before that.
        """
        self._turn(0)
        while not until():
            for link in links:
                if self.failure is None and (link.ended or link.left):
                    self._broadcast_failure(Failure(link.rank, "its connection was closed", gone=True))
            if self.failure is not None:
                self._give_up()
            self._turn(_TURN)

    def _turn(self, wait: float) -> None:
        """Send and receive what is ready, waiting for it at most this many seconds."""
        for link in self._links.values():
            link.flush()
            self._watch(link)
        for key, _ in self._selector.select(wait):
            key.data.take()
        self._count_silences()
        for link in self._links.values():
            self._check_link(link)

    def _watch(self, link: Link) -> None:
        """Register the events of a link that end the next wait: readable, or writable if it has something to send."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.unsent else 0)
        watched = self._selector.get_map().get(link.channel)
        if watched is not None and link.ended:
            self._selector.unregister(link.channel)
        elif watched is not None and watched.events != events:
            self._selector.modify(link.channel, events, link)

    def _count_silences(self) -> None:
        """Add the time since the last call to every link's silence, without time in which this process was stopped."""
        now = time.monotonic()
        passed, self._last = min(now - self._last, 2 * _TURN), now
        for link in self._links.values():
            link.silence += passed

    def _check_link(self, link: Link) -> None:
        """Check whether a link has failed or reports a failure, and send it to the others."""
        if self.failure is not None:
            return
        if link.failure is not None:
            self._broadcast_failure(Failure.loads(link.failure, link.rank))
        elif link.ended and not link.left:
            self._broadcast_failure(Failure(link.rank, "its connection was closed", gone=True))
        elif link.silence > self._timeout and not link.ended:
            self._broadcast_failure(Failure(link.rank, f"there was no sign of life for {self._timeout:g} s", gone=True))

    def _broadcast_failure(self, failure: Failure) -> None:
        """Record a failure, and send it to all neighbors."""
        self.failure = failure
        data = failure.dumps()
        for link in self._links.values():
            link.put_failure(data)
            link.flush()

    def _give_up(self) -> NoReturn:
        assert self.failure is not None
        raise self.failure.error(self.size) from None


def _beat(watched: ref[Wire], closing: threading.Event, interval: float) -> None:
    """Send signs of life by all links of a wire, until it is closed or gone."""
    while not closing.wait(interval):
        wire = watched()
        if wire is None:
            return
        for link in list(wire._links.values()):
            link.beat()
        del wire


def _unpack_entries(gathered: bytes) -> list[bytes]:
    """Return what each rank sent, in the order of ranks."""
    found, start = {}, 0
    while start < len(gathered):
        rank, length = _ENTRY.unpack_from(gathered, start)
        start += _ENTRY.size
        found[rank] = gathered[start : start + length]
        start += length
    return [found[rank] for rank in sorted(found)]


def parent(rank: int) -> int:
    """Return the rank without its lowest set bit, which is the parent of any but 0.

    >>> [parent(rank) for rank in range(1, 8)]
    [0, 0, 2, 0, 4, 4, 6]
    """
    return rank & (rank - 1)


def children(rank: int, size: int) -> list[int]:
    """Return the ranks whose parent is `rank`, in ascending order; each has the lowest rank of its subtree.

    >>> children(0, 7), children(4, 7), children(3, 7)
    ([1, 2, 4], [5, 6], [])
    """
    lowest = rank & -rank or 1 << size.bit_length()
    steps = [1 << bit for bit in range(size.bit_length()) if 1 << bit < lowest]
    return [rank + step for step in steps if rank + step < size]
