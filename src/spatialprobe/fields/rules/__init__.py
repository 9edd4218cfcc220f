"""The rules of operators: a table, with a small function for each operator that computes what its results see.

`register(operator, rule)` adds an entry. A rule takes an `Operation` and returns a `Reach`, whose methods (`tapped`,
`reduced`, `permuted`, ...) correspond to operations on tensors; `window`, `adaptive` and others return the positions
that a sliding operator reads.
"""

from __future__ import annotations

from spatialprobe.fields.reach import Reach, constant, joined, union
from spatialprobe.fields.rules import (  # noqa: F401 (they register)
    detection,
    elementwise,
    linear_algebra,
    mixing,
    norms,
    placing,
    quantized,
    recurrent,
    resampling,
    shapes,
    windows,
)
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import Rule, register, rule_for
from spatialprobe.fields.taps import Taps, adaptive, affine, transposed_window, window

__all__ = [
    "Operation",
    "Reach",
    "Rule",
    "Taps",
    "adaptive",
    "affine",
    "constant",
    "joined",
    "register",
    "rule_for",
    "transposed_window",
    "union",
    "window",
]
