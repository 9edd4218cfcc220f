"""The files metrics.json and report.md: the measurements and the verdicts. Every figure is the run's own."""

from __future__ import annotations

import json
import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
import torch
from data import ImageData
from experiments import answers, dead, depths
from experiments.measures import MOST
from experiments.options import Options
from experiments.page import SHOWN
from experiments.pictured import Shown
from experiments.trials import CNN, MLP_PLAIN, Trained, Trial
from experiments.verdicts import Findings, Verdict, number, percent

import spatialprobe as sp

EXPECTED = (0.85, 0.80, 0.45)  # accuracy in training and on the test images, and training loss, on CIFAR-10
RULE = (
    "Each claim has a rule that decides it. A difference counts if its mean over seeds exceeds twice its spread over "
    "seeds and, for accuracies, twice the sampling error of the test set; with fewer than three seeds none does."
)
PICTURES = {  # name -> what it shows
    "overview.png": "What each layer makes of one image, channel by channel; dark maps are weak, hatched ones zero",
    "learning.png": "Loss and accuracy in training, epoch by epoch, and the test accuracy after the last epoch",
    "footprint.png": "The units that change with one pixel lie inside the square that its receptive fields predict",
    "accuracies.png": "The test accuracy of each kind of network, a dot for each seed",
    "conv1_kernels.png": "The kernels of conv1's channels, as they weight red, green and blue",
    "orientation.png": "How strongly each channel of conv1 responds to gratings of each orientation",
    "similarity.png": "The similarity of the trained network's layers, in rows, to those of other networks, in columns",
    "synthesized.png": "Images synthesized to drive each channel's map up, and the motif that its units coincide with",
    "conv1_exemplars.png": "The nine patches of the test images that activate each channel of conv1 most",
    "conv2_exemplars.png": "The nine patches of the test images that activate each channel of conv2 most",
    "deletion.png": "The score of the predicted class without the top channels, random ones, and the lowest ones",
    "depths.png": "The four strongest maps of one image in the last convolution of deeper and deeper networks",
    "depth_similarity.png": "The similarity of each deeper network's convolutions to one another",
}
EVIDENCE = {  # claim -> its pictures
    1: ("footprint.png",),
    4: ("accuracies.png",),
    5: ("conv1_kernels.png", "orientation.png", "similarity.png"),
    6: ("synthesized.png", "conv1_exemplars.png", "conv2_exemplars.png"),
}
LITERATURE = (
    "Zeiler and Fergus 2014; Yosinski et al. 2014; Luo et al. 2016; Alain and Bengio 2016; Araujo et al. 2019; Zhang "
    "2019; Ivan 2019; Deza et al. 2020; Ringach et al. 2002 (selectivity)."
)


@dataclass(frozen=True)
class Run:
    """The options of a whole study, and its results."""

    options: Options
    data: ImageData
    have: Mapping[Trial, Trained]
    findings: Findings
    verdicts: Sequence[Verdict]
    along: Mapping[int, Sequence[Mapping[str, Any]]]  # depth -> what was measured, one a seed
    shown: Shown


def metrics(run: Run) -> dict[str, Any]:
    """Return everything measured, as plain values."""
    options, data, have, findings = run.options, run.data, run.have, run.findings
    pictured = have[Trial(CNN, run.shown.seed)]
    return {
        "data": data.name,
        "classes": list(data.classes),
        "preset": options.preset,
        "pictured_seed": run.shown.seed,
        "seeds": list(options.seeds),
        "depths": list(options.depths),
        "epochs": options.epochs,
        "batches": options.batches,
        "device": options.device,
        "train": [asdict(score) for score in pictured.train],
        "test": asdict(pictured.test),
        "accuracy": {str(trial): have[trial].test.accuracy for trial in have},
        "claims": [_claim(verdict) for verdict in run.verdicts],
        "measures": dict(zip(map(str, findings.seeds), findings.of_seed, strict=True)),
        "by_depth": {
            str(depth): dict(zip(map(str, options.seeds), found, strict=True)) for depth, found in run.along.items()
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "matplotlib": matplotlib.__version__,
            "spatialprobe": sp.__version__,
        },
    }


def _claim(verdict: Verdict) -> dict[str, Any]:
    return {
        "claim": verdict.claim,
        "supported": verdict.supported,
        "rule": verdict.rule,
        "failed": list(verdict.failed),
        "differences": [
            {
                "what": one.what,
                "values": list(one.values),
                "n": len(one.values),
                "mean": one.mean,
                "spread": one.spread,
                "sampling": one.sampling,
                "needed": one.needed,
                "counts": one.counts,
            }
            for one in verdict.differences
        ],
    }


def write(out: Path, run: Run, drawn: Iterable[str]) -> list[Path]:
    """Write both files; the report shows those pictures that are among the drawn ones."""
    numbers, words = out / "metrics.json", out / "report.md"
    numbers.write_text(json.dumps(metrics(run), indent=2) + "\n", encoding="utf-8")
    words.write_text(text(run, drawn, page="report.html"), encoding="utf-8")
    return [numbers, words]


