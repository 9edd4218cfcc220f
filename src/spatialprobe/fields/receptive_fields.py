"""The receptive fields of the layers of a model, found in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_int, check_one_of
from spatialprobe.errors import LayerNotRunError, SpatialProbeError, UnresolvedActivationError, UnsupportedOutputError
from spatialprobe.fields.collection import ReceptiveFields
from spatialprobe.fields.forward_pass import Trace, trace_fields
from spatialprobe.fields.gates import describe_gate
from spatialprobe.fields.known_layouts import Layouts
from spatialprobe.fields.layout import layouts_in, moves_over_batch
from spatialprobe.fields.question import Ignored, Question, arguments_of, as_axes, resolve_axes, types_and_names
from spatialprobe.fields.reach import Reach
from spatialprobe.fields.result import Geometry, ReceptiveField
from spatialprobe.model.layout import (
    WAYS,
    Layout,
    LayoutChoice,
    check_layout,
    describe_doubt,
    describe_misfit,
    describe_rows,
    fits,
    is_channels_first,
    units_of,
)
from spatialprobe.model.select import (
    Layer,
    Selector,
    all_layers,
    check_model,
    describe_scripted,
    find_exact_names,
    model_name,
    select,
    select_one,
    takes_hooks,
)
from spatialprobe.model.tokens import Tokens

_HOW = f"Pass {WAYS}; or the axes that count units: unit_axes=(1,) for tokens, unit_axes=(1, 2) for (N, H, W, C)."

_UNFOLDED = "Or pass the axes that count units, such as unit_axes=(0, 2, 3) for windows (windows, C, H, W)."


def receptive_fields(
    model: nn.Module,
    inputs: Sequence[int] | torch.Tensor | Sequence[Any],
    *,
    layers: Selector | None = None,
    at: At = "output",
    source: str | nn.Module | None = None,
    ignore: Ignored = (),
    input: int = 0,
    axes: Sequence[int] | None = None,
    unit_axes: Sequence[int] | None = None,
    layout: LayoutChoice = "auto",
) -> ReceptiveFields:
    """Return the input pixels that each unit of each layer sees: boxes that are exact, or marked as upper bounds.

    One forward pass is followed operator by operator, on tensors that have shapes but no values, so that it takes
    little time and memory. The values of constants that the model creates are computed as well. A model that reads
    values of its input runs on its real device instead; `fallback` says why, and everything after the reading may
    depend on the values read. The model runs in evaluation mode, whatever mode it is in: batch and instance norms use
    their running statistics, dropout does nothing, branches on `self.training` are not taken. It is not copied, and is
    restored with all random states afterwards.

    Args:
        model: any module.
        inputs: the shape that the model takes, batch included, (1, 3, 224, 224); or an example, a tensor; or for a
            model of several inputs a tuple with a shape or an example for each.
        layers: as for `Probe`; by default every module that returns one tensor.
        at: "output", or "post_activation" for the output of the nonlinearity that follows each layer, whose units may
            differ from the layer's if a pooling comes in between. If `layers` is left out, layers that no single
            nonlinearity follows have no field, and `missing` says why.
        source: a layer, by name or itself: fields are boxes in that layer's grid instead of the input's.
        ignore: module types, or their class names, whose output counts as a constant gate (squeeze-and-excite). If such
            a module returns a tensor of its input's shape, the input times a gate, the input is still seen.
        input: the index of the input whose pixels the fields refer to, for a model of several.
        axes: the spatial axes of that input; by default all after batch and channel, or for an image in a list as many
            as the model's convolutions have.
        unit_axes: the axes of layers' outputs that count units, such as (1, 2) for (N, H, W, C) and (1,) for tokens
            (N, tokens, C); by default those of the layout.
        layout: "channels_first", (N, C, *units); "channels_last", (N, *units, C); `sp.Tokens(height, width, leading)`,
            (N, tokens, C) as a grid; or "auto": convolutions, norms over channels and poolings are channels first, and
            in other layers those axes count units along which what is seen moves, or moved in an earlier output of that
            shape. Tokens that lie in the image row by row are a grid, and the field has the `output_size` (H, W);
            leading tokens, which see no single place (a class token, registers), are not part of it.

    Layers chosen by a pattern or type whose channel axis is in doubt have no field, and `missing` says so. Where
    `source` is a layer of such tokens, boxes are over their grid.

    Raises:
        ArgumentError: the inputs, or the axes, are not of a form that can be used.
        ForwardError: the model raises an error on inputs of this shape.
        LayerNotFoundError, LayerNotRunError, UnsupportedOutputError: a chosen layer has no field; or the channel axis
            of a layer that is chosen by its name is in doubt.
        UnresolvedActivationError: no single nonlinearity follows a layer that is chosen by its name.

    Sources: intervals propagated along the graph as in [Araujo et al. 2019]; per element, so that branches, groups and
    decoders have exact fields.

    >>> import spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 12, 3))
    >>> sp.receptive_fields(model, (1, 3, 32, 32), layers=nn.Conv2d)
    Receptive fields of Sequential, in pixels of an input of 32 x 32
      layer  units    size   stride  start  of the image
      0      30 x 30  3 x 3  1 x 1   0, 0   0.9%
      3      13 x 13  8 x 8  2 x 2   0, 0   6.2%
    """
    check_model(model)
    check_layout(layout)
    check_one_of(at, "at", At)
    asked = Question(
        arguments_of(inputs, model),
        as_int(input, "input"),
        as_axes(axes, "axes"),
        as_axes(unit_axes, "unit_axes"),
        types_and_names(ignore),
        at,
    )
    known = all_layers(model)
    chosen = None if layers is None else select(model, layers, scripted=True)
    exact = frozenset() if layers is None else find_exact_names(model, layers)
    origin = None if source is None else select_one(model, source, "source")
    if origin is not None:
        asked = replace(asked, source_layout=_find_source_layout(model, known, asked, origin, layout))
    trace = trace_fields(model, known, asked, origin)
    wanted = [layer.name for layer in chosen or known]
    layouts = _find_layouts(model, trace, known, asked, wanted, layout)
    return _collect(model, trace, chosen or known, asked, origin, layouts, None if chosen is None else exact)


def _find_layouts(
    model: nn.Module, trace: Trace, known: list[Layer], asked: Question, wanted: list[str], choice: LayoutChoice
) -> Layouts:
    """Return the layout of each run of the layers, as far as it is needed and known."""
    if asked.unit_axes is not None:
        return {}
    if choice == "auto":
        return layouts_in(trace, model, known, asked, wanted)
    return {name: (choice,) * len(runs) for name, runs in trace.reaches.items()}


def _find_source_layout(
    model: nn.Module, known: list[Layer], asked: Question, origin: Layer, choice: LayoutChoice
) -> Layout:
    """Return the layout of the source layer, in whose grid the fields are.

    Raises:
        UnsupportedOutputError: it is in doubt.
    """
    if choice != "auto":
        return choice
    if asked.unit_axes is not None or is_channels_first(origin.module):
        return "channels_first"
    trace = trace_fields(model, known, asked, None)
    found = layouts_in(trace, model, known, asked, [origin.name]).get(origin.name, ("channels_first",))[0]
    reach = trace.reaches[origin.name][0] if origin.name in trace.reaches else None
    if found is None and isinstance(reach, Reach):
        raise UnsupportedOutputError(describe_doubt(origin.name, reach.shape, _HOW))
    return found or "channels_first"


def _collect(
    model: nn.Module,
    trace: Trace,
    layers: list[Layer],
    asked: Question,
    origin: Layer | None,
    layouts: Layouts,
    exact: frozenset[str] | None,
) -> ReceptiveFields:
    """Return the fields of the layers, and the reasons why others have none.

    Args:
        exact: the layers that were chosen by their names; None if no layers were chosen.
    """
    found: dict[str, list[ReceptiveField]] = {}
    alike: dict[tuple[int, Layout | None], ReceptiveField] = {}  # by reach, which a ReLU or a container shares
    missing: dict[str, str] = {}
    order = {name: place for place, name in enumerate(trace.reaches)}
    for layer in sorted(layers, key=lambda layer: order.get(layer.name, -1)):
        why, doubt = _why_none(layer, trace, asked, origin), _why_in_doubt(layer, trace, layouts)
        if why is None and doubt is None:
            runs = [reach for reach in trace.reaches[layer.name] if isinstance(reach, Reach)]
            found[layer.name] = []
            for call, reach in enumerate(runs):
                layout = layouts[layer.name][call] if layouts else None
                one = alike.get((id(reach), layout)) or _make_field(
                    layer.name, call, reach, layout, trace, asked, origin
                )
                one = alike.setdefault((id(reach), layout), one)
                found[layer.name].append(replace(one, layer=layer.name, call=call))
        elif exact is None or layer.name not in exact:
            missing[layer.name] = why or doubt or ""
        else:
            raise _no_field_error(layer, trace, asked, why or doubt)
    if exact is not None and not found:
        first = next(layer for layer in layers if layer.name in missing)
        raise _no_field_error(first, trace, asked, missing[first.name])
    after = ", after each layer's nonlinearity" if asked.at == "post_activation" else ""
    where = f"units of {origin.name!r}, a grid" if origin else "pixels of an input"
    size = " x ".join(map(str, trace.input_size))
    return ReceptiveFields(
        found,
        aliases={name: layer.name for layer in layers for name in layer.names},
        missing=missing,
        title=f"Receptive fields of {model_name(model)}, in {where} of {size}{after}",
        unmatched=asked.unmatched(model),
        gate="" if origin else describe_gate(model, trace),
    )


def _why_in_doubt(layer: Layer, trace: Trace, layouts: Layouts) -> str | None:
    """Return why the axes of a layer's output that count units are in doubt; None if they are not."""
    for reach, layout in zip(trace.reaches.get(layer.name, ()), layouts.get(layer.name, ()), strict=False):
        if layout is None and isinstance(reach, Reach):
            return describe_doubt(layer.name, reach.shape, _HOW)
        if layout is not None and isinstance(reach, Reach) and not fits(layout, reach.shape):
            return describe_misfit(layer.name, reach.shape, layout)
    return None


