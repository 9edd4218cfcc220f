"""Several processes with one sweep: each takes its share, all get the merged result, and all fail if one does."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn, Protocol, TypeVar, cast

import torch
import torch.distributed as dist

from spatialprobe.errors import SpatialProbeError, SweepError, told
from spatialprobe.statistics.wire import PeerGoneError, Wire, answered

_Merged = TypeVar("_Merged")
_sweeps = itertools.count()  # for which a group was made here; every process counts alike


class Form(Protocol):
    """How what ranks send one another is written and read, so that what is read can run no foreign code."""

    def dumps(self, value: Any) -> bytes:
        """Return it as bytes."""

    def loads(self, data: bytes) -> Any:
        """Return what was written."""


class Peers:
    """The processes of a sweep, as one of them sees the others.

    They exchange a word after each batch, in rounds that a thread of torch's carries while the model runs: so a
    failure is known to all within a batch or two, and whoever is done first waits for the others.
    """

    def __init__(self, wire: Wire | None = None) -> None:
        self._wire = wire  # None where there are no others
        self.rank = wire.rank if wire is not None else 0
        self.size = wire.size if wire is not None else 1
        self._round: tuple[torch.Tensor, dist.Work] | None = None  # counts ranks that failed, ranks that are done

    def after_batch(self) -> None:
        """Hear from the others, without waiting for them.

        Raises:
            SweepError: another rank has failed, or is gone.
        """
        if self._wire is None or (self._round is not None and not self._round[1].is_completed()):
            return
        failed, _ = self._hear()
        if failed:
            raise _PeerFailedError
        self._say(self._wire, failed=0, done=0)

    def meet(self) -> None:
        """Wait until all are here.

        Raises:
            SweepError: another rank has failed, or is gone.
        """
        if self._wire is None:
            return
        self._say(self._wire, failed=0, done=0)
        failed, _ = self._hear()
        if failed:
            raise _PeerFailedError

    @contextmanager
    def one_fate(self) -> Iterator[None]:
        """A block that ends well on every rank, or on every rank with the first failure."""
        try:
            yield
        except _PeerFailedError:
            if self._wire is not None:
                self._fail_together(self._wire, None)
        except BaseException as error:
            if self._wire is not None and not isinstance(error, PeerGoneError):
                self._settle(self._wire, error)
            raise
        else:
            if self._wire is not None:
                self._settle(self._wire, None)

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
        step = 1
        while step < self.size and self.rank % (2 * step) == 0:
            if self.rank + step < self.size:
                held = _joined(held, _unpacked(self._wire.receive(self.rank + step), form), merge)
            step *= 2
        if self.rank > 0:
            self._wire.send(_packed(held, form), self.rank - step)
        whole = _unpacked(self._wire.broadcast(_packed(held, form) if self.rank == 0 else b""), form)
        if isinstance(whole, _Failure):
            raise SweepError(f"The results of the {self.size} processes could not be merged: {whole.text}")
        return cast(_Merged, whole)

    def close(self) -> None:
        """Let go of what was exchanged, and wait until torch has."""
        self._round = None
        if self._wire is not None:
            self._wire.close()

    def _say(self, wire: Wire, *, failed: int, done: int) -> None:
        """Begin a round with this word."""
        self._round = wire.begin_sum([failed, done])

    def _hear(self) -> tuple[int, int]:
        """Wait for the end of the round, if one is on; how many ranks have failed and how many are done."""
        if self._round is None:
            return 0, 0
        words, work = self._round
        with answered():
            work.wait()
        self._round = None
        failed, done = words.tolist()
        return failed, done

    def _settle(self, wire: Wire, failure: BaseException | None) -> None:
        """Tell the others how this share ended, and wait for how theirs do."""
        try:
            failed, done = self._hear()
            while not failed and done < self.size:
                self._say(wire, failed=int(failure is not None), done=int(failure is None))
                failed, done = self._hear()
        except PeerGoneError:
            if failure is not None:
                return
            raise
        if failed:
            self._fail_together(wire, failure)

    def _fail_together(self, wire: Wire, failure: BaseException | None) -> None:
        """All ranks come here after the same round; those that did not fail themselves raise what the first one did."""
        told_by = [words.decode() for words in wire.gather(b"" if failure is None else told(failure).encode())]
        if failure is None:
            rank, text = next((rank, text) for rank, text in enumerate(told_by) if text)
            _raise(SweepError(f"Rank {rank} of {self.size} failed, and with it the sweep: {text}"))


# Groups that have been left, for a while: the destructor of gloo's waits for its threads while it holds Python's lock,
# for which such a thread may be waiting to drop a tensor (torch 2.6). Later they have nothing to drop.
_retired: deque[Any] = deque(maxlen=2)


@contextmanager
def peers(device: torch.device) -> Iterator[Peers]:
    """The processes that sweep together: those of the default group, or of one made here under `torchrun`."""
    made = not _has_group() and int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    if made:
        store, rank, size = _meeting_point()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=size
        )
    try:
        if not _has_group() or dist.get_world_size() == 1:
            yield Peers()
            return
        # What is exchanged here is small and lies in memory, so a group of its own goes by gloo beside any other.
        group = cast(dist.ProcessGroup, dist.new_group(backend="gloo"))
        others = Peers(Wire(group))
        try:
            yield others
        finally:
            others.close()
            _retired.append(group)
            dist.destroy_process_group(group)
    finally:
        if made:
            _retired.append(dist.group.WORLD)
            dist.destroy_process_group()


class _PeerFailedError(SweepError):
    """Another rank has said that it failed."""


class _Failure:
    """Goes where a result should have gone."""

    def __init__(self, text: str) -> None:
        self.text = text


@cache
def _rendezvous() -> tuple[Any, int, int]:
    """The store by which `torchrun` lets processes meet, this one's rank, how many there are; kept for good."""
    store, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
    return store, rank, size


def _meeting_point() -> tuple[Any, int, int]:
    """The same, with room of its own for each sweep: the last one's group has left its addresses behind."""
    store, rank, size = _rendezvous()
    return dist.PrefixStore(f"spatialprobe/{next(_sweeps)}", store), rank, size  # type: ignore[attr-defined]


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _joined(held: Any, other: Any, merge: Callable[[Any, Any], None]) -> Any:
    """Two results in one, or the failure that one of them is, or that merging them was."""
    for part in (held, other):
        if isinstance(part, _Failure):
            return part
    try:
        merge(held, other)
    except Exception as error:
        return _Failure(told(error))
    return held


def _packed(held: object, form: Form) -> bytes:
    """Return a result as bytes behind a 1, or the text of a failure behind a 0."""
    try:
        if not isinstance(held, _Failure):
            return b"1" + form.dumps(held)
    except SpatialProbeError as error:
        held = _Failure(told(error))
    return b"0" + held.text.encode(errors="replace")


def _unpacked(packed: bytes, form: Form) -> Any:
    try:
        return form.loads(packed[1:]) if packed[:1] == b"1" else _Failure(packed[1:].decode(errors="replace"))
    except SpatialProbeError as error:
        return _Failure(f"what a rank sent {error}")


def _raise(error: Exception) -> NoReturn:
    raise error from None
