"""How large a map's values are beside ordinary ones, by the constants that it has met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SATURATES = 16.0  # beside values around zero it leaves nothing of them in float32: exp(-16) is their rounding
SWALLOWS = 2.0**20  # values around zero that are added to it are lost to rounding by themselves


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the elements of one map: the factors that they have, and the constants that they have met."""

    low: float = 0.0  # power of two, of the least factor that anything of the input was multiplied with
    high: float = 0.0  # of the largest
    least: float = 0.0  # of the constants in places that see nothing
    most: float = 0.0
    shifted: bool = False  # whether a constant was added that leaves nothing of some in the next softmax

    @property
    def spread(self) -> float:
        """By how many powers of two the factors differ."""
        return self.high - self.low

    @property
    def beside(self) -> float:
        """The largest absolute value of a constant in a place that sees nothing."""
        return max(-self.least, self.most)


ORDINARY = Sizes()


def merged(several: Sequence[Sizes]) -> Sizes:
    """Return what holds of several maps together."""
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
