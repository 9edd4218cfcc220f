"""Kill random ranks of a sweep, and check that all others end soon, with an error or with the right result.

    python tests/kill_ranks.py --rounds 100 --ranks 3

Each round starts a sweep in several processes and ends one of them: before it joins the sweep, while the processes
connect, between batches, while results are merged, or after; by SIGKILL, SIGTERM, SIGSTOP, an exception, or an invalid
argument. A process that has not ended 15 seconds later counts as hanging. `--timeout` is that of the sweep: it bounds
the wait for a process that never joins, or is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import pickle
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sweeps import Numbered, _free_port, flat, small_model

import spatialprobe as sp

LIMIT = 15.0  # seconds after which a process counts as hanging
WAYS = ("SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "SIGSTOP", "exception", "argument")
COUNT, SECONDS = 60, 0.004  # samples, and the time of each
REDUCERS = {"moments": sp.Moments, "top": sp.Exemplars, "covariance": sp.ChannelCovariance}


@dataclass(frozen=True)
class Plan:
    """The random choices of one round."""

    way: str | None  # how the victim ends
    victim: int
    late: float  # seconds until the victim joins the sweep
    moment: float  # seconds until a signal ends it
    sample: int  # the sample at which an exception ends it


@dataclass(frozen=True)
class Round:
    """The outcome of one round."""

    plan: Plan
    seconds: dict[int, float]  # until each of the other ranks had ended
    outcomes: dict[int, object]  # the result of each, or the text of its error
    hung: list[int]

    def wrong(self, expected):
        """Return the ranks that ended with neither the right result nor an error of this library."""
        return [rank for rank, outcome in self.outcomes.items() if not is_right(outcome, expected)]


def main():
    """Run the rounds, print a summary, and return the number of bad rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=10.0, help="of the sweep, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=sorted(set(WAYS)))
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    os.nice(10)
    torch.set_num_threads(1)
    chance = random.Random(options.seed)
    expected = swept({"timeout": options.timeout})
    usual = max(one_round(options, Plan(None, 0, 0.0, 0.0, 0)).seconds.values())
    bad, rounds = 0, []
    for number in range(options.rounds):
        rounds.append(one_round(options, drawn(options, chance, usual)))
        wrong = rounds[-1].wrong(expected)
        bad += bool(wrong or rounds[-1].hung)
        if options.verbose or wrong or rounds[-1].hung:
            print(number, rounds[-1].plan, "hung", rounds[-1].hung, "wrong", wrong, rounds[-1].seconds)
            print(*(f"    {rank}: {str(one)[:300]}" for rank, one in rounds[-1].outcomes.items()), sep="\n", flush=True)
    report(rounds, usual, bad)
    return bad


def drawn(options, chance, usual):
    """Return a random plan; `usual` is the duration of an undisturbed sweep in seconds."""
    late = chance.choice([0.0, 0.0, 0.3 * usual, usual])
    moment = chance.uniform(0, 1.2 * usual + late)
    return Plan(chance.choice(options.ways), chance.randrange(options.ranks), late, moment, chance.randrange(COUNT))


def one_round(options, plan):
    """Run one sweep in several processes, end one of them, and return the outcomes of the others."""
    with tempfile.TemporaryDirectory() as name:
        folder, begun, port = Path(name), time.monotonic(), _free_port()
        children = {rank: start(rank, port, folder, options, plan) for rank in range(options.ranks)}
        others = set(children)
        if plan.way is not None and plan.way.startswith("SIG"):
            others.remove(plan.victim)
            time.sleep(max(0.0, begun + plan.moment - time.monotonic()))
            begun = time.monotonic()
            os.kill(children[plan.victim], getattr(signal, plan.way))
        seconds = wait_for(folder, others, begun)
        for child in children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        outcomes = {rank: pickle.loads((folder / str(rank)).read_bytes()) for rank in seconds}
    return Round(plan, seconds, outcomes, sorted(others - seconds.keys()))


