"""What measures that average have in common: the single values, their mean and their spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Averaged:
    """Values of one quantity, their mean and their spread."""

    values: Floats  # (n,)

    @property
    def n(self) -> int:
        """How many values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(self.values.mean())

    @property
    def spread(self) -> float:
        """Their standard deviation: that of these values, not an estimate for others."""
        return float(self.values.std())

    def _numbers(self) -> str:
        return f"mean {self.mean:.3g}, spread {self.spread:.2g}, n={self.n}"
