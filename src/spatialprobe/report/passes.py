"""What one forward pass for each image shows of the layers: their maps, or why they have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.capture import record_pass
from spatialprobe.activations.probe import Probe
from spatialprobe.activations.records import Activation, At, shape_of, why_in_doubt, with_layout
from spatialprobe.errors import SpatialProbeError, UnsupportedOutputError
from spatialprobe.fields.known_layouts import Layouts
from spatialprobe.fields.layout import layouts_of
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import images_error
from spatialprobe.model.layout import Layout, LayoutChoice, describe_rows, fits
from spatialprobe.model.select import Selector, find_exact_names, model_name, select
from spatialprobe.render.maps import maps_of, no_maps
from spatialprobe.render.scale import Values
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.report.page_batch import PageBatch
from spatialprobe.report.pixels import is_lossless
from spatialprobe.report.sources import sources_of, watched_inputs
from spatialprobe.text import format_count

Run = tuple[str, int]  # a layer's name, and which of its runs


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
    layouts: dict[int, Layouts] = {}  # for each size, where layers have channels of which records leave it in doubt
    with EvaluationMode(batch.model):
        for (model, image), size in zip(batch, batch.size_of, strict=True):
            records = _noted_sources(found, model, image, layers, at)
            for layer in records:
                for index, record in enumerate(records.calls(layer)):
                    record = with_layout(record, layout)
                    if record.layout is None:
                        if size not in layouts:
                            layouts[size] = layouts_of(model, image, records)
                        record = replace(record, layout=_layout(layouts[size], layer, index))
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
    for run in [run for run, maps in found.maps.items() if not _has_one_size(maps, batch.size_of)]:
        del found.maps[run]
        found.left_out[run] = (
            f"{run[0] or model_name(batch.model)} is left out: its maps for images of one size differ in size."
        )
    return found


def check_left_out(model: nn.Module, layers: Selector, found: Passes) -> None:
    """Raise an error if a layer that was chosen by its name has no record, though others have maps."""
    exact, shown = find_exact_names(model, layers), {layer for layer, _ in found.maps}
    for (layer, _), why in found.left_out.items():
        if shown and layer in exact & (found.unrecorded | found.folded) and layer not in shown:
            raise UnsupportedOutputError(f"{why} It was chosen by its name: leave it out of layers=.")


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


def _captured(model: nn.Module, image: torch.Tensor, layers: Selector, at: At) -> Probe:
    try:
        return record_pass(model, (image,), layers=layers, at=at, missing="ignore")
    except SpatialProbeError:
        raise
    except Exception as error:
        raise images_error(model, image, error) from error


def _is_readable(image: torch.Tensor) -> bool:
    """Return whether the values of an image (1, C, H, W) can be read off the picture that the page has of it."""
    planar = image.ndim == 4 and image.shape[1] in (1, 3)
    return planar and is_lossless(*image.shape[2:]) and bool(image.isfinite().all())


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


def _layout(known: Layouts, layer: str, run: int) -> Layout | None:
    runs = known.get(layer, ())
    return runs[run] if run < len(runs) else None


def _has_one_size(maps: Sequence[CodedMaps], size_of: Sequence[int]) -> bool:
    """Return whether images of one size have maps of one size, as many of each."""
    shapes = {(size, one.codes.shape) for size, one in zip(size_of, maps, strict=True)}
    return len(shapes) == len(set(size_of)) and len({shape[0] for _, shape in shapes}) == 1


def _why_not(records: Probe, layer: str) -> str:
    """Return why a layer has no record, the end of a sentence."""
    if layer in records.silent:
        return "it did not run."
    why = records.left_out[layer]
    return "no single nonlinearity follows it." if why.startswith("No single nonlinearity") else why
