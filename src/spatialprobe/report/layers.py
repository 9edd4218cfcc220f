"""The part of the page for each layer: taken from the model, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.activations.capture import record_pass
from spatialprobe.activations.probe import Probe
from spatialprobe.activations.records import Activation, At, shape_of, why_in_doubt, with_layout
from spatialprobe.errors import ArgumentError, SpatialProbeError, UnsupportedOutputError
from spatialprobe.fields.known_layouts import Layouts
from spatialprobe.fields.layout import layouts_of
from spatialprobe.fields.receptive_fields import receptive_fields
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import images_error
from spatialprobe.model.layout import Layout, LayoutChoice, describe_rows, fits
from spatialprobe.model.select import Selector, find_exact_names, model_name, select
from spatialprobe.render.maps import maps_of, no_maps
from spatialprobe.render.scale import Values
from spatialprobe.report.box_tables import LayerBoxes
from spatialprobe.report.coded_kernels import CodedKernels
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.report.contributions import Contributions
from spatialprobe.report.page_batch import PageBatch
from spatialprobe.report.pixels import is_lossless
from spatialprobe.report.sources import IMAGE, sources_of, watched_inputs
from spatialprobe.report.swept import Swept
from spatialprobe.text import format_count

DIFFERENCE = "difference"  # the kind of a layer that is the difference of two
Run = tuple[str, int]  # a layer's name, and which of its runs


@dataclass(frozen=True, eq=False)
class PageLayer:
    """One run of one layer for all images of the page."""

    name: str  # as the page shows it, unlike that of any other
    layer: str
    kind: str  # the module's class
    channels: npt.NDArray[np.int64]  # the numbers of the channels that are kept
    of: int  # channels that the layer has
    maps: tuple[CodedMaps, ...]  # one an image
    field: ReceptiveField
    boxes: LayerBoxes
    kernels: CodedKernels | None = None
    swept: Swept | None = None
    kernels_left_out: bool = False
    every: int = 1  # one of so many rows and columns of units is kept of every map
    coarse: int = 0  # channels of whose maps only every second row and column is kept
    run: int = 0  # of the layer, counted from 0
    contributions: Contributions | None = None  # to the scores; None: not asked for, or there are none
    beside: tuple[CodedMaps, ...] = ()  # maps of another model's layer that shares the colors
    strength: npt.NDArray[np.float64] | None = None  # (C,) by which channels are kept; None: that of the first image
    source: str | None = None  # the name on the page of the layer whose values it took, "" for the image, None: unknown

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
            *([self.swept.left_out()] if self.swept and self.swept.left_out() else []),  # type: ignore[list-item]
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
            boxes=replace(self.boxes, of_channel=self.boxes.of_channel[chosen]),
            kernels=self.kernels and self.kernels.of_channels(chosen),
            swept=self.swept and self.swept.of_channels(chosen),
            contributions=self.contributions and self.contributions.of_channels(chosen),
            strength=None if self.strength is None else self.strength[chosen],
        )


@dataclass(frozen=True, eq=False)
class Passes:
    """The values and fields of the forward passes of all images."""

    maps: dict[Run, list[CodedMaps]]
    kinds: dict[Run, str]
    left_out: dict[Run, str]  # layers without maps, and why, a sentence each
    outputs: list[Any]  # what the model returned for each image
    unrecorded: set[str] = field(default_factory=set)  # layers that did not run, or returned nothing to record
    folded: set[str] = field(default_factory=set)  # layers that returned several values for one image in some run
    sources: dict[Run, Run] = field(default_factory=dict)  # what a convolution took, where that is known
    values: dict[Run, list[Values]] = field(default_factory=dict)  # the maps of each image before they are coded
    keeps_values: bool = False


def passes(
    batch: PageBatch, layers: Selector, at: At, layout: LayoutChoice = "auto", *, keeps_values: bool = False
) -> Passes:
    """One forward pass for each sample, in evaluation mode; the model is restored afterwards.

    Raises:
        ForwardError: the model raises an error on an image.
        LayerNotFoundError, UnsupportedOutputError: as of a probe.
    """
    found = Passes({}, {}, {}, [], keeps_values=keeps_values)
    known: Layouts = {}  # where the channels of layers are of which their records leave it in doubt
    with EvaluationMode(batch.model):
        for model, image in batch:
            records = _noted_sources(found, model, image, layers, at)
            for layer in records:
                for index, record in enumerate(records.calls(layer)):
                    record = with_layout(record, layout)
                    if record.layout is None:
                        known = known or layouts_of(model, image, records)
                        record = replace(record, layout=_layout(known, layer, index))
                    _note(found, (layer, index), record)
            for layer in (name for name in records.watched if name not in records):
                found.unrecorded.add(layer)
                found.left_out[layer, 0] = f"{layer or model_name(batch.model)} is left out: {_why_not(records, layer)}"
            found.outputs.append(records.output)
    for run in [run for run in found.maps if run[0] in found.folded]:
        del found.maps[run]
    for run in [run for run, maps in found.maps.items() if len(maps) < len(batch)]:
        ran, name = len(found.maps.pop(run)), run[0] or model_name(batch.model)
        found.left_out[run] = f"{name} is left out: it ran for {ran} of {format_count(len(batch), 'image')}."
    return found


def check_left_out(model: nn.Module, layers: Selector, found: Passes) -> None:
    """Raise an error if a layer that was chosen by its name has no record, though others have maps."""
    exact, shown = find_exact_names(model, layers), {layer for layer, _ in found.maps}
    for (layer, _), why in found.left_out.items():
        if shown and layer in exact & (found.unrecorded | found.folded) and layer not in shown:
            raise UnsupportedOutputError(f"{why} It was chosen by its name: leave it out of layers=.")


def _why_not(records: Probe, layer: str) -> str:
    """Return why a layer has no record, the end of a sentence."""
    if layer in records.silent:
        return "it did not run."
    why = records.left_out[layer]
    return "no single nonlinearity follows it." if why.startswith("No single nonlinearity") else why


def page_layers(
    batch: PageBatch,
    layers: Selector,
    at: At,
    found: Passes,
    layout: LayoutChoice = "auto",
) -> list[PageLayer]:
    """The layers that have maps, in the order of execution.

    Raises:
        ArgumentError: none has.
    """
    if not found.maps:
        why = list(found.left_out.values())
        some = why if len(why) <= 3 else [*why[:3], f"So are {len(why) - 3} more."]
        raise ArgumentError(f"None of these layers has maps to show. {' '.join(some)}")
    model, image = batch.one(0)
    shown = {layer for layer, _ in found.maps}
    modules = {layer.name: layer.module for layer in select(model, layers, scripted=True) if layer.name in shown}
    fields = fields_of(model, image, list(modules.values()), at, layout)
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
                field=_fitting(fields[run], maps[0]),
                boxes=LayerBoxes.of(fields[run], channels),
                kernels=CodedKernels.of_module(modules[run[0]]),
                source=_source(found, run, names),
            )
        )
        names[run] = made[-1].name
    return made


def fields_of(
    model: nn.Module, images: torch.Tensor, layers: Selector, at: At, layout: LayoutChoice = "auto"
) -> dict[Run, ReceptiveField]:
    """The field of every run of the layers: of their outputs, or of the nonlinearities' that follow."""
    fields = receptive_fields(model, images, layers=layers, at=at, layout=layout)
    return {(name, i): one for name in fields for i, one in enumerate(fields.calls(name))}


