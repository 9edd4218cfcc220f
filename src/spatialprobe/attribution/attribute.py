"""Which channels and places of layers the model's answers rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.probe import check_arguments
from spatialprobe.activations.records import At
from spatialprobe.arguments import as_float, as_int, check_function, short_repr
from spatialprobe.attribution.ablation import depends_on, scores_without
from spatialprobe.attribution.collection import Attributions
from spatialprobe.attribution.forwards import Forwards, are_near
from spatialprobe.attribution.integrated import integrate
from spatialprobe.attribution.observing import Chosen, observe
from spatialprobe.attribution.result import Attribution, Method, Question
from spatialprobe.attribution.run import Run
from spatialprobe.attribution.samples import count_samples
from spatialprobe.attribution.target import Target, TargetChoice
from spatialprobe.errors import ArgumentError, NonFiniteActivationError, ProbeStateError, UnsupportedOutputError
from spatialprobe.model.batch import BatchReader
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice, check_layout
from spatialprobe.model.select import Selector, find_exact_names, select
from spatialprobe.model.settings import leave_inference_mode
from spatialprobe.model.undo import undo_block
from spatialprobe.render.robust import robust_reach
from spatialprobe.statistics.progress import Shown, check_progress, progress_bar


@dataclass(frozen=True, eq=False)
class Found:
    """What one run contributes, in the dtype and on the device where it was computed."""

    channels: torch.Tensor  # (N, C)
    values: torch.Tensor | None = None  # (N, C, *units)
    leading: torch.Tensor | None = None  # (N, L, C)
    residual: torch.Tensor | None = None  # (N,)

    @staticmethod
    def of(run: Run, maps: torch.Tensor, residual: torch.Tensor | None = None) -> Found:
        """Return contributions (N, C, *units), tokens along one axis, with their sums and as they lie in the image."""
        return Found(maps.flatten(2).sum(dim=2) if maps.ndim > 2 else maps, *run.placed(maps), residual)


def attribute(
    model: nn.Module,
    images: Any,
    target: TargetChoice = "predicted",
    *,
    layers: Selector = nn.Conv2d,
    at: At = "post_activation",
    method: Method = "gradient_x_activation",
    baseline: float | torch.Tensor = 0.0,
    steps: int = 32,
    batch_size: int | None = None,
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
    progress: Shown = "auto",
) -> Attributions:
    """Return what the channels and units of layers contribute to the score of each image, signed.

    The model runs in evaluation mode, and is as it was afterwards; no parameter's `.grad` changes. The first two
    methods take one forward and one backward pass for all layers together.

    Args:
        model: any module; frozen or not.
        images: a batch, its samples along the first axis of its first tensor, or a list of images. Of a tuple the model
            gets the first entry, of a mapping those that its `forward` names, without labels; with `forward` whatever
            that takes.
        target: which score is explained: "predicted", the class that the model prefers; a class index, or one for each
            image, of a model that returns (N, classes), or these as its `logits`; or a function of its output that
            returns scores (N,).
            Scores are taken as they come, before any softmax.
        layers: as for `Probe`.
        at: "post_activation", the value of the nonlinearity that follows a layer, or "output", what it returns itself.
        method: "gradient_x_activation", each value times its gradient [Shrikumar et al. 2016]; "grad_cam", each value
            times the mean gradient of its channel [Selvaraju et al. 2017], without the ReLU; "integrated_gradients",
            along the straight path from the baseline [Sundararajan et al. 2017]; "ablation", the score less the score
            with the channel set to the baseline, measured for each channel. The last two replace one run of a layer
            and leave its others alone.
        baseline: of the last two methods: a number, or a tensor that broadcasts to (N, C, *units) of each layer, of
            tokens to (N, C, tokens).
        steps: of integrated gradients: points on the path.
        batch_size: of the last two methods: how many samples run at once, at least the images. 64 by default; the
            images alone where `target` is a function, which then always gets an output of as many samples.
        layout: of the layers' outputs: "channels_first", (N, C, *units); "channels_last", (N, *units, C); or "auto", as
            `receptive_fields` finds it. Tokens that are a grid, found or `sp.Tokens(height, width, leading)`, have
            units (height, width); leading ones, such as the class token, on which much of an answer rests, are apart,
            and count in `channels`.
        forward: a function of the model and the batch that returns the model's output; by default the model is called
            on the batch.
        progress: whether a bar is shown for the last two methods; "auto": if stderr is a terminal.

    Layers chosen by a type, pattern or predicate that did not run, that no single nonlinearity follows, whose output is
    not (N, C, *units) or on which the scores do not depend are left out, and `left_out` says why; chosen by name they
    are an error.

    Raises:
        ArgumentError: an argument cannot be used: a class that does not exist, scores that are not (N,).
        LayerNotFoundError: a selector matches nothing.
        LayerNotRunError, UnresolvedActivationError, UnsupportedOutputError: a layer chosen by name is one of those
            above, or no layer is left.
        ProbeStateError: the scores have no gradient, or none at a layer chosen by name.
        NonFiniteActivationError: a score or a contribution is infinite or NaN.
        ForwardError: the model raises an error on the images, in the forward or the backward pass.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    >>> images = torch.rand(4, 3, 16, 16)
    >>> found = sp.attribute(model, images, target=3)["0"]
    >>> removed = sp.attribute(model, images, target=3, method="ablation")["0"]
    >>> torch.allclose(found.channels, removed.channels, atol=1e-5)  # the model is linear behind the ReLU
    True
    """
    check_arguments(model, at=(at, At), method=(method, Method))
    check_layout(layout)
    check_function(forward, "forward", "lambda model, batch: model(batch['pixels'])")
    check_progress(progress)
    as_int(steps, "steps", least=1)
    base = as_baseline(baseline)
    meant = Target.of(target, count_samples(images, BatchReader.of(model, forward)))
    at_once = None if batch_size is None else as_int(batch_size, "batch_size", least=1)
    chosen = Chosen(select(model, layers, scripted=True), find_exact_names(model, layers))
    uses_gradients = method in ("gradient_x_activation", "grad_cam")
    with undo_block() as undo:
        leave_inference_mode(undo)
        with EvaluationMode(called_by(model, forward), gradients=method != "ablation") as mode:
            forwards = Forwards(mode, images, forward, meant)
            runs, scores, meant = observe(forwards, chosen, at, layout, gradients=uses_gradients)
            if not uses_gradients:  # else that was the only pass, and the end of the block restores the model
                mode.reset()
            found: list[tuple[Run, Found]] = []
            work = _samples(method, runs, steps, meant.count)
            with progress_bar(progress if work else False, done=0, total=work, title=method) as bar:
                forwards = Forwards(mode, images, forward, meant, at_once, bar)
                for run in runs:
                    try:
                        contribution = _contribution(method, forwards, run, base, steps, scores)
                    except ProbeStateError as error:
                        chosen.leave_out(run.layer.name, str(error), ProbeStateError)
                    else:
                        found.append((run, contribution))
    found = [(run, one) for run, one in found if run.layer.name not in chosen.left_out]
    if not found:
        raise UnsupportedOutputError(f"All layers are left out. {next(iter(chosen.left_out.values()), '')}")
    question = Question(model, images, forward, meant, base, _reach(found))
    return Attributions([_result(run, one, method, scores, question) for run, one in found], chosen.left_out)


def as_baseline(value: object) -> float | torch.Tensor:
    """Return a baseline: a number, or a tensor.

    Raises:
        ArgumentError: it is neither, or not finite.
    """
    if not isinstance(value, torch.Tensor):
        number = as_float(value, "baseline")
        if abs(number) == float("inf"):
            raise ArgumentError(f"baseline must be finite, not {number}.")
        return number
    if value.is_meta or value.layout is not torch.strided or value.is_complex() or value.dtype is torch.bool:
        raise ArgumentError(f"baseline must be a number or a tensor of real numbers, not {short_repr(value)}.")
    if not value.isfinite().all():
        raise ArgumentError("baseline holds values that are infinite or NaN.")
    return value


def _samples(method: Method, runs: Sequence[Run], steps: int, count: int) -> int:
    """Return how many samples run through the model after the first pass."""
    if method == "ablation":
        return sum(run.channels for run in runs) * count
    return len(runs) * steps * count if method == "integrated_gradients" else 0


def _contribution(
    method: Method, forwards: Forwards, run: Run, baseline: float | torch.Tensor, steps: int, scores: torch.Tensor
) -> Found:
    """Return what the channels and units of a run contribute."""
    if method == "ablation":
        channels, count = run.channels, len(scores)
        each = torch.eye(channels, dtype=torch.bool, device="cpu")[:, None].expand(channels, count, channels)
        left = scores_without(forwards, run, each, baseline)
        if are_near(left, scores.cpu().expand_as(left)) and not depends_on(forwards, run):
            raise ProbeStateError(f"The scores do not depend on {run.name}: they stay, whatever it returns.")
        return Found((scores.cpu() - left).T)
    if method == "integrated_gradients":
        raw, residual = integrate(forwards, run, baseline, steps, scores)
        return Found.of(run, run.maps(raw), residual)
    return Found.of(run, _from_gradient(method, run))


def _from_gradient(method: Method, run: Run) -> torch.Tensor:
    """Return each value times its gradient, or times the mean gradient of its channel, tokens along one axis.

    A token that has no place in the grid is a map of one unit: it is weighted by its own gradient.
    """
    if run.gradient is None:  # which `observe` leaves out
        raise ProbeStateError(f"The scores do not depend on {run.name}.")
    activation, gradient = run.maps(run.value), run.maps(run.gradient)
    if activation.dtype is not torch.float64:  # products of small numbers would vanish in halves
        activation, gradient = activation.float(), gradient.float()
    if method == "grad_cam" and gradient.ndim > 2:
        apart = run.grid.leading if run.grid else 0
        own, of_units = gradient[:, :, :apart], gradient[:, :, apart:]
        mean = of_units.mean(dim=tuple(range(2, gradient.ndim)), keepdim=True)
        gradient = torch.cat([own, mean.expand_as(of_units)], dim=2) if apart else mean
    return activation * gradient


def _reach(found: Sequence[tuple[Run, Found]]) -> float:
    """Return the end of the scale of all pictures: the largest robust end of a layer's map times its units."""
    ends = [0.0]
    for _, one in found:
        if one.values is not None:
            maps = one.values.sum(dim=1)
            ends.append(robust_reach(maps.cpu().double().numpy())[0] * (maps[0].numel()))
    return max(ends)


def _result(run: Run, found: Found, method: Method, scores: torch.Tensor, question: Question) -> Attribution:
    """Return the attribution of a run.

    Raises:
        NonFiniteActivationError: some of it is infinite or NaN.
    """
    values, channels = found.values, found.channels
    if not channels.isfinite().all():
        image = int((~channels.isfinite()).any(dim=1).nonzero()[0])
        raise NonFiniteActivationError(
            f"Contributions of {run.name} to the score of image {image} are infinite or NaN: a root, a logarithm or a "
            "division at zero has such a gradient. Look at the layers behind it, or use method='ablation'."
        )
    return Attribution(
        layer=run.layer.name,
        call=run.call,
        at=run.at,
        method=method,
        values=None if values is None else _plain(values),
        channels=_plain(channels),
        map=None if values is None else _plain(values.sum(dim=1)),
        score=_plain(scores),
        target=question.target.numbers,
        leading=None if found.leading is None else _plain(found.leading),
        residual=None if found.residual is None else _plain(found.residual),
        layout=run.grid or run.layout,
        _question=question,
    )


def _plain(values: torch.Tensor) -> torch.Tensor:
    """Return values as float32 on the CPU."""
    return values.detach().to("cpu", torch.float32).contiguous()
