"""Dilated layers that skip input pixels inside their field; exact, by following single pixels."""

from __future__ import annotations

from functools import reduce

import numpy as np

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.pictures import GridPicture, as_plane
from spatialprobe.diagnosis.taps import dilated_layers, find_seen_offsets
from spatialprobe.text import format_count


def find_gridding(evidence: Evidence) -> Outcome:
    """Return a finding for each dilated layer whose units do not see all pixels inside of their field."""
    layers = dilated_layers(evidence)
    seen = find_seen_offsets(evidence, layers)
    if not seen:
        raise NotApplicable("No dilated convolution has units whose exact field lies inside the image.")
    found = []
    for name, axes in seen.items():
        skipped = [int((~along).sum()) for along in axes]
        if any(skipped):
            mask = reduce(np.multiply.outer, [along.astype(np.float64) for along in axes])
            found.append(
                Finding(
                    RULE.name,
                    "warning",
                    name,
                    measured=1 - float(mask.mean()),
                    limit=0,
                    evidence=f"A unit sees {int(mask.sum()):,} of the {mask.size:,} pixels of its field of "
                    f"{' x '.join(map(str, mask.shape))}: {1 - mask.mean():.0%} lie between its taps.",
                    advice="Choose dilations without a common factor in one stack, such as 1, 2, 5, or put a "
                    "convolution without dilation before it [Wang et al. 2018].",
                    source=RULE.reason,
                    picture=GridPicture(
                        as_plane(mask), f"Pixels that a unit of {name!r} sees (1) and skips (0)", "seen", None, "x", "y"
                    ),
                )
            )
    return found or f"Units of {format_count(len(seen), 'dilated layer')} see every pixel inside of their fields."


RULE = Rule(
    "gridding",
    find_gridding,
    "warning",
    "dilated layers that skip input pixels inside their field",
    "Exact: single pixels are followed through the model. Neighboring units that see disjoint sets of pixels lose "
    "what lies between them [Wang et al. 2018].",
    "the pixels of a unit's field, seen or skipped",
)
