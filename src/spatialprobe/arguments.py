"""Arguments that somebody gives: numbers, choices, functions, devices and number formats, checked and told by name."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan
from numbers import Real
from operator import index
from typing import Any, get_args

import torch

from spatialprobe.errors import ArgumentError
from spatialprobe.text import kind_of

_SHOWN = 80  # characters of a value in a message


def whole_number(value: object, called: str, least: int | None = None) -> int:
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
        raise ArgumentError(f"{called} must be a whole number, not {shown(value)}.") from error
    if least is not None and found < least:
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
        raise ArgumentError(f"{called} must be whole numbers, such as {called}=(1, 2), not {shown(values)}.") from error
    if any(isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool") for value in given):
        raise ArgumentError(
            f"{called} must be whole numbers, and these are truth values: give the places of the true ones."
        )
    return found


def real_number(value: object, called: str, least: float | None = None) -> float:
    """It as a float.

    Raises:
        ArgumentError: it is no number, or below the least.

    >>> real_number("5", "penalty")
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: penalty must be a number, not '5'.
    """
    if not isinstance(value, Real) or isnan(value):
        raise ArgumentError(f"{called} must be a number, not {shown(value)}.")
    if least is not None and value < least:
        raise ArgumentError(f"{called} must be at least {least}, not {value}.")
    return float(value)


def check_bytes(value: object, called: str) -> None:
    """That it is a number of bytes.

    Raises:
        ArgumentError: it is none.
    """
    if not isinstance(value, Real) or not float(value) >= 0:
        raise ArgumentError(f"{called} is a number of bytes, such as 2**30 for 1 GiB, not {shown(value)}.")


def check_one_of(value: object, called: str, literal: Any) -> None:
    """That it is one of the words of a `Literal`.

    Raises:
        ArgumentError: it is another; the message names them all.

    >>> from typing import Literal
    >>> check_one_of("median", "how", Literal["mean", "shuffle"])
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: how must be one of 'mean', 'shuffle', not 'median'.
    """
    known = get_args(literal)
    if not (isinstance(value, str) and value in known):
        raise ArgumentError(f"{called} must be one of {', '.join(map(repr, known))}, not {shown(value)}.")


def check_function(value: object, called: str, example: str) -> None:
    """That it can be called, where anything is given.

    Raises:
        ArgumentError: it cannot.
    """
    if value is not None and not callable(value):
        raise ArgumentError(f"{called} must be a function, such as {example}, not {shown(value)}.")


def device_named(value: object) -> torch.device | None:
    """It as a device, None for None.

    Raises:
        ArgumentError: torch knows no such device.

    >>> device_named("gpu")
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: device must be a torch.device or its name, such as 'cpu' or 'cuda:0', not 'gpu'.
    """
    try:
        return None if value is None else torch.device(value)  # type: ignore[call-overload]
    except (RuntimeError, TypeError) as error:
        raise ArgumentError(
            f"device must be a torch.device or its name, such as 'cpu' or 'cuda:0', not {shown(value)}."
        ) from error


def check_dtype(value: object) -> None:
    """Check that `value` is a dtype that torch converts values to, or None.

    Raises:
        ArgumentError: it is not.
    """
    if value is None:
        return
    if not isinstance(value, torch.dtype):
        raise ArgumentError(f"dtype must be a torch.dtype, such as torch.float16, not {shown(value)}.")
    if value.is_complex:
        return
    try:
        torch.zeros(1, device="cpu").to(value)
    except RuntimeError as error:
        raise ArgumentError(
            f"dtype cannot be {value}, which torch converts no values to: pass another, such as torch.float16."
        ) from error


def seeded(seed: object) -> torch.Generator:
    """A generator of random numbers on the CPU that begins at this seed.

    Raises:
        ArgumentError: the seed is no whole number.
    """
    return torch.Generator().manual_seed(whole_number(seed, "seed"))


def shown(value: object) -> str:
    """A value in a message: as it is written, or its type where that is long.

    >>> shown("mean"), shown(torch.zeros(2, 3)), shown(list(range(99)))
    ("'mean'", 'a Tensor (2, 3)', 'a list')
    """
    if isinstance(value, torch.Tensor):
        return f"a Tensor {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= _SHOWN and "\n" not in text else kind_of(value)
