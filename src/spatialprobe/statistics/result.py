"""The result of a sweep: for each layer the results of its reducers, and a file format for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import torch

from spatialprobe.activations.records import At
from spatialprobe.html_table import format_html_table
from spatialprobe.mappings import CompletedMapping, FrozenMapping
from spatialprobe.model.names import find_name
from spatialprobe.statistics.summary import Summary, summarize
from spatialprobe.statistics.values import extract_tensors, insert_tensors
from spatialprobe.storage.archive import Archive
from spatialprobe.storage.schema import MalformedError, check
from spatialprobe.text import describe_left_out, format_count, format_table

_ARCHIVE = Archive("spatialprobe sweep result", 1, writer="SweepResult.save", kind="result of a sweep")


@dataclass(frozen=True, eq=False, repr=False)
class SweepResult(CompletedMapping[str, Mapping[str, Any]]):
    """The results of each layer's reducers, with layers in the model's order: `result["conv2"]["top"]`.

    The values are what the reducers' `result()` returned. The repr is a table.

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
    samples: int  # the number of samples swept by all processes together
    model: str  # the class of the model
    at: str  # "output" or "post_activation"
    left_out: Mapping[str, str] = field(default_factory=dict)  # layer -> why it was not swept

    def __getitem__(self, layer: str) -> Mapping[str, Any]:
        return self.layers[find_name(layer, self.layers, "The sweep has no layer")]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        heading, rows, remarks = self._table()
        return "\n".join([format_table(heading, rows), *remarks])

    def _repr_html_(self) -> str:
        """Return the table as HTML for a notebook."""
        heading, rows, remarks = self._table()
        return format_html_table(heading, rows[0], rows[1:], remarks=remarks)

    def _table(self) -> tuple[str, list[tuple[str, ...]], list[str]]:
        """Return the heading, the rows of cells, the first of which names the columns, and remarks below the table."""
        names = next(iter(self.layers.values()), {})
        rows = [(layer or "(model)", *map(summarize, results.values())) for layer, results in self.layers.items()]
        heading = f"Sweep of {self.model}: {format_count(self.samples, 'sample')}, {format_count(len(self), 'layer')}"
        left = list(filter(None, [describe_left_out(self.left_out)]))
        return heading, [("layer", *names), *rows], left

    def __reduce__(self) -> tuple[Callable[..., SweepResult], tuple[Any, ...]]:
        layers = {layer: dict(results) for layer, results in self.layers.items()}  # frozen mappings do not pickle
        return _rebuild, (layers, self.samples, self.model, self.at, dict(self.left_out))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to one safetensors file, and return the path.

        Results may be tensors, numpy arrays, numbers, strings, None, and tuples, lists, dicts and dataclasses of these.

        Raises:
            ArgumentError: the name has the suffix of another format.
            StorageError: the file cannot be written, or a result holds something else.
        """
        tensors: dict[str, torch.Tensor] = {}
        values = {name: getattr(self, name) for name in _SCHEMA} | {"left_out": dict(self.left_out)}
        described = {name: extract_tensors(value, tensors, name) for name, value in values.items()}
        return _ARCHIVE.write(path, tensors, {"result": described})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SweepResult:
        """Return the result in a file, after comparing the checksum of every tensor.

        Import the result dataclasses of your own reducers first; their fields are set as they were saved, and none of
        their code runs.

        Raises:
            StorageError: the file is damaged, of another kind or version, or holds a class that is not imported.
            FileNotFoundError: there is no such file.
        """
        return _ARCHIVE.read(path, _build)


_SCHEMA = {one.name: dict for one in fields(SweepResult)}  # the schema of the description: a value for each field


def _build(description: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> SweepResult:
    """Return the result that the description and tensors of a file hold.

    Raises:
        MalformedError: they hold none.
    """
    if isinstance(description.get("result"), dict):  # files of version 0.1 have no `left_out`
        description["result"].setdefault("left_out", extract_tensors({}, {}, "left_out"))
    check(description, {"result": _SCHEMA}, "the description")
    values = {name: insert_tensors(part, tensors) for name, part in description["result"].items()}
    plain = {**values, "layers": _names(values["layers"])}
    schema = {"layers": {str: [str]}, "samples": int, "model": str, "at": set(get_args(At)), "left_out": {str: str}}
    check(plain, schema, "the result")
    if len(set(map(tuple, plain["layers"].values()))) > 1:
        raise MalformedError("the names of the results differ between its layers")
    return _rebuild(**values)


def _names(layers: Any) -> Any:
    """Return the names of each layer's results; values of other types are left for the schema check to reject."""
    if not isinstance(layers, dict):
        return layers
    return {layer: list(results) if isinstance(results, dict) else None for layer, results in layers.items()}


def freeze_results(layers: Mapping[str, Mapping[str, Any]], at: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the mappings as read-only ones, with results that know their layer and `at`."""
    return FrozenMapping(
        {
            layer: FrozenMapping({name: _attach_layer(layer, result, at) for name, result in results.items()})
            for layer, results in layers.items()
        }
    )


def _attach_layer(layer: str, result: Any, at: str) -> Any:
    return result.of_layer(layer, at=at) if isinstance(result, Summary) else result


def _rebuild(
    layers: Mapping[str, Mapping[str, Any]], samples: int, model: str, at: str, left_out: Mapping[str, str]
) -> SweepResult:
    return SweepResult(freeze_results(layers, at), samples, model, at, FrozenMapping(left_out))
