"""The files metrics.json and report.md: the measurements and the verdicts. Every figure is the run's own."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
import torch
from data import ImageData
from experiments import answers, depths
from experiments.options import Options
from experiments.trials import CNN, Trained, Trial
from experiments.verdicts import Findings, Verdict, percent

import spatialprobe as sp

PREMISE = (0.85, 0.80, 0.45)  # training accuracy, validation accuracy and loss that this network is said to reach
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


def metrics(run: Run) -> dict[str, Any]:
    """Return everything measured, as plain values."""
    options, data, have, findings = run.options, run.data, run.have, run.findings
    shown = have[Trial(CNN, options.seeds[0])]
    return {
        "data": data.name,
        "classes": list(data.classes),
        "preset": options.preset,
        "seed": options.seeds[0],
        "seeds": list(options.seeds),
        "depths": list(options.depths),
        "epochs": options.epochs,
        "batches": options.batches,
        "device": options.device,
        "train": [asdict(score) for score in shown.train],
        "test": asdict(shown.test),
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


def write(out: Path, run: Run) -> list[Path]:
    """Write both files."""
    numbers, words = out / "metrics.json", out / "report.md"
    numbers.write_text(json.dumps(metrics(run), indent=2) + "\n", encoding="utf-8")
    words.write_text("\n".join(_lines(run)) + "\n", encoding="utf-8")
    return [numbers, words]


def _lines(run: Run) -> list[str]:
    options, data, verdicts, along, findings = run.options, run.data, run.verdicts, run.along, run.findings
    supported = sum(verdict.supported for verdict in verdicts)
    lines = [
        "# Why do convolutional layers detect spatial patterns?",
        "",
        f"{supported} of {len(verdicts)} claims are supported by this run. Data: {data.name}, "
        f"{len(data.train_images):,} training and {len(data.test_images):,} test images. Seeds: "
        f"{', '.join(map(str, options.seeds))}. Training: batches of 4, {options.epochs} epochs, Adam 1e-3, "
        f"cross-entropy. Values are means ± standard deviation over seeds (n = {len(options.seeds)}).",
        "",
        "![What each layer makes of one image](overview.png)",
        "",
        "[The interactive page: every unit for four images](report.html)",
        "",
        *table([("claim", "verdict"), *((verdict.claim, verdict.word) for verdict in verdicts)]),
        "",
        "A difference counts if its mean over seeds exceeds twice its spread over seeds and, for accuracies, twice "
        "the sampling error of the test set; with fewer than three seeds none does.",
        "",
        _premise(options, run.have),
        "",
        "![Accuracies of all networks](accuracies.png)",
    ]
    for number, verdict in enumerate(verdicts, start=1):
        lines += _section(number, verdict)
    lines += answers.section(findings)
    if along:
        lines += [
            "",
            "## More convolutions",
            "",
            "Numbers of the last convolution of each network, trained under the same procedure. Beyond depth 2 kernels "
            "begin as in He et al. 2015: from torch's own beginning the deepest may not start to learn at all.",
            "",
            *table(depths.table(along)),
            "",
            " ".join(depths.sentences(along, 1 / findings.classes, findings.test_images)),
            "",
            "![The maps of one image along depth](depths.png)",
        ]
    return [*lines, "", f"Methods after {LITERATURE}"]


def _premise(options: Options, have: Mapping[Trial, Trained]) -> str:
    """Return the network's figures beside its reference figures."""
    runs = [have[Trial(CNN, seed)] for seed in options.seeds]
    train, test = [run.train[-1].accuracy for run in runs], [run.test.accuracy for run in runs]
    return (
        f"The SimpleCNN reaches {percent(train)} on the training images in its last epoch and {percent(test)} on the "
        f"test images, at a training loss of {fmean(run.train[-1].loss for run in runs):.3f}; that it reaches "
        f"{PREMISE[0]:.0%} and {PREMISE[1]:.0%} at {PREMISE[2]} on CIFAR-10 is a premise, not a result."
    )


def _section(number: int, verdict: Verdict) -> list[str]:
    lines = ["", f"## {number}. {verdict.claim}: {verdict.word.lower()}", "", f"*Rule.* {verdict.rule}", ""]
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
    return lines


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as Markdown, the first as heading.

    >>> table([("a", "b"), ("1", "2")])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"|{'---|' * len(rows[0])}", *body]
