"""Descriptions of values as plain data: equal for equal values in any process, and different for different ones."""

from __future__ import annotations

import copyreg
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from spatialprobe.errors import ArgumentError, UnsupportedOutputError
from spatialprobe.model.code import (
    code_parts,
    is_installed,
    members,
    qualified_name,
    replaced_members,
    used_globals,
)
from spatialprobe.model.hooks import CopiedInert
from spatialprobe.storage.checksum import digest, fingerprint
from spatialprobe.text import kind_of, with_article

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_LONG = 200  # characters; longer descriptions are replaced by a checksum
# Attributes that torch itself sets on every module.
_OWN_TO_MODULES = {*vars(nn.Module()), "_compiled_call_impl", "_is_torch_compile"}
# Objects that compute nothing, and whose contents differ each time.
_WITHOUT_CONTENT = (type(threading.Lock()), type(threading.RLock()), threading.local, RemovableHandle)


class UndescribableError(ArgumentError):
    """A value holds an object that cannot be distinguished from others of its class."""


class Description:
    """A cache of descriptions, which describes each object once, so cycles end and shared objects cost nothing.

    Args:
        names: modules that are described by a name.
        weights: whether the values of parameters that require gradients count; otherwise only their form does.
    """

    def __init__(self, names: Mapping[nn.Module, str] | None = None, *, weights: bool = True) -> None:
        self._names = dict(names or {})
        self._weights = weights
        self._done: dict[int, tuple[object, Any]] = {}  # holds the object, so that its id is not reused
        self._open: dict[int, int] = {}  # the depths of the objects that contain the present one

    def of(self, value: Any) -> Any:
        """Return a description of a value: plain values if they are short, else a checksum.

        Raises:
            UndescribableError: it holds an object that can neither be pickled nor has attributes.
        """
        if isinstance(value, _PLAIN):
            written = repr(value)
            return written if len(written) <= _LONG else digest(written.encode(errors="surrogatepass"))
        if id(value) in self._done:
            return self._done[id(value)][1]
        if id(value) in self._open:
            return f"the one {len(self._open) - self._open[id(value)]} outwards"
        self._open[id(value)] = len(self._open)
        try:
            parts = self._parts(value)
        finally:
            del self._open[id(value)]
        written = repr(parts)
        found = parts if len(written) <= _LONG else digest(written.encode(errors="surrogatepass"))
        self._done[id(value)] = value, found
        return found

    def attributes(self, module: nn.Module) -> dict[str, Any]:
        """Return descriptions of the plain attributes of a module, by name.

        Raises:
            UndescribableError: one cannot be described; the message names it.
        """
        if isinstance(module, torch.jit.ScriptModule):
            return {"graph": _of_scripted(self, module)}
        found = {}
        for name, value in vars(module).items():
            if name not in _OWN_TO_MODULES:
                try:
                    found[name] = self.of(value)
                except UndescribableError as error:
                    raise UndescribableError(f"its attribute {name!r} holds {error}") from error
        return found

    def hooks(self, module: nn.Module, without: type) -> list[Any]:
        """Return descriptions of the forward hooks of a module, in their order, except those of one class."""
        flags = module._forward_hooks_with_kwargs, module._forward_pre_hooks_with_kwargs
        return [
            (place, [key in flagged for flagged in (*flags, module._forward_hooks_always_called)], self.of(hook))
            for place, hooks in enumerate((module._forward_pre_hooks, module._forward_hooks))
            for key, hook in hooks.items()
            if not isinstance(hook, without)
        ]

    def _parts(self, value: Any) -> Any:
        if type(value) in _CONTAINERS:
            return _CONTAINERS[type(value)](self, value)
        return next((parts_of(self, value) for kinds, parts_of in _RULES if isinstance(value, kinds)), None)

    def _leniently(self, value: Any) -> Any:
        """Return a description of a value that code uses; only its class if the value cannot be described."""
        try:
            return self.of(value)
        except (UndescribableError, RecursionError):
            return qualified_name(type(value))

    def _of_tensor(self, value: torch.Tensor) -> Any:
        if not self._weights and type(value) is nn.Parameter and value.requires_grad:
            return [str(value.device), list(value.shape), value.stride(), str(value.dtype)]
        try:
            return fingerprint(value)
        except UnsupportedOutputError as error:
            raise UndescribableError(f"{kind_of(value)}, which torch cannot take apart") from error

    def _of_array(self, value: Any) -> Any:
        array = np.asarray(value)
        if array.dtype.hasobject:
            return [list(array.shape), self.of(array.reshape(-1).tolist())]
        return [list(array.shape), str(array.dtype), digest(array.tobytes())]

    def _of_module(self, value: nn.Module) -> Any:
        if value in self._names:
            return f"layer {self._names[value]}"
        tensors = [self.of(list(held.items())) for held in (value._parameters, value._buffers)]
        children = [(name, self.of(child)) for name, child in value._modules.items()]
        parts = [self.of(type(value)), *tensors, children, self.hooks(value, without=type(None))]
        return [*parts, sorted(self.attributes(value).items())]

    def _of_class(self, value: type) -> Any:
        if is_installed(value):
            replaced = [(name, self._leniently(member)) for name, member in replaced_members(value)]
            return [qualified_name(value), *replaced]
        bases = [self.of(base) for base in value.__bases__]
        return [qualified_name(value), bases, [(name, self._leniently(member)) for name, member in members(value)]]

    def _of_function(self, value: FunctionType) -> Any:
        held = [self.of(value.__defaults__), self.of(value.__kwdefaults__)]
        held += [self._of_cell(cell) for cell in value.__closure__ or ()]
        if is_installed(value):
            return [qualified_name(value), held]
        used = [(name, self._leniently(item)) for name, item in used_globals(value)]
        return [qualified_name(value), held, code_parts(value.__code__), used]

    def _of_cell(self, cell: Any) -> Any:
        try:
            value = cell.cell_contents
        except ValueError:  # the cell is still empty
            return "empty"
        return self.of(value)

    def _of_builtin(self, value: BuiltinFunctionType) -> Any:
        owner = value.__self__
        return [value.__qualname__, "" if owner is None or isinstance(owner, (type, ModuleType)) else self.of(owner)]

    def _of_object(self, value: Any) -> Any:
        """Return a description of an object's reduction by pickle, or of its attributes if it does not pickle."""
        kind = self.of(type(value))
        reduce_to = copyreg.dispatch_table.get(type(value))
        try:
            reduced: Any = reduce_to(value) if reduce_to is not None else value.__reduce_ex__(2)
        except Exception:  # classes that do not pickle raise exceptions of any type
            if not hasattr(value, "__dict__") or _is_made_in_c(type(value)):
                raise UndescribableError(
                    f"{with_article(qualified_name(type(value)))}, which cannot be described"
                ) from None
            return [kind, self.of(vars(value))]
        if isinstance(reduced, str):
            return [kind, reduced, self.of(getattr(value, "__wrapped__", None))]
        return [kind, *(self.of(list(part) if hasattr(part, "__next__") else part) for part in reduced)]


