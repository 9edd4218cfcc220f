"""A study of why convolutional layers detect spatial patterns: train small networks, measure, and decide by numbers.

    python examples/cifar10_study.py                                   drawn patterns, no download, minutes
    python examples/cifar10_study.py --preset full --root data         CIFAR-10, downloaded once, hours
    python examples/cifar10_study.py --data folder:PATH                your own images, PATH/train and PATH/test

Seven claims about the SimpleCNN of two convolutions are each measured against a control, over three seeds; then the
same along networks of more convolutions. Written are pictures, an interactive page, metrics.json, and report.md, whose
sentences come from the numbers: a claim that they do not support is reported as not supported. A study that was ended
continues with --resume.

The training procedure is the reference one: batches of 4, shuffled, Adam 1e-3, cross-entropy, inputs in [0, 1]. What
layers return is taken from outside. The parts of the study stand in experiments/.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from data import DataError, ImageData, load
from experiments import claims, depths, page, pictures, report, trials
from experiments.cache import Cache
from experiments.jobs import OfDepth, OfSeed
from experiments.options import Options, parse
from experiments.progress import Progress
from experiments.trials import CNN, Trained, Trial
from experiments.verdicts import Findings
from experiments.workers import Job, Procedure, results
from simple_cnn import SimpleCNN


def main(arguments: list[str] | None = None) -> int:
    """Run the study; return the exit status 0, or 2 if the data is not available."""
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
        study.run()
        study.conclude()
    print("Written:", *study.written, sep="\n  ")
    return 0


class Study:
    """A run of the study: trains and measures what is missing, decides, and writes."""

    def __init__(self, options: Options, data: ImageData) -> None:
        self.options, self.data = options, data
        self.procedure = Procedure(options.epochs, options.batches, options.device)
        self.cache = Cache(options.out / "cache", data, self.procedure)
        self.depths = tuple(dict.fromkeys((2, *options.depths)))  # the claims are about depth 2
        self.jobs: list[Job] = [
            *trials.plan(options.seeds, options.depths),
            *(OfDepth(depth, seed) for depth in self.depths for seed in options.seeds),
            *(OfSeed(seed) for seed in options.seeds),
        ]
        self.have: dict[Any, Any] = {}
        self.written: list[Path] = []
        steps = self.procedure.steps(data)
        self.work = {job: job.work(steps) for job in self.jobs}
        self.progress = Progress(sum(self.work.values()))

    def run(self) -> None:
        """Run all jobs: use results of an earlier run, if requested, and compute the rest."""
        for job in self.jobs if self.options.resume else []:
            found = self.cache.get(job)
            if found is not None:
                self.progress.skip(self.work[job])
                self._take(job, found)
        missing = [job for job in self.jobs if job not in self.have]
        for job, result in results(
            missing, self.data, self.procedure, self.have, self.options.processes, self.progress
        ):
            self.cache.keep(job, result)
            words = f": test accuracy {result.test.accuracy:.1%}" if isinstance(result, Trained) else ""
            self.progress.say(f"{job}{words}")
            self._take(job, result)

    def conclude(self) -> None:
        """Decide, draw and write."""
        options, data = self.options, self.data
        along = {depth: [self.have[OfDepth(depth, seed)] for seed in options.seeds] for depth in self.depths}
        findings = Findings(
            seeds=options.seeds,
            of_seed=[self.have[OfSeed(seed)] for seed in options.seeds],
            layers=[found["layers"] for found in along[2]],
            test_images=len(data.test_images),
            classes=len(data.classes),
        )
        verdicts = claims.decide(findings)
        shown = {depth: along[depth] for depth in options.depths}
        self.written += pictures.evidence(self._network(), data, options.layer, findings, options.out)
        image = data.test_images[options.image % len(data.test_images)]
        evolution = depths.figure(options.depths, options.seeds[0], self.have, data, image)
        self.written += pictures.depth_figure(evolution, data, options.out)
        trained = {job: result for job, result in self.have.items() if isinstance(job, Trial)}
        self.written += report.write(options.out, report.Run(options, data, trained, findings, verdicts, shown))

    def _take(self, job: Job, result: Any) -> None:
        """Store a result; draw the first pictures as soon as there is a network to show."""
        self.have[job] = result
        if job == Trial(CNN, self.options.seeds[0]):
            out = self.options.out
            self.written += pictures.first_light(self._network(), self.data, self.options.image, out)
            self.written += page.write(self._network(), self.data, self.options.image, out)
            self.progress.say(f"the first pictures and the interactive page are in {out}")

    def _network(self) -> SimpleCNN:
        """Return the trained SimpleCNN of the first seed."""
        trial = Trial(CNN, self.options.seeds[0])
        model = trials.restored(trial, self.have[trial], len(self.data.classes))
        assert isinstance(model, SimpleCNN)
        return model


if __name__ == "__main__":
    sys.exit(main())
