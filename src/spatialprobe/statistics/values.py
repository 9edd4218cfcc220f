"""Conversion of reducers' results to JSON and tensors, and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from typing import Any, get_type_hints

import numpy as np
import torch

from spatialprobe.arguments import short_repr
from spatialprobe.errors import StorageError
from spatialprobe.storage.schema import MalformedError, Or, check
from spatialprobe.text import kind_of, with_article

_SHOWN = 100  # characters of a name in a message
_DEEPEST = 100  # the deepest nesting of containers
_OURS = "spatialprobe.statistics."
_KEYS = (str, int, float, bool, type(None))  # types of keys of mappings, besides tuples of these
_WHOLE = Or(None, bool, int, str)


def extract_tensors(value: Any, tensors: dict[str, torch.Tensor], where: str, depth: int = 0) -> Any:
    """Return a value as JSON data; its tensors are added to `tensors` under new names.

    Raises:
        StorageError: it holds something that a file cannot hold, or is nested too deeply.
    """
    if depth > _DEEPEST:
        raise StorageError(f"Cannot save {where[:200]}: it is nested more than {_DEEPEST} deep, or holds itself.")
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return {"value": value} if value is None or isinstance(value, (bool, str, int)) else {"float": value.hex()}
    if isinstance(value, torch.Tensor):
        tensors[str(len(tensors))] = value
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": extract_tensors(_as_tensor(np.array(value), where), tensors, where)}
    if isinstance(value, Mapping):
        items = [(_as_key(key, where), value[key]) for key in value]
        return {
            "mapping": [
                [
                    extract_tensors(key, tensors, where),
                    extract_tensors(item, tensors, f"{where}[{short_repr(key)}]", depth + 1),
                ]
                for key, item in items
            ]
        }
    if type(value) in (tuple, list):
        return {type(value).__name__: [extract_tensors(item, tensors, where, depth + 1) for item in value]}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {
            field.name: extract_tensors(getattr(value, field.name), tensors, where, depth + 1)
            for field in fields(value)
        }
        return {"dataclass": [type(value).__module__, type(value).__qualname__, parts]}
    raise StorageError(
        f"Cannot save {where}, {kind_of(value)}: a reducer's result can be written if it is made of tensors, "
        "arrays, numbers, strings, None, tuples, lists, dicts and dataclasses."
    )


def insert_tensors(described: Any, tensors: Mapping[str, torch.Tensor], depth: int = 0) -> Any:
    """Return the value that `extract_tensors` has converted.

    Raises:
        MalformedError: the JSON data does not describe a value.
        StorageError: it names a class that is not imported.
    """
    if depth > _DEEPEST:
        raise MalformedError(f"a result is nested more than {_DEEPEST} deep")
    if not isinstance(described, dict) or len(described) != 1:
        raise MalformedError(f"{short_repr(described)} does not describe a value")
    ((kind, held),) = described.items()
    if kind in _BUILDERS:
        schema, make = _BUILDERS[kind]
        check(held, schema, f"{with_article(kind)} in a result")
        return make(held, tensors)
    if kind not in _CONTAINER_BUILDERS:
        raise MalformedError(f"{short_repr(kind)} is not a kind of value")
    schema, make_parts = _CONTAINER_BUILDERS[kind]
    check(held, schema, f"{with_article(kind)} in a result")
    return make_parts(held, tensors, depth + 1)


def _build_float(held: str, _: object) -> float:
    try:
        return float.fromhex(held)
    except (ValueError, OverflowError) as error:
        raise MalformedError(f"{short_repr(held)} is not a float") from error


def _find_tensor(held: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if held not in tensors:
        raise MalformedError(f"there is no tensor {short_repr(held)}")
    return tensors[held]


def _build_array(held: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    try:
        return _find_tensor(held["tensor"], tensors).numpy()
    except (TypeError, RuntimeError) as error:  # a dtype that numpy lacks
        raise MalformedError(f"tensor {short_repr(held)} cannot be an array ({error})") from error


def _build_mapping(held: Any, tensors: Mapping[str, torch.Tensor], depth: int) -> Any:
    found = {}
    for key, item in held:
        name = insert_tensors(key, tensors, depth)
        if not _is_key(name):
            raise MalformedError(f"{short_repr(name)} cannot be a key of a mapping")
        found[name] = insert_tensors(item, tensors, depth)
    return found


def _build_list(held: Any, tensors: Mapping[str, torch.Tensor], depth: int) -> list[Any]:
    return [insert_tensors(item, tensors, depth) for item in held]


def _build_tuple(held: Any, tensors: Mapping[str, torch.Tensor], depth: int) -> tuple[Any, ...]:
    return tuple(_build_list(held, tensors, depth))


def _build_dataclass(held: Any, tensors: Mapping[str, torch.Tensor], depth: int) -> Any:
    """Return an instance of a dataclass with its saved fields, without running code of the class."""
    module, name, parts = held
    kind = _find_dataclass(module, name)
    known = {field.name: object for field in fields(kind)}
    if parts.keys() != known.keys():
        raise MalformedError(f"{with_article(name)} has the fields {', '.join(known)}, not {short_repr(sorted(parts))}")
    hints = get_type_hints(kind) if kind.__module__.startswith(_OURS) else known
    made = object.__new__(kind)
    for field, part in parts.items():
        value = insert_tensors(part, tensors, depth)
        if not _fits(value, hints[field]):
            raise MalformedError(f"{field} of {with_article(name)} is {short_repr(value)}")
        object.__setattr__(made, field, value)
    return made


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value has the annotated type of a field; true if that cannot be checked."""
    try:
        return isinstance(value, hint)
    except TypeError:  # such as list[int]
        return True


