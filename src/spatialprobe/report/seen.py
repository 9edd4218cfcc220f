"""What the models of a page showed, and what they are called on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from spatialprobe.errors import ArgumentError
from spatialprobe.model.batch import tensors_of
from spatialprobe.model.select import model_name
from spatialprobe.report.layers import PageLayer
from spatialprobe.report.passes import Passes
from spatialprobe.text import format_count

_ANSWERS = 3  # classes that are named


@dataclass(frozen=True, eq=False)
class Seen:
    """A model of the page, and what it showed."""

    name: str  # "" where there is one model
    model: nn.Module
    found: Passes
    layers: list[PageLayer]
    doubts: tuple[str, ...]
    remarks: tuple[str, ...] = ()  # about the receptive fields, a sentence each


def join_names(seen: Sequence[Seen]) -> str:
    """Return the class of the model; of two models with their names: `SimpleCNN, before and after`."""
    kinds = [model_name(each.model) for each in seen]
    if len(seen) == 1:
        return kinds[0]
    if kinds[0] == kinds[1]:
        return f"{kinds[0]}, {seen[0].name} and {seen[1].name}"
    return " and ".join(f"{kind} ({each.name})" for kind, each in zip(kinds, seen, strict=True))


def join_remarks(seen: Sequence[Seen]) -> list[str]:
    """Return the remarks on the models' fields, each once; one that is not on every model begins with its name."""
    shared = set.intersection(*(set(each.remarks) for each in seen))
    remarks = (remark if remark in shared else f"{each.name}: {remark}" for each in seen for remark in each.remarks)
    return list(dict.fromkeys(remarks))


def join_answers(seen: Sequence[Seen], index: int, classes: Sequence[str] | None) -> str:
    """Return what each model takes an image for; empty where classes have no names."""
    answers = [(each.name, _answer(each.found.outputs[index], classes)) for each in seen]
    return "; ".join(f"{name}: {words}" if name else words for name, words in answers if words)


def _answer(output: object, classes: Sequence[str] | None) -> str:
    """Return the classes that the model finds most likely, in words; empty where classes have no names.

    Raises:
        ArgumentError: the output is not one value for each class.
    """
    if classes is None:
        return ""
    scores = [one for one in tensors_of(output) if tuple(one.shape) == (1, len(classes))]
    if len(scores) != 1:
        given = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ArgumentError(f"{format_count(len(classes), 'class')}, but for one image the model returned {given}.")
    chances = scores[0][0].detach().double().softmax(dim=0).cpu()
    best = chances.argsort(descending=True)[:_ANSWERS].tolist()
    return ", ".join(f"{classes[index]} {float(chances[index]):.0%}" for index in best)
