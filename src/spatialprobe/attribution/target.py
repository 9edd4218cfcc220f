"""Which score is explained: that of a class, or what a function makes of the model's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch

from spatialprobe.arguments import as_int, as_ints, short_repr
from spatialprobe.errors import ArgumentError, NonFiniteActivationError
from spatialprobe.model.outputs import describe_leaves
from spatialprobe.text import format_count, kind_of

TargetChoice: TypeAlias = Literal["predicted"] | int | Sequence[int] | torch.Tensor | Callable[[Any], torch.Tensor]

_CLASS_AXES = 2  # (N, classes)


@dataclass(frozen=True, eq=False)
class Target:
    """How the score of each image is read off what the model returns."""

    count: int  # images
    classes: torch.Tensor | None = None  # (N,) int64; None for a function, and for "predicted" before the first output
    function: Callable[[Any], torch.Tensor] | None = None

    @staticmethod
    def of(choice: object, count: int) -> Target:
        """Return the target that an argument means, for so many images.

        Raises:
            ArgumentError: it is no target, or there is not one class for each image.
        """
        if isinstance(choice, str):
            if choice != "predicted":
                raise ArgumentError(_describe_choice(choice))
            return Target(count)
        if callable(choice):
            return Target(count, function=choice)
        given = choice.tolist() if isinstance(choice, torch.Tensor) and choice.ndim <= 1 else choice
        if hasattr(given, "__len__") or isinstance(given, torch.Tensor):
            classes = as_ints(given, "target")  # type: ignore[arg-type]
            if len(classes) != count:
                raise ArgumentError(
                    f"target holds {format_count(len(classes), 'class')} for {format_count(count, 'image')}: pass one "
                    "for each image, or one number for all."
                )
        else:
            try:
                classes = (as_int(given, "target"),) * count
            except ArgumentError as error:
                raise ArgumentError(_describe_choice(choice)) from error
        return Target(count, torch.tensor(classes, dtype=torch.int64, device="cpu"))

    @property
    def numbers(self) -> torch.Tensor:
        """The class of each image, (N,) int64; -1 where a function says the score."""
        unknown = torch.full((self.count,), -1, dtype=torch.int64, device="cpu")
        return unknown if self.classes is None else self.classes

    def predicted_in(self, output: Any) -> Target:
        """Return the target with the classes that the model predicts, where these are meant."""
        if self.classes is not None or self.function is not None:
            return self
        return replace(self, classes=_logits(output, self.count).detach().argmax(dim=1).cpu())

    def scores(self, output: Any, times: int = 1) -> torch.Tensor:
        """Return the scores (times * N,) of a batch in which the images are so many times in a row.

        Raises:
            ArgumentError: the output has no such class, or the function returns no scores.
            NonFiniteActivationError: a score is infinite or NaN.
        """
        rows = self.count * times
        if self.function is not None:
            scores = _checked(self.function(output), output, rows)
        else:
            logits = _logits(output, rows)
            classes = self.numbers.repeat(times)
            wrong = classes[(classes < 0) | (classes >= logits.shape[1])]
            if len(wrong):
                raise ArgumentError(
                    f"The model's output {tuple(logits.shape)} has classes 0 to {logits.shape[1] - 1}: there is no "
                    f"class {int(wrong[0])}. Pass another target."
                )
            scores = logits[torch.arange(rows, device=logits.device), classes.to(logits.device)]
        finite = scores.detach().isfinite()
        if not finite.all():
            image = int((~finite).nonzero()[0]) % self.count
            raise NonFiniteActivationError(
                f"The score of image {image} is infinite or NaN, so that nothing can be said of what it rests on: look "
                "at the layers' outputs, sp.capture(model, images)."
            )
        return scores


def _logits(output: Any, rows: int) -> torch.Tensor:
    """Return the scores (rows, classes): the output, or the `logits` of a mapping or an object, as of Hugging Face.

    Raises:
        ArgumentError: it is something else.
    """
    found = output if isinstance(output, torch.Tensor) else _named_logits(output)
    if (
        isinstance(found, torch.Tensor)
        and found.ndim == _CLASS_AXES
        and len(found) == rows
        and found.shape[1]
        and found.is_floating_point()
    ):
        return found
    raise ArgumentError(
        f"A class, or 'predicted', needs a model that returns scores (N, classes), or them as its logits, and for "
        f"{format_count(rows, 'image')} it returned {describe_leaves(output)}. Pass a function of the output that "
        f"returns one score for each image, such as target={_example(output)}."
    )


def _example(output: Any) -> str:
    """Return a function that a user could write for this output: of maps the mean of a class over the image."""
    if isinstance(output, torch.Tensor) and output.ndim > _CLASS_AXES:
        return f"lambda output: output[:, 0].mean({tuple(range(1, output.ndim - 1))}), for class 0 of its maps"
    return "lambda output: output['logits'][:, 3]"


def _named_logits(output: Any) -> object:
    """Return what a mapping or an object names its `logits`; None if nothing."""
    return output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)


def _checked(scores: object, output: Any, rows: int) -> torch.Tensor:
    """Return what a function returned if it is one score for each image.

    Raises:
        ArgumentError: it is something else.
    """
    if isinstance(scores, torch.Tensor) and tuple(scores.shape) == (rows,) and scores.is_floating_point():
        return scores
    found = f"{scores.dtype} {tuple(scores.shape)}" if isinstance(scores, torch.Tensor) else kind_of(scores)
    raise ArgumentError(
        f"target returned {found}: it must return one floating-point score for each of {format_count(rows, 'image')}, "
        f"a tensor ({rows},). It was given {describe_leaves(output)}."
    )


def _describe_choice(choice: object) -> str:
    return (
        "target must be 'predicted', a class index, one for each image, or a function of the model's output that "
        f"returns scores (N,), not {short_repr(choice)}."
    )
