"""Layers over which the spread of activations grows or falls more than tenfold."""

from __future__ import annotations

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.measured import Measured
from spatialprobe.diagnosis.pictures import bars
from spatialprobe.text import format_count

LIMIT = 10.0


def find_scale_growth(evidence: Evidence) -> Outcome:
    """Return a finding for each layer whose activations spread ten times more, or less, than what it takes."""
    ratios = {}
    for name, one in evidence.layers.items():
        ratio = _growth(evidence, one)
        if ratio is not None:
            ratios[name] = ratio
    if not ratios:
        raise NotApplicable("No two layers with more than one unit follow one another.")
    names, values = list(ratios), list(ratios.values())
    found = []
    for at, value in enumerate(values):
        if not 1 / LIMIT <= value <= LIMIT:
            limits = (1 / LIMIT, LIMIT)
            title = "Spread of activations, over that of what the layer takes"
            picture = bars(names, [max(one, 1e-6) for one in values], [at], limits, title, "ratio", log=True)
            found.append(_describe(evidence.layers[names[at]], value, picture))
    return (
        found or f"Over {format_count(len(names), 'layer')}, spread grows {min(values):.3g} to {max(values):.3g} times."
    )


def _growth(evidence: Evidence, one: Measured) -> float | None:
    """Return the spread of a layer's activations over that of what it takes; None where images or vectors enter."""
    runs = evidence.seen.of(one.layer)
    before = runs[0].before if runs else None
    if one.at != "post_activation" or one.units <= 1 or before is None or evidence.takes_images(one.layer):
        return None
    return one.spread / before.spread if before.spread > 0 else None


def _describe(one: Measured, ratio: float, picture: object) -> Finding:
    words = f"{ratio:.3g} times as much as" if ratio > 1 else f"{1 / max(ratio, 1e-12):.3g} times less than"
    return Finding(
        RULE.name,
        "warning",
        one.layer,
        measured=ratio,
        limit=LIMIT if ratio > 1 else 1 / LIMIT,
        evidence=f"The activations after {one.nonlinearity} spread {words} what the layer takes.",
        advice="Normalize after the layer, or initialize its weights with a variance of 2 / fan-in [He et al. 2015].",
        source=RULE.reason,
        picture=picture,  # type: ignore[arg-type]
    )


RULE = Rule(
    "scale_growth",
    find_scale_growth,
    "warning",
    "the spread of activations growing or falling more than tenfold over a layer",
    "An initialization that keeps the spread changes it by less than 2 a layer [He et al. 2015], torch's own by 3 to "
    "4; "
    "a factor of ten over four layers is beyond the 11 bits of float16. Layers that take the images themselves, in "
    "whatever unit these are, do not count.",
)
