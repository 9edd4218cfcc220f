"""The model's forward passes: on the images as they are, and with one run of one layer replaced."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from spatialprobe.activations.checkpoints import find_running_frames, find_running_functions
from spatialprobe.activations.edit import edited
from spatialprobe.activations.recorder import Recorder, Recording
from spatialprobe.attribution.prefix import Prefix, record_prefix, replay
from spatialprobe.attribution.run import Run
from spatialprobe.attribution.samples import repeat_samples
from spatialprobe.attribution.target import Target
from spatialprobe.errors import ForwardError, LayerNotRunError, ProbeStateError, SpatialProbeError
from spatialprobe.model.batch import BatchReader
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import Forward, forward_error, run_model
from spatialprobe.model.hooks import ProbeHook, attach
from spatialprobe.model.select import Layer
from spatialprobe.model.undo import Undo, as_block
from spatialprobe.model.weights import device_of
from spatialprobe.statistics.progress import Silent

Change = Callable[[torch.Tensor], torch.Tensor]

_AT_ONCE = 64  # samples
_FEW_PASSES = 3
_NEAR = 1e-5  # of the largest score: how far the scores of a batch may be from those of the same batch repeated
_NEAR_IN_HALVES = 0.01  # the same, in dtypes of 16 bits
_HINT = "Pass images as the model takes them; forward=lambda model, batch: ... says how it is called on a batch."


@dataclass(frozen=True, eq=False)
class Forwards:
    """How the model is run, and how its scores are read."""

    mode: EvaluationMode  # of the model as `forward` calls it
    batch: Any
    forward: Forward | None
    target: Target
    batch_size: int | None = None  # samples that run at once when the images are repeated; None: as the target allows
    bar: Silent = field(default_factory=Silent)  # is told of the samples that are done
    prefix: Prefix | None = None  # what comes before the run that is replaced, where that need not be computed again

    @property
    def repeats(self) -> int:
        """How often the images are repeated in one forward pass, at least once.

        A list of images is taken once: a model may go through it one by one.
        """
        if self.reader.is_image_list(self.part):
            return 1
        count, most = self.target.count, self.batch_size
        if most is None:  # a function as target gets an output of as many samples as there are images
            most = count if self.target.function is not None else _AT_ONCE
        return max(1, most // count)

    @property
    def reader(self) -> BatchReader:
        """What the model takes of the batch."""
        return BatchReader.of(self.mode.model, self.forward)

    @property
    def part(self) -> Any:
        """The part of the batch that the model takes."""
        return self.reader.part(self.batch)

    def output(self, times: int = 1) -> Any:
        """Return what the model makes of the batch, with its samples so many times in a row.

        Raises:
            ForwardError: the model raised an error.
        """
        model = self.mode.model
        batch = repeat_samples(self.batch, times, self.reader)
        try:
            return run_model(model, batch, device=device_of(model))
        except SpatialProbeError:
            raise
        except Exception as error:
            raise forward_error(model, batch, error, _HINT) from error

    def scores(self, run: Run, change: Change, times: int = 1) -> torch.Tensor:
        """Return the scores (times * N,) where one run of a layer returns something else.

        Args:
            run: which one.
            change: a function of the run's value on the repeated batch, that returns another of its shape.
            times: how often the images are repeated.

        Raises:
            ForwardError: the model raised an error.
            LayerNotRunError: the layer does not run as it did before.
        """
        changed = _Once(run, change)
        model = self.mode.model
        is_output = run.at == "output"
        with (
            replay(self.prefix, times) if self.prefix else nullcontext(),
            edited(model, {run.layer.module: changed}) if is_output else _replace_activation(model, run, changed),
        ):
            output = self.output(times)
        if not changed.done:
            raise LayerNotRunError(
                f"{run.subject} did not run again as it did in the first forward pass, so that it cannot be "
                "replaced: the model does not run twice alike on these images."
            )
        return self.target.scores(output, times)

    def behind(self, run: Run, passes: int) -> Forwards:
        """Return the forward passes with those of one run beginning behind what comes before it, where that is right.

        What comes before is recorded in one pass. A pass that begins behind it then has to end in the same scores;
        where it does not, since the model draws random numbers or counts its runs, say, passes stay whole.

        Args:
            run: that is replaced.
            passes: how many passes follow; for a few it is not worth it.
        """
        if passes <= _FEW_PASSES:
            return self
        try:
            with torch.no_grad():
                return self._behind(run)
        except Exception:  # whole passes will say what is wrong, if anything is
            return self
        finally:
            self.mode.reset()

    def _behind(self, run: Run) -> Forwards:
        model, times = self.mode.model, min(2, self.repeats)
        with record_prefix(model, run.layer.module, run.call, self.target.count) as calls:
            scores = self.target.scores(self.output())
        self.mode.reset()
        prefix = Prefix(tuple(one for call in calls for one in call.visible()))
        if not prefix.saves:
            return self
        found = replace(self, prefix=prefix)
        again = found.scores(run, lambda value: value.clone(), times)
        expected = scores.repeat(times)
        return found if are_near(again, expected) else self

    def gradients(self, scores: torch.Tensor, inputs: list[Any]) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of the sum of scores, None where it does not depend on an input; no `.grad` is touched.

        Raises:
            ProbeStateError: the scores have no gradient.
            ForwardError: the backward pass raised an error.
        """
        if not scores.requires_grad:
            raise ProbeStateError(
                "The scores have no gradient: the model computes them under torch.no_grad() or detaches them, or they "
                "depend on none of the layers. method='ablation' needs no gradient."
            )
        try:
            return torch.autograd.grad(scores.sum(), inputs, allow_unused=True)
        except SpatialProbeError:
            raise
        except Exception as error:
            hint = "This was the backward pass of the scores: method='ablation' needs none."
            raise forward_error(self.mode.model, self.batch, error, hint) from error


