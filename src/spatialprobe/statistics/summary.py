"""Results in few words: what they hold, rather than every number."""

from __future__ import annotations

from copy import copy
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from spatialprobe.activations.records import At
from spatialprobe.arguments import check_one_of, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.model.names import is_name

if TYPE_CHECKING:
    from typing_extensions import Self


class Summary:
    """A frozen dataclass whose repr names its tensors by number format and shape; made with `repr=False`."""

    @property
    def layer(self) -> str | None:
        """Whose values these are: the layer's name in what a sweep found, None in what a lone reducer did."""
        name: str | None = self.__dict__.get("_layer")
        return name

    @property
    def at(self) -> str | None:
        """The point at which the layer's values were taken: "output" or "post_activation"; None of a lone reducer."""
        at: str | None = self.__dict__.get("_at")
        return at

    def of_layer(self, layer: str, *, at: str | None = None) -> Self:
        """Return the same result, said to be of this layer, and of values taken `at` this point.

        Raises:
            ArgumentError: `layer` is not a text, or `at` neither "output" nor "post_activation".
        """
        if not is_name(layer):
            raise ArgumentError(f"layer must be the name of a layer, not {short_repr(layer)}.")
        made = copy(self)
        made.__dict__["_layer"] = layer
        if at is not None:
            check_one_of(at, "at", At)
            made.__dict__["_at"] = at
        return made

    def __repr__(self) -> str:
        parts = (f"{field.name}={_brief(getattr(self, field.name))}" for field in fields(self) if field.repr)  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(parts)})"


def summarize(result: object) -> str:
    """A result's type, and the shape of the first tensor in it: `ExemplarsResult (6, 9)`."""
    held = [getattr(result, field.name) for field in fields(result)] if is_dataclass(result) else [result]
    shapes = (str(tuple(value.shape)) for value in held if isinstance(value, (torch.Tensor, np.ndarray)))
    return f"{type(result).__name__} {next(shapes, '')}".rstrip()


def _brief(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value)
