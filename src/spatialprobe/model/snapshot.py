"""Save and restore everything that a forward pass may change in a model."""

from __future__ import annotations

import operator
import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from spatialprobe.errors import UnsupportedOutputError
from spatialprobe.model.undo import Undo
from spatialprobe.tensors import parts_of

_DEPTH = 2  # levels of nested objects that are followed: a cache and its layers, but not a trainer's data
_NOT_STATE = sys.stdlib_module_names | {"torch", "numpy", "spatialprobe", "__future__"}  # their objects are not saved
_NAMESPACES = {"types.SimpleNamespace", "argparse.Namespace", "collections.UserDict", "collections.UserList"}

Keep: TypeAlias = "Callable[[Snapshot, Any, int], None]"


class Snapshot:
    """The state of a model: parameters, buffers, modes, hooks and plain attributes, with their values.

    Attributes are followed through containers of any depth, unregistered modules, and plain objects, such as caches
    and dataclasses. The values of tensors, arrays and random generators are saved. Closures of functions, data sets,
    and objects of torch, numpy and the standard library are not followed.

    Args:
        model: any module.
        values: whether the values of parameters and registered buffers are saved; not needed if the model runs on
            other tensors in their place.
    """

    def __init__(self, model: nn.Module, *, values: bool = True) -> None:
        self._steps: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._values = _Values()
        self._seen: dict[int, object] = {}  # by id, which is unique as long as they are held
        if not values:
            self._seen.update((id(tensor), tensor) for tensor in (*model.parameters(), *model.buffers()))
        self.visit(model, 0)

    def restore(self, *, thorough: bool = True) -> None:
        """Restore the objects that the model holds and their values; what has not changed is not modified.

        Values of tensors are compared. Without `thorough` the comparison is skipped if the tensor's version counter is
        unchanged, and an earlier comparison found no write that the counter did not count.
        """
        self._values.thorough = thorough
        Undo(self._steps).run()

    def visit(self, value: Any, depth: int) -> None:
        """Save the content of a value, if its type can hold anything, and visit the content."""
        keep = _keeper_of(type(value))  # type: ignore[arg-type]
        if keep is None or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        keep(self, value, depth)

    def visit_all(self, values: Iterable[Any], depth: int) -> None:
        """Visit several values."""
        for value in values:
            if type(value) not in _ATOMS:
                self.visit(value, depth)

    def on_restore(self, restore: Callable[..., None], *arguments: Any) -> None:
        """Call `restore(*arguments)` when the model is restored."""
        self._steps.append((restore, arguments))


_ATOMS = frozenset({int, float, bool, str, bytes, type(None), torch.dtype, torch.device})


@lru_cache(maxsize=4096)
def _keeper_of(kind: type) -> Keep | None:
    """Return the function that saves objects of a type; None for those that are not saved."""
    for base, keep in (*_KEEPERS, *_keepers_of_numpy()):
        if issubclass(kind, base):
            return keep
    known = f"{kind.__module__}.{kind.__qualname__}" in _NAMESPACES
    return _keep_object if known or kind.__module__.partition(".")[0] not in _NOT_STATE else None


def _keep_module(snapshot: Snapshot, module: nn.Module, depth: int) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        _keep_scripted(snapshot, module)
        return
    attributes = vars(module)
    plain, hooks = [], []
    for name, value in attributes.items():
        if type(value) in _ATOMS:
            continue
        if name.endswith("_hooks") and isinstance(value, dict):  # hooks are the user's functions, not state
            hooks.append((value, list(value), list(value.values())))
        else:
            plain.append(value)
    snapshot.on_restore(_restore_module, attributes, dict(attributes), hooks)
    snapshot.visit_all(plain, 0)


def _keep_scripted(snapshot: Snapshot, module: torch.jit.ScriptModule) -> None:
    """Save a scripted module, whose attributes are not Python objects."""
    kind = vars(module).get("_concrete_type")  # None if it was frozen: its attributes are constants then
    for name in () if kind is None else kind.get_attributes():  # reading one copies everything but tensors
        value = getattr(module, name)
        snapshot.on_restore(_restore_scripted, module, name, value)
        snapshot.visit(value, 0)
    snapshot.visit_all([*module.parameters(recurse=False), *module.buffers(recurse=False), *module.children()], 0)


def _keep_tensor(snapshot: Snapshot, tensor: torch.Tensor, depth: int) -> None:
    snapshot.on_restore(_restore_gradient, tensor, tensor.requires_grad, tensor.grad if tensor.is_leaf else None)
    if not tensor.is_meta:
        snapshot.on_restore(snapshot._values.restore, len(snapshot._values.kept))
        snapshot._values.keep(tensor)
    snapshot.on_restore(_restore_memory, tensor, tensor.detach())


