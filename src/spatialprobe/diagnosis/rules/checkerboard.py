"""Transposed convolutions whose outputs overlap unequally, which draws a checkerboard; exact, from geometry."""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt
from torch import nn

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.pictures import GridPicture, as_plane
from spatialprobe.text import format_count

_SHOWN = 8  # output units along each axis of the picture


def find_checkerboards(evidence: Evidence) -> Outcome:
    """Return a finding for each transposed convolution whose outputs take different numbers of inputs."""
    layers = {
        name: module
        for name, module in evidence.modules.items()
        if isinstance(module, nn.modules.conv._ConvTransposeNd) and name in evidence.ran
    }
    if not layers:
        raise NotApplicable("No transposed convolution ran.")
    found = []
    for name, module in layers.items():
        overlaps = [count_overlaps(*axis) for axis in _axes(module)]
        if any(len(set(along)) > 1 for along in overlaps):
            found.append(_describe(name, module, overlaps))
    return found or f"All outputs of {format_count(len(layers), 'transposed convolution')} take equally many inputs."


def count_overlaps(kernel: int, stride: int, dilation: int, padding: int) -> tuple[int, ...]:
    """Return how many taps reach each of `stride` successive outputs along an axis, far from all borders.

    >>> count_overlaps(4, 2, 1, 1), count_overlaps(3, 2, 1, 1), count_overlaps(1, 2, 1, 0)
    ((2, 2), (1, 2), (1, 0))
    """
    taps = range(0, kernel * dilation, dilation)
    return tuple(sum((place + padding - tap) % stride == 0 for tap in taps) for place in range(stride))


def _axes(module: nn.modules.conv._ConvTransposeNd) -> list[tuple[int, int, int, int]]:
    padding = [int(pixels) for pixels in module.padding]
    return list(zip(module.kernel_size, module.stride, module.dilation, padding, strict=True))


def _describe(name: str, module: nn.modules.conv._ConvTransposeNd, overlaps: list[tuple[int, ...]]) -> Finding:
    fewest, most = (int(np.prod([choose(along) for along in overlaps])) for choose in (min, max))
    kernel, stride = (" x ".join(map(str, sizes)) for sizes in (module.kernel_size, module.stride))
    return Finding(
        RULE.name,
        "warning",
        name,
        measured=most / fewest if fewest else float("inf"),
        limit=1,
        evidence=f"With a kernel of {kernel} and a stride of {stride}, neighboring outputs take between {fewest} and "
        f"{most} inputs, whatever the weights.",
        advice="Choose a kernel size that the stride divides, or enlarge by interpolation and convolve after it.",
        source=RULE.reason,
        picture=GridPicture(
            as_plane(_pattern(overlaps)), f"Inputs that each output of {name!r} takes", "inputs", None, "x", "y"
        ),
    )


def _pattern(overlaps: list[tuple[int, ...]]) -> npt.NDArray[np.float64]:
    """Return how many inputs each of some outputs takes, over all axes."""
    along = [np.resize(np.array(one, np.float64), max(_SHOWN, 2 * len(one))) for one in overlaps]
    pattern: npt.NDArray[np.float64] = reduce(np.multiply.outer, along)
    return pattern


RULE = Rule(
    "checkerboard",
    find_checkerboards,
    "warning",
    "transposed convolutions whose outputs overlap unequally",
    "Exact, from kernel, stride and dilation: where these make neighbors take different numbers of inputs, training "
    "has to undo a checkerboard, and rarely does [Odena et al. 2016].",
    "the inputs that neighboring outputs take",
)
