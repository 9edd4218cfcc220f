"""Batch norms whose statistics from training are not those of this data."""

from __future__ import annotations

import torch
from torch import nn

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.measured import Measured
from spatialprobe.diagnosis.pictures import BarsPicture, bars
from spatialprobe.text import format_count

SHIFT = 1.0  # running deviations
FACTOR = 2.0  # of the spread
MOST = 0.5  # of the channels
ENOUGH = 100  # values of each channel
_LEAST = 1e-6  # a weight below which what the norm took cannot be computed back


def find_mismatch(evidence: Evidence) -> Outcome:
    """Return a finding for each batch norm whose running statistics differ from those of the data in most channels."""
    if not evidence.norms:
        raise NotApplicable("The model has no batch norm with statistics from training.")
    measured = [one for one in evidence.norms.values() if float(one.moments.count.max()) >= ENOUGH]
    if not measured:
        raise NotApplicable(f"No batch norm has seen {ENOUGH} values of each channel.")
    shares = [share_off(one) for one in measured]
    found = [_describe(one, share) for one, share in zip(measured, shares, strict=True) if share > MOST]
    return found or (
        f"In at most {max(shares):.0%} of a batch norm's channels are the statistics not those of this data, in "
        f"{format_count(len(measured), 'layer')}."
    )


def share_off(one: Measured) -> float:
    """Return the share of a batch norm's channels whose statistics from training are not those of the data."""
    shift, factor = compare_statistics(one)
    off = (shift.abs() > SHIFT) | (factor > FACTOR) | (factor < 1 / FACTOR)
    return float(off.double().mean()) if len(off) else 0.0


def compare_statistics(one: Measured) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far the data's mean lies from the running one, in running deviations, and the ratio of the spreads.

    What the norm took is computed back from what it returned, y = (x - mean) / deviation * weight + bias; channels
    whose weight is zero, where that cannot be done, are left out.
    """
    norm = one.module
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_var is not None
    variance = norm.running_var.detach().double().cpu()
    channels = len(variance)
    weight = torch.ones(channels, dtype=torch.float64, device="cpu")
    bias = torch.zeros(channels, dtype=torch.float64, device="cpu")
    if norm.weight is not None:
        weight, bias = norm.weight.detach().double().cpu(), norm.bias.detach().double().cpu()
    usable = usable_channels(one)
    weight, bias, variance = weight[usable], bias[usable], variance[usable]
    shift = (one.moments.mean[usable] - bias) / weight
    found = one.moments.variance[usable] / weight.square() * (variance + norm.eps)
    return shift, ((found + norm.eps) / (variance + norm.eps)).sqrt()


def usable_channels(one: Measured) -> torch.Tensor:
    """Return of which channels of a batch norm it can be computed what it took, bool (C,)."""
    assert isinstance(one.module, nn.modules.batchnorm._BatchNorm)
    weight, seen = one.module.weight, one.moments.count > 0
    return seen if weight is None else seen & (weight.detach().cpu().abs() > _LEAST)


def _describe(one: Measured, share: float) -> Finding:
    shift, factor = compare_statistics(one)
    tracked = getattr(one.module, "num_batches_tracked", None)
    fresh = tracked is not None and int(tracked) == 0
    untrained = " It has seen no batch in training mode yet." if fresh else ""
    return Finding(
        RULE.name,
        "warning",
        one.layer,
        measured=share,
        limit=MOST,
        evidence=f"In {share:.0%} of the channels the statistics from training are not those of this data: the mean "
        f"lies {float(shift.abs().median()):.3g} running deviations off, the spread is {float(factor.median()):.3g} "
        f"times as large (medians), over {int(one.moments.count.max()):,} values.{untrained}",
        advice="Check that the data is normalized as in training, that the right weights are loaded, and that training "
        "did not end with few or very small batches; else run some batches in training mode first.",
        source=RULE.reason,
        picture=_draw(one, shift, factor),
    )


def _draw(one: Measured, shift: torch.Tensor, factor: torch.Tensor) -> BarsPicture:
    """Return a picture of how far each channel is off: its mean in running deviations, or its spread as a factor."""
    spread = torch.maximum(factor, 1 / factor.clamp(min=1e-6)) / FACTOR
    worst = torch.maximum(shift.abs() / SHIFT, spread)
    title = f"How far the statistics of {one.layer!r} are from those of the data"
    names = [str(channel) for channel in usable_channels(one).nonzero().flatten().tolist()]
    off = (worst > 1).nonzero().flatten().tolist()
    return bars(names, worst.tolist(), off, [1.0], title, "times the limit, by channel", log=True)


RULE = Rule(
    "batch_norm_mismatch",
    find_mismatch,
    "warning",
    "running statistics that are not those of this data",
    "A mean off by one deviation moves half of what a ReLU passes, and twice the spread is what an image in 0 to 1 in "
    "place of one of unit variance brings; batches of training differ from one another by less [Ioffe and Szegedy "
    "2015], and no channel of a healthy network by as much, as measured in the benchmark. Of 100 values the mean is "
    "off by a tenth of a deviation by chance.",
    "how many times over the limit each channel is",
)
