"""Whole numbers that somebody gives: counts, sizes, places."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index

from spatialprobe.errors import ArgumentError


def whole_number(value: object, called: str, least: int) -> int:
    """It as an int.

    Raises:
        ArgumentError: it is no whole number, or below the least.

    >>> whole_number(3, "k", least=1)
    3
    >>> whole_number(2.5, "k", least=1)
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: k must be a whole number, not 2.5.
    """
    try:
        found = index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise ArgumentError(f"{called} must be a whole number, not {value!r}.") from error
    if found < least:
        raise ArgumentError(f"{called} must be at least {least}, not {found}.")
    return found


def whole_numbers(values: Iterable[int], called: str) -> tuple[int, ...]:
    """All of them as ints.

    Raises:
        ArgumentError: it is no sequence, or holds something else.

    >>> whole_numbers([1, 2], "pixel")
    (1, 2)
    """
    try:
        given = list(values)
        found = tuple(map(index, given))
    except TypeError as error:
        raise ArgumentError(f"{called} must be whole numbers, such as {called}=(1, 2), not {values!r}.") from error
    if any(isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool") for value in given):
        raise ArgumentError(
            f"{called} must be whole numbers, and these are truth values: give the places of the true ones."
        )
    return found