def _is_unresolved(layer: Layer, trace: Trace, asked: Question) -> bool:
    """Return whether a layer ran, but has no field because no single nonlinearity follows it."""
    return asked.at == "post_activation" and any(isinstance(one, str) for one in trace.reaches.get(layer.name, ()))


def _no_field_error(layer: Layer, trace: Trace, asked: Question, why: str | None) -> SpatialProbeError:
    """Return the error that says why a chosen layer has no field."""
    if layer.name not in trace.reaches:
        return LayerNotRunError(f"No receptive field of layer {layer.name!r}: {why}")
    if _is_unresolved(layer, trace, asked):
        return UnresolvedActivationError(f"No receptive field after layer {layer.name!r}: {why}")
    return UnsupportedOutputError(f"No receptive field of layer {layer.name!r}: {why}")


def _why_none(layer: Layer, trace: Trace, asked: Question, origin: Layer | None) -> str | None:
    """Return why a layer has no field; None if it has one."""
    if layer.name not in trace.reaches:
        return "it did not run in the forward pass." if takes_hooks(layer.module) else describe_scripted(layer.name)
    for reach in trace.reaches[layer.name]:
        if isinstance(reach, str):
            return reach
        if asked.unit_axes is not None and any(
            not -len(reach.shape) <= axis < len(reach.shape) for axis in asked.unit_axes
        ):
            return f"its output {reach.shape} does not have the unit axes {tuple(asked.unit_axes)}."
        if asked.unit_axes is None and moves_over_batch(reach) and describe_rows(reach.shape, asked.samples):
            return f"it returned {reach.shape}. {describe_rows(reach.shape, asked.samples)} {_UNFOLDED}"
    if origin is not None and layer.name in trace.before_source and layer is not origin and layer.name != origin.name:
        return f"it ran before {origin.name!r}, the source."
    return None


