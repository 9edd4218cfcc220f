"""What channels contribute to the answers, and what removing them did, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.attribution.attribute import attribute
from spatialprobe.attribution.result import Attribution
from spatialprobe.attribution.target import Target, TargetChoice
from spatialprobe.evidence.deletion import SAMPLED, channel_deletion, score_falls
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.report.over_input import OverInput
from spatialprobe.statistics.progress import Shown, Silent, progress_bar

if TYPE_CHECKING:
    from spatialprobe.report.layers import PageLayer
    from spatialprobe.report.page_batch import PageBatch

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BUDGET = 4096  # samples: so often channels are ablated one by one, over all layers and images
_LEAST = 8  # channels of each layer and image that are, whatever the budget


@dataclass(frozen=True, eq=False)
class Contributions:
    """What the channels of one layer contribute to the score of each image, signed."""

    channels: Floats  # (N, C)
    ablated: Floats  # (N, C): how far the score falls without that channel alone; NaN where that is not measured
    over: OverInput | None  # contributions summed over channels, per pixel of the input
    checks: tuple[str, ...]  # one an image: what removing the top channels did, beside random ones and the lowest

    def of_channels(self, chosen: Ints) -> Contributions:
        """Return the same for some of the channels; the maps and checks stay those of all."""
        return replace(self, channels=self.channels[:, chosen], ablated=self.ablated[:, chosen])


@dataclass(frozen=True, eq=False)
class Score:
    """The scores that contributions add to, and the scale on which all their maps are drawn."""

    targets: tuple[int, ...]  # the class of each image, -1 where a function says the score
    values: tuple[float, ...]  # one an image
    reach: float  # of the scale of all maps: contribution per pixel of the input


class Explained:
    """The contributions of the page's layers to one target, for images of one size.

    Raises:
        ArgumentError: the target is none of this model.
        SpatialProbeError: as of `attribute`.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        target: TargetChoice,
        size: tuple[int, ...],
        single: int,
        **options: Any,
    ) -> None:
        self._model, self._batch, self._size = model, batch, size
        self._found = attribute(model, batch, target, **options)
        self._runs = [one for layer in self._found for one in self._found.calls(layer)]
        first = self._runs[0]
        self._single = max(_LEAST, single // (len(first.score) * len(self._runs)))
        self.score = Score(
            tuple(first.target.tolist()), tuple(map(float, first.score)), first._question.reach / prod(size) or 1.0
        )

    @property
    def samples(self) -> int:
        """How many samples run to check the contributions."""
        singles = (min(self._single, one.channels.shape[1]) for one in self._runs)
        return sum(count + SAMPLED for count in singles) * len(self.score.values)

    def of(self, layer: str, run: int, field: ReceptiveField, bar: Silent) -> Contributions | None:
        """Return the contributions of one run of a layer; None where the score does not depend on it."""
        found = next((one for one in self._runs if (one.layer, one.call) == (layer, run)), None)
        return None if found is None else self._measure(found, field, bar)

    def _measure(self, found: Attribution, field: ReceptiveField, bar: Silent) -> Contributions:
        count, channels = found.channels.shape
        checks = ("It is the layer's only channel.",) * count
        if channels > 1:
            deletion = channel_deletion(self._model, self._batch, found)
            checks = tuple(deletion.words(image) for image in range(count))
        bar.update(SAMPLED * count)
        over = None
        if found.map is not None and found.map.ndim - 1 == len(self._size):
            maps = found.map.double().numpy() * (found.map[0].numel() / prod(self._size))
            known = field if field.output_size == tuple(found.map.shape[1:]) else None
            over = OverInput.of([*maps], [self._size] * count, [known] * count)
        return Contributions(found.channels.double().numpy(), self._ablate(found, bar), over, checks)

    def _ablate(self, found: Attribution, bar: Silent) -> Floats:
        """Return the fall of the score (N, C) without each channel alone, of those that contribute most, else NaN."""
        count, channels = found.channels.shape
        single = min(self._single, channels)
        chosen = found.channels.abs().argsort(dim=1, descending=True, stable=True)[:, :single]  # (N, single)
        masks = torch.zeros((single, count, channels), dtype=torch.bool, device="cpu")
        masks.scatter_(2, chosen.T[:, :, None], True)
        falls = score_falls(self._model, self._batch, found, masks, bar)  # (single, N)
        ablated = np.full((count, channels), np.nan)
        np.put_along_axis(ablated, chosen.numpy(), falls.T, axis=1)
        return ablated


def explain(
    layers: Sequence[PageLayer],
    batch: PageBatch,
    target: TargetChoice,
    at: At,
    layout: LayoutChoice,
    progress: Shown,
) -> tuple[list[PageLayer], Score]:
    """Return the page's layers with what their channels contribute to the scores, and these.

    Images of one size are explained together; of several sizes each alone, as its maps are.

    Raises:
        SpatialProbeError: as of `attribute`.
    """
    names = {one.layer for one in layers}
    options: Any = {"layers": lambda name, _: name in names, "forward": batch.forward, "at": at, "layout": layout}
    together = len(batch.sizes) == 1
    sizes = (0,) if together else batch.size_of
    groups = [batch.batch] if together else [batch.alone(image) for image in range(len(batch))]
    targets = [target] if together else _targets_of(target, len(batch))
    parts = [
        Explained(batch.model, group, one, batch.sizes[size], _BUDGET // len(groups), **options)
        for group, one, size in zip(groups, targets, sizes, strict=True)
    ]
    total = sum(part.samples for part in parts)
    with progress_bar(progress, done=0, total=total, title="ablation") as bar:
        found = []
        for layer in layers:
            each = [
                part.of(layer.layer, layer.run, layer.grids[n].field, bar) for part, n in zip(parts, sizes, strict=True)
            ]
            found.append(replace(layer, contributions=_join_contributions(each)))
    return found, _join_scores([part.score for part in parts])


def _targets_of(target: TargetChoice, count: int) -> Sequence[Any]:
    """Return the target of each image alone."""
    if isinstance(target, str | int) or callable(target):
        return [target] * count
    Target.of(target, count)
    return [int(one) for one in target]


def _join_contributions(parts: Sequence[Contributions | None]) -> Contributions | None:
    """Return the contributions to the scores of all images; None where one of them does not depend on the layer."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    overs = [part.over for part in known if part.over is not None]
    over = OverInput(*(sum((getattr(one, name) for one in overs), ()) for name in ("maps", "spreads")))
    return Contributions(
        np.concatenate([part.channels for part in known]),
        np.concatenate([part.ablated for part in known]),
        over if len(overs) == len(known) else None,
        sum((part.checks for part in known), ()),
    )


def _join_scores(scores: Sequence[Score]) -> Score:
    """Return the scores of all images, on the scale of the largest contributions."""
    return Score(
        sum((one.targets for one in scores), ()),
        sum((one.values for one in scores), ()),
        max(one.reach for one in scores),
    )
