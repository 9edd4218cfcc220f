"""Whole numbers that a model computes for itself: indices and masks, whose values rules may need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves, tree_map

_LARGEST = 2**20  # elements


class Constants:
    """The values of small tensors of whole numbers or truth values on the meta device, where they have none."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[StorageWeakRef, torch.Tensor]] = {}

    def know(self, tensor: torch.Tensor, values: torch.Tensor) -> None:
        """Remember the values of a tensor, if they are small and whole."""
        if _counts(tensor):
            self._known[_key(tensor)] = StorageWeakRef(tensor.untyped_storage()), values  # type: ignore[no-untyped-call]

    def values(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The values, on the CPU; None if they are not known."""
        if tensor.device.type != "meta":
            return tensor.cpu()
        found = self._known.get(_key(tensor))
        return found[1] if found else None

    def forget(self, tensor: torch.Tensor) -> None:
        """Something wrote into this tensor's memory."""
        storage = tensor.untyped_storage()._cdata
        for key in [key for key in self._known if key[0] == storage]:
            del self._known[key]

    def compute(self, operator: OpOverload, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        """Run an operator on the known values too, where its one result is worth knowing and all it takes is known."""
        if (
            not isinstance(result, torch.Tensor)
            or not _counts(result)
            or torch.Tag.nondeterministic_seeded in operator.tags
        ):
            return
        taken = {id(tensor): self.values(tensor) for tensor in _tensors((args, kwargs))}
        if any(values is None for values in taken.values()):
            return
        real_args, real_kwargs = tree_map(lambda leaf: taken.get(id(leaf), leaf), (args, kwargs))
        if real_kwargs.get("device") is not None:
            real_kwargs = real_kwargs | {"device": torch.device("cpu")}
        self.know(result, operator(*real_args, **real_kwargs))


def _counts(tensor: torch.Tensor) -> bool:
    whole = not (tensor.is_floating_point() or tensor.is_complex())
    return whole and tensor.device.type == "meta" and tensor.numel() <= _LARGEST


def _key(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))
