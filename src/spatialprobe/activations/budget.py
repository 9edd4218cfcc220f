"""The memory that a probe may use for the values that it keeps."""

from __future__ import annotations

import threading

from spatialprobe.errors import MemoryBudgetError
from spatialprobe.text import format_bytes


class Budget:
    """The memory that all kept values take together, in bytes."""

    def __init__(self, allowed: int | None) -> None:
        self.allowed = allowed
        self.held = 0
        self._lock = threading.Lock()

    def take(self, layer: str, size: int) -> None:
        """Add `size` bytes to what is held.

        Raises:
            MemoryBudgetError: the total would exceed what is allowed.
        """
        if self.allowed is None:
            return
        with self._lock:
            if self.held + size <= self.allowed:
                self.held += size
                return
            raise MemoryBudgetError(
                f"Keeping the output of layer {layer!r} takes {format_bytes(size)}; {format_bytes(self.held)} are held "
                f"and max_bytes allows {format_bytes(self.allowed)}. Probe fewer layers, reduce what is kept with "
                "transform= or dtype=, run fewer images, or raise max_bytes; plan() returns the need beforehand."
            )
