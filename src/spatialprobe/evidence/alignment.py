"""How well channels align with concepts: the result for one layer, and for several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatialprobe.activations.records import At
from spatialprobe.evidence.result import Floats, Ints
from spatialprobe.html_table import format_html_table
from spatialprobe.mappings import FrozenMapping
from spatialprobe.statistics.overlap import OverlapResult
from spatialprobe.text import describe_left_out, format_count, format_table

_HEADINGS = ("channel", "best concept", "IoU", "other images", "margin", "spread")
_NUMBERS = (0, 2, 3, 4, 5)


@dataclass(frozen=True, eq=False, repr=False)
class ConceptAlignment:
    """How well the channels of a layer align with concepts: intersections over unions, beside a control.

    >>> import torch, spatialprobe as sp
    >>> _ = torch.manual_seed(0)
    >>> masks = torch.randint(0, 3, (40, 12, 12))
    >>> images = torch.stack([masks == 1, masks == 2], dim=1).float()
    >>> model = torch.nn.Conv2d(2, 2, 1)
    >>> _ = model.weight.data.copy_(torch.eye(2)[:, :, None, None])  # channel 0 is bright where the mask is 1
    >>> data = list(zip(images, masks))
    >>> found = sp.evidence.concept_alignment(model, data, "", concepts=["one", "two"], quantile=0.4)[""]
    >>> found.best.tolist(), found.iou.round(2).tolist()
    ([0, 1], [[1.0, 0.0], [0.0, 1.0]])
    """

    layer: str
    at: At
    concepts: tuple[str, ...]  # K names
    iou: Floats  # (C, K): intersection over union of active units and pixels of the concept, over all images
    control: Floats  # (C, K): the mean of the same with masks of other images
    spread: Floats  # (C, K): its standard deviation over `shuffles` readings
    best: Ints  # (C,): the concept of the largest margin; -1 for a channel without active units
    threshold: Floats  # (C,): the value from which a unit is active
    active: Ints  # (C,): units that are active, in all images
    n: int  # images
    units: int  # of each map that lie in the image, by the centers of their fields
    quantile: float  # the share of units that may be active
    shuffles: int  # readings of the masks of other images
    seed: int  # of these

    @staticmethod
    def of(counts: OverlapResult, **measured: Any) -> ConceptAlignment:
        """Return the alignment of counted units, of which the first reading is with each image's own masks."""
        iou, active = counts.iou().numpy(), counts.active.numpy()
        control = iou[1:].mean(axis=0)
        return ConceptAlignment(
            iou=iou[0],
            control=control,
            spread=iou[1:].std(axis=0),
            best=np.where(active > 0, (iou[0] - control).argmax(axis=1), -1),
            active=active,
            shuffles=len(iou) - 1,
            **measured,
        )

    @property
    def margin(self) -> Floats:
        """How much larger the intersection over union is than with masks of other images, (C, K)."""
        return self.iou - self.control

    @property
    def best_margin(self) -> Floats:
        """The margin of each channel's best concept, (C,); 0 for a channel without active units."""
        return np.where(self.best >= 0, self.margin[np.arange(len(self.best)), self.best], 0.0)

    def __repr__(self) -> str:
        return format_table(self._title(), [_HEADINGS, *self._rows()], _NUMBERS)

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        return format_html_table(self._title(), _HEADINGS, self._rows(), flush_right=_NUMBERS)

    def _title(self) -> str:
        return (
            f"ConceptAlignment of layer {self.layer!r}, {self.at}, with {format_count(len(self.concepts), 'concept')}, "
            f"{format_count(self.n, 'image')}"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (str(channel), "never active", "", "", "", "")
            if best < 0
            else (
                str(channel),
                self.concepts[best],
                *(f"{float(one[channel, best]):.3f}" for one in (self.iou, self.control, self.margin)),
                f"{float(self.spread[channel, best]):.2g}",
            )
            for channel, best in enumerate(self.best.tolist())
        ]


class ConceptAlignments(FrozenMapping[str, ConceptAlignment]):
    """The alignment of each layer, found by its name, in the order in which the layers ran.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Conv2d(2, 3, 3))
    >>> data = [(torch.rand(1, 8, 8), torch.eye(8, dtype=torch.int64)) for _ in range(4)]
    >>> found = sp.evidence.concept_alignment(model, data)
    >>> list(found), found["1"].iou.shape, dict(found.left_out)
    (['0', '1'], (3, 1), {})
    """

    def __init__(self, items: Mapping[str, ConceptAlignment], left_out: Mapping[str, str]) -> None:
        super().__init__(items)
        self.left_out = FrozenMapping(left_out)  # layers chosen by a pattern that could not be measured, and why

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), dict(self.left_out))

    def __repr__(self) -> str:
        lines = [("layer", "channels", "mean margin of the best concept", "largest")]
        for name, one in self.items():
            top = int(one.best_margin.argmax())
            largest = (
                f"{one.best_margin[top]:.3f}: channel {top}, {one.concepts[one.best[top]]}"
                if one.best[top] >= 0
                else ""
            )
            lines.append((name or "(model)", str(len(one.best)), f"{one.best_margin.mean():.3f}", largest))
        table = format_table(f"ConceptAlignments of {format_count(len(self), 'layer')}", lines, (1, 2))
        return "\n".join(filter(None, [table, describe_left_out(self.left_out)]))

    def _repr_html_(self) -> str:
        """The table of each layer for a notebook."""
        return "".join(one._repr_html_() for one in self.values())