def _is_made_in_c(kind: type) -> bool:
    """Return whether a class is implemented in C, so that its objects may hold more than their attributes."""
    return any(isinstance(vars(base).get("__new__"), BuiltinFunctionType) for base in kind.__mro__[:-1])


def _of_scripted(describes: Description, value: Any) -> Any:
    """Return a description of the graph of a TorchScript module or function, and of its tensors."""
    held = value.state_dict() if isinstance(value, nn.Module) else {}
    return [str(value.graph), [(name, describes.of(tensor)) for name, tensor in held.items()]]


def _of_items(describes: Description, value: Iterable[Any]) -> Any:
    return [describes.of(item) for item in value]


def _of_set(describes: Description, value: Iterable[Any]) -> Any:
    return sorted(repr(describes.of(item)) for item in value)


def _of_mapping(describes: Description, value: Mapping[Any, Any]) -> Any:
    return [[describes.of(key), describes.of(item)] for key, item in value.items()]


_CONTAINERS: dict[type, Callable[[Description, Any], Any]] = {  # exact types: subclasses are described as objects
    **dict.fromkeys((list, tuple), _of_items),
    **dict.fromkeys((set, frozenset), _of_set),
    **dict.fromkeys((dict, OrderedDict, MappingProxyType), _of_mapping),
}
_RULES: tuple[tuple[Any, Callable[[Description, Any], Any]], ...] = (
    (torch.Tensor, Description._of_tensor),
    ((np.ndarray, np.generic), Description._of_array),
    ((torch.jit.ScriptModule, torch.jit.ScriptFunction), _of_scripted),
    (nn.Module, Description._of_module),
    (type, Description._of_class),
    (FunctionType, Description._of_function),
    (MethodType, lambda describes, value: _of_items(describes, (value.__func__, value.__self__))),
    ((staticmethod, classmethod), lambda describes, value: describes.of(value.__func__)),
    (property, lambda describes, value: _of_items(describes, (value.fget, value.fset, value.fdel))),
    (BuiltinFunctionType, Description._of_builtin),
    (ModuleType, lambda _, value: value.__name__),
    (weakref.ref, lambda describes, value: describes.of(value())),
    (CopiedInert, lambda describes, value: _of_items(describes, (type(value), *value.content))),
    (torch.Generator, lambda describes, value: describes.of(value.get_state())),
    (_WITHOUT_CONTENT, lambda _, value: qualified_name(type(value))),
    (object, Description._of_object),
)
