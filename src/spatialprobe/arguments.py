"""Check and convert user arguments: numbers, choices, functions, devices and dtypes; errors name the argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set, Sized
from itertools import islice
from math import isfinite, isnan
from numbers import Real
from operator import index
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.errors import ArgumentError
from spatialprobe.text import kind_of

_LONGEST = 80  # characters of a value in a message
_MOST = 2**20  # numbers in an argument, since a user's sequence may be endless


def as_int(value: object, name: str, least: int | None = None, most: int = 2**63 - 1) -> int:
    """Return `value` as an int; `name` is its name in errors.

    Raises:
        ArgumentError: it is not an integer, or is below `least` or above `most`.

    >>> as_int(3, "k", least=1)
    3
    >>> as_int(2.5, "k", least=1)
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: k must be an integer, not 2.5.
    """
    try:
        found = index(value)  # type: ignore[arg-type]
    except Exception as error:  # a user's object may raise any error
        raise ArgumentError(f"{name} must be an integer, not {short_repr(value)}.") from error
    if _is_boolean(value):
        raise ArgumentError(f"{name} must be an integer, not {short_repr(value)}.")
    if least is not None and found < least:
        raise ArgumentError(f"{name} must be at least {least}, not {short_repr(found)}.")
    if not -most <= found <= most:
        raise ArgumentError(f"{name} must be at most {most:,}, not {short_repr(found)}.")
    return found


def as_ints(values: Iterable[int], name: str) -> tuple[int, ...]:
    """Return `values` as a tuple of ints.

    Raises:
        ArgumentError: it is not a sequence, or holds something other than integers.

    >>> as_ints([1, 2], "pixel")
    (1, 2)
    """
    try:
        if isinstance(values, (str, bytes, Mapping, Set)):
            raise TypeError("not a sequence of numbers")
        given = list(islice(values, _MOST))
        found = tuple(map(index, given))
    except Exception as error:  # a user's object may raise any error
        raise ArgumentError(f"{name} must be integers, such as {name}=(1, 2), not {short_repr(values)}.") from error
    if any(map(_is_boolean, given)):
        raise ArgumentError(f"{name} must be integers, and these are booleans: pass the positions of the true ones.")
    return found


def as_channels(values: object, count: int, owner: str) -> npt.NDArray[np.int64]:
    """Return channel numbers as an array; `owner` is the subject of errors, which has `count` channels.

    Raises:
        ArgumentError: they are not a sequence of integers, are empty, or are out of range.
    """
    found = as_ints(values, "channels")  # type: ignore[arg-type]
    if not found:
        raise ArgumentError("channels must be at least one channel number.")
    wrong = [one for one in found if not 0 <= one < count]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ArgumentError(
            f"{owner} has channels 0 to {count - 1}, not {', '.join(map(short_repr, wrong[:3]))}{more}."
        )
    return np.array(found, np.int64)


def as_range(value: object, name: str) -> tuple[float, float]:
    """Return `value` as two finite floats, the lower first.

    Raises:
        ArgumentError: it is something else.

    >>> as_range((0, 1), "span")
    (0.0, 1.0)
    """
    try:
        low, high = (as_float(one, name) for one in islice(value, 3))  # type: ignore[call-overload]
    except (ArgumentError, TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be two finite numbers (low, high), not {short_repr(value)}.") from error
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ArgumentError(f"{name}=(low, high) needs two finite numbers, the lower first, not {short_repr(value)}.")
    return low, high


def as_float(value: object, name: str, least: float | None = None) -> float:
    """Return `value` as a float.

    Raises:
        ArgumentError: it is not a real number, is NaN, or is below `least`.

    >>> as_float("5", "penalty")
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: penalty must be a number, not '5'.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or isnan(value):
        raise ArgumentError(f"{name} must be a number, not {short_repr(value)}.")
    if least is not None and value < least:
        raise ArgumentError(f"{name} must be at least {least}, not {value}.")
    return float(value)


def check_bytes(value: object, name: str) -> None:
    """Check that `value` is a number of bytes.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, Real) or not float(value) >= 0:
        raise ArgumentError(f"{name} must be a number of bytes, such as 2**30 for 1 GiB, not {short_repr(value)}.")


def check_one_of(value: object, name: str, literal: Any) -> None:
    """Check that `value` is one of the strings of a `Literal`.

    Raises:
        ArgumentError: it is not; the message lists them all.

    >>> from typing import Literal
    >>> check_one_of("median", "how", Literal["mean", "shuffle"])
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: how must be one of 'mean', 'shuffle', not 'median'.
    """
    known: tuple[str, ...] = literal.__args__
    if not (isinstance(value, str) and value in known):
        raise ArgumentError(f"{name} must be one of {', '.join(map(repr, known))}, not {short_repr(value)}.")


def check_switch(value: object, name: str) -> None:
    """Check that `value` is True or False.

    Raises:
        ArgumentError: it is something else, such as a string or a tensor.

    >>> check_switch("no", "gradients")
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: gradients must be True or False, not 'no'.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{name} must be True or False, not {short_repr(value)}.")


