"""Signed maps over the input: how they lie over its pixels, and those of other origin that users pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.render.attribution_map import nearest_units
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.text import format_count, kind_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Spread:
    """How a map lies over the input: which of its units each line of pixels shows."""

    size: tuple[int, ...]  # of the map
    lines: tuple[Ints, ...]  # along each axis of the input, (pixels,) numbers of units

    @staticmethod
    def of(units: tuple[int, ...], size: Sequence[int], field: ReceptiveField | None) -> Spread:
        """Return that of a map over an input (L,), (H, W) or (D, H, W).

        Units lie over the middles of their fields, or evenly where the field is not known.
        """
        return Spread(units, tuple(nearest_units(field, axis, units[axis], pixels) for axis, pixels in enumerate(size)))


@dataclass(frozen=True, eq=False)
class OverInput:
    """Signed maps, one an image, and how they lie over the pixels of the input."""

    maps: tuple[CodedMaps, ...]  # one an image, of one channel
    spreads: tuple[Spread, ...]  # one an image; images of one size share it

    @staticmethod
    def of(
        maps: Sequence[Floats], sizes: Sequence[Sequence[int]], fields: Sequence[ReceptiveField | None]
    ) -> OverInput:
        """Return maps over inputs of these sizes, (L,), (H, W) or (D, H, W) as the maps are."""
        made: dict[tuple[object, ...], Spread] = {}
        spreads = []
        for one, size, field in zip(maps, sizes, fields, strict=True):
            key = one.shape, tuple(size), id(field)
            if key not in made:
                made[key] = Spread.of(one.shape, size, field)
            spreads.append(made[key])
        return OverInput(tuple(CodedMaps.of(one[None]) for one in maps), tuple(spreads))


@dataclass(frozen=True, eq=False)
class Overlay:
    """Maps of other origin, over the input."""

    name: str
    over: OverInput

    @cached_property
    def reach(self) -> float:
        """The end of the scale, one for all images."""
        return max(one.robust for one in self.over.maps) or 1.0


def read_overlays(overlays: object, images: Sequence[torch.Tensor]) -> tuple[Overlay, ...]:
    """Return the maps that are passed for the input images (C, H, W), or signals (C, L), or volumes (C, D, H, W).

    Raises:
        ArgumentError: they are no mapping of names to maps (N, h, w) of finite numbers.
    """
    if overlays is None:
        return ()
    if not isinstance(overlays, Mapping):
        raise ArgumentError(f"overlays is {kind_of(overlays)}: pass a mapping of names to tensors (N, h, w).")
    for name in overlays:
        if not isinstance(name, str):
            raise ArgumentError(
                f"overlays has the name {short_repr(name)}: pass a text, overlays={{'saliency': maps}}."
            )
    return tuple(Overlay(name, _over(name, maps, images)) for name, maps in overlays.items())


def _over(name: str, given: object, images: Sequence[torch.Tensor]) -> OverInput:
    axes = images[0].ndim - 1
    one = {1: "(w,)", 2: "(h, w)", 3: "(d, h, w)"}[axes]
    all_of_them = one.replace("(", "(N, ").replace(",)", ")")
    try:
        listed = [*given] if isinstance(given, list | tuple) else [*torch.as_tensor(given, device="cpu")]
        maps = [torch.as_tensor(each, dtype=torch.float64, device="cpu").detach() for each in listed]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"overlays[{name!r}] is {kind_of(given)}: pass a tensor {all_of_them}.") from error
    if len(maps) != len(images) or any(each.ndim != axes or not each.numel() for each in maps):
        shapes = ", ".join(dict.fromkeys(str(tuple(each.shape)) for each in maps))
        raise ArgumentError(
            f"overlays[{name!r}] holds {len(maps)} of {shapes or 'none'} for {format_count(len(images), 'image')}: "
            f"pass one signed map {one} for each, {all_of_them}, or a list of them."
        )
    if not all(each.isfinite().all() for each in maps):
        raise ArgumentError(f"overlays[{name!r}] holds values that are infinite or NaN.")
    sizes = [image.shape[1:] for image in images]
    return OverInput.of([each.numpy() for each in maps], sizes, [None] * len(maps))