def text(run: Run, drawn: Iterable[str], page: str | None = None) -> str:
    """Return the report, with the pictures that are among the drawn ones, and a link to the interactive page."""
    names = frozenset(drawn)
    lines = [*_summary(run), *show(names, "overview.png")]
    if page:
        lines += ["", f"[The interactive page]({page}) shows every unit of these layers, for {SHOWN} images."]
    lines += ["", " ".join([run.shown.reason, *dead.sentences(run.findings, min(MOST, run.findings.test_images))])]
    lines += ["", "## How well the networks learned", "", *_accuracies(run), *show(names, "learning.png")]
    lines += ["", "## The claims", "", RULE]
    for place, verdict in enumerate(run.verdicts, start=1):
        lines += _section(place, verdict, names)
    lines += answers.section(run.findings, show(names, "deletion.png"))
    if run.along:
        lines += _depths(run, names)
    return "\n".join([*lines, "", f"Methods after {LITERATURE}", ""])


def show(drawn: Collection[str], *names: str) -> list[str]:
    """Return the lines that show pictures, each with its caption, as far as they were drawn."""
    return [
        line
        for name in names
        if name in drawn
        for line in ("", f"![{PICTURES[name]}]({name})", "", f"*{PICTURES[name]}.*")
    ]


def _summary(run: Run) -> list[str]:
    """Return the title, what was run, and the verdicts."""
    options, data = run.options, run.data
    supported = sum(verdict.supported for verdict in run.verdicts)
    return [
        f"# The study on {data.name}",
        "",
        "Why do convolutional layers detect spatial patterns? Seven claims, each measured against a control. "
        f"The data are {data.name}, with {len(data.train_images):,} training and {len(data.test_images):,} test images "
        f"of {len(data.classes)} classes. The SimpleCNN has two convolutions, conv1 with 6 channels and conv2 with 12, "
        "each followed by a ReLU and max-pooling, and two fully connected layers, its head. Its main control is an MLP "
        "of one hidden layer, with about as many weights and no convolution. Every network is trained in the same way: "
        f"batches of 4, {options.epochs} epochs, Adam with a learning rate of 0.001, cross-entropy. "
        f"Values are means ± standard deviations over the seeds {', '.join(map(str, options.seeds))}. This command "
        "repeats the study:",
        "",
        "```sh",
        *_broken(options.command),
        "```",
        "",
        f"**{supported} of {len(run.verdicts)} claims are supported.**",
        "",
        *table([("claim", "verdict"), *((verdict.claim, verdict.word) for verdict in run.verdicts)]),
    ]


def _broken(command: str) -> list[str]:
    """Return a command on lines of at most 88 characters, broken before options."""
    lines, (head, *options) = [], command.split(" --")
    for option in options:
        if len(head) + len(option) > 82:
            lines.append(f"{head} \\")
            head = "   "
        head += f" --{option}"
    return [*lines, head]


def _accuracies(run: Run) -> list[str]:
    """Return the SimpleCNN's figures beside those of its control and, on CIFAR-10, those that were expected of it."""
    seeds, findings = run.options.seeds, run.findings
    runs = {kind: [run.have[Trial(kind, seed)] for seed in seeds] for kind in (CNN, MLP_PLAIN)}
    rows: list[tuple[str, ...]] = [("network", "training accuracy", "test accuracy", "training loss")]
    for kind, words in ((CNN, "SimpleCNN"), (MLP_PLAIN, "MLP, fully connected (control)")):
        last = [one.train[-1] for one in runs[kind]]
        rows.append(
            (
                words,
                percent([score.accuracy for score in last]),
                percent([one.test.accuracy for one in runs[kind]]),
                number([score.loss for score in last]),
            )
        )
    rows.append(("chance", *[percent([1 / findings.classes])] * 2, f"{log(findings.classes):.2f}"))
    if "cifar-10" not in run.data.name.lower():
        return table(rows)
    train, test, loss = EXPECTED
    expected = (f"{100 * train:.0f} %", f"{100 * test:.0f} %", f"{loss:.2f}")
    rows.insert(2, ("SimpleCNN, as expected before the study", *expected))
    missing = test - fmean(one.test.accuracy for one in runs[CNN])
    compared = f"{100 * abs(missing):.0f} points {'below' if missing > 0 else 'above'}"
    return [*table(rows), "", f"The test accuracy is {compared} what was expected before the study."]


def _section(place: int, verdict: Verdict, drawn: Collection[str]) -> list[str]:
    lines = ["", f"### {place}. {verdict.claim}: {verdict.word.lower()}", "", f"*Rule.* {verdict.rule}", ""]
    if verdict.failed:
        lines += [f"*Not supported, because:* {'; '.join(verdict.failed)}.", ""]
    lines += [" ".join(verdict.sentences), "", *table(verdict.table)]
    if verdict.differences:
        rows = [
            (
                one.what,
                f"{one.mean:.3f}",
                f"{one.spread:.3f}",
                str(len(one.values)),
                f"{one.needed:.3f}",
                "yes" if one.counts else "no",
            )
            for one in verdict.differences
        ]
        lines += ["", *table([("difference", "mean", "spread", "n", "must exceed", "counts"), *rows])]
    return [*lines, *show(drawn, *EVIDENCE.get(place, ()))]


def _depths(run: Run, drawn: Collection[str]) -> list[str]:
    """Return the section on networks of more convolutions."""
    return [
        "",
        "## More convolutions",
        "",
        "The same measures of the last convolution of deeper networks, trained in the same way. Their kernels are "
        "initialized as in He et al. 2015, since with PyTorch's own initialization the deepest may not start to learn.",
        "",
        *table(depths.table(run.along)),
        "",
        " ".join(depths.sentences(run.along, 1 / run.findings.classes, run.findings.test_images)),
        *show(drawn, "depths.png", "depth_similarity.png"),
    ]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as Markdown, the first as heading.

    >>> table([("a", "b"), ("1", "2")])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"|{'---|' * len(rows[0])}", *body]
