"""What constants hide: where a result may see less than its arguments, due to its constants or earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log2

from spatialprobe.fields.handling import Handling, Passing
from spatialprobe.fields.reach import Reach
from spatialprobe.fields.sizes import ORDINARY, SATURATES, SWALLOWS, Sizes
from spatialprobe.fields.verdict import Verdict

_LOST = log2(SWALLOWS)
_SQUASHED = log2(SATURATES)


def is_marked(reach: Reach) -> bool:
    """Return whether a reach has zeros, bounds or sizes that later operators must take into account."""
    return reach.zeros or not reach.exact or reach.sizes is not ORDINARY


def settle(
    handling: Handling, verdict: Verdict, inputs: Sequence[Reach], made: Reach, *, beside_is_solid: bool
) -> Reach:
    """Return what a result sees, with the effect of its operator's constants and of earlier ones.

    Args:
        handling: how the operator treats constants.
        verdict: the effect of its constants.
        inputs: what its other arguments see, an argument that is passed several times each time.
        made: what the result sees by the operator's rule.
        beside_is_solid: whether the constants that the operator places beside the arguments are nowhere zero.
    """
    if verdict.blank is not None:
        made = made.emptied(verdict.blank)
    if not made.spans:
        return made
    sizes, hides = _compute_sizes(handling, verdict, inputs, made.sizes)
    others, zeros = list(dict.fromkeys(inputs)), made.zeros
    if handling.multiplies and (len(others) > 1 or handling.multiplies_itself):
        hides = hides or any(one.zeros and one.sees_nothing_somewhere for one in others)
    if verdict.solid or (beside_is_solid and not any(one.zeros for one in others)):
        zeros = False
    exact = made.exact and not hides and not verdict.hides and all(one.exact for one in others)
    unknown = made.unknown.union(*(one.unknown for one in others))
    return replace(made, exact=exact, unknown=unknown, zeros=zeros, sizes=sizes)


def name_cause(before: Reach, after: Reach, operator: str) -> Reach:
    """Return a reach with the name of the operator that made it inexact, by its rule or by what constants hide."""
    if after.exact or after.unknown:
        return after
    reason = "a constant may hide values" if before.exact else "values or rounding decide"
    return after.inexact(f"{operator} where {reason}")


def _compute_sizes(handling: Handling, verdict: Verdict, inputs: Sequence[Reach], sizes: Sizes) -> tuple[Sizes, bool]:
    """Return how large a result's values are, and whether some are lost for that reason.

    Args:
        handling: how the operator treats constants.
        verdict: the effect of its constants.
        inputs: what its other arguments see.
        sizes: of all those together.
    """
    low, high = _find_factors(handling, verdict, inputs, sizes)
    passing = handling.passing
    if passing is Passing.CONTRACTS:
        passing = Passing.CLEARS if verdict.weighs else Passing.SUMS
    meets = len(inputs) > 1 or not handling.apart  # whether elements meet others
    wide = high - low >= _LOST
    far = low <= -_LOST or high >= (_SQUASHED if handling.squashes else _LOST)
    hides = verdict.shift * 2.0 ** min(-low, 1000) >= SWALLOWS
    hides = hides or max(verdict.floor, verdict.ceiling) >= SATURATES * 2.0 ** min(max(high, 0), 1000)
    shifts = verdict.shift >= SATURATES * 2.0 ** min(max(low, 0), 1000)
    shifted = sizes.shifted or shifts
    if passing in (Passing.KEEPS, Passing.SUMS):
        met = passing is Passing.SUMS or (len(inputs) > 1 and (handling.adds or handling.multiplies))
        hides = hides or (met and sizes.beside >= SWALLOWS) or (wide and (passing is Passing.SUMS or handling.adds))
        shifted = shifted or (met and sizes.beside >= SATURATES)
    elif passing is Passing.CLEARS:
        hides, shifted = hides or far or wide or sizes.beside >= SWALLOWS, False
    else:
        ends = {Passing.HIGHEST: sizes.most, Passing.LOWEST: -sizes.least}.get(passing, sizes.beside)
        hides = hides or sizes.shifted or (meets and (wide or ends >= SATURATES))
        hides, shifted = hides or (far and passing is Passing.SATURATES), shifts
    if passing in (Passing.CLEARS, Passing.SATURATES):
        low = high = 0.0
    least, most = sizes.least, sizes.most
    if passing is Passing.CLEARS or (passing is Passing.SATURATES and not handling.apart):
        least = most = 0.0
    elif passing in (Passing.SUMS, Passing.SATURATES) or handling.adds or handling.multiplies:
        least, most = -sizes.beside, sizes.beside
    made = Sizes(low, high, min(least, verdict.least), max(most, verdict.most), shifted)
    return (ORDINARY if made == ORDINARY else made), hides


def _find_factors(handling: Handling, verdict: Verdict, inputs: Sequence[Reach], sizes: Sizes) -> tuple[float, float]:
    """Return the least and the largest factor of what a result sees, as powers of two."""
    low, high = sizes.low, sizes.high
    if handling.multiplies and len(inputs) > 1:
        low, high = inputs[0].sizes.low, inputs[0].sizes.high
        for one in inputs[1:]:
            more = (-one.sizes.high, -one.sizes.low) if handling.divides else (one.sizes.low, one.sizes.high)
            low, high = low + more[0], high + more[1]
    if verdict.widens:
        return min(low, low + verdict.low), max(high, high + verdict.high)
    return low + verdict.low, high + verdict.high
