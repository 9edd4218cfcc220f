"""The origin of memory: values from torch's operators, or from somewhere else (numpy, C++, an unpickled file)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy

from spatialprobe.fields.call import Call
from spatialprobe.fields.memory import has_storage

Storages: TypeAlias = dict[int, StorageWeakRef]  # by address, which no other takes while the reference is held


class Origins:
    """The origins of tensors.

    A tensor is strange if it was created empty, no operator has filled it, and its values are used nevertheless; on a
    real device also if no operator has returned it and it did not exist before the pass.
    """

    def __init__(self, *, meta: bool) -> None:
        self._meta = meta
        self._born: Storages = {}  # on a real device
        self._exposed: Storages = {}
        self._unwritten: Storages = {}

    def start_with(self, values: Iterable[Any]) -> None:
        """Note tensors whose origin is known: those that exist before the pass, and those that operators return."""
        for value in values:
            if isinstance(value, torch.Tensor) and not is_lazy(value) and has_storage(value):
                key, storage = _storage_of(value)
                self._born.setdefault(key, storage)
                self._unwritten.pop(key, None)

    def is_strange(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor's values do not come from an operator of torch."""
        return self.is_foreign(tensor) or tensor.untyped_storage()._cdata in self._unwritten

    def is_foreign(self, tensor: torch.Tensor) -> bool:
        """Return whether no operator has returned a tensor."""
        return not self._meta and tensor.untyped_storage()._cdata not in self._born

    def expose(self, tensor: torch.Tensor) -> None:
        """Note that Python may read this tensor's memory at any time."""
        key, storage = _storage_of(tensor)
        self._exposed[key] = storage

    def is_exposed(self, tensor: torch.Tensor) -> bool:
        """Return whether Python may read this tensor's memory."""
        return bool(self._exposed) and tensor.untyped_storage()._cdata in self._exposed

    def note_empty(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note memory that nothing has been written into."""
        self._unwritten.update(_storage_of(tensor) for tensor in tensors if tensor.numel())

    def met_empty(self, call: Call) -> list[torch.Tensor]:
        """Return the arguments that a call reads though nothing was written into them; note those that it fills."""
        if not self._unwritten:
            return []
        unread = {id(one) for one in call.written}
        if call.traits.makes_constants or call.arguments.get("beta", 1) == 0:
            unread.add(id(call.arguments.get("self")))
        used = [] if call.traits.looks else [one for one in call.tensors if id(one) not in unread]
        for tensor in call.written:
            self._unwritten.pop(tensor.untyped_storage()._cdata, None)
        return [one for one in used if one.untyped_storage()._cdata in self._unwritten]


def _storage_of(tensor: torch.Tensor) -> tuple[int, StorageWeakRef]:
    """Return the address of a tensor's storage, and a weak reference to it."""
    storage = tensor.untyped_storage()
    return storage._cdata, StorageWeakRef(storage)  # type: ignore[no-untyped-call]
