"""The part of the page for each layer: its maps, its units and their fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.errors import ArgumentError
from spatialprobe.fields.collection import ReceptiveFields
from spatialprobe.fields.question import Ignored
from spatialprobe.fields.receptive_fields import receptive_fields
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import Selector, select
from spatialprobe.report.box_tables import LayerBoxes
from spatialprobe.report.coded_kernels import CodedKernels
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.report.concepts import Concepts
from spatialprobe.report.contributions import Contributions
from spatialprobe.report.page_batch import PageBatch
from spatialprobe.report.passes import Passes, Run
from spatialprobe.report.sources import IMAGE
from spatialprobe.report.swept import Swept
from spatialprobe.report.synthesized import Synthesized

DIFFERENCE = "difference"  # the kind of a layer that is the difference of two


@dataclass(frozen=True, eq=False)
class Grid:
    """The units of a layer for images of one size."""

    field: ReceptiveField
    boxes: LayerBoxes


@dataclass(frozen=True, eq=False)
class PageLayer:
    """One run of one layer for all images of the page."""

    name: str  # as the page shows it, unlike that of any other
    layer: str
    kind: str  # the module's class
    channels: npt.NDArray[np.int64]  # the numbers of the channels that are kept
    of: int  # channels that the layer has
    maps: tuple[CodedMaps, ...]  # one an image
    grids: tuple[Grid, ...]  # one a size of the images
    kernels: CodedKernels | None = None
    swept: Swept | None = None
    kernels_left_out: bool = False
    every: int = 1  # one of so many rows and columns of units is kept of every map
    coarse: int = 0  # channels of whose maps only every second row and column is kept
    run: int = 0  # of the layer, counted from 0
    contributions: Contributions | None = None  # to the scores; None: not asked for, or there are none
    synthesized: Synthesized | None = None
    concepts: Concepts | None = None
    beside: tuple[CodedMaps, ...] = ()  # maps of another model's layer that shares the colors
    strength: npt.NDArray[np.float64] | None = None  # (C,) by which channels are kept; None: that of the first image
    source: str | None = None  # the name on the page of the layer whose values it took, "" for the image, None: unknown

    @property
    def field(self) -> ReceptiveField:
        """The field for images of the first size."""
        return self.grids[0].field

    @property
    def boxes(self) -> LayerBoxes:
        """The boxes for images of the first size."""
        return self.grids[0].boxes

    @property
    def is_difference(self) -> bool:
        """Whether these are the differences between the maps of two models."""
        return self.kind == DIFFERENCE

    @cached_property
    def signed(self) -> bool:
        """Whether colors lead from -reach to reach: of differences, or where a finite value of any image is below 0."""
        return self.is_difference or any(maps.extremes.signed for maps in (*self.maps, *self.beside))

    @cached_property
    def reach(self) -> float:
        """The largest finite magnitude over all channels and images, 1 where there is none."""
        return max(float(maps.reach.max()) for maps in (*self.maps, *self.beside)) or 1.0

    @cached_property
    def robust(self) -> float:
        """The magnitude that all but a few of the values of each image stay below."""
        return max(maps.robust for maps in (*self.maps, *self.beside)) or self.reach

    def left_out(self) -> list[str]:
        """Return the sentences that say what of the layer is not kept."""
        kept = len(self.channels)
        return [
            *([f"{kept} of {self.of} channels, the ones with the largest values"] if kept < self.of else []),
            *[told for one in (self.swept, self.synthesized) if one and (told := one.left_out())],
            *(
                [f"{'' if self.coarse == kept else f'{self.coarse} '}maps at 1/2 of their resolution"]
                * bool(self.coarse)
            ),
            *(["no kernels"] if self.kernels_left_out else []),
        ]

    def without_kernels(self) -> PageLayer:
        """The same without kernels."""
        return replace(self, kernels=None, kernels_left_out=self.kernels is not None)

    def of_channels(self, chosen: npt.NDArray[np.int64]) -> PageLayer:
        """The same with some of its channels."""
        return replace(
            self,
            channels=self.channels[chosen],
            maps=tuple(maps.of_channels(chosen) for maps in self.maps),
            grids=tuple(
                replace(grid, boxes=replace(grid.boxes, of_channel=grid.boxes.of_channel[chosen]))
                for grid in self.grids
            ),
            kernels=self.kernels and self.kernels.of_channels(chosen),
            swept=self.swept and self.swept.of_channels(chosen),
            synthesized=self.synthesized and self.synthesized.of_channels(chosen),
            concepts=self.concepts and self.concepts.of_channels(chosen),
            contributions=self.contributions and self.contributions.of_channels(chosen),
            strength=None if self.strength is None else self.strength[chosen],
        )


def page_fields(
    batch: PageBatch,
    layers: Selector,
    at: At,
    found: Passes,
    layout: LayoutChoice = "auto",
    ignore: Ignored = (),
) -> list[ReceptiveFields]:
    """Return the fields of the layers that have maps, of their outputs or of the nonlinearities' that follow.

    There is one entry for each size of the images.

    Raises:
        ArgumentError: no layer has maps, or `ignore` holds something else than module types and their names.
    """
    if not found.maps:
        why = list(dict.fromkeys(found.left_out.values()))
        some = why if len(why) <= 3 else [*why[:3], f"So are {len(why) - 3} more."]
        raise ArgumentError(f"None of these layers has maps to show. {' '.join(some)}")
    modules = list(_modules_of(batch, layers, found).values())
    return [
        receptive_fields(*batch.one(image), layers=modules, at=at, layout=layout, ignore=ignore)
        for image in _firsts_of(batch)
    ]


def remarks_on(fields: Sequence[ReceptiveFields]) -> tuple[str, ...]:
    """Return the remarks on the fields for images of each size, each once."""
    return tuple(dict.fromkeys(remark for one in fields for remark in one.remarks))


def page_layers(
    batch: PageBatch, layers: Selector, found: Passes, fields: Sequence[ReceptiveFields]
) -> list[PageLayer]:
    """Return the layers that have maps, in the order of execution, with their fields for the images of each size."""
    modules, firsts = _modules_of(batch, layers, found), _firsts_of(batch)
    runs = {layer: sum(other == layer for other, _ in found.maps) for layer, _ in found.maps}
    made: list[PageLayer] = []
    names: dict[Run, str] = {IMAGE: ""}
    for run, maps in found.maps.items():
        channels = len(maps[0].codes)
        made.append(
            PageLayer(
                name=_name(run, runs[run[0]], [one.name for one in made]),
                layer=run[0],
                run=run[1],
                kind=found.kinds[run],
                channels=np.arange(channels),
                of=channels,
                maps=tuple(maps),
                grids=tuple(
                    Grid(_fitting(field, maps[image]), LayerBoxes.of(field, channels))
                    for field, image in zip((one.calls(run[0])[run[1]] for one in fields), firsts, strict=True)
                ),
                kernels=CodedKernels.of_module(modules[run[0]]),
                source=_source(found, run, names),
            )
        )
        names[run] = made[-1].name
    return made


def _modules_of(batch: PageBatch, layers: Selector, found: Passes) -> dict[str, nn.Module]:
    """Return the layers that have maps by their names."""
    shown = {layer for layer, _ in found.maps}
    chosen = select(batch.one(0)[0], layers, scripted=True)
    return {layer.name: layer.module for layer in chosen if layer.name in shown}


def _firsts_of(batch: PageBatch) -> list[int]:
    """Return the number of the first image of each size."""
    return [batch.size_of.index(size) for size in range(len(batch.sizes))]


def _source(found: Passes, run: Run, names: Mapping[Run, str]) -> str | None:
    """Return the name on the page of the layer whose values a run took, "" for the image, None if unknown."""
    source = found.sources.get(run)
    return None if source is None else names.get(source)


def _fitting(field: ReceptiveField, maps: CodedMaps) -> ReceptiveField:
    """The field, if it is one of these maps."""
    if tuple(field.output_size) not in (maps.codes.shape[1:], maps.codes.shape[2:]):
        raise ArgumentError(
            f"Layer {field.layer!r} returned maps of {maps.codes.shape[1:]}, but its field has units "
            f"{field.output_size}: the page shows maps (N, C, H, W) of images (N, C, H, W)."
        )
    return field


def _name(run: Run, runs: int, taken: Sequence[str]) -> str:
    """Return what the page calls a run: its layer, with a number where it ran several times."""
    name = (run[0] or "(model)") + (f" run {run[1]}" if runs > 1 else "")
    while name in taken:
        name += "'"
    return name