def _keep_dict(snapshot: Snapshot, held: dict[Any, Any], depth: int) -> None:
    kind = _kind_of(held)
    values = list(kind.values(held))
    snapshot.on_restore(_restore_dict, held, list(kind.keys(held)), values)
    snapshot.visit_all(values, depth)


def _keep_list(snapshot: Snapshot, held: list[Any], depth: int) -> None:
    snapshot.on_restore(_restore_list, held, list.copy(held))
    snapshot.visit_all(held, depth)


def _keep_deque(snapshot: Snapshot, held: deque[Any], depth: int) -> None:
    snapshot.on_restore(_restore_deque, held, list(held))
    snapshot.visit_all(held, depth)


def _keep_set(snapshot: Snapshot, held: set[Any], depth: int) -> None:
    snapshot.on_restore(_restore_set, held, set.copy(held))


def _keep_array(snapshot: Snapshot, array: npt.NDArray[Any], depth: int) -> None:
    if array.flags.writeable and not isinstance(array, np.memmap):
        snapshot.on_restore(_restore_array, array, array.copy())


def _keep_object(snapshot: Snapshot, held: object, depth: int) -> None:
    if depth >= _DEPTH:
        del snapshot._seen[id(held)]  # it may be visited again at a lower depth
        return
    slots = {slot: getattr(held, slot) for slot in _slot_names(type(held)) if hasattr(held, slot)}
    if slots:
        snapshot.on_restore(_restore_slots, held, slots)
    attributes = getattr(held, "__dict__", {})
    if isinstance(attributes, dict):
        snapshot.on_restore(_restore_attributes, attributes, dict(attributes))
        snapshot.visit_all([*slots.values(), *attributes.values()], depth + 1)


_KEEPERS: tuple[tuple[Any, Keep | None], ...] = (
    (nn.Module, _keep_module),
    (torch.Tensor, _keep_tensor),
    (dict, _keep_dict),
    (list, _keep_list),
    (deque, _keep_deque),
    (set, _keep_set),
    ((tuple, frozenset), lambda snapshot, held, depth: snapshot.visit_all(held, depth)),
    (np.ndarray, _keep_array),
    (torch.Generator, lambda snapshot, held, depth: snapshot.on_restore(held.set_state, held.get_state())),
    (random.SystemRandom, None),
    (random.Random, lambda snapshot, held, depth: snapshot.on_restore(held.setstate, held.getstate())),
    ((type, Dataset, DataLoader, torch.optim.Optimizer), None),
)


@lru_cache(maxsize=1)
def _keepers_of_numpy() -> tuple[tuple[Any, Keep | None], ...]:
    """Return what saves numpy's generators; not before it is used, as numpy takes milliseconds to import them."""
    return (
        (np.random.RandomState, lambda snapshot, held, depth: snapshot.on_restore(held.set_state, held.get_state())),
        (np.random.Generator, lambda snapshot, held, depth: snapshot.visit(held.bit_generator, depth)),
        (
            np.random.BitGenerator,
            lambda snapshot, held, depth: snapshot.on_restore(setattr, held, "state", held.state),
        ),
    )


def _slot_names(kind: type) -> list[str]:
    """Return the names of the slots of a type's objects."""
    named = [vars(base).get("__slots__", ()) for base in kind.__mro__]
    several = [(names,) if isinstance(names, str) else names for names in named]
    return [name for names in several for name in names if not name.startswith("__")]


def _restore_attributes(attributes: dict[str, Any], before: dict[str, Any]) -> None:
    """Restore an object's `__dict__` without ever emptying it in between."""
    for name in attributes.keys() - before.keys():
        del attributes[name]
    for name, value in before.items():
        if name not in attributes or attributes[name] is not value:
            attributes[name] = value


def _restore_module(attributes: dict[str, Any], before: dict[str, Any], hooks: list[tuple[Any, Any, Any]]) -> None:
    for held, keys, values in hooks:
        if held or keys:
            _restore_dict(held, keys, values)
    _restore_attributes(attributes, before)


def _restore_slots(held: object, before: dict[str, Any]) -> None:
    for name, value in before.items():
        if getattr(held, name, None) is not value:
            object.__setattr__(held, name, value)


def _restore_scripted(module: torch.jit.ScriptModule, name: str, before: Any) -> None:
    now = getattr(module, name)
    if now is not before and (isinstance(before, torch.Tensor) or now != before):
        setattr(module, name, before)


