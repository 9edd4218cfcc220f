"""The rules: one fault in each file, with how it is measured and why its limit is what it is."""

from __future__ import annotations

from spatialprobe.diagnosis.finding import Rule
from spatialprobe.diagnosis.rules import (
    aliasing,
    batch_mixing,
    batch_norm_mismatch,
    border,
    checkerboard,
    constant_channels,
    dead_channels,
    duplicate_channels,
    field_saturated,
    field_small,
    gridding,
    low_rank,
    never_run,
    nondeterministic,
    nonfinite,
    saturated,
    scale_growth,
    training_mode,
    uncovered_pixels,
)

_MODULES = (
    nonfinite,
    training_mode,
    nondeterministic,
    batch_mixing,
    never_run,
    dead_channels,
    constant_channels,
    saturated,
    scale_growth,
    duplicate_channels,
    low_rank,
    batch_norm_mismatch,
    checkerboard,
    gridding,
    uncovered_pixels,
    field_saturated,
    field_small,
    border,
    aliasing,
)

TABLE: dict[str, Rule] = {module.RULE.name: module.RULE for module in _MODULES}