def check_keywords(value: object) -> None:
    """Check that `value` holds keyword arguments for a model, or is None.

    Raises:
        ArgumentError: it does not.
    """
    if value is not None and not (isinstance(value, Mapping) and all(type(key) is str for key in value)):
        raise ArgumentError(f"kwargs must be a mapping of the model's arguments by name, not {short_repr(value)}.")


def check_text(value: object, name: str) -> None:
    """Check that `value` is a string or None.

    Raises:
        ArgumentError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise ArgumentError(f"{name} must be a string, not {short_repr(value)}.")


def as_texts(values: object, name: str) -> list[str]:
    """Return a sequence of strings as a list.

    Raises:
        ArgumentError: it is something else, or a single string.
    """
    found = list(islice(values, _MOST)) if is_iterable(values) and not isinstance(values, str) else [None]
    texts = [one for one in found if isinstance(one, str)]
    if len(texts) < len(found):
        raise ArgumentError(f"{name} must be strings, such as {name}=['a', 'b'], not {short_repr(values)}.")
    return texts


def as_numbers(value: object, name: str) -> torch.Tensor:
    """Return a number or a sequence of numbers as a real tensor of zero or one dimensions on the CPU.

    Raises:
        ArgumentError: it is something else.

    >>> as_numbers([1, 2.5], "value")
    tensor([1.0000, 2.5000])
    """
    try:
        found = torch.as_tensor(value, device="cpu")
    except Exception as error:  # torch raises errors of many kinds
        raise ArgumentError(f"{name} must be a number or a sequence of numbers, not {short_repr(value)}.") from error
    if (
        found.ndim > 1
        or found.is_complex()
        or _is_boolean(value)
        or _is_boolean(found)
        or found.layout != torch.strided
        or not (found.numel() or found.ndim)
    ):
        raise ArgumentError(f"{name} must be a number or a sequence of numbers, not {short_repr(value)}.")
    return found


def is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    """Return whether `value` is iterable and not endless; a zero-dimensional tensor is not, although its class is."""
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError:
        return False
    return not isinstance(value, Sized) or len(value) < _MOST


def check_function(value: object, name: str, example: str) -> None:
    """Check that `value` is callable or None; errors show `example`.

    Raises:
        ArgumentError: it is neither.
    """
    if value is not None and not callable(value):
        raise ArgumentError(f"{name} must be a function, such as {example}, not {short_repr(value)}.")


def as_device(value: object) -> torch.device | None:
    """Return `value` as a device on which tensors have values; None for None.

    Raises:
        ArgumentError: torch has no such device, or cannot use it on this machine.

    >>> as_device("gpu")
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: device must be a torch.device or its name, such as 'cpu' or 'cuda:0', not 'gpu'.
    """
    try:
        found: torch.device | None = None if value is None else torch.device(value)  # type: ignore[call-overload]
    except (RuntimeError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"device must be a torch.device or its name, such as 'cpu' or 'cuda:0', not {short_repr(value)}."
        ) from error
    if found is None or found.type == "cpu":
        return found
    if found.type == "meta":
        raise ArgumentError("device cannot be 'meta', where tensors have no values: pass a real one, such as 'cpu'.")
    try:
        torch.empty(0, device=found)
    except Exception as error:  # each kind of device raises its own errors
        raise ArgumentError(f"device {str(found)!r} cannot be used on this machine: {_first_line(error)}.") from error
    return found


def check_dtype(value: object) -> None:
    """Check that `value` is a dtype to which torch can convert values, or None.

    Raises:
        ArgumentError: it is not.
    """
    if value is None:
        return
    if not isinstance(value, torch.dtype):
        raise ArgumentError(f"dtype must be a torch.dtype, such as torch.float16, not {short_repr(value)}.")
    if value.is_complex:
        return
    try:
        torch.zeros(1, device="cpu").to(value)
    except RuntimeError as error:
        raise ArgumentError(
            f"dtype cannot be {value}, to which torch cannot convert values: pass another, such as torch.float16."
        ) from error


def make_generator(seed: object) -> torch.Generator:
    """Return a random generator on the CPU with this seed.

    Raises:
        ArgumentError: the seed is not an integer.
    """
    return torch.Generator().manual_seed(as_int(seed, "seed"))


def short_repr(value: object) -> str:
    """Return the repr of a value for a message, or its type with an article if the repr is long or fails.

    >>> short_repr("mean"), short_repr(torch.zeros(2, 3)), short_repr(list(range(99)))
    ("'mean'", 'a Tensor (2, 3)', 'a list')
    """
    if isinstance(value, torch.Tensor):
        return f"a Tensor {tuple(value.shape)}"
    try:
        text = repr(value)
    except Exception:  # the repr of a user's object may raise any error
        return kind_of(value)
    return text if len(text) <= _LONGEST and text.isprintable() else kind_of(value)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _is_boolean(value: object) -> bool:
    return isinstance(value, (bool, np.bool_)) or str(getattr(value, "dtype", "")).endswith("bool")
