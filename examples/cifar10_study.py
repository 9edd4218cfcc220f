"""Why do convolutional layers detect spatial patterns? Train small networks, measure, and let the numbers decide.

    python examples/cifar10_study.py                                   drawn patterns, no download, minutes
    python examples/cifar10_study.py --preset full --root data         CIFAR-10, downloaded once, hours
    python examples/cifar10_study.py --data folder:PATH                your own images, PATH/train and PATH/test

Seven claims about the SimpleCNN of two convolutions are each measured against a control, over three seeds; then the
same along networks of more convolutions. Written are pictures, metrics.json, and report.md, whose sentences come from
the numbers: a claim that they do not support is reported as not supported. A study that was ended continues with
--resume.

The training procedure is the reference one: batches of 4, shuffled, Adam 1e-3, cross-entropy, inputs in [0, 1]. What
layers hand on is taken from outside. The parts of the study stand in experiments/.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from data import DataError, ImageData, load
from experiments import depths, measures, pictures, report, rules, trials
from experiments.cache import Cache
from experiments.claims import Findings
from experiments.options import Options, parse
from experiments.progress import Progress
from experiments.trials import CNN, Trained, Trial
from experiments.workers import Procedure, trained

MEASURING = 2500.0  # milliseconds for one network, roughly: to foretell the remaining time


def main(arguments: list[str] | None = None) -> int:
    """Run the study; the exit status is 0, or 2 where the data cannot be had."""
    options = parse(arguments, __doc__ or "")
    torch.set_num_threads(1)  # for batches of four a second thread costs more than it brings
    try:
        data = load(options.data, root=options.root, seed=options.seeds[0], limit=options.limit)
    except DataError as error:
        print(f"{error}", file=sys.stderr)
        return 2
    print(f"Data: {data.name}, {len(data.train_images)} training and {len(data.test_images)} test images", flush=True)
    study = Study(options, data)
    with study.progress:
        have = study.train()
        paths = study.conclude(have)
    print("Written:", *study.written, *paths, sep="\n  ")
    return 0


class Study:
    """One run of the study: trains what is missing, measures, and writes."""

    def __init__(self, options: Options, data: ImageData) -> None:
        self.options, self.data = options, data
        self.procedure = Procedure(options.epochs, options.batches, options.device)
        self.cache = Cache(
            options.out / "cache", data, epochs=options.epochs, batches=options.batches, device=options.device
        )
        self.trials = trials.plan(options.seeds, options.depths)
        self.measured = [*options.seeds, *((depth, seed) for depth in options.depths for seed in options.seeds)]
        self.steps = self.procedure.steps(data)
        self.progress = Progress(sum(trial.cost for trial in self.trials) * self.steps + MEASURING * len(self.measured))
        self.written: list[Path] = []

    def train(self) -> dict[Trial, Trained]:
        """Every trial's network: those of an earlier run, if they are wanted, and the rest trained now."""
        have: dict[Trial, Trained] = {}
        for trial in self.trials if self.options.resume else []:
            found = self.cache.trained(trial)
            if found is not None:
                self._have(have, trial, found)
                self.progress.skip(trial.cost * self.steps)
        missing = [trial for trial in self.trials if trial not in have]
        for trial, result in trained(missing, self.data, self.procedure, have, self.options.jobs, self.progress):
            self.cache.keep_trained(trial, result)
            self._have(have, trial, result)
            self.progress.say(f"{trial}: test accuracy {result.test.accuracy:.1%}")
        return have

    def _have(self, have: dict[Trial, Trained], trial: Trial, result: Trained) -> None:
        """Take a result; the first pictures are drawn as soon as there is a network to show."""
        have[trial] = result
        if trial == Trial(CNN, self.options.seeds[0]):
            self.written += pictures.first_light(self._network(have), self.data, self.options.image, self.options.out)
            self.progress.say(f"The first pictures are in {self.options.out}")

    def conclude(self, have: Mapping[Trial, Trained]) -> list[Path]:
        """Measure, decide, draw and write."""
        options, data = self.options, self.data
        of_seed = [
            self._measured(f"seed {seed}", lambda seed=seed: measures.of_seed(seed, have, data))
            for seed in options.seeds
        ]
        along = {
            depth: [
                self._measured(
                    f"depth {depth}, seed {seed}",
                    lambda depth=depth, seed=seed: depths.of_depth(depth, seed, have, data),
                )
                for seed in options.seeds
            ]
            for depth in dict.fromkeys((2, *options.depths))
        }
        findings = Findings(
            seeds=options.seeds,
            of_seed=of_seed,
            layers=[found["layers"] for found in along[2]],
            test_images=len(data.test_images),
            classes=len(data.classes),
        )
        verdicts = rules.decide(findings)
        along = {depth: along[depth] for depth in options.depths}
        paths = pictures.evidence(self._network(have), data, options.layer, findings, options.out)
        image = data.test_images[options.image % len(data.test_images)]
        paths += pictures.depth_figure(
            depths.figure(options.depths, options.seeds[0], have, data, image), data, options.out
        )
        return [*paths, *report.write(options.out, options, data, have, findings, verdicts, along)]

    def _measured(self, what: str, measure: Callable[[], dict[str, Any]]) -> Mapping[str, Any]:
        """The measurement of this name, from an earlier run if that is wanted and there is one."""
        kept = self.cache.numbers(what) if self.options.resume else None
        if kept is None:
            kept = measure()
            self.cache.keep_numbers(what, kept)
            self.progress.say(f"{what}: measured")
        self.progress.advance(MEASURING)
        return kept

    def _network(self, have: Mapping[Trial, Trained]) -> torch.nn.Module:
        trial = Trial(CNN, self.options.seeds[0])
        return trials.restored(trial, have[trial], len(self.data.classes))


if __name__ == "__main__":
    sys.exit(main())