def _source(found: Passes, run: Run, names: Mapping[Run, str]) -> str | None:
    """Return the name on the page of the layer whose values a run took, "" for the image, None if unknown."""
    source = found.sources.get(run)
    return None if source is None else names.get(source)


def _layout(known: Layouts, layer: str, run: int) -> Layout | None:
    runs = known.get(layer, ())
    return runs[run] if run < len(runs) else None


def _noted_sources(found: Passes, model: nn.Module, image: torch.Tensor, layers: Selector, at: At) -> Probe:
    """Return the records of an image; with the first, what the convolutions took is noted."""
    if found.outputs:
        return _captured(model, image, layers, at)
    modules = {layer.name: layer.module for layer in select(model, layers, scripted=True)}
    with watched_inputs(modules) as taken:
        records = _captured(model, image, layers, at)
    runs = (((name, i), one.tensor) for name in records for i, one in enumerate(records.calls(name)))
    found.sources.update(sources_of(taken, image if _is_readable(image) else None, runs))
    return records


def _is_readable(image: torch.Tensor) -> bool:
    """Return whether the values of an image (1, C, H, W) can be read off the picture that the page has of it."""
    planar = image.ndim == 4 and image.shape[1] in (1, 3)
    return planar and is_lossless(*image.shape[2:]) and bool(image.isfinite().all())


def _captured(model: nn.Module, image: torch.Tensor, layers: Selector, at: At) -> Probe:
    try:
        return record_pass(model, (image,), layers=layers, at=at, missing="ignore")
    except SpatialProbeError:
        raise
    except Exception as error:
        raise images_error(model, image, error) from error


def _note(found: Passes, run: Run, record: Activation) -> None:
    """Add the maps of a record, or why it has none."""
    if record.layout is not None and not fits(record.layout, record.shape):
        found.left_out[run] = (
            f"{record.layer or record.module_type} is left out: {shape_of(record)} does not have the layout "
            f"{record.layout}."
        )
        return
    problem = describe_rows(record.shape, 1)
    if problem:
        found.folded.add(record.layer)
        found.left_out[run] = (
            f"{record.layer or record.module_type} is left out: it returned {shape_of(record)} for one image. {problem}"
        )
        return
    if why_in_doubt(record):
        found.left_out[run] = (
            f"{record.layer or record.module_type} is left out: it is not known which axis of {shape_of(record)} holds "
            "the channels."
        )
        return
    maps = None if no_maps(record) else maps_of(record, 0)
    if maps is None or maps.ndim not in (2, 3, 4):
        name, returned = record.layer or record.module_type, shape_of(record)
        found.left_out[run] = f"{name} is left out: it returned {returned} of {record.dtype}, no maps."
        return
    found.kinds[run] = record.module_type
    found.maps.setdefault(run, []).append(CodedMaps.of(maps))
    if found.keeps_values:
        found.values.setdefault(run, []).append(maps)


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
