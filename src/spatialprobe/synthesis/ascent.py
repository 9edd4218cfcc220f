"""Gradient ascent from random images to those that drive channels up."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spatialprobe.arguments import make_generator, short_repr
from spatialprobe.errors import ArgumentError, NonFiniteActivationError, ProbeStateError, describe_error
from spatialprobe.fields.unit_gradients import capture_first
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import images_error
from spatialprobe.model.settings import seed_generators
from spatialprobe.model.undo import undo_block
from spatialprobe.model.weights import device_of, dtype_of
from spatialprobe.statistics.progress import Silent
from spatialprobe.synthesis.aim import Aim
from spatialprobe.synthesis.parametrization import Canvas
from spatialprobe.synthesis.result import ATTEMPTS
from spatialprobe.synthesis.transforms import Jitter, Transform
from spatialprobe.tensors import shape_text

_CONTRASTS = [0.1 * 2 ** (attempt % 8) for attempt in range(ATTEMPTS)]  # from faint to hard, again and again


@dataclass(frozen=True, eq=False)
class Climbed:
    """Where the ascent of some channels began and ended; float32, on the CPU."""

    images: torch.Tensor  # (C, *shape)
    start: torch.Tensor  # (C,)
    reached: torch.Tensor  # (C,)
    history: torch.Tensor  # (steps, C): the value at each step, under that step's transforms
    unmoved: torch.Tensor  # (C,) bool


@dataclass(frozen=True, eq=False)
class Ascent:
    """How images are searched that drive channels of a layer up, whichever and however many these are.

    All channels begin at the same random images and see the same transforms, so that what is found for one does not
    depend on which others are searched with it.
    """

    mode: EvaluationMode
    aim: Aim
    canvas: Canvas
    shape: tuple[int, ...]
    steps: int
    learning_rate: float
    jitter: Jitter | None  # of the pixels in the box
    transform: Transform | None  # the user's own, of whole inputs
    seed: int

    def climb(self, channels: torch.Tensor, bar: Silent) -> Climbed:
        """Return what is found for these channels, (C,) int64.

        Raises:
            NonFiniteActivationError: a value or a gradient is infinite or NaN.
            ProbeStateError: the layer's output has no gradient.
            ForwardError: the model raised an error.
        """
        generator = make_generator(self.seed)
        seen = self.aim.seen_by(channels)
        seen = None if seen is None else seen.to(self._device)
        first, unmoved = self._begin(channels, seen, generator)
        parameters = first.clone().requires_grad_()
        optimizer = torch.optim.Adam([parameters], lr=self.learning_rate, maximize=True)
        history = torch.empty(self.steps, len(channels), device="cpu")
        for step in range(self.steps):
            values, parameters.grad = self._slope(parameters, channels, seen, (generator, step))
            history[step] = values
            optimizer.step()
            bar.update(1)
        begun, start = self._result(first, channels, seen)
        ended, end = self._result(parameters.detach(), channels, seen)
        better = end > start
        images = torch.where(better.reshape(-1, *[1] * len(self.shape)), ended, begun)
        return Climbed(images, start, torch.where(better, end, start), history, unmoved)

    def count_channels(self) -> int:
        """Return how many channels the layer has: the model runs once."""
        middle = torch.full((1, *self.shape), sum(self.canvas.bounds) / 2, device=self._device)
        return self._measured(middle.to(dtype_of(self.mode.model))).shape[1]

    @property
    def _device(self) -> torch.device:
        return device_of(self.mode.model)

    def _begin(
        self, channels: torch.Tensor, seen: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the parameters at which channels begin, and which of them no random image gives a gradient.

        A unit behind nonlinearities may have none at one image, such as a ReLU's below zero: then another is tried.
        """
        unmoved = torch.ones(len(channels), dtype=torch.bool, device="cpu")
        parameters = torch.empty(0, device=self._device)
        for contrast in _CONTRASTS:
            draw = self.canvas.draw(generator, contrast).to(self._device)
            if not len(parameters):
                parameters = draw.expand(len(channels), *draw.shape).clone()
            rows = unmoved.nonzero().flatten()
            tried = draw.expand(len(rows), *draw.shape).clone().requires_grad_()
            _, slope = self._slope(tried, channels[rows], None if seen is None else seen[rows.to(seen.device)])
            moved = rows[(slope != 0).flatten(1).any(dim=1).cpu()]
            parameters[moved.to(self._device)] = draw
            unmoved[moved] = False
            if not unmoved.any():
                break
        return parameters, unmoved

    def _slope(
        self,
        parameters: torch.Tensor,
        channels: torch.Tensor,
        seen: torch.Tensor | None,
        changed: tuple[torch.Generator, int] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value (C,) of each channel at its own image, and the gradients; under transforms at a step."""
        inputs = self._inputs(parameters, seen, changed)
        values = _own(self._values(inputs), channels)
        if not values.requires_grad:
            raise ProbeStateError(
                f"The output of layer {self.aim.layer!r} has no gradient: the model computes it under torch.no_grad(), "
                "detaches it, or it does not depend on the input. Choose another layer."
            )
        try:
            (slope,) = torch.autograd.grad(values.sum(), parameters, materialize_grads=True)
        except Exception as error:
            raise images_error(self.mode.model, inputs, error) from error
        finally:
            self.mode.reset()  # only now: the graph holds the weights as they were in the forward pass
        values = values.detach().cpu()
        wrong = ~values.isfinite() | ~slope.isfinite().flatten(1).all(dim=1).cpu()
        if wrong.any():
            raise NonFiniteActivationError(
                f"The value or the gradient of channel {int(channels[wrong][0])} of layer {self.aim.layer!r} is "
                "infinite or NaN. Pass a lower learning_rate or narrower bounds, or run the model in float32."
            )
        return values, slope

    def _result(
        self, parameters: torch.Tensor, channels: torch.Tensor, seen: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images of parameters, and the value of each channel at its own, without transforms."""
        inputs = self._inputs(parameters, seen, None).detach()
        return inputs.float().cpu(), _own(self._measured(inputs), channels).cpu()

    def _measured(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the values (N, C) of inputs; each run begins in the state that the model was in."""
        try:
            return self._values(inputs).detach()
        finally:
            self.mode.reset()

    def _inputs(
        self, parameters: torch.Tensor, seen: torch.Tensor | None, changed: tuple[torch.Generator, int] | None
    ) -> torch.Tensor:
        """Return the inputs (N, *shape) of parameters: their pixels in the box, the middle of the bounds around it."""
        patches, middle = self.canvas.images(parameters), sum(self.canvas.bounds) / 2
        if changed is not None and self.jitter is not None:
            patches = self.jitter.apply(patches, changed[0])
        if seen is not None:
            patches = torch.where(seen[:, None], patches, middle)
        inputs = patches
        if self.aim.box is not None and tuple(patches.shape[1:]) != self.shape:
            inputs = torch.full((len(patches), *self.shape), middle, device=patches.device)
            inputs[(slice(None), slice(None), *self.aim.box.slices)] = patches
        if changed is not None and self.transform is not None:
            inputs = self._transformed(inputs, self.transform, changed[1])
        return inputs.to(dtype_of(self.mode.model))

    def _transformed(self, inputs: torch.Tensor, transform: Transform, step: int) -> torch.Tensor:
        """Return what the user's function makes of inputs; it draws other random numbers at each step.

        Raises:
            ArgumentError: it raised an error, or returns something else than inputs of the same shape.
        """
        with undo_block() as undo:
            seed_generators(undo, self.seed + step, {inputs.device})
            try:
                changed = transform(inputs)
            except Exception as error:
                raise ArgumentError(f"transforms= raised {describe_error(error)} on {shape_text(inputs)}.") from error
        if not isinstance(changed, torch.Tensor) or changed.shape != inputs.shape:
            raise ArgumentError(
                f"transforms returned {short_repr(changed)} for inputs {tuple(inputs.shape)}: it must return a tensor "
                "of that shape, such as transforms=lambda images: images.roll(1, -1)."
            )
        return changed

    def _values(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the values (N, C) of inputs."""
        return self.aim.read(capture_first(self.mode.model, inputs, self.aim.layer).tensor, len(inputs))


def _own(values: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """Return the value of each row's own channel, (N,), of values (N, C)."""
    return values.gather(1, channels.to(values.device)[:, None])[:, 0]


def join(parts: list[Climbed]) -> Climbed:
    """Return what was found for several parts of the channels as one."""
    return Climbed(
        torch.cat([part.images for part in parts]),
        torch.cat([part.start for part in parts]),
        torch.cat([part.reached for part in parts]),
        torch.cat([part.history for part in parts], dim=1),
        torch.cat([part.unmoved for part in parts]),
    )
