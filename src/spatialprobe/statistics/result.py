"""What a sweep found: for each layer the results of its reducers, and a file to keep them in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from spatialprobe.errors import LayerNotFoundError, StorageError
from spatialprobe.statistics.summary import Summary, outline
from spatialprobe.storage.archive import Archive
from spatialprobe.text import counted, table

_ARCHIVE = Archive("spatialprobe sweep result", 1, writer="SweepResult.save", kind="result of a sweep")


@dataclass(frozen=True, eq=False, repr=False)
class SweepResult(Mapping[str, Mapping[str, Any]]):
    """For each layer, in the model's order, what each reducer came to: `result["conv2"]["top"]`.

    The values are what the reducers' `result()` returned. Its repr is a table.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3))
    >>> result = sp.sweep(model, torch.rand(100, 3, 16, 16), {"moments": sp.Moments, "top": sp.Exemplars})
    >>> result
    Sweep of Sequential: 100 samples, 2 layers
      layer  moments              top
      0      MomentsResult (6,)   ExemplarsResult (6, 9)
      2      MomentsResult (12,)  ExemplarsResult (12, 9)
    >>> result["2"]["top"]
    ExemplarsResult(values=float64 (12, 9), samples=int64 (12, 9), positions=int64 (12, 9, 2))
    """

    layers: Mapping[str, Mapping[str, Any]]  # layer -> reducer's name -> its result
    samples: int  # how many were swept, by all processes together
    model: str  # the class of the model
    at: str  # "output" or "post_activation"

    def __getitem__(self, layer: str) -> Mapping[str, Any]:
        if layer not in self.layers:
            raise LayerNotFoundError(f"No layer {layer!r} was swept. There are {', '.join(self.layers)}.")
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        names = next(iter(self.layers.values()), {})
        rows = [(layer or "(model)", *map(outline, results.values())) for layer, results in self.layers.items()]
        heading = f"Sweep of {self.model}: {counted(self.samples, 'sample')}, {counted(len(self), 'layer')}"
        return table(heading, [("layer", *names), *rows])

    def __reduce__(self) -> tuple[Callable[..., SweepResult], tuple[Any, ...]]:
        layers = {layer: dict(results) for layer, results in self.layers.items()}  # frozen mappings do not pickle
        return _frozen, (layers, self.samples, self.model, self.at)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything to one safetensors file, and return the path.

        Results may be tensors, numpy arrays, numbers, text, None, and tuples, lists, dicts and dataclasses of these.

        Raises:
            StorageError: the folder does not exist, or a result holds something else.
        """
        tensors: dict[str, torch.Tensor] = {}
        described = {name: _taken_apart(getattr(self, name), tensors, name) for name in _FIELDS}
        return _ARCHIVE.write(path, tensors, {"result": described})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SweepResult:
        """The result that a file holds; every tensor's checksum is compared.

        Dataclasses of reducers of your own must be imported before.

        Raises:
            StorageError: the file is damaged, of another kind or version, or holds a class that is not imported.
            FileNotFoundError: there is no such file.
        """
        described, tensors = _ARCHIVE.read(path)
        return _frozen(**{name: _put_together(described["result"][name], tensors) for name in _FIELDS})


_FIELDS = tuple(field.name for field in fields(SweepResult))


def frozen_results(layers: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """The same mappings, which nobody can write to, with results that know their layer."""
    return MappingProxyType(
        {
            layer: MappingProxyType({name: _of_layer(layer, result) for name, result in results.items()})
            for layer, results in layers.items()
        }
    )


def _of_layer(layer: str, result: Any) -> Any:
    return result.of_layer(layer) if isinstance(result, Summary) else result


def _frozen(layers: Mapping[str, Mapping[str, Any]], samples: int, model: str, at: str) -> SweepResult:
    return SweepResult(frozen_results(layers), samples, model, at)


def _taken_apart(value: Any, tensors: dict[str, torch.Tensor], where: str) -> Any:
    """A value as JSON holds it; its tensors go to `tensors`, under names of their own."""
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return {"value": value} if value is None or isinstance(value, (bool, str, int)) else {"float": value.hex()}
    if isinstance(value, torch.Tensor):
        tensors[str(len(tensors))] = value
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": _taken_apart(torch.from_numpy(np.array(value)), tensors, where)}
    if isinstance(value, Mapping):
        items = [
            [_taken_apart(key, tensors, where), _taken_apart(value[key], tensors, f"{where}[{key!r}]")] for key in value
        ]
        return {"mapping": items}
    if type(value) in (tuple, list):
        items = [_taken_apart(item, tensors, where) for item in value]
        return {type(value).__name__: items}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _taken_apart(getattr(value, field.name), tensors, where) for field in fields(value)}
        return {"dataclass": [type(value).__module__, type(value).__qualname__, parts]}
    raise StorageError(
        f"Cannot save {where}, a {type(value).__name__}: a reducer's result can be written if it is made of tensors, "
        "arrays, numbers, text, None, tuples, lists, dicts and dataclasses."
    )


def _put_together(described: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The value that `_taken_apart` took apart."""
    ((kind, held),) = described.items()
    if kind == "value":
        return held
    if kind == "float":
        return float.fromhex(held)
    if kind == "tensor":
        return tensors[held]
    if kind == "array":
        return _put_together(held, tensors).numpy()
    if kind == "mapping":
        return {_put_together(key, tensors): _put_together(item, tensors) for key, item in held}
    if kind in ("tuple", "list"):
        items = [_put_together(item, tensors) for item in held]
        return tuple(items) if kind == "tuple" else items
    module, name, parts = held
    return _class(module, name)(**{field: _put_together(part, tensors) for field, part in parts.items()})


def _class(module: str, name: str) -> Any:
    """A dataclass that is in memory already: a file names classes, but brings no code to run."""
    found = sys.modules.get(module)
    if found is None and module.startswith("spatialprobe.statistics."):
        import importlib

        found = importlib.import_module(module)
    kind = reduce(lambda held, part: getattr(held, part, None), name.split("."), found)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise StorageError(f"The file holds a {name} of {module}, which is not imported: import {module} first.")
    return kind
