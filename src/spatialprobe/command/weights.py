"""Weights in a file, read without running any code that the file may hold."""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from spatialprobe.errors import ArgumentError, StorageError, describe_error
from spatialprobe.storage.files import shown_path, source_of

_ENTRIES = ("state_dict", "model_state_dict", "model")  # of a checkpoint, where training loops keep the weights
_FEW = 3  # names that a message lists
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def load_weights(model: nn.Module, path: str) -> None:
    """Load the weights in a file into a model.

    The file is safetensors, by its suffix, or a state dict of `torch.save`, alone or in a checkpoint with other
    entries; it is read with `weights_only`, so no code in it runs. A prefix that all names share (`module.`,
    `_orig_mod.`) is left out if the names are the model's without it.

    Raises:
        ArgumentError: the weights are those of another model.
        FileNotFoundError: there is no such file.
        StorageError: the file is damaged, or holds something other than tensors by name.
    """
    source = source_of(path, "file of weights")
    names = model.state_dict().keys()
    state = _without_prefix(_read(source), names)
    wrong = [*_count_names("lacks", names - state.keys()), *_count_names("has besides", state.keys() - names)]
    if wrong:
        raise ArgumentError(
            f"The weights in {shown_path(source)} are not those of {type(model).__name__}: the file "
            f"{', and '.join(wrong)}."
        )
    try:
        model.load_state_dict(state)
    except Exception as error:  # sizes differ, or a hook of the model's own raised
        raise ArgumentError(
            f"The weights in {shown_path(source)} do not fit {type(model).__name__}: {describe_error(error)}"
        ) from error


def _read(source: Path) -> dict[str, Any]:
    """Return the state dict in a file."""
    try:
        if source.suffix == ".safetensors":
            return dict(load_file(source))
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types: damaged archives and pickles, names that are not allowed
        raise StorageError(
            f"{shown_path(source)} cannot be read as weights: {_reason_of(error)}. Save them with "
            "torch.save(model.state_dict(), path)."
        ) from error
    if isinstance(loaded, Mapping):
        loaded = next((loaded[key] for key in _ENTRIES if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(loaded, Mapping) or not any(isinstance(one, torch.Tensor) for one in loaded.values()):
        raise StorageError(f"{shown_path(source)} holds no state dict, a mapping of names to tensors.")
    return dict(loaded)


def _without_prefix(state: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the weights without what all their names begin with, if the model has the names that are left."""
    bare = state
    while len(firsts := {name.partition(".")[0] for name in bare}) == 1 and all("." in name for name in bare):
        if not set(bare).isdisjoint(names):
            break
        prefix = f"{firsts.pop()}."
        bare = {name.removeprefix(prefix): value for name, value in bare.items()}
    return state if set(bare).isdisjoint(names) else bare


def _count_names(verb: str, names: Collection[str]) -> list[str]:
    """Return in a list what a file lacks or has beside the model's names; an empty list where there is nothing."""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return [f"{verb} {', '.join(sorted(names)[:_FEW])}{more}"] if names else []


def _reason_of(error: Exception) -> str:
    """Return why a file was not read, without torch's advice to read it all the same."""
    named = _GLOBAL.search(str(error))
    if named:
        return f"it names {named[1]}, which could run code"
    if isinstance(error, pickle.UnpicklingError):
        return "it is no state dict, and was not unpickled, which could run code"
    return describe_error(error).splitlines()[0].rstrip(".")
