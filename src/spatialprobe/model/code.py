"""Plain values that identify functions and classes: the code of the user's own, the names of installed ones."""

from __future__ import annotations

import dis
import os
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

_LIBRARIES = tuple({str(Path(sysconfig.get_path(kind))) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
_FOLDERS = {"site-packages", "dist-packages"}
_SLOTS = (MemberDescriptorType, GetSetDescriptorType)
_METHODS = (FunctionType, staticmethod, classmethod, property)


def qualified_name(value: Any) -> str:
    """Return the name of a class or function, with its module."""
    return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def is_installed(value: Any) -> bool:
    """Return whether a class or function belongs to an installed library or Python rather than to the user's code."""
    if isinstance(value, FunctionType) and os.path.isabs(value.__code__.co_filename):
        return _is_in_library(value.__code__.co_filename)  # a decorator may have changed its __module__
    name = getattr(value, "__module__", None) or "builtins"
    if name == "__main__":
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return name.split(".")[0] in sys.stdlib_module_names or (file is not None and _is_in_library(file))


def code_parts(code: CodeType) -> list[Any]:
    """Return what a function's code does, without its location and line numbers."""
    return [
        (code.co_code, getattr(code, "co_exceptiontable", b"")),
        [_describe_constant(value) for value in code.co_consts],
        (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        (code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags),
    ]


def used_globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the global values that a function's code names, and the attributes that it may read from modules."""
    for name in _global_names(function.__code__):
        if name not in function.__globals__:
            continue  # a builtin, or undefined
        value = function.__globals__[name]
        yield name, value
        if isinstance(value, ModuleType):
            known = _is_in_library(getattr(value, "__file__", None) or _LIBRARIES[0])
            for attribute in dict.fromkeys(_all_names(function.__code__)):
                if attribute in vars(value) and not (known and not _is_users_function(vars(value)[attribute])):
                    yield f"{name}.{attribute}", vars(value)[attribute]


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods and attributes that a class defines itself."""
    for name, value in vars(kind).items():
        of_python = name.startswith("__") or name == "_abc_impl" or isinstance(value, _SLOTS)
        if isinstance(value, _METHODS) or not of_python:
            yield name, value


def replaced_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods of a library's class, or of its bases, that the user has replaced or added."""
    for base in kind.__mro__:
        for name, value in vars(base).items():
            if isinstance(value, _METHODS) and any(map(_is_users_function, _functions_of(value))):
                yield f"{base.__qualname__}.{name}", value


def _functions_of(method: Any) -> tuple[Any, ...]:
    if isinstance(method, property):
        return method.fget, method.fset, method.fdel
    return (method.__func__,) if isinstance(method, (staticmethod, classmethod)) else (method,)


def _is_users_function(value: Any) -> bool:
    return isinstance(value, FunctionType) and not is_installed(value)


def _describe_constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return code_parts(value)
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    return [_describe_constant(item) for item in value] if isinstance(value, tuple) else repr(value)


@lru_cache(maxsize=4096)  # every sweep with a checkpoint describes the same code, and disassembling it takes long
def _global_names(code: CodeType) -> tuple[str, ...]:
    found = [one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    for value in code.co_consts:
        if isinstance(value, CodeType):
            found += _global_names(value)
    return tuple(dict.fromkeys(found))


def _all_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _all_names(value)


@lru_cache(maxsize=4096)
def _is_in_library(file: str) -> bool:
    return file.startswith(_LIBRARIES) or not _FOLDERS.isdisjoint(Path(file).parts)
