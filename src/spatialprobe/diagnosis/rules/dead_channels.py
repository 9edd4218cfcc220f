"""Channels that are never above zero after their nonlinearity."""

from __future__ import annotations

import torch

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule, Severity
from spatialprobe.diagnosis.measured import Measured
from spatialprobe.text import format_count

ENOUGH = 30  # samples
FEW = 0.05  # of a layer's channels
SOME, PART = 2, 1 / 8  # channels, if they are no more than this share of a layer
LIVELY = 0.01  # of the layer's spread


def find_dead_channels(evidence: Evidence) -> Outcome:
    """Return a finding for each layer with channels that are never above zero."""
    measured = [one for one in evidence.layers.values() if one.at == "post_activation"]
    if not measured:
        raise NotApplicable("No single nonlinearity follows any of the layers.")
    found = []
    for one in measured:
        dead = dead_channels(one)
        if len(dead):
            found.append(_describe(one, dead.tolist(), severity_of(len(dead), one), evidence))
    return found or (
        f"Each of {format_count(sum(len(one.moments.maximum) for one in measured), 'channel')} of "
        f"{format_count(len(measured), 'layer')} is above zero somewhere in {format_count(evidence.samples, 'sample')}."
    )


def dead_channels(one: Measured) -> torch.Tensor:
    """Return the channels that are never above zero, int64.

    One that varies below zero, as after a leaky ReLU or a tanh, still passes on what it sees, and is none of them.
    """
    moments = one.moments
    spread = max(one.spread, float(torch.finfo(torch.float64).tiny))
    dead = (moments.maximum <= 0) & ((moments.std < LIVELY * spread) | (moments.minimum == 0))
    return (dead & (moments.count > 0)).nonzero().flatten()


def severity_of(count: int, one: Measured) -> Severity:
    """Return "warning" if so many useless channels are more than a few, over enough samples to be certain."""
    channels = len(one.moments.maximum)
    few = max(FEW * channels, min(SOME, PART * channels))
    return "warning" if one.samples >= ENOUGH and count > few else "note"


def _describe(one: Measured, dead: list[int], severity: Severity, evidence: Evidence) -> Finding:
    channels, seen = len(one.moments.maximum), format_count(evidence.samples, "sample")
    are = "is" if len(dead) == 1 else "are"
    doubt = "" if evidence.samples >= ENOUGH else f" Of so few samples (under {ENOUGH}) a rare pattern may be missing."
    return Finding(
        RULE.name,
        severity,
        one.layer,
        tuple(dead),
        len(dead),
        0,
        f"{len(dead)} of {format_count(channels, 'channel')} {are} never above zero after {one.nonlinearity}, in "
        f"{seen} of {format_count(one.units, 'unit')}.{doubt}",
        "Remove them, or train with a norm, an initialization for ReLU [He et al. 2015], a lower learning rate or a "
        "leaky nonlinearity: a channel that is never above zero gets no gradient.",
        RULE.reason,
        picture=evidence.picture_maps(one, dead, "Dead channels"),
    )


RULE = Rule(
    "dead_channels",
    find_dead_channels,
    "warning",
    "channels that are never above zero after the nonlinearity",
    f"What did not happen in n samples happens in fewer than 3/n of all with 95 % confidence [Hanley and Lippman-Hand "
    f"1983]: from {ENOUGH} samples on, a dead channel answers to under 10 % of the data; below, it is a note. So are "
    "up to 5 % of a layer's channels, and one or two if they are at most an eighth, which healthy networks without "
    "norms lose in training, as measured in the benchmark. A channel counts as one that varies, as after a leaky ReLU, "
    "if it does by more than 1 % of the layer's spread.",
    "the maps of one sample, dead channels first and hatched",
)
