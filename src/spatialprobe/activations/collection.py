"""A mapping from layer names to records, also of layers that ran several times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from spatialprobe.activations.records import Activation
from spatialprobe.activations.table import format_records, format_records_html
from spatialprobe.arguments import is_iterable, short_repr
from spatialprobe.errors import ArgumentError, LayerNotRunError
from spatialprobe.model.calls import LayerCalls
from spatialprobe.model.names import find_name
from spatialprobe.tensors import dense_values
from spatialprobe.text import kind_of


class Activations(LayerCalls[Activation]):
    """A mapping from layer names to records, in the order in which the layers first ran.

    `len`, `in` and iteration refer to layers. `self["conv1"]` is the record of a layer that ran once,
    `self["conv1", i]` the i-th of several; `values()` and `items()` raise where a layer ran more than once.

    >>> import pathlib, tempfile, torch, spatialprobe as sp
    >>> conv = torch.nn.Conv2d(1, 1, 1)
    >>> probe = sp.capture(torch.nn.Sequential(conv, conv), torch.rand(2, 1, 4, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = sp.save_activations(pathlib.Path(folder, "records.safetensors"), probe)
    ...     activations = sp.load_activations(path)
    >>> activations["0", 1].shape, len(activations.calls("0")), activations.concatenated("0").shape
    ((2, 1, 4, 4), 2, torch.Size([4, 1, 4, 4]))
    """

    _called = "activations"
    _how_to_fix = ", or activations.concatenated({layer!r}) for one tensor along the batch"

    def __init__(self, records: Sequence[Activation] = (), title: str = "Activations") -> None:
        self._title = title
        self._records = list(records)

    @property
    def records(self) -> tuple[Activation, ...]:
        """All records, in the order of execution."""
        return tuple(self._records)

    def calls(self, layer: str) -> tuple[Activation, ...]:
        """Return all records of one layer, in the order of execution.

        Raises:
            LayerNotFoundError: no layer of this name was watched.
            LayerNotRunError: the layer has no record.
        """
        name = self._name_of(layer)
        found = tuple(record for record in self.records if record.layer == name)
        if not found:
            raise LayerNotRunError(f"Layer {name!r} has no record. {self._explain_absence(name)}")
        return found

    def concatenated(self, layer: str) -> torch.Tensor:
        """Return all records of one layer as one tensor, concatenated along the batch (the first axis).

        Sparse, mkldnn and quantized tensors are concatenated as dense ones.

        Raises:
            ArgumentError: the shapes differ in more than the batch.
            UnsupportedOutputError: the tensors are nested.
        """
        records = self.calls(layer)
        if len({(record.shape[1:], record.dtype, record.device) for record in records}) > 1 or not records[0].shape:
            shapes = ", ".join(str(record.shape) for record in records)
            raise ArgumentError(
                f"The runs of {layer!r} cannot be concatenated along the batch: their shapes are {shapes}. "
                f"Use {self._called}.calls({layer!r}) to get them one by one."
            )
        if all(record.tensor.layout is torch.strided and not record.tensor.is_quantized for record in records):
            return torch.cat([record.tensor for record in records])
        return torch.cat([dense_values(layer, record.tensor) for record in records])  # torch.cat is wrong for others

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(record.layer for record in self.records))

    def __len__(self) -> int:
        return len({record.layer for record in self.records})

    def __repr__(self) -> str:
        return "\n".join([format_records(self._title, self.records), *self._remarks()])

    def _repr_html_(self) -> str:
        """The table for a notebook, with thumbnails of each layer's maps."""
        from spatialprobe.render.thumbnails import (  # records are read without any drawing
            THUMBNAILS_REMARK,
            draw_thumbnails,
        )

        return format_records_html(self._title, self.records, draw_thumbnails, THUMBNAILS_REMARK, self._remarks())

    def _remarks(self) -> list[str]:
        """Return sentences that stand below the table."""
        return []

    def _name_of(self, layer: str) -> str:
        """Return the name under which a layer's records are kept."""
        names = {name: record.layer for record in self.records for name in (*record.aliases, record.layer)}
        return names[find_name(layer, names, "There are no records of a layer")]

    def _explain_absence(self, name: str) -> str:
        """Return why a layer has no record, as far as that is known."""
        return ""


def as_records(given: object, called: str) -> list[Activation]:
    """Return as a list the records in a probe, a mapping, or an iterable of records, or a single record.

    Raises:
        ArgumentError: it is none of these, or holds no records.
    """
    if isinstance(given, Activations):
        records: list[Any] = list(given.records)
    elif isinstance(given, Mapping):
        records = list(given.values())
    else:  # an `Activation` is one record
        records = list(given) if is_iterable(given) else [given]
    wrong = [one for one in records if not isinstance(one, Activation)]
    if wrong:
        inside = "" if wrong[0] is given else f" with {kind_of(wrong[0])} in it"
        raise ArgumentError(
            f"{called} takes a probe, or records such as [probe['conv1']], not {short_repr(given)}{inside}."
        )
    if not records:
        raise ArgumentError(f"There are no records for {called}: run the model inside the probe's block first.")
    return records