def _make_field(
    layer: str,
    call: int,
    reach: Reach,
    layout: Layout | None,
    trace: Trace,
    asked: Question,
    origin: Layer | None,
) -> ReceptiveField:
    """Return the field of one run, from what its output sees and its layout."""
    ndim = len(reach.shape)
    axes = asked.unit_axes if layout is None else units_of(layout, ndim)
    units = resolve_axes(ndim, axes, "unit_axes", fewest=0)
    others = [dim for dim in range(ndim) if dim not in units]
    channel = others[-1:] if len(others) > 1 else []
    kept = reach.reduced([dim for dim in others if dim not in channel], keepdim=True)
    ordered = kept.permuted([*[dim for dim in others if dim not in channel], *channel, *units])
    sizes = tuple(reach.shape[dim] for dim in units)
    if isinstance(layout, Tokens) and ndim > 2:
        sizes = (layout.height, layout.width)
        ordered = ordered.taken(len(others), np.arange(layout.leading, layout.count))
    whole = ordered.reshaped((ordered.shape[len(others) - 1] if channel else 1, *sizes))
    lattices = [span.lattice_over(whole.shape).coarse(0, whole.shape[0]) for span in whole.spans]
    if isinstance(layout, Tokens):  # a list of tokens is a grid again
        lattices = [one.spaced(1, fewest=2).spaced(2, fewest=2) if one.lo.ndim == 3 else one for one in lattices]
    same = len(sizes) == len(trace.input_size)
    geometry = [Geometry.of(lattice, axis, same) for axis, lattice in enumerate(lattices)]
    geometry = geometry or [Geometry(0, 0, 0, 1)] * len(trace.input_size)
    return ReceptiveField(
        layer=layer,
        call=call,
        size=tuple(one.size for one in geometry),
        stride=tuple(one.stride for one in geometry),
        start=tuple(one.start for one in geometry),
        period=tuple(one.period for one in geometry),
        output_size=sizes,
        input_size=trace.input_size,
        exact=reach.exact,
        unknown=tuple(sorted(reach.unknown)),
        ignored=tuple(trace.ignored),
        fallback=trace.fallback,
        at=asked.at,
        source=origin.name if origin is not None else None,
        layout=layout,
        _reach=whole,
    )
