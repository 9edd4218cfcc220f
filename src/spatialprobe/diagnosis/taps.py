"""The input pixels that a unit of a dilated layer sees one by one, found by following single pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.fields.result import ReceptiveField

if TYPE_CHECKING:
    from spatialprobe.diagnosis.evidence import Evidence

_MOST_STRIDE = 32  # a pass is made for each pixel of a stride
_MOST_PASSES = 48

Seen = Mapping[str, tuple[npt.NDArray[np.bool_], ...]]  # of each layer, along each axis: whether a pixel is seen


def dilated_layers(evidence: Evidence) -> dict[str, ReceptiveField]:
    """Return the exact fields of the dilated convolutions whose units repeat over the image."""
    found = {}
    for name in evidence.ran:
        module = evidence.modules.get(name)
        if not isinstance(module, nn.modules.conv._ConvNd) or module.transposed:
            continue
        axes = zip(module.kernel_size, module.dilation, strict=True)
        if any(kernel > 1 and dilation > 1 for kernel, dilation in axes):
            field = evidence.exact_field(name)
            if field is not None and _repeats(field):
                found[name] = field
    return found


def _repeats(field: ReceptiveField) -> bool:
    return set(field.period) == {1} and all(
        stride == int(stride) and 0 < stride <= _MOST_STRIDE for stride in field.stride
    )


def find_seen_offsets(evidence: Evidence, layers: Mapping[str, ReceptiveField]) -> Seen:
    """Return which pixels of its field a unit of each layer sees along each axis; of layers that show it.

    The model is traced with all pixels but one replaced by constants, for as many pixels as it takes to ask for each
    pixel of a field. A unit sees the pixel if its field is not empty then. Units whose field leaves the image are not
    asked, since padding cuts some of their paths.
    """
    found = {name: [np.full(size, -1) for size in one.size] for name, one in layers.items()}  # -1: not known
    for pixel in _pixels_of(layers.values()):
        fields = evidence.trace_pixel(pixel)
        for name, one in layers.items():
            if name in fields:
                _note(found[name], one, fields.calls(name)[0], pixel)
    known = {name: axes for name, axes in found.items() if all((along >= 0).all() for along in axes)}
    return {name: tuple(along == 1 for along in axes) for name, axes in known.items()}


def _pixels_of(fields: Iterable[ReceptiveField]) -> list[tuple[int, ...]]:
    """Return the pixels to follow, so that each pixel of these fields is asked for; at most so many as are traced."""
    pixels: dict[tuple[int, ...], None] = {}
    for field in fields:
        along = [_places_along(field, axis) for axis in range(len(field.size))]
        count = max(map(len, along)) if all(along) else 0
        wanted = [tuple(places[min(at, len(places) - 1)] for places in along) for at in range(count)]
        if len(pixels | dict.fromkeys(wanted)) <= _MOST_PASSES:
            pixels |= dict.fromkeys(wanted)
    return list(pixels)


def _places_along(field: ReceptiveField, axis: int) -> list[int]:
    """Return the places of pixels along one axis that show every offset in the field; none if all fields leave it.

    A pixel shows one offset of each unit that may see it: a run of offsets as long as that of the units.
    """
    size, stride, image = field.size[axis], int(field.stride[axis]), field.input_size[axis]
    starts = np.unique(field.boxes(clip=False)[..., axis])
    starts = starts[(starts >= 0) & (starts + size <= image)]
    if not len(starts):
        return []
    first, last = int(starts[0]), int(starts[-1])
    runs = range(last, last + size, last - first + stride)
    return [place for run in runs for place in range(run, run + stride) if place < image]


def _note(found: list[npt.NDArray[Any]], whole: ReceptiveField, lit: ReceptiveField, pixel: tuple[int, ...]) -> None:
    """Note at which offsets from their first pixel units see a pixel, along each axis."""
    axes = len(whole.input_size)
    boxes, reached = whole.boxes(clip=False), lit.boxes()
    seeing = np.asarray((reached[..., axes:] > reached[..., :axes]).all(axis=-1))
    starts, stops = boxes[..., :axes], boxes[..., axes:]
    inside = np.asarray(((starts >= 0) & (stops <= np.array(whole.input_size))).all(axis=-1))
    within = np.asarray(inside & ((starts <= np.array(pixel)) & (np.array(pixel) < stops)).all(axis=-1))
    offsets = np.array(pixel) - starts
    for axis in range(axes):
        for offset, hit in zip(offsets[within][:, axis], seeing[within], strict=True):
            found[axis][offset] = max(found[axis][offset], int(hit))


def keep_pixel(images: torch.Tensor, pixel: tuple[int, ...]) -> torch.Tensor:
    """Return images (N, C, *axes) in which all but one pixel is replaced by zeros that depend on nothing.

    >>> keep_pixel(torch.ones(1, 1, 2, 3), (1, 0)).tolist()
    [[[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]]
    """
    for axis, place in enumerate(pixel, start=2):
        parts = [images.narrow(axis, start, length) for start, length in _runs_around(place, images.shape[axis])]
        images = torch.cat([parts[1] if one is parts[1] else _zeros(one) for one in parts], dim=axis)
    return images


def keep_lines(images: torch.Tensor, kept: Sequence[npt.NDArray[np.bool_]], axis: int = 2) -> torch.Tensor:
    """Return images (N, C, *axes) in which all pixels are replaced by zeros but those on some lines along any axis.

    >>> rows, columns = np.array([True, False]), np.array([False, False, True])
    >>> keep_lines(torch.ones(1, 1, 2, 3), (rows, columns)).tolist()
    [[[[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]]]
    """
    if not kept:
        return _zeros(images)
    along, parts, start = kept[0], [], 0
    for stop in [*(np.flatnonzero(np.diff(along)) + 1).tolist(), len(along)]:
        part = images.narrow(axis, start, stop - start)
        parts.append(part if along[start] else keep_lines(part, kept[1:], axis + 1))
        start = stop
    return torch.cat(parts, dim=axis)


def _runs_around(place: int, size: int) -> tuple[tuple[int, int], ...]:
    """Return start and length of what lies before a place, of itself, and of what lies after it."""
    return (0, place), (place, 1), (place + 1, size - place - 1)


def _zeros(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(like.shape, device=like.device, dtype=like.dtype)
