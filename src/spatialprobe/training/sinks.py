"""Where a monitor writes as it goes: a TensorBoard writer, a Weights & Biases run, or a function."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError, add_note

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
STEP = "monitor/step"  # the name under which a run gets the step


class Sink(Protocol):
    """A destination of numbers and pictures."""

    def write(self, step: int, numbers: Mapping[str, float], pictures: Mapping[str, Pixels]) -> None:
        """Write what is known of a step, by name."""


def sink_of(log: Any) -> Sink:
    """Return the destination that a user's object is.

    Raises:
        ArgumentError: it is neither of the known kinds nor a function of three arguments.
    """
    if isinstance(log, (torch.Tensor, nn.Module, type)):
        raise ArgumentError(_describe_unknown(log))
    if callable(getattr(log, "add_scalar", None)) and callable(getattr(log, "add_image", None)):
        return _Writer(log)
    if callable(getattr(log, "log", None)):
        return _Run(log)
    if callable(log) and _takes_three(log):
        return _Function(log)
    raise ArgumentError(_describe_unknown(log))


def _takes_three(function: Callable[..., object]) -> bool:
    """Return whether a function can be called with three arguments, as far as that can be told."""
    try:
        inspect.signature(function).bind("name", 0.0, 0)
    except TypeError:
        return False
    except ValueError:  # some functions made in C have no signature
        return True
    return True


def _describe_unknown(log: object) -> str:
    return (
        f"log is {short_repr(log)}: pass a SummaryWriter of TensorBoard, a run of Weights & Biases (what wandb.init() "
        "returns), or a function (name, value, step)."
    )


class SafeSink:
    """A sink whose first exception is kept, after which nothing more is written: a training goes on without its log."""

    def __init__(self, sink: Sink) -> None:
        self.error: Exception | None = None
        self._sink = sink

    def write(self, step: int, numbers: Mapping[str, float], pictures: Mapping[str, Pixels]) -> None:
        """Write what is known of a step, unless an earlier write raised."""
        if self.error is not None:
            return
        try:
            self._sink.write(step, numbers, pictures)
        except Exception as error:
            self.error = error
            add_note(error, f"log= raised this at step {step}; the training went on, and nothing was logged after it.")


class _Writer:
    """A `SummaryWriter`."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, step: int, numbers: Mapping[str, float], pictures: Mapping[str, Pixels]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        for name, pixels in pictures.items():
            self._writer.add_image(name, pixels, step, dataformats="HWC")


class _Run:
    """A run of Weights & Biases.

    Its own step is the user's: what is logged joins the row of the user's next `log`, and says its step under a name of
    its own. If the user has not logged since, the row is ended first, so that none is lost.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._row: object = None  # the run's step when the last row was begun
        self._defined: set[str] = set()  # statistics whose horizontal axis is the monitor's step

    def write(self, step: int, numbers: Mapping[str, float], pictures: Mapping[str, Pixels]) -> None:
        image: Callable[[Pixels], Any] = getattr(sys.modules.get("wandb"), "Image", lambda pixels: pixels)
        values = {**numbers, **{name: image(pixels) for name, pixels in pictures.items()}, STEP: step}
        self._define({name.partition("/")[0] for name in numbers})
        here = getattr(self._run, "step", None)
        if self._row is not None and here == self._row:
            self._run.log({}, commit=True)
        self._run.log(values, commit=False)
        self._row = getattr(self._run, "step", None)

    def _define(self, statistics: set[str]) -> None:
        define: Any = getattr(self._run, "define_metric", None)
        for name in sorted(statistics - self._defined) if callable(define) else ():
            define(f"{name}/*", step_metric=STEP)
        self._defined |= statistics


class _Function:
    """A function of name, value and step."""

    def __init__(self, function: Callable[[str, Any, int], object]) -> None:
        self._function = function

    def write(self, step: int, numbers: Mapping[str, float], pictures: Mapping[str, Pixels]) -> None:
        for name, value in {**numbers, **pictures}.items():
            self._function(name, value, step)