def start(rank, port, folder, options, plan):
    """Fork a rank, which writes its outcome to the folder, and return its process id."""
    child = os.fork()
    if child:
        return child
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
    os.environ["WORLD_SIZE"] = str(options.ranks)
    arguments, broken = {"timeout": options.timeout}, ()
    with contextlib.redirect_stderr(None):
        if rank == plan.victim:
            time.sleep(plan.late)
            broken = tuple(i for i in range(COUNT) if i % 10 >= plan.sample % 10) if plan.way == "exception" else ()
            arguments |= {"batch_size": 0} if plan.way == "argument" else {}
        try:
            outcome = swept(arguments, broken)
        except BaseException as error:
            kind = "ours" if isinstance(error, sp.SpatialProbeError) else "raw"
            outcome = f"{kind} {type(error).__name__}: {error}"
    (folder / f"{rank}.part").write_bytes(pickle.dumps(outcome))
    (folder / f"{rank}.part").rename(folder / str(rank))
    os._exit(0)


def swept(arguments, broken=()):
    """Return the result of a sweep, with those of the arguments that it accepts."""
    data = Numbered(COUNT, seconds=SECONDS, broken=broken)
    known = {name: value for name, value in arguments.items() if name in inspect.signature(sp.sweep).parameters}
    return flat(sp.sweep(small_model(), data, REDUCERS, **({"batch_size": 4, "progress": False} | known)))


def wait_for(folder, ranks, begun):
    """Return the seconds until each of some ranks had ended, for those that ended in time."""
    seconds = {}
    while len(seconds) < len(ranks) and time.monotonic() - begun < LIMIT:
        for rank in ranks - seconds.keys():
            if (folder / str(rank)).exists():
                seconds[rank] = time.monotonic() - begun
        time.sleep(0.005)
    return seconds


def is_right(outcome, expected):
    """Return whether this is the result of a single process, or an error of this library."""
    if isinstance(outcome, str):
        return outcome.startswith("ours ")
    return outcome.keys() == expected.keys() and all(
        np.allclose(np.asarray(value, float), np.asarray(expected[key], float), rtol=1e-4, atol=1e-5)
        for key, value in outcome.items()
        if not isinstance(value, str)
    )


def report(rounds, usual, bad):
    """Print how long the other ranks took to end, and how they ended."""
    failed = sum(isinstance(outcome, str) for one in rounds for outcome in one.outcomes.values())
    print(f"{len(rounds)} rounds, a whole sweep takes {usual:.2f} s; {dict(Counter(one.plan.way for one in rounds))}")
    print(
        f"hung after {LIMIT:g} s: {sum(bool(one.hung) for one in rounds)} rounds; not as they should be: {bad} rounds"
    )
    print(f"ended with an error: {failed}, with the result: {sum(len(one.outcomes) for one in rounds) - failed}")
    for cause in CAUSES:
        ends = sorted(max(one.seconds.values()) for one in rounds if one.seconds and cause_of(one) == cause)
        if ends:
            print(
                f"seconds until the last had ended, {len(ends)} rounds, {cause}: median {statistics.median(ends):.2f}, "
                f"most {ends[-1]:.2f}"
            )


CAUSES = ("the victim never came", "the victim was stopped", "the victim was gone", "it failed itself", "it was done")


def cause_of(one):
    """Return the cause for which the other ranks ended."""
    texts = [outcome for outcome in one.outcomes.values() if isinstance(outcome, str)]
    if any("did not come" in text or "did not answer" in text or "timed out" in text for text in texts):
        return CAUSES[0]
    if any("no sign of life" in text for text in texts):
        return CAUSES[1]
    if not texts:
        return CAUSES[4]
    return CAUSES[2] if one.plan.way.startswith("SIG") else CAUSES[3]


if __name__ == "__main__":
    sys.exit(main() > 0)
