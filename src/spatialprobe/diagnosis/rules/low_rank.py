"""Layers whose channels vary in far fewer directions than there are channels."""

from __future__ import annotations

import torch

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.measured import Measured
from spatialprobe.diagnosis.pictures import bars
from spatialprobe.diagnosis.rules.duplicate_channels import correlations
from spatialprobe.text import format_count

LIMIT = 0.05
FEWEST = 20  # channels: of fewer, 5 % is less than one
ENOUGH = 10  # observations for each channel
_SHOWN = 12  # directions in the picture, at least


def find_low_rank(evidence: Evidence) -> Outcome:
    """Return a finding for each layer whose effective dimension is below 5 % of its channels."""
    measured = [
        one
        for one in evidence.layers.values()
        if len(one.moments.mean) >= FEWEST and one.covariance.count >= ENOUGH * len(one.moments.mean)
    ]
    if not measured:
        raise NotApplicable(
            f"No layer has at least {FEWEST} channels and {ENOUGH} times as many units over all samples."
        )
    found, shares = [], []
    for one in measured:
        spectrum = spectrum_of(one)
        dimension = effective_dimension(spectrum)
        shares.append(dimension / len(spectrum))
        if dimension < LIMIT * len(spectrum):
            found.append(_describe(one, dimension, spectrum))
    return found or f"The effective dimension of a layer is at least {min(shares):.0%} of its channels."


def spectrum_of(one: Measured) -> torch.Tensor:
    """Return the singular values of a layer's standardized channels, over their sum, largest first, float64 (C,)."""
    values: torch.Tensor = torch.linalg.eigvalsh(correlations(one)).clamp(min=0).sqrt().flip(0)
    total = float(values.sum())
    return values / total if total > 0 else values


def effective_dimension(spectrum: torch.Tensor) -> float:
    """Return the exponential of the entropy of a spectrum that sums to 1 [Roy and Vetterli 2007].

    >>> round(effective_dimension(torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0])), 6)
    4.0
    """
    return float(torch.special.entr(spectrum).sum().exp()) if float(spectrum.sum()) > 0 else 0.0


def _describe(one: Measured, dimension: float, spectrum: torch.Tensor) -> Finding:
    channels = len(spectrum)
    shown = spectrum[: max(_SHOWN, round(2 * dimension))].tolist()  # the rest are next to nothing
    names = [str(at + 1) for at in range(len(shown))]
    title = "Directions in which the channels vary together, strongest first"
    return Finding(
        RULE.name,
        "warning",
        one.layer,
        measured=dimension,
        limit=LIMIT * channels,
        evidence=f"The {format_count(channels, 'channel')} vary in {dimension:.1f} effective dimensions, "
        f"{dimension / channels:.1%} of their number, over {one.covariance.count:,} units.",
        advice="A narrower layer would do; or look for what collapsed: a learning rate too high, dead channels, inputs "
        "without variation.",
        source=RULE.reason,
        picture=bars(names, shown, (), (), title, "share of the sum of singular values"),
    )


RULE = Rule(
    "low_rank",
    find_low_rank,
    "warning",
    "effective dimension below 5 % of the channels",
    "The effective dimension is the exponential of the entropy of the singular values of the standardized channels "
    "[Roy and Vetterli 2007]. Classes that collapse to their means leave as many dimensions as there are classes; 5 % "
    "is below that for 10 classes in 200 channels, and healthy networks keep above 20 %, as measured in the benchmark.",
    "the strongest directions in which the channels vary",
)