def are_near(scores: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether scores are the expected ones, up to what rounding in batches of other sizes changes."""
    near = (_NEAR if expected.dtype in (torch.float32, torch.float64) else _NEAR_IN_HALVES) * expected.abs().max()
    return bool(((scores - expected).abs() <= near).all())


class _Once:
    """A change that is made once in a forward pass, of one run of a layer."""

    def __init__(self, run: Run, change: Change) -> None:
        self.done = False
        self._run = run
        self._change = change
        self._calls = 0

    def __call__(self, value: torch.Tensor, call: int | None = None) -> torch.Tensor:
        """Return what replaces a value of the layer; runs are counted where their number is not passed."""
        if call is None:
            call, self._calls = self._calls, self._calls + 1
        if call != self._run.call:
            return value
        if torch.is_grad_enabled() and (find_running_frames() or any(True for _ in find_running_functions())):
            raise ProbeStateError(
                f"{self._run.subject} runs inside an activation checkpoint, which computes it again in the "
                "backward pass: turn checkpointing off, or use method='gradient_x_activation' or 'ablation'."
            )
        changed = self._change(value)
        if changed.shape != value.shape:
            raise ForwardError(
                f"{self._run.subject} returned {tuple(value.shape)}, and "
                f"{tuple(changed.shape)} for the same images before: the model does not run twice alike."
            )
        self.done = True
        return changed


@as_block
def _replace_activation(undo: Undo, model: torch.nn.Module, run: Run, change: _Once) -> None:
    """Write something else over the value of the nonlinearity that follows one run of a layer, until the block ends."""

    def take(layer: Layer, call: int, value: torch.Tensor) -> None:
        changed = change(value, call)
        if changed is not value:
            value.copy_(changed)

    recorder = Recorder(model, [run.layer], {}, Recording(at=run.at, take=take))
    recorder.begin()
    undo.add(recorder.finish)
    undo.add(recorder.stop_following)
    around = ProbeHook(recorder.forward_begins), ProbeHook(recorder.forward_ends)
    attach(undo, recorder.hooks([run.layer]), model, *around)
