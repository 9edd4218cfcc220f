"""Pickling that is safe to read: the bytes can name only classes and functions that are known beforehand.

Tensors, numpy arrays and Python's containers are always known. The bytes are a file of `torch.save`, read by torch's
`weights_only` unpickler. Every class and function in it is written as a string, which is looked up among the known
ones: nothing is imported, and only known classes are ever called.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import pickletools
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch

from spatialprobe.errors import ArgumentError, SpatialProbeError, StorageError, describe_error
from spatialprobe.storage.rebuilding import CALLED, HELD, REDUCTIONS, describe_pickled, fill

# The classes that state the dtype of a tensor's memory in a file of `torch.save`.
_STORAGES = {kind for kind in vars(torch).values() if isinstance(kind, type) and kind.__name__.endswith("Storage")}
_OWN_NAMES = {f"{kind.__module__} {kind.__name__}" for kind in _STORAGES} | {f"{__name__} find_global"}
_FILLED_BY_TORCH = {list, dict, OrderedDict, Counter}
# Operations that pickle may write, but torch's unpickler cannot read.
_UNREADABLE = {"LONG4": "an int of more than 255 bytes", "POP": "a tuple in itself", "POP_MARK": "a tuple in itself"}
_loading = threading.Lock()  # torch's list of safe globals belongs to the whole process


class ForeignNameError(StorageError):
    """A class or function is not known, so objects of it cannot be written, nor bytes that name it be read."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class RestrictedPickle:
    """A pickler of plain values, tensors, arrays, and objects of known classes.

    Known are the classes of some example objects and of everything these hold; the classes nested in those; and the
    entries of their attribute `state_types`. A function or class that an example holds as a value is known as a value:
    it is read back, and never called. Objects are created as `pickle` creates them: by the class's `__new__` and
    `__setstate__`, or by its `__reduce__` if that names a class; functions that it names must be in `state_types`.

    Raises:
        StorageError: an example cannot be written.

    >>> known = RestrictedPickle()
    >>> known.loads(known.dumps({"a": [1 + 2j, torch.ones(2)]}))
    {'a': [(1+2j), tensor([1., 1.])]}
    """

    def __init__(self, examples: Iterable[object] = ()) -> None:
        self._named: dict[str, object] = {}
        self._names: dict[int, str] = {}
        self._called: dict[str, Any] = {}  # the named objects that the bytes may call
        for function in CALLED:
            self._register(function, called=True)
        for value in HELD:
            self._register(value)
        for example in examples:
            self._dump(example, learning=True)

    def dumps(self, value: object) -> bytes:
        """Return the value as bytes.

        Raises:
            ForeignNameError: it holds an object of a class that is not known.
            StorageError: it cannot be pickled, or not in a form that torch's unpickler reads.
        """
        return self._dump(value, learning=False)

    def loads(self, data: bytes) -> Any:
        """Return the value that was written.

        Raises:
            ForeignNameError: the bytes name a class or function that is not known.
            StorageError: they were not written by `dumps`, or the objects in them cannot be created.
        """
        try:
            _check_stream(_stream_of(data))
            with _loading, torch.serialization.safe_globals(self._safe_globals()):
                return torch.load(io.BytesIO(data), weights_only=True, mmap=False)
        except SpatialProbeError:
            raise
        except Exception as error:
            raise StorageError(f"cannot be read: {_first_line(error)}") from error

    def _safe_globals(self) -> list[Any]:
        """Return the callables that torch's unpickler may call, each under a name that no stream can contain."""
        called = [(function, f" {name}") for name, function in self._called.items()]
        return [(self._look_up, f"{find_global.__module__}.{find_global.__name__}"), *called]

    def _look_up(self, name: str) -> object:
        if name not in self._named:
            raise ForeignNameError(f"names {name}", str(name))
        return self._named[name]

    def _dump(self, value: object, *, learning: bool) -> bytes:
        # torch.save subclasses this class, so its configuration is passed as class attributes.
        kind = type("Pickler", (_Pickler,), {"known": self, "learning": learning})
        buffer = io.BytesIO()
        try:
            torch.save(value, buffer, pickle_module=SimpleNamespace(Pickler=kind, __name__="pickle"))
            data = buffer.getvalue()
            _check_stream(_stream_of(data))
        except SpatialProbeError:
            raise
        except Exception as error:
            raise StorageError(f"cannot be written: {describe_error(error)}") from error
        return data

    def _register(self, value: Any, *, called: bool = False) -> None:
        """Register a class, function or other named object, and whether the bytes may call it."""
        name = _name_of(value)
        if self._named.setdefault(name, value) is not value:
            raise ForeignNameError(f"holds two different objects that are named {name}", name)
        self._names[id(value)] = name
        if called and name not in self._called:
            self._called[name] = value
            for kind in _kinds_of_state(value) if isinstance(value, type) else ():
                self._register(kind, called=True)

    def _reduce(self, value: Any, *, learning: bool) -> Any:
        """Return the reduction of a value that pickle does not write natively: a callable and its arguments."""
        if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
            if value is find_global or value in _STORAGES:
                return NotImplemented  # pickle writes their module and name; no other object is written like this
            return self._as_name(value, learning=learning)
        reduce_own = REDUCTIONS.get(type(value))
        if reduce_own is not None:
            return reduce_own(value)
        reduced = describe_pickled(value)
        if isinstance(reduced, str):
            return self._as_name(value, learning=learning)
        made_by, arguments, state, items, pairs = reduced
        self._check_called(arguments[0] if _is_new(made_by) else made_by, learning=learning)
        if type(value) in _FILLED_BY_TORCH:
            return reduced
        within = list(items or ()), list(pairs or ())
        return (fill, (made_by(*arguments), *within), state) if any(within) else (made_by, arguments, state)

    def _as_name(self, value: Any, *, learning: bool) -> Any:
        if id(value) not in self._names:
            if not learning:
                raise ForeignNameError(f"holds {_name_of(value)}", _name_of(value))
            self._register(value)
        return find_global, (self._names[id(value)],)

    def _check_called(self, made_by: Any, *, learning: bool) -> None:
        """Check that the callable that creates an object is known; while learning, register its class."""
        if self._names.get(id(made_by)) in self._called:
            return
        name = _name_of(made_by)
        if not isinstance(made_by, type):
            raise ForeignNameError(f"holds an object that is made by the function {name}", name)
        if not learning:
            raise ForeignNameError(f"holds an object of the class {name}", name)
        self._register(made_by, called=True)


