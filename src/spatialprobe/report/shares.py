"""Room shared out evenly."""

from __future__ import annotations

from collections.abc import Sequence


def even_share(sizes: Sequence[float], room: float) -> float:
    """Return the cap with which all sizes together stay within the room; what none of them needs is shared, too.

    >>> even_share([1, 5, 9], 9), even_share([1, 2], 9)
    (4.0, 5.0)
    """
    left = room
    for rank, size in enumerate(sorted(sizes)):
        share = left / (len(sizes) - rank)
        if size > share:
            return share
        left -= size
    return max(sizes) + left / len(sizes)
