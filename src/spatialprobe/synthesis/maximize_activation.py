"""Inputs that drive each channel of a layer to its maximum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import nn

from spatialprobe.arguments import (
    as_channels,
    as_float,
    as_int,
    as_ints,
    as_range,
    check_function,
    check_one_of,
    short_repr,
)
from spatialprobe.errors import ArgumentError
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice, check_layout
from spatialprobe.model.select import select_one
from spatialprobe.model.settings import leave_inference_mode
from spatialprobe.model.undo import undo_block
from spatialprobe.model.weights import device_of, dtype_of
from spatialprobe.statistics.exemplars import ExemplarsResult
from spatialprobe.statistics.progress import Shown, check_progress, progress_bar
from spatialprobe.synthesis.aim import Aim, UnitChoice, take_aim
from spatialprobe.synthesis.ascent import Ascent, join
from spatialprobe.synthesis.parametrization import Canvas, Parametrization
from spatialprobe.synthesis.result import MaximizedActivation
from spatialprobe.synthesis.transforms import Jitter, Transform
from spatialprobe.text import format_count, kind_of

_MOST_AXES = 4  # of one input: (C, D, H, W)
_MOST_VALUES = 2**28  # of one input

Normalize = Callable[[torch.Tensor], torch.Tensor]  # of a batch of inputs, before the model


def maximize_activation(
    model: nn.Module,
    layer: str | nn.Module,
    channels: Sequence[int] | None = None,
    *,
    shape: Sequence[int],
    unit: UnitChoice = "center",
    steps: int = 256,
    parametrization: Parametrization = "fourier",
    transforms: str | Transform | None = "default",
    bounds: tuple[float, float] = (0.0, 1.0),
    normalize: Normalize | None = None,
    seed: int = 0,
    exemplars: ExemplarsResult | None = None,
    learning_rate: float = 0.1,
    batch_size: int = 64,
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
    progress: Shown = "auto",
) -> MaximizedActivation:
    """Return inputs that drive each channel of a layer's output up, found by gradient ascent from random ones.

    They show what a channel responds to without any data set [Erhan et al. 2009; Olah et al. 2017]. Each channel is
    driven up at one unit, or on average over all, and only the pixels that can move it, those in its receptive field,
    are searched and shown. An input found so is one maximum of many, and may look like no image: hold it against the
    `exemplars`, and its value against theirs.

    The model runs in evaluation mode, no further than the layer, and is restored afterwards; its parameters get no
    gradients. Channels do not depend on which others are searched with them.

    Args:
        model: any module that can be differentiated.
        layer: its name, or the module itself; of several runs the first counts.
        channels: which channels of its output, (N, C) or (N, C, *units); all if left out.
        shape: of one input, without the batch, (C, *spatial): as of an image, a signal or a volume. Without spatial
            axes, (features,), all features are searched.
        unit: which unit of each map: "center", at half of the units along each axis; a position, such as (y, x); or
            "all", the mean over all units.
        steps: of gradient ascent (Adam); one forward and one backward pass each.
        parametrization: "fourier", sums of waves, in which ascent finds smooth patterns first; or "pixel", each pixel
            for itself.
        transforms: changes of the images at each step, for patterns that do not hang on single pixels. "default":
            random shifts of a sixteenth of the box, scales within 5 % and rotations within 5 degrees, and none at all
            for boxes below 16 pixels; None; or a function of the inputs (N, *shape) that returns others of this shape.
        bounds: the least and the greatest value of a pixel, before `normalize`.
        normalize: a function of the inputs that is applied before the model, such as
            `lambda images: (images - mean) / std`.
        seed: of the images at which the ascent begins, and of the transforms.
        exemplars: the layer's result of the `Exemplars` reducer in a sweep `at="output"`: its largest values stand
            beside those reached.
        learning_rate: of Adam.
        batch_size: how many channels are searched at once.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, a grid of tokens; or "auto", as `receptive_fields` finds it.
        forward: a function `(model, inputs) -> output` that calls the model, with further inputs, on a list, or by
            another method; by default the model is called on the inputs.
        progress: whether to show a progress bar; "auto": if stderr is a terminal, or in a notebook.

    A unit may have no gradient at the first images, such as that of a ReLU below zero: then up to
    64 of other contrasts are tried. Channels without a gradient at any of them are `unmoved`, and are marked in the
    picture.

    Raises:
        ArgumentError: an argument cannot be used: a channel or unit that does not exist, a unit that sees only padding.
        LayerNotFoundError: no such layer; the message names the nearest.
        LayerNotRunError: the layer does not run on such inputs.
        UnsupportedOutputError: the layer's output is no single tensor, or the axis of its channels is in doubt.
        ProbeStateError: the layer's output has no gradient at all.
        NonFiniteActivationError: a value or a gradient is infinite or NaN.
        ForwardError: the model raises an error on inputs of this shape.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> edge = nn.Conv2d(1, 1, 3, bias=False)
    >>> _ = edge.weight.data.copy_(torch.tensor([-1.0, 0.0, 1.0]).expand(1, 1, 3, 3))
    >>> found = sp.maximize_activation(edge, "", shape=(1, 9, 9))
    >>> found.patches[0, 0, :, ::2].round().tolist()  # dark at the left, light at the right
    [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    >>> round(float(found.reached), 1)  # the most that pixels between 0 and 1 can give is 3
    3.0
    """
    size = _check_shape(shape)
    check_one_of(parametrization, "parametrization", Parametrization)
    as_int(steps, "steps", least=1)
    as_int(seed, "seed")
    at_once = as_int(batch_size, "batch_size", least=1)
    check_layout(layout)
    check_function(forward, "forward", "lambda model, inputs: model(pixel_values=inputs)")
    check_function(normalize, "normalize", "lambda images: (images - mean) / std")
    check_progress(progress)
    transform = _check_transforms(transforms)
    span = as_range(bounds, "bounds")
    called = called_by(model, _normalized(forward, normalize))
    name = select_one(called, layer).name
    words = f"layer {name!r}" if name else "the model"
    example = torch.full((1, *size), sum(span) / 2, dtype=dtype_of(model), device=device_of(model))
    with undo_block() as undo:
        leave_inference_mode(undo)
        aim = take_aim(called, name, example, unit, layout, words)
        sides = () if aim.box is None else aim.box.shape
        with EvaluationMode(called, gradients=True) as mode:
            ascent = Ascent(
                mode=mode,
                aim=aim,
                canvas=Canvas(parametrization, size[0], sides, span),
                shape=size,
                steps=steps,
                learning_rate=as_float(learning_rate, "learning_rate", least=0),
                jitter=Jitter.of(sides) if transforms == "default" else None,
                transform=transform,
                seed=seed,
            )
            count = ascent.count_channels()
            subject = f"{words[0].upper()}{words[1:]}"
            chosen = torch.arange(count, device="cpu") if channels is None else _chosen(channels, count, subject)
            best = None if exemplars is None else _best_real(exemplars, aim, count)[chosen]
            parts = torch.split(chosen, at_once)
            with progress_bar(progress, done=0, total=steps * len(parts), title="maximize", noun="step") as bar:
                found = join([ascent.climb(part, bar) for part in parts])
    return MaximizedActivation(
        layer=name,
        unit=aim.unit,
        channels=chosen,
        images=found.images,
        box=aim.box,
        reached=found.reached,
        start=found.start,
        best_real=best,
        history=found.history,
        unmoved=found.unmoved,
        bounds=span,
        seed=seed,
    )


def _check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one input.

    Raises:
        ArgumentError: it is none, or begins with a batch.
    """
    size = as_ints(shape, "shape")
    if not size or min(size) < 1 or len(size) > _MOST_AXES or prod(size) > _MOST_VALUES:
        raise ArgumentError(
            f"shape must be that of one input without the batch, such as (3, 32, 32), of at most {_MOST_VALUES:,} "
            f"values, not {short_repr(shape)}."
        )
    return size


def _check_transforms(transforms: object) -> Transform | None:
    """Return the user's function, if it is one.

    Raises:
        ArgumentError: it is something else than "default", None or a function.
    """
    if transforms is None or (isinstance(transforms, str) and transforms == "default"):
        return None
    if not callable(transforms):
        raise ArgumentError(
            f"transforms must be 'default', None or a function of the inputs, not {short_repr(transforms)}."
        )
    function: Transform = transforms
    return function


def _normalized(forward: Forward | None, normalize: Normalize | None) -> Forward | None:
    """Return how the model is called on inputs before they are normalized."""
    if normalize is None:
        return forward
    call = forward or (lambda model, inputs: model(inputs))
    return lambda model, inputs: call(model, normalize(inputs))


def _chosen(channels: Sequence[int], count: int, owner: str) -> torch.Tensor:
    """Return the chosen channels, (C,) int64."""
    return torch.from_numpy(as_channels(channels, count, owner))


def _best_real(exemplars: ExemplarsResult, aim: Aim, count: int) -> torch.Tensor:
    """Return the largest value of each channel of the layer in a data set, (C,) float32.

    Raises:
        ArgumentError: the exemplars are of other values than those that are driven up.
    """
    values = getattr(exemplars, "values", None)
    if not isinstance(values, torch.Tensor) or values.ndim != 2 or not values.numel():
        raise ArgumentError(
            f"exemplars is {kind_of(exemplars)}: pass the layer's result of the Exemplars reducer, such as "
            "result['conv1']['top'] of a sweep with {'top': sp.Exemplars}."
        )
    layer, at = getattr(exemplars, "layer", None), getattr(exemplars, "at", None)
    problem = ""
    if layer not in (None, aim.layer) or len(values) != count:
        problem = f"of layer {layer!r} with {format_count(len(values), 'channel')}: pass those of layer {aim.layer!r}"
    elif at not in (None, "output"):
        problem = f"of a sweep at={at!r}: pass those of a sweep at='output', which is what is driven up"
    elif aim.unit is None:
        problem = "the largest values of single units, and unit='all' is their mean: leave exemplars out"
    if problem:
        raise ArgumentError(f"The exemplars are {problem}.")
    return values[:, 0].detach().cpu().float()
