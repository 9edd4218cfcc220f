"""The first layer with NaN or infinity."""

from __future__ import annotations

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, Outcome, Rule
from spatialprobe.diagnosis.layer_pictures import draw_nonfinite
from spatialprobe.diagnosis.measured import Measured, Nonfinite
from spatialprobe.diagnosis.pictures import BarsPicture, bars
from spatialprobe.text import format_count


def find_nonfinite(evidence: Evidence) -> Outcome:
    """Return the layer in which the first NaN or infinity arises, if one does."""
    found = evidence.nonfinite
    if found is not None:
        return [_in_pass(evidence)]
    for name, one in evidence.layers.items():
        count = int(one.moments.nonfinite.sum())
        if count:
            where = "after its nonlinearity " if one.at == "post_activation" else ""
            return [
                Finding(
                    RULE.name,
                    "error",
                    name,
                    tuple(one.moments.nonfinite.nonzero().flatten().tolist()),
                    count,
                    0,
                    f"{format_count(count, 'value')} of {evidence.samples} samples {where}is NaN or infinite, though "
                    "the output of the model is finite.",
                    "Look for a logarithm, root or division before it, and clamp what it takes.",
                    picture=_draw_counts(one),
                )
            ]
    return f"All values of {format_count(len(evidence.layers), 'layer')} and the output are finite."


def _in_pass(evidence: Evidence) -> Finding:
    found = evidence.nonfinite
    assert found is not None
    which = f"sample {found.samples[0]}" if found.samples else "a sample"
    more = f" and {len(found.samples) - 1} more of its batch" if len(found.samples) > 1 else ""
    if found.input_finite:
        advice = "Look at what it computes: a weight that is not finite, a logarithm, root or division, an overflow."
        taken = "though what it takes is finite"
    else:
        advice = "The inputs hold such values already, or what the model computes before its first layer does."
        taken = "and what it takes is not finite either"
    return Finding(
        RULE.name,
        "error",
        found.layer,
        measured=len(found.samples),
        limit=0,
        evidence=f"Its output has NaN or infinity for {which}{more}, {taken}; no layer before it has.",
        advice=advice,
        picture=None if found.maps is None else draw_nonfinite(found.maps, _title(found)),
    )


def _title(found: Nonfinite) -> str:
    where = f"layer {found.layer!r}" if found.layer else "the model"
    return f"Output of {where} for sample {found.samples[0]}: channels with NaN or infinity first"


def _draw_counts(one: Measured) -> BarsPicture:
    """Return a picture of how many values of each channel are not finite."""
    counts = one.moments.nonfinite.tolist()
    names = [str(channel) for channel in range(len(counts))]
    wrong = [channel for channel, count in enumerate(counts) if count]
    return bars(names, counts, wrong, (), f"NaN and infinity in layer {one.layer!r}", "values, by channel")


RULE = Rule(
    "nonfinite",
    find_nonfinite,
    "error",
    "the first layer with NaN or infinity",
    "One such value makes everything that is computed from it meaningless, so the limit is none.",
    "the layer's maps of the first such sample, what is not finite in crimson",
)