# For each kind of value, the schema of its description and the function that builds it.
_BUILDERS: dict[str, Any] = {
    "value": (_WHOLE, lambda held, _: held),
    "float": (str, _build_float),
    "tensor": (str, _find_tensor),
    "array": ({"tensor": str}, _build_array),
}
_CONTAINER_BUILDERS: dict[str, Any] = {
    "mapping": ([(dict, dict)], _build_mapping),
    "list": (list, _build_list),
    "tuple": (list, _build_tuple),
    "dataclass": ((str, str, dict), _build_dataclass),
}


def _find_dataclass(module: str, name: str) -> Any:
    """Return a dataclass that has been imported already, or one of the library: a file must not cause other imports.

    It is looked up without `getattr`, since a module's `__getattr__` may import something.

    Raises:
        StorageError: there is no such dataclass.
    """
    found = sys.modules.get(module)
    if found is None and module.startswith(_OURS) and module.removeprefix(_OURS).isidentifier() and find_spec(module):
        import importlib

        found = importlib.import_module(module)
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    if not (isinstance(found, type) and is_dataclass(found)) or hasattr(found, "__del__"):
        raise StorageError(
            f"The file holds {with_article(name[:_SHOWN])} of {module[:_SHOWN]}, which is not imported: import "
            f"{module[:_SHOWN]} first."
        )
    return found


def _as_tensor(array: Any, where: str) -> torch.Tensor:
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise StorageError(
            f"Cannot save {where}, an array of {array.dtype}: torch has no such dtype. Return it as a list."
        ) from error


def _as_key(key: Any, where: str) -> Any:
    """Return the key of a mapping as a plain value; numpy scalars become Python numbers.

    Raises:
        StorageError: it is of another type, which could not be read back.
    """
    plain = key.item() if isinstance(key, np.generic) else key
    if not _is_key(plain):
        raise StorageError(
            f"Cannot save {where}: its key {short_repr(key)} is {kind_of(key)}. Keys may be strings, numbers, None and "
            "tuples of these."
        )
    return plain


def _is_key(value: Any) -> bool:
    return all(map(_is_key, value)) if type(value) is tuple else type(value) in _KEYS
