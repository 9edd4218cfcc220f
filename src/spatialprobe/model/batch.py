"""Batches of any form: which part of one the model takes, and how many samples it holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from spatialprobe.errors import ArgumentError
from spatialprobe.model.outputs import describe_leaves
from spatialprobe.model.select import model_name, unwrap

Forward: TypeAlias = Callable[[nn.Module, Any], Any]  # how a model is called on a batch

LABELS = frozenset({"label", "labels", "target", "targets", "y"})  # entries that a model is not given
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_DEEPEST = 4  # containers within containers in which samples are counted
_IMAGE_AXES = 3  # (C, H, W)


@dataclass(frozen=True)
class BatchReader:
    """What a model takes of batches and samples; it holds no model, so that processes that load data can be sent it.

    >>> reader = BatchReader.of(nn.Conv2d(3, 6, 3))
    >>> images, labels = torch.zeros(8, 3, 32, 32), torch.zeros(8)
    >>> reader.part([images, labels]) is images, reader.part({"input": images, "label": labels}).keys()
    (True, dict_keys(['input']))
    >>> reader.count(images), reader.count([images[0], images[1, :, :16]])
    (8, 2)
    """

    model: str  # its class
    names: tuple[str, ...]  # that its `forward` gives to its parameters
    required: frozenset[str]  # those without a default
    axes: frozenset[int]  # the spatial axes of its convolutions
    whole: bool = False  # whether a function takes the whole batch, and calls the model on it

    @staticmethod
    def of(model: nn.Module, forward: Forward | None = None) -> BatchReader:
        """Return what a model takes, where it is called on batches by a function or, by default, directly."""
        inner = unwrap(model)
        by_name = [one for one in _parameters(inner) if one.kind in _BY_NAME]
        return BatchReader(
            model_name(inner),
            tuple(one.name for one in by_name),
            frozenset(one.name for one in by_name if one.default is inspect.Parameter.empty),
            frozenset(len(one.kernel_size) for one in inner.modules() if isinstance(one, nn.modules.conv._ConvNd)),
            forward is not None,
        )

    def part(self, batch: Any) -> Any:
        """Return the part of a batch that the model takes: a tensor, a list of images, or a mapping of arguments.

        Raises:
            ArgumentError: there are several such parts, or none; the message shows the `forward=` to write.
        """
        if self.whole or isinstance(batch, torch.Tensor) or self.is_image_list(batch):
            return batch
        first = batch
        if isinstance(batch, (tuple, list)) and batch:
            if isinstance(batch, list) and _is_sample_list(batch):
                raise self._error(batch, "it is a list of samples, each a mapping", "batch")
            first = batch[0]
            if isinstance(first, torch.Tensor):
                return first
            if isinstance(first, (tuple, list)) and self.is_image_list(list(first)):
                return list(first)
        entries = as_mapping(first)
        if entries is None:
            raise self._error(batch, "it holds no tensor that comes first", "batch[0]")
        return self._arguments(entries, batch)

    def part_of_sample(self, sample: Any) -> Any:
        """Return what the model takes of one sample, as far as that is clear without a batch."""
        if self.whole:
            return sample
        first = sample[0] if isinstance(sample, (tuple, list)) and sample else sample
        entries = as_mapping(first)
        if entries is None:
            return first
        chosen = self._chosen(entries)
        return chosen if chosen and not self.required - chosen.keys() else first

    def is_image_list(self, value: Any) -> bool:
        """Return whether this is a list of images (C, H, W), as detectors take them.

        In models with convolutions over one axis, and in those without convolutions, tensors (N, C, L) of a list are a
        batch and what goes with it.

        Raises:
            ArgumentError: the model has convolutions of both kinds.
        """
        if not (isinstance(value, list) and value and all(map(_is_image, value))) or 2 not in self.axes:
            return False
        if 1 in self.axes and not self.whole:
            raise self._error(
                value, "it may be a list of images (C, H, W), or begin with a batch (N, C, L)", "batch[0]"
            )
        return True

    def count(self, part: Any) -> int:
        """Return the number of samples: the images of a list, or along the first axis of the first tensor.

        Raises:
            ArgumentError: there is no tensor with a first axis.
        """
        found = self._count(part, _DEEPEST)
        if found is None:
            raise ArgumentError(
                f"The batch is {describe_leaves(part)}: samples are counted along the first axis of its first tensor, "
                "and it has none with an axis."
            )
        return found

    def _count(self, part: Any, depth: int) -> int | None:
        if isinstance(part, torch.Tensor):
            return int(part.size(0)) if part.ndim else None
        if self.is_image_list(part) or _is_sample_list(part):
            return len(part)
        found = (self._count(one, depth - 1) for one in _children(part)) if depth else iter(())
        return next((count for count in found if count is not None), None)

    def _arguments(self, entries: Mapping[Any, Any], batch: Any) -> dict[str, Any]:
        """Return the entries that are arguments of the model."""
        chosen = self._chosen(entries)
        if not any(isinstance(leaf, torch.Tensor) for value in chosen.values() for leaf in tensors_of(value)):
            raise self._error(batch, "none of its entries that hold tensors is named as one of these", _access(batch))
        lacking = sorted(self.required - chosen.keys())
        if lacking:
            raise self._error(batch, f"it would be called without {', '.join(map(repr, lacking))}", _access(batch))
        return chosen

    def _chosen(self, entries: Mapping[Any, Any]) -> dict[str, Any]:
        return {key: value for key, value in entries.items() if key in self.names and key not in LABELS}

    def _error(self, batch: Any, why: str, access: str) -> ArgumentError:
        takes = f"{self.model}.forward takes ({', '.join(self.names)})"
        return ArgumentError(
            f"What the model takes of a batch is not clear. The batch is {describe_leaves(batch)}; {takes}; {why}. "
            f"Pass a function that calls the model, such as forward=lambda model, batch: model({access})."
        )


def as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """Return the entries of a mapping or the fields of a dataclass by name; None for anything else.

    >>> from collections import UserDict
    >>> sorted(as_mapping(UserDict(pixels=1, label=2)))
    ['label', 'pixels']
    """
    if isinstance(value, Mapping):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value) if hasattr(value, one.name)}
    return None


def first_tensor(part: Any) -> torch.Tensor | None:
    """Return the first tensor with an axis in a batch, None if there is none."""
    return next((tensor for tensor in tensors_of(part) if tensor.ndim), None)


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # some functions made in C have no signature
        return []


def _is_image(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not value.is_nested and value.ndim == _IMAGE_AXES


def _is_sample_list(value: Any) -> bool:
    """Return whether this is a list of mappings with the same keys: one for each sample."""
    if not (isinstance(value, list) and value and isinstance(value[0], Mapping)):
        return False
    return all(isinstance(one, Mapping) and one.keys() == value[0].keys() for one in value)


def _children(value: Any) -> Iterator[Any]:
    entries = as_mapping(value)
    if entries is not None:
        yield from entries.values()
    elif isinstance(value, (tuple, list)):
        yield from value


def check_values(batch: object) -> None:
    """Check that the tensors of a batch have values.

    Raises:
        ArgumentError: one is on the meta device.
    """
    if any(tensor.is_meta for tensor in tensors_of(batch)):
        raise ArgumentError("images are on the meta device, where tensors have no values: pass real ones.")


def tensors_of(value: Any, depth: int = _DEEPEST) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested containers, in their order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth:
        for child in _children(value):
            yield from tensors_of(child, depth - 1)


def _access(batch: Any) -> str:
    """Return how the likeliest tensor of a batch is written."""
    start = "batch[0]" if isinstance(batch, (tuple, list)) else "batch"
    value = batch[0] if isinstance(batch, (tuple, list)) else batch
    entries = {key: one for key, one in (as_mapping(value) or {}).items() if key not in LABELS}
    tensors = {key: one for key, one in entries.items() if isinstance(one, torch.Tensor)}
    key = max(tensors, key=lambda name: tensors[name].ndim, default=next(iter(entries), "image"))
    return f"{start}[{key!r}]" if isinstance(value, Mapping) else f"{start}.{key}"
