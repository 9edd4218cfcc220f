"""Interrupt every function of the library that changes a model or the process at every point, and compare the state.

    python tests/interrupt_everywhere.py                                the small model, the first visit of each point
    python tests/interrupt_everywhere.py --visits all                   every visit of each point
    python tests/interrupt_everywhere.py --opcodes                      between any two steps of the interpreter
    python tests/interrupt_everywhere.py --model resnet18 --signals 500 500 real signals for each context
    python tests/interrupt_everywhere.py --only probe sweep             some contexts

After each interrupt the model and torch's state in the process are compared, bit by bit, while the traceback is alive,
and the model must compute the same output as before. The exit status is 1 if anything was left changed.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch._dynamo  # loads the compiler, whose stance could be left changed
import torch.nn.functional as F
from interrupts import Point, differences, everything, interrupted, interrupted_after, points_of
from torch import nn

import spatialprobe as sp

FOLDER = Path(tempfile.gettempdir())


class Small(nn.Module):
    """Two convolutions with a batch norm, an in-place module and functions; its parts are in different modes."""

    def __init__(self, *, reads: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2, 2, 3)
        self.reads = reads
        self.notes = [1, {"a": 2}]
        self.eval().conv1.train()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply conv, norm, relu, conv, relu; with `reads`, read a value of the input, which fails on meta tensors."""
        x = F.relu(self.conv2(self.relu(self.norm(self.conv1(x)))))
        return x * 2 if self.reads and bool(x.sum() > 0) else x


class Case:
    """A model, images for it, and the names of two of its layers."""

    def __init__(self, model: nn.Module, images: torch.Tensor, first: str, second: str) -> None:
        self.model = model
        self.images = images
        self.first = first
        self.second = second

    @classmethod
    def small(cls, **options: Any) -> Case:
        """Return a model that runs in 0.2 ms."""
        torch.manual_seed(0)
        model = Small(**options)
        model.conv1.register_forward_hook(lambda module, args, output: None)
        return cls(model, torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)), "conv1", "conv2")

    @classmethod
    def of_torchvision(cls, name: str) -> Case:
        """Return one of torchvision's classifiers, untrained, with two small images."""
        import torchvision

        torch.manual_seed(0)
        model = torchvision.models.get_model(name).eval()
        convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
        return cls(model, torch.rand(2, 3, 64, 64), convolutions[0], convolutions[-1])

    def run(self) -> torch.Tensor:
        """Return the output of the model."""
        with torch.no_grad():
            output: torch.Tensor = self.model(self.images)
        return output


def probe(case: Case) -> None:
    """Record every convolution."""
    with sp.Probe(case.model) as found:
        case.model(case.images)
    assert len(found.records) > 1


def probe_of_activations(case: Case) -> None:
    """Record a layer's output after its nonlinearity, with a transform."""
    with sp.Probe(case.model, case.first, at="post_activation", transform=lambda maps: maps + 1) as found:
        case.model(case.images)
    assert len(found.records) == 1


def probe_of_gradients(case: Case) -> None:
    """Record gradients."""
    with sp.Probe(case.model, case.first, gradients=True) as found:
        case.model(case.images).sum()
    assert found[case.first].gradient is None


def nested(case: Case) -> None:
    """Edit a layer and record it twice."""
    with sp.edited(case.model, {case.first: sp.ablate([0])}), sp.Probe(case.model), sp.Probe(case.model, case.second):
        case.model(case.images)


def sweep(case: Case, **options: Any) -> None:
    """Reduce every convolution."""
    sp.sweep(case.model, case.images, {"moments": sp.Moments}, batch_size=1, progress=False, **options)


def monitor(case: Case) -> None:
    """Watch one training step, with the maps of a fixed batch before it."""
    training = nn.Sequential(case.model)  # in training mode, while its parts keep their modes
    with sp.Monitor(training, [sp.Moments], at="post_activation", images=case.images, gradients=True) as found:
        training(case.images)
    assert found.history.steps == (0,)


