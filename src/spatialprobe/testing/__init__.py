"""Checks of your own rules and reducers against their laws, and of stores against their checksums."""

from __future__ import annotations

from spatialprobe.testing.reducer import check_reducer
from spatialprobe.testing.rule import check_rule
from spatialprobe.testing.store import check_store

__all__ = ["check_reducer", "check_rule", "check_store"]
