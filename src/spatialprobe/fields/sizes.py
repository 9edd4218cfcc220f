"""The sizes of a map's values relative to ordinary ones, due to the constants that it was combined with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SATURATES = 16.0  # in a softmax with it, values around zero vanish in float32: exp(-16) is about the rounding error
SWALLOWS = 2.0**20  # values around zero that are added to it are lost to rounding


@dataclass(frozen=True, slots=True)
class Sizes:
    """The factors of the elements of one map, and the constants that they were combined with."""

    low: float = 0.0  # power of two, of the least factor that anything of the input was multiplied with
    high: float = 0.0  # of the largest
    least: float = 0.0  # of the constants in places that see nothing
    most: float = 0.0
    shifted: bool = False  # whether a constant was added that makes some vanish in the next softmax

    @property
    def spread(self) -> float:
        """The number of powers of two by which the factors differ."""
        return self.high - self.low

    @property
    def beside(self) -> float:
        """The largest absolute value of a constant in a place that sees nothing."""
        return max(-self.least, self.most)


ORDINARY = Sizes()


def merge_sizes(several: Sequence[Sizes]) -> Sizes:
    """Return the sizes of several maps together."""
    first = several[0]
    if all(one is first for one in several):
        return first
    return Sizes(
        min(one.low for one in several),
        max(one.high for one in several),
        min(one.least for one in several),
        max(one.most for one in several),
        any(one.shifted for one in several),
    )