CONTEXTS: dict[str, Callable[[Case], object]] = {
    "probe": probe,
    "post_activation": probe_of_activations,
    "gradients": probe_of_gradients,
    "nested": nested,
    "capture": lambda case: sp.capture(case.model, case.images, layers=case.first, stop_early=True),
    "plan": lambda case: sp.plan(case.model, case.images),
    "sweep": sweep,
    "sweep of activations": partial(sweep, at="post_activation"),
    "fields": lambda case: sp.receptive_fields(case.model, tuple(case.images.shape), layers=case.second),
    "effective field": lambda case: sp.effective_receptive_field(case.model, case.images, case.first, channels=[0]),
    "footprint": lambda case: sp.evidence.footprint(case.model, case.images, case.first, (3, 3), draws=1),
    "equivariance": lambda case: sp.evidence.equivariance_error(case.model, case.images, case.first, (1, 1)),
    "linear probe": lambda case: sp.evidence.linear_probe(
        case.model,
        case.images,
        torch.tensor([0, 1]),
        case.first,
        test_images=case.images,
        test_labels=torch.tensor([0, 1]),
    ),
    "monitor": monitor,
    "find_nonfinite": lambda case: sp.find_nonfinite(case.model, case.images, loss=torch.mean),
    "frozen copy": lambda case: sp.evidence.frozen_copy(case.model, case.first),
    "report": lambda case: sp.write_report(FOLDER / "interrupted.html", case.model, case.images),
}
SLOW = {"linear probe", "report"}  # have thousands of points that do not involve the model


class Watch:
    """A comparison of the state of a model and the process, and of the model's output, with those before."""

    def __init__(self, case: Case) -> None:
        self._case = case
        gc.collect()
        self._output = case.run()
        self._before = everything(case.model)

    def left_by(self, interrupt: BaseException | None) -> list[str]:
        """Return what differs after an interrupt, whose traceback is still alive."""
        after = everything(self._case.model)
        left, self._before = differences(self._before, after), after
        return left if left or torch.equal(self._case.run(), self._output) else ["output"]


def interrupt_at_points(case: Case, name: str, points: list[Point]) -> dict[str, list[str]]:
    """Return what an interrupt at each point left changed, for the points where anything was."""
    run, watch = partial(CONTEXTS[name], case), Watch(case)
    found = {str(point): watch.left_by(interrupted(run, point)) for point in points}
    gc.collect()
    found["after all of them"] = watch.left_by(None)
    run()
    return {point: left for point, left in found.items() if left}


def interrupt_by_signals(case: Case, name: str, count: int) -> dict[str, list[str]]:
    """Return what signals at random moments of a run left changed, for those that left anything."""
    run, watch, drawn = partial(CONTEXTS[name], case), Watch(case), random.Random(0)
    start = perf_counter()
    run()
    taken = perf_counter() - start
    found = {}
    for number in range(count):
        seconds = drawn.uniform(1e-5, taken)
        found[f"signal {number} after {seconds:.6f} s"] = watch.left_by(interrupted_after(run, seconds))
    run()
    return {moment: left for moment, left in found.items() if left}


def main() -> int:
    """Print for each context the number of interrupts, and those that left anything changed; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="small, reads (values of its input), or one of torchvision")
    parser.add_argument("--only", nargs="+", choices=CONTEXTS, default=[name for name in CONTEXTS if name not in SLOW])
    parser.add_argument("--visits", default="1", help="of each point the first so many, or all")
    parser.add_argument("--opcodes", action="store_true", help="points between any two steps of the interpreter")
    parser.add_argument("--signals", type=int, help="so many real signals in place of every point")
    options = parser.parse_args()
    if options.model in ("small", "reads"):
        case = Case.small(reads=options.model == "reads")
    else:
        case = Case.of_torchvision(options.model)
    visits = None if options.visits == "all" else int(options.visits)
    failed = 0
    for name in options.only:
        run = partial(CONTEXTS[name], case)
        run()
        start = perf_counter()
        if options.signals:
            count, left = options.signals, interrupt_by_signals(case, name, options.signals)
        else:
            points = points_of(run, visits=visits, opcodes=options.opcodes)
            count, left = len(points), interrupt_at_points(case, name, points)
        print(f"{name}: {count} interrupts, {len(left)} left something ({perf_counter() - start:.0f} s)", flush=True)
        for point, what in list(left.items())[:20]:
            print(f"  {point}: {', '.join(what)}")
        failed += len(left)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
