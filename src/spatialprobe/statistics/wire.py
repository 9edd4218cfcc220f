"""What processes send one another, bytes and sums, in memory that torch's threads have let go of before the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import ref

import torch
import torch.distributed as dist

from spatialprobe.errors import SweepError

_PATIENCE = 5.0  # seconds, for threads that never let go because a process is gone


class PeerGoneError(SweepError):
    """Another process does not answer any more."""


class Wire:
    """A line to the other processes of a group, whose backend is gloo.

    A thread of gloo's needs Python's lock to let go of a tensor. If the interpreter ends while one waits for it, the
    thread is ended there, and with it the process: "terminate called without an active exception", SIGABRT. So all that
    is lent to such threads is remembered, weakly, and `close` waits until they hold none of it.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        self._lent: list[ref[torch.Tensor]] = []

    def begin_sum(self, numbers: Sequence[int]) -> tuple[torch.Tensor, dist.Work]:
        """Begin to add numbers up over all processes: the tensor that will hold the sums, and when it does."""
        words = self._lend(torch.tensor(numbers, device="cpu"))
        return words, dist.all_reduce(words, group=self._group, async_op=True)

    def send(self, data: bytes, rank: int) -> None:
        """Send bytes to a process, which receives them.

        Raises:
            PeerGoneError: it is gone.
        """
        with answered():
            dist.send(self._lend(torch.tensor([len(data)], device="cpu")), rank, self._group)
            dist.send(self._lend(_filled(len(data), data)), rank, self._group)

    def receive(self, rank: int) -> bytes:
        """The bytes that a process sends.

        Raises:
            PeerGoneError: it is gone.
        """
        with answered():
            size = self._lend(torch.zeros(1, dtype=torch.int64, device="cpu"))
            dist.recv(size, rank, self._group)
            data = self._lend(_filled(int(size)))
            dist.recv(data, rank, self._group)
        return data.numpy().tobytes()

    def broadcast(self, data: bytes) -> bytes:
        """The bytes of the first process, on every process.

        Raises:
            PeerGoneError: a process is gone.
        """
        with answered():
            size = self._lend(torch.tensor([len(data)], device="cpu"))
            dist.broadcast(size, 0, self._group)
            whole = self._lend(_filled(int(size), data if self.rank == 0 else b""))
            dist.broadcast(whole, 0, self._group)
        return whole.numpy().tobytes()

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of every process, in the order of ranks, on every process.

        Raises:
            PeerGoneError: a process is gone.
        """
        with answered():
            sizes = self._lend(torch.zeros(self.size, dtype=torch.int64, device="cpu"))
            sizes[self.rank] = len(data)
            dist.all_reduce(sizes, group=self._group)
            rows = self._lend(torch.zeros(self.size, int(sizes.max()), dtype=torch.uint8, device="cpu"))
            rows[self.rank, : len(data)] = _filled(len(data), data)
            dist.all_reduce(rows, group=self._group)  # all but one row are zero in each process
        return [row[:size].numpy().tobytes() for row, size in zip(rows, sizes.tolist(), strict=True)]

    def close(self) -> None:
        """Wait until torch's threads hold nothing that was lent here; for a while only, should a process be gone."""
        end = time.monotonic() + _PATIENCE
        while any(lent() is not None for lent in self._lent) and time.monotonic() < end:
            time.sleep(0.001)  # and so give Python's lock away

    def _lend(self, tensor: torch.Tensor) -> torch.Tensor:
        self._lent = [*(one for one in self._lent if one() is not None), ref(tensor)]
        return tensor


@contextmanager
def answered() -> Iterator[None]:
    """A block in which torch waits for other processes, and says that one is gone where it does in vain."""
    try:
        yield
    except RuntimeError as error:
        raise PeerGoneError(f"A process of the sweep is gone: {error}") from error


def _filled(size: int, data: bytes = b"") -> torch.Tensor:
    """Bytes (size,) in memory of torch's own, which no lock is needed to free; zeros where there is no data."""
    made = torch.zeros(size, dtype=torch.uint8, device="cpu")
    if data:
        made.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return made
