"""Jobs side by side in separate processes, each as soon as its prerequisites are done."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from data import ImageData
from experiments.progress import Progress

WORTH_A_PROCESS = 20_000  # milliseconds of work, below which starting processes costs more than it brings
_POLL = 0.5  # seconds between two looks at how far the processes are


@dataclass(frozen=True)
class Procedure:
    """The training procedure of all networks."""

    epochs: int
    batches: int | None  # of each epoch; None for all
    device: str

    def steps(self, data: ImageData) -> int:
        """Return the batches that a training takes."""
        whole = -(-len(data.train_images) // 4)
        return self.epochs * (whole if self.batches is None else min(self.batches, whole))


class Job(Hashable, Protocol):
    """A part of the study that runs by itself: a network to train, or networks to measure."""

    @property
    def needs(self) -> tuple[Job, ...]:
        """The jobs whose results it needs."""

    def work(self, steps: int) -> float:
        """Return the approximate milliseconds of work on one core; `steps` is the batches that a training takes."""

    def run(
        self, data: ImageData, procedure: Procedure, have: Mapping[Any, Any], tick: Callable[[float], object]
    ) -> Any:
        """Return its result; `tick` is called with the work that is done."""


def results(
    jobs: Sequence[Job],
    data: ImageData,
    procedure: Procedure,
    have: Mapping[Job, Any],
    processes: int,
    progress: Progress,
) -> Iterator[tuple[Job, Any]]:
    """Yield each job with its result, as they end; the first that can begin is next. `have`: earlier results."""
    steps = procedure.steps(data)
    if processes == 1 or sum(job.work(steps) for job in jobs) < WORTH_A_PROCESS:
        yield from _one_by_one(list(jobs), data, procedure, dict(have), progress)
    else:
        yield from _side_by_side(list(jobs), data, procedure, dict(have), processes, progress)


def _next(waiting: list[Job], have: Mapping[Job, Any]) -> Job | None:
    """Remove the first job whose needs are met from the list, and return it."""
    for job in waiting:
        if all(needed in have for needed in job.needs):
            waiting.remove(job)
            return job
    return None


def _one_by_one(
    waiting: list[Job], data: ImageData, procedure: Procedure, have: dict[Job, Any], progress: Progress
) -> Iterator[tuple[Job, Any]]:
    while (job := _next(waiting, have)) is not None:
        have[job] = job.run(data, procedure, have, progress.advance)
        yield job, have[job]


def _side_by_side(
    waiting: list[Job], data: ImageData, procedure: Procedure, have: dict[Job, Any], processes: int, progress: Progress
) -> Iterator[tuple[Job, Any]]:
    context = multiprocessing.get_context("spawn")
    done = context.Value("d", 0.0)
    running: dict[Future[Any], Job] = {}
    with ProcessPoolExecutor(processes, context, initializer=_set_up, initargs=(data, procedure, done)) as pool:
        try:
            while waiting or running:
                while len(running) < processes and (job := _next(waiting, have)) is not None:
                    running[pool.submit(_run, job, {needed: have[needed] for needed in job.needs})] = job
                for future in wait(running, timeout=_POLL, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    have[job] = future.result()
                    yield job, have[job]
                progress.advance(_taken(done))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _taken(done: Any) -> float:
    """Return the work reported since the last call."""
    with done.get_lock():
        work, done.value = done.value, 0.0
    return float(work)


_here: dict[str, Any] = {}  # of a worker process: what it was set up with


def _set_up(data: ImageData, procedure: Procedure, done: Any) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here.update(data=data, procedure=procedure, done=done)


def _end_with_parent() -> None:
    """End this process with its parent, so that a killed study leaves no process behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(job: Job, have: Mapping[Job, Any]) -> Any:
    reporter = _Reporter(_here["done"])
    try:
        return job.run(_here["data"], _here["procedure"], have, reporter.tick)
    finally:
        reporter.report()


class _Reporter:
    """A reporter that adds up the work done, and sends it on a few times a second."""

    def __init__(self, done: Any) -> None:
        self._done = done
        self._pending, self._reported = 0.0, time.monotonic()

    def tick(self, work: float) -> None:
        self._pending += work
        if time.monotonic() - self._reported > _POLL / 2:
            self.report()

    def report(self) -> None:
        with self._done.get_lock():
            self._done.value += self._pending
        self._pending, self._reported = 0.0, time.monotonic()