def find_global(name: str) -> object:
    """Mark in the bytes a name that `RestrictedPickle` looks up.

    Raises:
        StorageError: always; it is called only if something other than a `RestrictedPickle` reads the bytes.
    """
    raise StorageError(f"{name} can be looked up only by the RestrictedPickle that knows it.")


class _Pickler(pickle.Pickler):
    """A pickler that reduces values as a `RestrictedPickle` does."""

    known: RestrictedPickle
    learning: bool

    def reducer_override(self, value: Any) -> Any:
        return self.known._reduce(value, learning=self.learning)


def _is_new(made_by: Any) -> bool:
    """Return whether the first argument of a reduction is the class of the object."""
    return made_by is copyreg.__newobj__  # type: ignore[attr-defined]


def _kinds_of_state(kind: type) -> Iterator[Any]:
    """Yield the classes nested in a class, and the entries of its `state_types`."""
    for member in vars(kind).values():
        if isinstance(member, type) and member.__qualname__.startswith(f"{kind.__qualname__}."):
            yield member
    listed = getattr(kind, "state_types", ())
    if not isinstance(listed, (tuple, list, set, frozenset)) or not all(map(callable, listed)):
        raise ArgumentError(f"{kind.__qualname__}.state_types must be a tuple of classes.")
    yield from listed


def _name_of(value: Any) -> str:
    """Return the name of a class, a function or a dtype, with its module."""
    module = getattr(value, "__module__", None) or type(value).__module__
    owner = getattr(value, "__self__", None)
    if owner is not None and not isinstance(owner, (type, ModuleType)):
        return f"{_name_of(type(owner))}.{value.__name__} of an object"
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return f"{module}.{name or describe_pickled(value)}"


def _stream_of(data: bytes) -> bytes:
    """Return the pickle stream in a file of `torch.save`, located by torch's own reader."""
    reader = torch._C.PyTorchFileReader(io.BytesIO(data))
    if "constants.pkl" in reader.get_all_records():
        raise StorageError("is a file of TorchScript")
    stream: bytes = reader.get_record("data.pkl")
    return stream


def _check_stream(stream: bytes) -> None:
    """Check that torch's unpickler can read a pickle stream, and that the stream names no global itself.

    Raises:
        StorageError: it has operations that torch's unpickler does not support.
        ForeignNameError: it names a global.
    """
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name in _UNREADABLE:
            raise StorageError(f"holds {_UNREADABLE[operation.name]}, which torch's unpickler does not read")
        if operation.name == "PROTO" and argument != 2:
            raise StorageError(f"is a pickle of protocol {argument}, not 2")
        if operation.name == "GLOBAL" and argument not in _OWN_NAMES:
            name = str(argument).replace(" ", ".")
            raise ForeignNameError(f"names {name}", name)


def _first_line(error: Exception) -> str:
    """Return the first line of an error of torch's unpickler, without its advice to trust the file."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
