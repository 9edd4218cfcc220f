"""The part that averaging measures have in common: the single values, their mean and their spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spatialprobe.html_fields import format_fields_html

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Averaged:
    """Values of one quantity, their mean and their spread."""

    values: Floats  # (n,)

    @property
    def n(self) -> int:
        """The number of values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return float(self.values.mean())

    @property
    def spread(self) -> float:
        """The standard deviation of these values, not an estimate for a population."""
        return float(self.values.std())

    def _repr_html_(self) -> str:
        """The numbers for a notebook."""
        numbers = {"n": self.n, "mean": self.mean, "spread": self.spread}
        return format_fields_html(self, getattr(self, "layer", None), numbers)

    def _format_values(self) -> str:
        """Return the mean, the spread and the number of values as text."""
        return f"mean {self.mean:.3g}, spread {self.spread:.2g}, n={self.n}"
