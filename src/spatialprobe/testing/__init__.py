"""Laws that other people's rules and reducers can be checked against."""

from __future__ import annotations

from spatialprobe.testing.reducer import check_reducer
from spatialprobe.testing.rule import check_rule

__all__ = ["check_reducer", "check_rule"]
