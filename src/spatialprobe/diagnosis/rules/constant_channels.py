"""Channels that have the same value everywhere, in all samples."""

from __future__ import annotations

import torch

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule, Severity
from spatialprobe.diagnosis.measured import Measured
from spatialprobe.diagnosis.rules.dead_channels import dead_channels, severity_of
from spatialprobe.text import format_count

STILL = 1e-6  # of the channel's mean


def find_constant_channels(evidence: Evidence) -> Outcome:
    """Return a finding for each layer with channels without variance that are not dead."""
    if evidence.samples < 2:
        raise NotApplicable("One sample does not tell what is constant.")
    found = []
    for one in evidence.layers.values():
        constant = constant_channels(one)
        if constant:
            found.append(_describe(one, constant, severity_of(len(constant), one), evidence))
    return found or (
        f"No channel of {format_count(len(evidence.layers), 'layer')} is constant over "
        f"{format_count(evidence.samples, 'sample')}."
    )


def constant_channels(one: Measured) -> list[int]:
    """Return the channels whose values do not vary beyond rounding, without the dead ones."""
    moments = one.moments
    still = (moments.std <= STILL * moments.mean.abs()) & (moments.count > 1)
    if one.at == "post_activation":
        still[dead_channels(one)] = False
    found: list[int] = torch.nonzero(still).flatten().tolist()
    return found


def _describe(one: Measured, constant: list[int], severity: Severity, evidence: Evidence) -> Finding:
    channels, are = len(one.moments.mean), "is" if len(constant) == 1 else "are"
    values = ", ".join(f"{float(one.moments.mean[channel]):.3g}" for channel in constant[:4])
    where = f"after {one.nonlinearity}" if one.at == "post_activation" else "at the output"
    return Finding(
        RULE.name,
        severity,
        one.layer,
        tuple(constant),
        len(constant),
        0,
        f"{len(constant)} of {format_count(channels, 'channel')} {are} constant {where}, at {values}"
        f"{', ...' if len(constant) > 4 else ''}, in {format_count(evidence.samples, 'sample')} of "
        f"{format_count(one.units, 'unit')}.",
        "Look at their kernels, which may be zero, and at the norm and the bounds of the nonlinearity behind them.",
        RULE.reason,
        picture=evidence.picture_maps(one, constant, "Constant channels"),
    )


RULE = Rule(
    "constant_channels",
    find_constant_channels,
    "warning",
    "channels without variance",
    f"Rounding of float32 leaves a constant with a deviation of some 1e-7 of its mean: the limit is {STILL:g}. Dead "
    "channels are told by their own rule, and few of them, or of few samples, are a note as there.",
    "the maps of one sample, constant channels first",
)
