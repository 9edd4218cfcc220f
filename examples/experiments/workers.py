"""Trials side by side in processes of their own, each as soon as what it needs is there."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch
from data import ImageData
from experiments.progress import Progress
from experiments.trials import Trained, Trial, run

WORTH_A_PROCESS = 20_000  # milliseconds of work, below which starting processes costs more than it brings
_POLL = 0.5  # seconds between two looks at how far the processes are


@dataclass(frozen=True)
class Procedure:
    """How every trial is trained."""

    epochs: int
    batches: int | None
    device: str

    def steps(self, data: ImageData) -> int:
        """Batches that a training takes."""
        whole = -(-len(data.train_images) // 4)
        return self.epochs * (whole if self.batches is None else min(self.batches, whole))


def trained(
    trials: Sequence[Trial],
    data: ImageData,
    procedure: Procedure,
    have: Mapping[Trial, Trained],
    jobs: int,
    progress: Progress,
) -> Iterator[tuple[Trial, Trained]]:
    """Each trial with what came of it, as they end; `have` holds those that others may need."""
    work = sum(trial.cost for trial in trials) * procedure.steps(data)
    if jobs == 1 or work < WORTH_A_PROCESS or len(trials) < 2:
        yield from _one_by_one(trials, data, procedure, dict(have), progress)
    else:
        yield from _side_by_side(trials, data, procedure, dict(have), min(jobs, len(trials)), progress)


def _one_by_one(
    trials: Sequence[Trial], data: ImageData, procedure: Procedure, have: dict[Trial, Trained], progress: Progress
) -> Iterator[tuple[Trial, Trained]]:
    for trial in trials:
        needed = have[trial.needs].state if trial.needs else None
        have[trial] = run(
            trial, data, **vars(procedure), needed=needed, tick=lambda cost=trial.cost: progress.advance(cost)
        )
        yield trial, have[trial]


def _side_by_side(
    trials: Sequence[Trial],
    data: ImageData,
    procedure: Procedure,
    have: dict[Trial, Trained],
    jobs: int,
    progress: Progress,
) -> Iterator[tuple[Trial, Trained]]:
    context = multiprocessing.get_context("spawn")
    done = context.Value("d", 0.0)
    waiting, running = list(trials), {}
    with ProcessPoolExecutor(jobs, context, initializer=_set_up, initargs=(data, procedure, done)) as pool:
        try:
            while waiting or running:
                for trial in [one for one in waiting if one.needs is None or one.needs in have]:
                    waiting.remove(trial)
                    needed = have[trial.needs].state if trial.needs else None
                    running[pool.submit(_work, trial, needed)] = trial
                yield from _ended(running, have)
                progress.advance(_taken(done))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _ended(running: dict[Future[Trained], Trial], have: dict[Trial, Trained]) -> Iterator[tuple[Trial, Trained]]:
    ended, _ = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED)
    for future in ended:
        trial = running.pop(future)
        have[trial] = future.result()
        yield trial, have[trial]


def _taken(done: Any) -> float:
    """The work reported since the last look."""
    with done.get_lock():
        work, done.value = done.value, 0.0
    return float(work)


_here: dict[str, Any] = {}  # of a worker process: what it was set up with


def _set_up(data: ImageData, procedure: Procedure, done: Any) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here.update(data=data, procedure=procedure, done=done)


def _end_with_parent() -> None:
    """A killed study leaves no process behind that waits for more to do."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(trial: Trial, needed: Mapping[str, torch.Tensor] | None) -> Trained:
    return run(trial, _here["data"], **vars(_here["procedure"]), needed=needed, tick=_reporter(trial, _here["done"]))


def _reporter(trial: Trial, done: Any) -> Callable[[], None]:
    """Adds up what each batch costs, a few times a second."""
    pending, reported = 0.0, time.monotonic()

    def tick() -> None:
        nonlocal pending, reported
        pending += trial.cost
        if time.monotonic() - reported > _POLL / 2:
            with done.get_lock():
                done.value += pending
            pending, reported = 0.0, time.monotonic()

    return tick
