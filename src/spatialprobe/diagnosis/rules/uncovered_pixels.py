"""Input pixels that no unit of the last layer with units sees; exact, from the receptive fields."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np
import numpy.typing as npt

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule, Severity
from spatialprobe.diagnosis.pictures import GridPicture, PixelsPicture, as_plane
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.text import quote_names

LIMIT = 0.01  # of the pixels
_MOST_TRIED = 8  # sets of lines, each of which takes a pass without values


def find_uncovered(evidence: Evidence) -> Outcome:
    """Return a finding if the units of the last layer do not see all pixels together."""
    fields = last_grid(evidence)
    covered = np.logical_or.reduce([coverage(one) for one in fields])
    for lines in find_skipped_lines(evidence, fields):
        for axis, along in enumerate(lines):
            covered[(slice(None),) * axis + (along,)] = False
    last = fields[-1].layer
    named = quote_names([last])
    share = 1 - float(covered.mean())
    if not share:
        return f"The units of {named} see all {covered.size:,} pixels."
    inside = _has_gap(covered)
    severity: Severity = "warning" if share > LIMIT or inside else "note"
    where = "also between pixels that are seen" if inside else "at the border"
    return [
        Finding(
            RULE.name,
            severity,
            last,
            measured=share,
            limit=LIMIT,
            evidence=f"{covered.size - int(covered.sum()):,} of {covered.size:,} pixels, {share:.1%}, are seen by no "
            f"unit of the last layer with units, {where}.",
            advice="Pad the input or the strided layers, choose kernels at least as large as strides, or take images "
            "of another size.",
            source=RULE.reason,
            picture=_draw(evidence, covered, named),
        )
    ]


def _draw(evidence: Evidence, covered: npt.NDArray[np.bool_], named: str) -> PixelsPicture | GridPicture:
    """Return the first image with the pixels marked that are not seen; of signals, volumes and others, the mask."""
    images = evidence.subject.samples.images
    title = "Pixels that are not seen"
    if covered.ndim == 2 and images is not None and images.ndim == 4 and images.shape[1] in (1, 3):
        words = f"crimson: {covered.size - int(covered.sum())} pixels that no unit of {named} sees"
        return PixelsPicture(images[0].detach().cpu(), ~covered, title, words)
    return GridPicture(as_plane(covered.astype(np.float64)), title, "seen (1) or not (0)", None, "x", "y")


def last_grid(evidence: Evidence) -> list[ReceptiveField]:
    """Return the fields of all layers whose grid is that of the last layer with units, in the order in which they ran.

    Branches of one block run one after the other, and only together see what their concatenation sees.

    Raises:
        NotApplicable: no layer has units, or the fields are not exact.
    """
    fields = evidence.fields
    known = [one for name in evidence.ran if name in fields for one in fields.calls(name)]
    with_units = [one for one in known if len(one.output_size) == len(one.input_size) and prod(one.output_size) > 1]
    if not with_units:
        raise NotApplicable("No layer has units along the axes of the image.")
    grid = [one for one in with_units if one.output_size == with_units[-1].output_size]
    inexact = [one.layer for one in grid if not one.exact]
    if inexact:
        raise NotApplicable(f"The receptive field of {inexact[0]!r} is not exact, but an upper bound.")
    return grid


def find_skipped_lines(evidence: Evidence, last: list[ReceptiveField]) -> Iterator[tuple[npt.NDArray[np.bool_], ...]]:
    """Yield lines of pixels, along each axis, that the last grid does not see although they lie inside of its boxes.

    Lines that an earlier layer does not see may be such. They are, if the last layers see nothing in images of which
    only these lines are left.
    """
    names = {one.layer for one in last}
    for lines in _unseen_lines(evidence)[:_MOST_TRIED]:
        fields = evidence.trace_lines(lines)
        left = [one for name in names if name in fields for one in fields.calls(name)]
        if left and not any(coverage(one).any() for one in left):
            yield lines


def _unseen_lines(evidence: Evidence) -> list[tuple[npt.NDArray[np.bool_], ...]]:
    """Return the lines along each axis that a layer with units does not see, each set of lines once."""
    found: dict[bytes, tuple[npt.NDArray[np.bool_], ...]] = {}
    for name in evidence.ran:
        one = evidence.exact_field(name)
        if one is not None and prod(one.output_size) > 1:
            covered, axes = coverage(one), range(len(one.input_size))
            lines = tuple(
                ~np.asarray(covered.any(axis=tuple(other for other in axes if other != axis))) for axis in axes
            )
            if any(along.any() for along in lines) and covered.any():
                found.setdefault(b"".join(along.tobytes() for along in lines), lines)
    return list(found.values())


def coverage(field: ReceptiveField) -> npt.NDArray[np.bool_]:
    """Return which pixels are seen by any unit, (*input_size)."""
    axes, sizes = len(field.input_size), field.input_size
    boxes = field.boxes().reshape(-1, 2 * axes)
    counts = np.zeros([size + 1 for size in sizes], np.int64)
    for ends in product((0, 1), repeat=axes):  # sums over all corners, which cumulative sums turn into counts
        corner = tuple(boxes[:, axis + axes * end] for axis, end in enumerate(ends))
        np.add.at(counts, corner, (-1) ** sum(ends))
    for axis in range(axes):
        counts = counts.cumsum(axis=axis)
    covered: npt.NDArray[np.bool_] = counts[tuple(slice(size) for size in sizes)] > 0
    return covered


def _has_gap(covered: npt.NDArray[np.bool_]) -> bool:
    """Return whether pixels are left out between others, and not only along the border."""
    for axis in range(covered.ndim):
        along = np.flatnonzero(covered.any(axis=tuple(other for other in range(covered.ndim) if other != axis)))
        if len(along) and len(along) < along[-1] - along[0] + 1:
            return True
    inner = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(covered)) if covered.any() else ()
    return bool(inner) and not covered[inner].all()


RULE = Rule(
    "uncovered_pixels",
    find_uncovered,
    "warning",
    "input pixels that no unit of the last layer with units sees",
    "Exact, from the receptive fields [Araujo et al. 2019]. A last row or column that strides leave over is common "
    "and harmless, under 1 % of most images: it is a note.",
    "the first image, the pixels that are not seen in crimson",
)
