"""One thing that is wrong with a model, with the measurement that shows it; and what rules are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import torch

from spatialprobe.arguments import as_ints, check_function, check_one_of, check_text, short_repr
from spatialprobe.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spatialprobe.diagnosis.evidence import Evidence

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # the worst first


@dataclass(frozen=True, eq=False)
class Finding:
    """One thing that is wrong with a model, with the measurement that shows it.

    >>> import spatialprobe as sp
    >>> found = sp.Finding("too_wide", "note", "conv1", measured=512, limit=256, evidence="It has 512 channels.")
    >>> found
    Finding('too_wide', 'note', 'conv1', measured=512, limit=256)
    """

    rule: str  # the name of the rule
    severity: Severity  # "error": results are wrong; "warning": capacity or quality is lost; "note": good to know
    layer: str | None = None  # None: the whole model; "" is a layer, the model itself
    channels: tuple[int, ...] = ()  # the channels that it is about
    measured: float | None = None  # the value that was measured, in the unit that `evidence` names
    limit: float | None = None  # the value from which on it is a finding
    evidence: str = ""  # what was measured, and how: a sentence with the numbers
    advice: str = ""  # what to do: a sentence
    source: str = ""  # the paper or measurement that the limit comes from
    picture: Callable[[], Figure] | None = field(default=None, repr=False)  # draws what was measured

    def __post_init__(self) -> None:
        check_one_of(self.severity, "severity", Severity)
        if not isinstance(self.rule, str) or not self.rule:
            raise ArgumentError(f"rule must be the name of the rule, not {short_repr(self.rule)}.")
        for name in ("layer", "evidence", "advice", "source"):
            check_text(getattr(self, name), name)
        object.__setattr__(self, "channels", as_ints(self.channels, "channels"))
        for name in ("measured", "limit"):
            object.__setattr__(self, name, _as_number(getattr(self, name), name))
        check_function(self.picture, "picture", "lambda: figure")

    def plot(self) -> Figure:
        """Return the picture that shows what was measured, as a `matplotlib.figure.Figure`.

        Raises:
            ArgumentError: the finding has no picture.
        """
        if self.picture is None:
            raise ArgumentError(f"A finding of {self.rule!r} has no picture: its evidence says all there is.")
        return self.picture()

    @property
    def where(self) -> str:
        """The layer in words: its name, or "(model)"."""
        return self.layer or "(model)"

    def __repr__(self) -> str:
        numbers = (("measured", self.measured), ("limit", self.limit))
        shown = "".join(f", {name}={value:.4g}" for name, value in numbers if value is not None)
        return f"Finding({self.rule!r}, {self.severity!r}, {self.layer!r}{shown})"


def _as_number(value: object, name: str) -> float | None:
    """Return a number as it is, that in a tensor as a Python number, None as None; NaN is a measurement, too."""
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_meta:
        value = value.item()
    if value is not None and not isinstance(value, Real):
        raise ArgumentError(f"{name} must be a number, not {short_repr(value)}.")
    return cast("float | None", value)


class NotApplicable(Exception):  # noqa: N818  # it is no error, but how a rule says that it has nothing to measure
    """Raised by a rule that does not apply; its text, a sentence, says why, and is found in `Checkup.skipped`."""


# What a rule returns: its findings, or a sentence on what it measured and found in order.
Outcome: TypeAlias = "Iterable[Finding] | str"
RuleFunction: TypeAlias = "Callable[[Evidence], Outcome]"


@dataclass(frozen=True)
class Rule:
    """A rule by its name, with the reason for its limit."""

    name: str
    function: RuleFunction
    severity: Severity
    question: str  # what it finds, a short clause
    reason: str  # why the limit is what it is: a sentence
    picture: str = ""  # what the picture of a finding shows, or why there is none: a short clause
