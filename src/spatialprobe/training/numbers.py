"""The numbers in the results of reducers: arrays by the names of statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]


def numbers_of(result: object) -> dict[str, Floats]:
    """Return the statistics in a result as float64 arrays (C, ...), those of one number as ().

    Of a dataclass these are its fields and properties that hold numbers, by their names, but for fields that are left
    out of its repr; any other result is a single statistic without a name.

    >>> import spatialprobe as sp
    >>> dead = sp.Dead()
    >>> dead.update(torch.ones(1, 2), torch.tensor([0]))
    >>> numbers_of(dead.result()), numbers_of(2.5)
    ({'dead': array([0., 0.]), 'fired': array([1., 1.])}, {'': array(2.5)})
    """
    found = {name: _as_floats(value) for name, value in _parts(result)}
    return {name: value for name, value in found.items() if value is not None}


def mean_of(values: Floats) -> float:
    """Return the mean over all channels that have a value; NaN if none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _parts(result: object) -> Iterator[tuple[str, Any]]:
    if not is_dataclass(result) or isinstance(result, type):
        yield "", result
        return
    for one in fields(result):
        if one.repr:
            yield one.name, getattr(result, one.name)
    for name, value in vars(type(result)).items():
        if isinstance(value, property) and not name.startswith("_"):
            yield name, getattr(result, name)


def _as_floats(value: Any) -> Floats | None:
    """Return numbers as float64; None for anything else."""
    if isinstance(value, torch.Tensor) and not value.is_complex():
        return value.detach().cpu().double().numpy()
    if isinstance(value, (bool, int, float, np.ndarray, np.generic)):
        array = np.asarray(value)
        return array.astype(np.float64) if array.dtype.kind in "biuf" else None
    return None
