"""Pairs of channels that say the same."""

from __future__ import annotations

import torch

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.measured import Measured
from spatialprobe.diagnosis.pictures import GridPicture
from spatialprobe.text import format_count

LIMIT = 0.999
ENOUGH = 100  # observations
RARE = 0.999  # share of zeros: channels that hardly ever answer may do so at the same few units by chance


def find_duplicates(evidence: Evidence) -> Outcome:
    """Return a finding for each layer with channels that correlate above 0.999."""
    measured = [one for one in evidence.layers.values() if one.covariance.count >= ENOUGH]
    if not measured:
        raise NotApplicable(f"No layer has {ENOUGH} units over all samples.")
    found = []
    for one in measured:
        correlation = correlations(one)
        pairs = (correlation.triu(1) > LIMIT).nonzero().tolist()
        if pairs:
            found.append(_describe(one, pairs, correlation))
    return found or (f"No two channels of a layer correlate above {LIMIT}, in {format_count(len(measured), 'layer')}.")


def correlations(one: Measured) -> torch.Tensor:
    """Return the correlation of each pair of channels, float64 (C, C); 0 for those that hardly ever vary."""
    covariance = one.covariance.covariance
    std = covariance.diagonal().clamp(min=0).sqrt()
    varies = (std > 1e-6 * one.covariance.mean.abs()) & (one.moments.zero_fraction < RARE)
    std = torch.where(varies, std, torch.inf)
    return (covariance / std[:, None] / std[None, :]).nan_to_num(0.0)


def _describe(one: Measured, pairs: list[list[int]], correlation: torch.Tensor) -> Finding:
    channels = tuple(sorted({channel for pair in pairs for channel in pair}))
    named = ", ".join(f"{a} and {b}" for a, b in pairs[:3]) + (", ..." if len(pairs) > 3 else "")
    strongest = max(float(correlation[a, b]) for a, b in pairs)
    where = f"layer {one.layer!r}" if one.layer else "the model"
    return Finding(
        RULE.name,
        "note",
        one.layer,
        channels,
        strongest,
        LIMIT,
        f"{format_count(len(pairs), 'pair')} of {format_count(len(correlation), 'channel')} correlate above {LIMIT}: "
        f"{named}; over {one.covariance.count:,} units.",
        "One of each pair can be removed, with its weights in the next layer added to the other's.",
        RULE.reason,
        picture=GridPicture(
            correlation.numpy(), f"Correlation of the channels of {where}", "correlation", 0.0, "channel", "channel"
        ),
    )


RULE = Rule(
    "duplicate_channels",
    find_duplicates,
    "note",
    "pairs that correlate above 0.999",
    "At a correlation of 0.999 one channel predicts 99.8 % of the other's variance: what it adds is below the noise "
    "that 8-bit weights bring, and healthy networks stay below, as measured in the benchmark. Channels that are zero "
    "at 99.9 % of the units may be alike by chance, and are left out.",
    "the correlation of all pairs of channels",
)
