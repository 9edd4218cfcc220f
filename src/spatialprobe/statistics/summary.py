"""Short summaries of results, which show dtypes and shapes rather than values."""

from __future__ import annotations

from copy import copy
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from spatialprobe.activations.records import At
from spatialprobe.arguments import check_one_of, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.html_fields import format_fields_html
from spatialprobe.model.names import is_name

if TYPE_CHECKING:
    from typing_extensions import Self


class Summary:
    """A base of frozen dataclasses whose repr shows the dtype and shape of tensors; declare them with `repr=False`."""

    @property
    def layer(self) -> str | None:
        """The name of the layer in results of a sweep, None in results of a reducer used by itself."""
        name: str | None = self.__dict__.get("_layer")
        return name

    @property
    def at(self) -> str | None:
        """The point at which the values were taken, "output" or "post_activation"; None outside of a sweep."""
        at: str | None = self.__dict__.get("_at")
        return at

    def of_layer(self, layer: str, *, at: str | None = None) -> Self:
        """Return a copy of the result that is marked as one of this layer, with values taken `at` this point.

        Raises:
            ArgumentError: `layer` is not a string, or `at` neither "output" nor "post_activation".
        """
        if not is_name(layer):
            raise ArgumentError(f"layer must be the name of a layer, not {short_repr(layer)}.")
        made = copy(self)
        made.__dict__["_layer"] = layer
        if at is not None:
            check_one_of(at, "at", At)
            made.__dict__["_at"] = at
        return made

    def _repr_html_(self) -> str:
        """The fields for a notebook, tensors in few words."""
        return format_fields_html(self, self.layer)

    def __repr__(self) -> str:
        parts = (f"{field.name}={_brief(getattr(self, field.name))}" for field in fields(self) if field.repr)  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(parts)})"


def summarize(result: object) -> str:
    """Return the type of a result and the shape of its first tensor, such as `ExemplarsResult (6, 9)`."""
    held = [getattr(result, field.name) for field in fields(result)] if is_dataclass(result) else [result]
    shapes = (str(tuple(value.shape)) for value in held if isinstance(value, (torch.Tensor, np.ndarray)))
    return f"{type(result).__name__} {next(shapes, '')}".rstrip()


def _brief(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value)
