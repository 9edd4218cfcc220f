"""Nonlinearities almost all of whose values lie at a bound, where they pass on no gradient."""

from __future__ import annotations

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.measured import Measured
from spatialprobe.diagnosis.pictures import bars
from spatialprobe.text import format_count

LIMIT = 0.99


def find_saturated(evidence: Evidence) -> Outcome:
    """Return a finding for each nonlinearity with 99 % of its values at a bound."""
    measured = [one for one in evidence.bounded.values() if one.units > 1 and not evidence.is_output(one.layer)]
    if not measured:
        raise NotApplicable("No layer but the last ends in a sigmoid, tanh or clip over more than one unit.")
    shares = [share_at_bound(one) for one in measured]
    names, over = [one.layer for one in measured], [at for at, share in enumerate(shares) if share >= LIMIT]
    found = []
    for at in over:
        picture = bars(names, shares, [at], [LIMIT], "Values at a bound", "share of values at a bound")
        found.append(_describe(measured[at], shares[at], evidence, picture))
    return found or f"At most {max(shares):.1%} of the values lie at a bound, in {format_count(len(names), 'layer')}."


def share_at_bound(one: Measured) -> float:
    """Return the share of a nonlinearity's values that lie at a bound."""
    return float(one.bounds.at_bound.sum() / one.bounds.count.sum().clamp(min=1))


def _describe(one: Measured, share: float, evidence: Evidence, picture: object) -> Finding:
    channels = (one.bounds.share >= LIMIT).nonzero().flatten().tolist()
    return Finding(
        RULE.name,
        "warning",
        one.layer,
        tuple(channels),
        share,
        LIMIT,
        f"{share:.1%} of the values of {format_count(len(one.bounds.count), 'channel')} lie at a bound of the "
        f"nonlinearity, in {format_count(evidence.samples, 'sample')} of {format_count(one.units, 'unit')}.",
        "Scale down the weights or the inputs, or normalize before it: at a bound it passes on almost no gradient.",
        RULE.reason,
        picture=picture,  # type: ignore[arg-type]
    )


RULE = Rule(
    "saturated",
    find_saturated,
    "warning",
    "99 % at a bound of sigmoid, tanh or a clip",
    "Within a thousandth of its range a sigmoid's slope is under 1 % of its largest, and where 99 % of values are, "
    "the gradient of a layer is that of the last per cent [Glorot and Bengio 2010]. A ReLU's zeros, gates over 1 x 1 "
    "maps and the model's own output are none of it.",
    "the share of values at a bound, of all such nonlinearities",
)
