"""Checks of exemplars: whether field and data set are those that they come from."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING

from spatialprobe.errors import ArgumentError
from spatialprobe.model.samples import Images
from spatialprobe.render.field_words import by, check_is_field
from spatialprobe.text import format_count, kind_of

if TYPE_CHECKING:
    from spatialprobe.fields.result import ReceptiveField
    from spatialprobe.statistics.exemplars import ExemplarsResult


def check_exemplars(exemplars: ExemplarsResult, dataset: Images, field: ReceptiveField) -> None:
    """Check that these are exemplars of the field's layer, in this data set.

    Raises:
        ArgumentError: they are not, or there are none.
    """
    if not all(hasattr(exemplars, name) for name in ("values", "samples", "positions")):
        raise ArgumentError(
            f"exemplars is {kind_of(exemplars)}: pass one layer's result of the Exemplars reducer, such as "
            "result['conv1']['top'] of a sweep with {'top': sp.Exemplars}."
        )
    check_is_field(field)
    if not exemplars.values.numel():
        raise ArgumentError("These exemplars are empty: no sample was swept.")
    _check_layer(exemplars, field)
    if getattr(exemplars, "several_runs", False):
        raise ArgumentError(
            f"Layer {field.layer!r} ran several times on a sample, and its exemplars do not say in which run a unit "
            "was reached, so that it is not known what it saw. Put a module such as nn.Identity() behind the run that "
            "you mean, and sweep that."
        )
    check_samples(exemplars, dataset)


def check_samples(exemplars: ExemplarsResult, dataset: Images) -> None:
    """Check that the data set has the samples that the exemplars name.

    Raises:
        ArgumentError: it is too short, or cannot be asked for a sample.
    """
    if not hasattr(dataset, "__getitem__") or getattr(dataset, "ndim", None) == 0:
        raise ArgumentError(f"dataset is {kind_of(dataset)}, which is not indexable: pass the data that was swept.")
    furthest = int(exemplars.samples.max())
    if isinstance(dataset, Sized) and furthest >= len(dataset):
        raise ArgumentError(
            f"The exemplars name sample {furthest}, and the data set has {len(dataset)}: pass the data that the sweep "
            "saw."
        )


def _check_layer(exemplars: ExemplarsResult, field: ReceptiveField) -> None:
    swept = getattr(exemplars, "layer", None)
    if swept is not None and swept != field.layer:
        raise ArgumentError(
            f"The exemplars are of layer {swept!r}, the field is of {field.layer!r}: pass both of one layer. If these "
            f"are two names of one, exemplars.of_layer({field.layer!r}) says so."
        )
    _check_size(exemplars, field)
    furthest, sizes = tuple(exemplars.positions.amax(dim=(0, 1)).tolist()), field.output_size
    if not sizes or len(furthest) != len(sizes):
        raise ArgumentError(
            f"The exemplars have units of {format_count(len(furthest), 'axis')}, layer {field.layer!r} of "
            f"{len(sizes)}: pass the field of the layer that the exemplars are of."
        )
    if any(most >= size for most, size in zip(furthest, sizes, strict=True)):
        raise ArgumentError(
            f"The exemplars have units up to {furthest}, but the maps of {field.layer!r} are of {by(sizes)}: pass the "
            "field of the layer, and of the input size, that the exemplars are of."
        )


def _check_size(exemplars: ExemplarsResult, field: ReceptiveField) -> None:
    """Check that the field has the units of the maps that were swept; other units mean another place in the model."""
    size, at = getattr(exemplars, "map_size", None), getattr(exemplars, "at", None)
    if size is None or tuple(size) == field.output_size:
        return
    why = "pass the field of the layer, and of the input size, that the exemplars are of."
    taken = getattr(field, "at", at)
    if at is not None and at != taken:
        why = (
            f"the sweep took values at={at!r}, and the field is of at={taken!r}. Pass at={at!r} to "
            "receptive_fields() too."
        )
    raise ArgumentError(
        f"The exemplars are of maps of {by(size) or 'no axes'}, but the maps of {field.layer!r} are of "
        f"{by(field.output_size) or 'no axes'}: {why}"
    )