def _restore_dict(held: dict[Any, Any], keys: list[Any], values: list[Any]) -> None:
    """Restore the entries of a dictionary, in their order."""
    kind = _kind_of(held)
    if not (_is_identical(kind.keys(held), keys) and _is_identical(kind.values(held), values)):
        kind.clear(held)
        kind.update(held, zip(keys, values, strict=True))


def _kind_of(held: dict[Any, Any]) -> type[dict[Any, Any]]:
    """Return the class whose methods access a dictionary's entries plainly; `Counter.update`, for one, would add."""
    return OrderedDict if isinstance(held, OrderedDict) else dict


def _restore_list(held: list[Any], before: list[Any]) -> None:
    if not _is_identical(held, before):
        list.__setitem__(held, slice(None), before)


def _restore_deque(held: deque[Any], before: list[Any]) -> None:
    if not _is_identical(held, before):
        held.clear()
        held.extend(before)


def _restore_set(held: set[Any], before: set[Any]) -> None:
    if held != before:
        set.clear(held)
        set.update(held, before)


def _restore_array(array: npt.NDArray[Any], before: npt.NDArray[Any]) -> None:
    if array.shape != before.shape or array.tobytes() != before.tobytes():
        array.resize(before.shape, refcheck=False)
        array[...] = before


def _restore_memory(tensor: torch.Tensor, before: torch.Tensor) -> None:
    """Restore a tensor's memory and shape, after its `.data` was replaced or its shape changed in place."""
    if _memory_place(tensor) != _memory_place(before):
        tensor.data = before


def _restore_gradient(tensor: torch.Tensor, required: bool, gradient: torch.Tensor | None) -> None:
    """Detach a tensor from a graph that it was written into, and restore `requires_grad` and its gradient."""
    if not required and tensor.requires_grad:
        with suppress(RuntimeError):  # a view stays in the graph of its base
            tensor.detach_()
    elif tensor.is_leaf and tensor.requires_grad is not required:
        tensor.requires_grad_(required)
    if tensor.is_leaf and tensor.grad is not gradient:
        tensor.grad = gradient


@dataclass
class _SavedTensor:
    """A tensor and its saved values."""

    tensor: torch.Tensor
    before: torch.Tensor
    version: int | None  # of the tensor when it last held these values; None if it has no counter
    silent: bool | None = None  # whether a write was found that its counter did not count; None before a comparison


class _Values:
    """The saved values of tensors, which are compared only as often as needed."""

    def __init__(self) -> None:
        self.kept: list[_SavedTensor] = []
        self.thorough = True

    def keep(self, tensor: torch.Tensor) -> None:
        """Save a copy of a tensor's values."""
        self.kept.append(_SavedTensor(tensor, tensor.detach().clone(), _version(tensor)))

    def restore(self, index: int) -> None:
        """Restore the values of one of the tensors, if it holds others."""
        kept = self.kept[index]
        unwritten = kept.version is not None and _version(kept.tensor) == kept.version
        if unwritten and kept.silent is False and not self.thorough:
            return
        equal = _is_equal(kept.tensor, kept.before)
        kept.silent = kept.silent or (unwritten and not equal)
        if not equal:
            with torch.inference_mode(kept.tensor.is_inference()), torch.no_grad():
                kept.tensor.copy_(kept.before)
        kept.version = _version(kept.tensor)


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _is_identical(held: Collection[Any], before: list[Any]) -> bool:
    """Return whether a collection holds the same objects in the same order."""
    return len(held) == len(before) and all(map(operator.is_, held, before))


def _memory_place(tensor: torch.Tensor) -> object:
    """Return the storage, offset, shape and strides of a tensor; None for kinds of tensors that have none."""
    try:
        storage = tensor.untyped_storage()
        return storage._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
    except (RuntimeError, NotImplementedError):
        return None


def _is_equal(tensor: torch.Tensor, before: torch.Tensor) -> bool:
    """Return whether two tensors hold the same values, bit by bit; False if they cannot be compared."""
    try:
        # A loop, since an interrupt that arrives while a generator is closed would be lost.
        for one, other in zip(parts_of(tensor), parts_of(before), strict=True):
            if not torch.equal(_as_bits(one), _as_bits(other)):
                return False
        return True
    except (RuntimeError, ValueError, UnsupportedOutputError):  # of another shape, device or number of parts
        return False


def _as_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor's values as integers of the same bits, so that NaN equals itself."""
    return tensor.detach().reshape(-1).view(_WHOLE[min(tensor.element_size(), 8)])


_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
