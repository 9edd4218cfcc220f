"""The model that `package.module:callable` or `file.py:callable` names."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from spatialprobe.errors import ArgumentError, describe_error
from spatialprobe.storage.files import shown_path, source_of
from spatialprobe.text import kind_of

_FORM = "package.module:callable or file.py:callable"
_folders: list[str] = []  # of files with models, each of which is on the import path


def load_model(target: str, arguments: Any = None) -> nn.Module:
    """Return the model that a callable returns, or that the name stands for itself.

    Random weights begin from seed 0, so that the same command has the same result.

    Args:
        target: `package.module:callable`, found as by `python -m`, or `file.py:callable`, whose folder is on the import
            path as when the file is run.
        arguments: of the callable: a mapping of keywords, or a list of positions.

    Raises:
        ArgumentError: there is no such module or callable, it raised, or it returned no `nn.Module`.
        FileNotFoundError: there is no such file.

    >>> load_model("torch.nn:Conv2d", [3, 6, 3])
    Conv2d(3, 6, kernel_size=(3, 3), stride=(1, 1))
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise ArgumentError(f"MODEL is {_FORM}, such as torchvision.models:resnet18, not {target!r}.")
    found = _find(_import_file(place) if place.endswith(".py") else _import_module(place), name, place)
    if isinstance(found, nn.Module) and arguments is None:
        return found
    if not callable(found):
        raise ArgumentError(f"{target} is {kind_of(found)}, which is neither a model nor a callable that returns one.")
    words, numbers = (arguments, ()) if isinstance(arguments, Mapping) else ({}, arguments or ())
    if not isinstance(numbers, (list, tuple)):
        raise ArgumentError(f"The arguments of {target} must be a JSON object or array, not {arguments!r}.")
    torch.manual_seed(0)
    try:
        model = found(*numbers, **words)
    except (Exception, SystemExit) as error:  # a script may parse arguments of its own, and exit
        raise ArgumentError(f"{target} raised {describe_error(error)}. {_hint(arguments)}") from error
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"{target} returned {kind_of(model)}, not an nn.Module.")
    return model


def _import_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name != missing and not name.startswith(f"{missing}."):
            raise ArgumentError(f"The module {name!r} needs {missing!r}, which is not installed.") from error
        file = Path(*name.split(".")).with_suffix(".py")
        hint = f"Is it the file {file}:...?" if file.is_file() else "Is it installed, or below the working folder?"
        raise ArgumentError(f"There is no module {missing!r}. {hint}") from error
    except (Exception, SystemExit) as error:
        raise ArgumentError(f"Importing {name!r} raised {describe_error(error)}.") from error


def _import_file(path: str) -> ModuleType:
    """Return the module in a file, imported with the file's folder on the import path."""
    file = source_of(path, "Python file").resolve()
    _enter_folder(str(file.parent))
    namesake = sys.modules.get(file.stem)
    if namesake is not None and getattr(namesake, "__file__", None) == str(file):
        return namesake
    # Under its own name other files of the folder can import it, unless another module has that name.
    name = file.stem if namesake is None else f"{file.stem} of {file.parent}"
    specification = spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise ArgumentError(f"{shown_path(file)} is no Python file.")
    module = module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise ArgumentError(f"{path} needs {error.name!r}, which is not installed.") from error
    except (Exception, SystemExit) as error:
        raise ArgumentError(f"Importing {path} raised {describe_error(error)}.") from error
    return module


def _enter_folder(folder: str) -> None:
    """Put a folder first on the import path; what was imported from those of other models is forgotten.

    So do two versions of a project, each in its folder, both import their own files.
    """
    others = tuple(os.path.join(one, "") for one in _folders if one != folder)
    names = {one.removesuffix(".py") for one in os.listdir(folder)}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in names and str(getattr(module, "__file__", None)).startswith(others):
            del sys.modules[name]
    _folders.append(folder)
    sys.path.insert(0, folder)


def _find(module: ModuleType, name: str, place: str) -> Any:
    """Return the attribute of a module; its name may have dots."""
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ArgumentError(f"{place} has no {name!r}. {_suggest(module, name)}")
        found = getattr(found, part)
    return found


def _suggest(module: ModuleType, name: str) -> str:
    """Return the names of a module that a user may have meant."""
    public = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
    near = get_close_matches(name, public, n=2)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    own = [one for one in public if getattr(vars(module)[one], "__module__", None) == module.__name__]
    return f"It has {', '.join(own[:6])}." if own else "It defines nothing that can be called."


def _hint(arguments: Any) -> str:
    return "Its arguments go in --model-args, as JSON." if arguments is None else f"Its arguments were {arguments!r}."
