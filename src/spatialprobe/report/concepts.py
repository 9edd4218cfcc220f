"""The concepts that the channels of a layer align with best, as the page lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from spatialprobe.activations.records import At
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.alignment import ConceptAlignment
from spatialprobe.report.packing import packed

Alignment: TypeAlias = ConceptAlignment | Sequence[ConceptAlignment] | Mapping[str, ConceptAlignment]

_LISTED = 4  # concepts of each channel


@dataclass(frozen=True, eq=False)
class Concepts:
    """For each channel the concepts with the largest margins, the largest first."""

    names: tuple[str, ...]  # K
    order: npt.NDArray[np.int64]  # (C, k): numbers of concepts; -1 in all of a channel without active units
    numbers: npt.NDArray[np.float64]  # (3, C, k): intersection over union, with masks of other images, its spread
    at: At
    images: int
    shuffles: int  # readings of the masks of other images
    quantile: float  # the share of units that may be active

    @staticmethod
    def of(found: ConceptAlignment, channels: int) -> Concepts:
        """Return the concepts of a layer of so many channels.

        Raises:
            ArgumentError: they are of another number of channels.
        """
        if len(found.iou) != channels:
            raise ArgumentError(
                f"concepts is of {len(found.iou)} channels of layer {found.layer!r}, but the layer has {channels} "
                "here: pass what sp.evidence.concept_alignment found for this model."
            )
        order = np.argsort(-found.margin, axis=1, kind="stable")[:, :_LISTED]
        numbers = np.stack([np.take_along_axis(one, order, 1) for one in (found.iou, found.control, found.spread)])
        return Concepts(
            names=found.concepts,
            order=np.where(found.best[:, None] >= 0, order, -1),
            numbers=numbers,
            at=found.at,
            images=found.n,
            shuffles=found.shuffles,
            quantile=found.quantile,
        )

    def of_channels(self, chosen: npt.NDArray[np.int64]) -> Concepts:
        """Return the same for some of the channels."""
        return replace(self, order=self.order[chosen], numbers=self.numbers[:, chosen])

    def data(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        return {
            "names": self.names,
            "listed": self.order.shape[1],
            "order": packed(self.order, "<i4"),
            "numbers": packed(self.numbers, "<f4"),
            "reach": float(self.numbers[:2].max(initial=0)) or 1.0,
            "at": self.at,
            "images": self.images,
            "shuffles": self.shuffles,
            "quantile": self.quantile,
        }
