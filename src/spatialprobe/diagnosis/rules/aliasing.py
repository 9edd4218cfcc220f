"""Layers whose outputs do not move along with the image between multiples of their stride."""

from __future__ import annotations

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.pictures import bars
from spatialprobe.text import format_count

LIMIT = 0.5


def find_aliasing(evidence: Evidence) -> Outcome:
    """Return a finding for each layer with an error of equivariance above 0.5 at half its stride."""
    errors = evidence.shift_errors
    if not errors:
        raise NotApplicable("No layer with a stride above 1 has units far enough from all borders.")
    names, values = list(errors), [error for error, _ in errors.values()]
    over = [at for at, value in enumerate(values) if value > LIMIT]
    title = "Difference from outputs that move along with the image, at half a stride"
    return [
        Finding(
            RULE.name,
            "note",
            names[at],
            measured=values[at],
            limit=LIMIT,
            evidence=f"For images moved by {_by(errors[names[at]][1])} pixels, half of its stride, the outputs "
            "differ from "
            f"moved ones by {values[at]:.0%} of their norm.",
            advice="Blur before subsampling, or pool by averages [Zhang 2019], if answers must not depend on single "
            "pixels of position.",
            source=RULE.reason,
            picture=bars(names, values, over, [LIMIT], title, "relative error"),
        )
        for at in over
    ] or f"At half a stride, the outputs of {format_count(len(names), 'layer')} are off by at most {max(values):.0%}."


def _by(moved: tuple[int, ...]) -> str:
    return " x ".join(map(str, moved))


RULE = Rule(
    "aliasing",
    find_aliasing,
    "note",
    "error of equivariance above 0.5 between multiples of the stride",
    "At multiples of the stride the error is 0; between them subsampling breaks it [Zhang 2019]. At 0.5 half of the "
    "output's norm depends on where the image lies between the strides.",
    "the error of all layers",
)
