"""What channels contribute to the answers, what removing them did, and maps of other origin, for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.activations.records import At
from spatialprobe.arguments import short_repr
from spatialprobe.attribution.attribute import attribute
from spatialprobe.attribution.result import Attribution
from spatialprobe.attribution.target import TargetChoice
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.deletion import SAMPLED, channel_deletion, score_falls
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.render.attribution_map import nearest_units
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.statistics.progress import Shown, Silent, progress_bar
from spatialprobe.text import format_count, kind_of

if TYPE_CHECKING:
    from spatialprobe.report.layers import PageLayer
    from spatialprobe.report.page_batch import PageBatch

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BUDGET = 4096  # samples: so often channels are ablated one by one, over all layers and images
_LEAST = 8  # channels of each layer and image that are, whatever the budget


@dataclass(frozen=True, eq=False)
class OverInput:
    """Signed maps, one an image, and how they lie over the pixels of the input."""

    maps: tuple[CodedMaps, ...]  # one an image, of one channel
    rows: Ints  # (H,): the row of the map that each row of pixels shows
    columns: Ints  # (W,): the column

    @staticmethod
    def of(maps: Floats, size: Sequence[int], field: ReceptiveField | None) -> OverInput:
        """Return maps (N, h, w) over an input (H, W): units lie over the middles of their fields, else evenly.

        Maps of signals are (N, w), over a line of (W,).
        """
        lines = [nearest_units(field, axis, maps.shape[1 + axis], pixels) for axis, pixels in enumerate(size)]
        rows, columns = lines if len(lines) == 2 else (np.zeros(1, np.int64), *lines)
        return OverInput(tuple(CodedMaps.of(one[None]) for one in maps), rows, columns)


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


@dataclass(frozen=True, eq=False)
class Overlay:
    """Maps of other origin, over the input."""

    name: str
    over: OverInput

    @cached_property
    def reach(self) -> float:
        """The end of the scale, one for all images."""
        return max(one.robust for one in self.over.maps) or 1.0


class Explained:
    """The contributions of the page's layers to one target.

    Raises:
        ArgumentError: the target is none of this model.
        SpatialProbeError: as of `attribute`.
    """

    def __init__(
        self,
        batch: PageBatch,
        target: TargetChoice,
        names: set[str],
        at: At,
        layout: LayoutChoice,
    ) -> None:
        self._model, self._batch, images = batch.model, batch.batch, batch.pictures
        chosen: Any = {"layers": lambda name, _: name in names, "forward": batch.forward}
        self._found = attribute(batch.model, batch.batch, target, at=at, layout=layout, **chosen)
        self._size, self._count = tuple(images.shape[2:]), len(images)
        self._runs = [one for layer in self._found for one in self._found.calls(layer)]
        first = self._runs[0]
        pixels = prod(self._size)
        self.score = Score(
            tuple(first.target.tolist()), tuple(map(float, first.score)), first._question.reach / pixels or 1.0
        )
        self._single = max(_LEAST, _BUDGET // (len(images) * len(self._runs)))

    @property
    def samples(self) -> int:
        """How many samples run to check the contributions."""
        singles = (min(self._single, one.channels.shape[1]) for one in self._runs)
        return sum(count + SAMPLED for count in singles) * self._count

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
        size = self._size
        if found.map is not None and found.map.ndim - 1 == len(size) < 3:
            maps = found.map.double().numpy() * (found.map[0].numel() / prod(size))
            over = OverInput.of(maps, size, field if field.output_size == tuple(found.map.shape[1:]) else None)
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

    Raises:
        SpatialProbeError: as of `attribute`.
    """
    explained = Explained(batch, target, {one.layer for one in layers}, at, layout)
    with progress_bar(progress, done=0, total=explained.samples, title="ablation") as bar:
        found = [replace(one, contributions=explained.of(one.layer, one.run, one.field, bar)) for one in layers]
    return found, explained.score


def read_overlays(overlays: object, images: torch.Tensor) -> tuple[Overlay, ...]:
    """Return the maps that are passed for the input images (N, C, H, W), or signals (N, C, L).

    Raises:
        ArgumentError: they are no mapping of names to maps (N, h, w) of finite numbers.
    """
    if overlays is None:
        return ()
    if not isinstance(overlays, Mapping):
        raise ArgumentError(f"overlays is {kind_of(overlays)}: pass a mapping of names to tensors (N, h, w).")
    if overlays and images.ndim == 5:
        raise ArgumentError("overlays= are maps over images and signals, and these are volumes: leave overlays out.")
    for name in overlays:
        if not isinstance(name, str):
            raise ArgumentError(
                f"overlays has the name {short_repr(name)}: pass a text, overlays={{'saliency': maps}}."
            )
    return tuple(Overlay(name, _over(name, maps, images)) for name, maps in overlays.items())


def _over(name: object, given: object, images: torch.Tensor) -> OverInput:
    try:
        maps = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"overlays[{name!r}] is {kind_of(given)}: pass a tensor (N, h, w).") from error
    if maps.ndim != images.ndim - 1 or len(maps) != len(images) or not maps.numel():
        one, all_of_them = ("(h, w)", "(N, h, w)") if images.ndim == 4 else ("(w,)", "(N, w)")
        raise ArgumentError(
            f"overlays[{name!r}] is {tuple(maps.shape)} for {format_count(len(images), 'image')}: pass one signed map "
            f"{one} for each, {all_of_them}."
        )
    if not maps.isfinite().all():
        raise ArgumentError(f"overlays[{name!r}] holds values that are infinite or NaN.")
    return OverInput.of(maps.numpy(), images.shape[2:], None)
