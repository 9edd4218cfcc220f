"""Layers over which the spread of activations grows or falls more than tenfold."""

from __future__ import annotations

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.measured import Measured
from spatialprobe.diagnosis.pictures import BarsPicture, bars
from spatialprobe.text import format_count

LIMIT = 10.0


def find_scale_growth(evidence: Evidence) -> Outcome:
    """Return a finding for each layer whose activations spread ten times more, or less, than what it takes."""
    ratios = {name: ratio for name in evidence.layers if (ratio := measure_growth(evidence, name)) is not None}
    if not ratios:
        raise NotApplicable("No two layers with more than one unit follow one another.")
    names, values = list(ratios), list(ratios.values())
    title, limits = "Spread of activations, over that of what the layer takes", (1 / LIMIT, LIMIT)
    found = []
    for at, value in enumerate(values):
        if not 1 / LIMIT <= value <= LIMIT:
            picture = bars(names, [max(one, 1e-6) for one in values], [at], limits, title, "ratio", log=True)
            found.append(_describe(evidence, evidence.layers[names[at]], value, picture))
    return (
        found or f"Over {format_count(len(names), 'layer')}, spread grows {min(values):.3g} to {max(values):.3g} times."
    )


def measure_growth(evidence: Evidence, layer: str) -> float | None:
    """Return the spread of a layer's activations over that of what it takes; None where images or vectors enter."""
    one, runs = evidence.layers[layer], evidence.seen.of(layer)
    before = runs[0].before if runs else None
    if one.units <= 1 or before is None or not before.spread > 0 or evidence.takes_images(layer):
        return None
    spread = one.spread if one.at == "post_activation" else _spread_of_outflow(evidence, layer, before.spread)
    return None if spread is None else spread / before.spread


def _spread_of_outflow(evidence: Evidence, layer: str, before: float) -> float | None:
    """Return the spread of what a layer without a single nonlinearity passes on; None if nothing can be said.

    A branch that adds little to a sum is in order, and so only counts where it grows: many begin with none.
    """
    ways = evidence.outflows.get(layer, ())
    largest = max((one.spread for one in ways), default=0.0)
    if not ways or (any(one.joined for one in ways) and largest < before / LIMIT):
        return None
    return largest


def _describe(evidence: Evidence, one: Measured, ratio: float, picture: BarsPicture) -> Finding:
    if one.at == "post_activation":
        what = f"The activations after {one.nonlinearity} spread"
        over = f"over {format_count(evidence.samples, 'sample')}"
    else:
        what = "What the layer adds to others, or passes on to the next, spreads"
        over = f"over the first {format_count(evidence.subject.samples.count, 'sample')}"
    words = f"{ratio:.3g} times as much as" if ratio > 1 else f"{1 / max(ratio, 1e-12):.3g} times less than"
    return Finding(
        RULE.name,
        "warning",
        one.layer,
        measured=ratio,
        limit=LIMIT if ratio > 1 else 1 / LIMIT,
        evidence=f"{what} {words} what it takes, {over}.",
        advice="Normalize after the layer, or initialize its weights with a variance of 2 / fan-in [He et al. 2015].",
        source=RULE.reason,
        picture=picture,
    )


RULE = Rule(
    "scale_growth",
    find_scale_growth,
    "warning",
    "the spread of activations growing or falling more than tenfold over a layer",
    "An initialization that keeps the spread changes it by less than 2 a layer [He et al. 2015], torch's own by 3, "
    "trained healthy networks by less than 5, as measured in the benchmark; a factor of ten over four layers is "
    "beyond the 11 bits of float16. A layer that no single nonlinearity follows is followed to where its values meet "
    "others, as in a residual sum, or the next layer takes them; a branch that adds little is in order. Layers that "
    "take the images themselves, in whatever unit these are, do not count.",
    "the growth over all layers",
)
