"""Layers that answer more strongly at the border than inside, because of padding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.pictures import GridPicture, as_plane
from spatialprobe.text import format_count

LIMIT = 2.0
FEWEST = 4  # units along each axis: of fewer, most are at the border


def find_border(evidence: Evidence) -> Outcome:
    """Return a finding for each padded layer that answers twice as strongly at the border as inside."""
    maps = evidence.mean_maps
    padded = {name: width for name in maps if (width := evidence.padding_units(name)) and has_inside(maps[name], width)}
    if not padded:
        raise NotApplicable("No convolution with padding has units inside and at the border.")
    found, ratios = [], []
    for name, widths in padded.items():
        strength = maps[name].mean(dim=0).numpy()
        ratio = border_ratio(strength, widths)
        ratios.append(ratio)
        if ratio > LIMIT:
            found.append(_describe(evidence, name, strength, widths, ratio))
    count = format_count(len(padded), "layer")
    return found or f"The border of {count} answers at most {max(ratios):.3g} times as strongly as the inside."


def border_ratio(strength: npt.NDArray[np.float64], widths: tuple[int, ...]) -> float:
    """Return the mean of the border's units over that of those inside.

    >>> values = np.ones((4, 4)); values[0] = 7.0
    >>> border_ratio(values, (1, 1))
    3.0
    """
    inside = np.zeros(strength.shape, bool)
    inside[tuple(slice(width, size - width) for width, size in zip(widths, strength.shape, strict=True))] = True
    within = float(strength[inside].mean())
    return float(strength[~inside].mean()) / within if within > 0 else 1.0


def has_inside(maps: torch.Tensor, widths: tuple[int, ...]) -> bool:
    """Return whether maps (C, *units) are large enough to have units inside, `widths` away from each border."""
    sizes = maps.shape[1:]
    return len(sizes) == len(widths) and all(
        size >= max(FEWEST, 2 * width + 1) for size, width in zip(sizes, widths, strict=True)
    )


def _describe(
    evidence: Evidence, name: str, strength: npt.NDArray[np.float64], widths: tuple[int, ...], ratio: float
) -> Finding:
    one = evidence.layers[name]
    inside = strength[tuple(slice(width, size - width) for width, size in zip(widths, strength.shape, strict=True))]
    relative = as_plane(strength / max(float(inside.mean()), 1e-30))
    where = f"after {one.nonlinearity}" if one.at == "post_activation" else "at its output"
    return Finding(
        RULE.name,
        "note",
        name,
        measured=ratio,
        limit=LIMIT,
        evidence=f"Over {format_count(evidence.subject.samples.count, 'sample')} and all channels, the magnitude "
        f"{where} "
        f"is {ratio:.2g} times as large in the units that padding reaches as in the "
        "others.",
        advice='Try padding_mode="reflect" or "replicate", or normalize images to a mean of zero: zeros around a '
        "bright "
        "image are an edge.",
        source=RULE.reason,
        picture=GridPicture(
            relative, f"Mean magnitude of {name!r}, over that inside", "times the mean inside", None, "x", "y"
        ),
    )


RULE = Rule(
    "border",
    find_border,
    "note",
    "layers that answer more than twice as strongly at the border as inside",
    "Natural images have no edge at their border, so that without an effect of padding the ratio is near 1; padding "
    "with zeros tells a network where it is [Islam et al. 2020]. In healthy networks that reflect images at their "
    "borders the ratio is between 0.8 and 1.3, in the same ones with zeros between 0.5 and 1.7, as measured in the "
    "benchmark: 2 is beyond both.",
    "the mean magnitude of each unit over that inside",
)
