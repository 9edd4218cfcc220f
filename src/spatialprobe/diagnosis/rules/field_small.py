"""Models no unit of which sees half of the image before the head sums over all of it."""

from __future__ import annotations

from math import prod

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.pictures import bars
from spatialprobe.fields.result import ReceptiveField

LIMIT = 0.5


def find_small_field(evidence: Evidence) -> Outcome:
    """Return a finding if no unit of any layer with units sees half of the image's area."""
    fields = evidence.fields
    shares: dict[str, float] = {}
    for name in evidence.ran:
        for one in fields.calls(name) if name in fields else ():
            if len(one.output_size) == len(one.input_size) and prod(one.output_size) > 1:
                shares[name] = max(shares.get(name, 0.0), seen_share(one))
    if not shares:
        raise NotApplicable("No layer has units along the axes of the image.")
    largest = max(shares, key=shares.__getitem__)
    if shares[largest] >= LIMIT:
        return f"A unit of {largest!r} sees {shares[largest]:.0%} of the image."
    names = [name for name in shares if not any(name != other and other.startswith(f"{name}.") for other in shares)]
    picture = bars(
        names,
        [shares[name] for name in names],
        (),
        [LIMIT],
        "What a middle unit sees of the image",
        "share of its area",
    )
    return [
        Finding(
            RULE.name,
            "note",
            largest,
            measured=shares[largest],
            limit=LIMIT,
            evidence=f"Of all units before the head, those of this layer see most: {shares[largest]:.1%} of an image "
            "of "
            f"{' x '.join(map(str, evidence.image_size))} "
            "pixels.",
            advice="What is larger can only be recognized by its parts: add layers, strides, pooling or dilation, if "
            "that "
            "is not enough.",
            source=RULE.reason,
            picture=picture,
        )
    ]


def seen_share(field: ReceptiveField) -> float:
    """Return the share of the image's area that the unit in the middle sees."""
    box = field.box(*(size // 2 for size in field.output_size))
    return prod(box.shape) / prod(field.input_size) if box is not None else 0.0


RULE = Rule(
    "field_small",
    find_small_field,
    "note",
    "no unit before the head that sees half of the image's area",
    "From the receptive fields, of which pixels near the center count for most [Luo et al. 2016]: a field of half the "
    "image has seen few objects whole. Patterns and textures need less, so it is a note [Brendel and Bethge 2019].",
    "the share of the image that a unit of each layer sees",
)
