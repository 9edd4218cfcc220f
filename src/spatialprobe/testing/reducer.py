"""A reducer held against its law: the data in any split and order gives the same result."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch

from spatialprobe.arguments import as_int, short_repr
from spatialprobe.errors import ArgumentError, StorageError, SweepError
from spatialprobe.statistics.reducer import Factory, Reducer, create_reducers
from spatialprobe.statistics.state import StateFormat, SweepState
from spatialprobe.text import kind_of

_TRIALS = 20
_DIGITS = {torch.float64: 1e-9, torch.float32: 1e-4}  # what rounding may change, as a share of the largest value
_FEWEST_DIGITS = 1e-2  # for the half precisions


def check_reducer(factory: Factory, activation: torch.Tensor | None = None, *, seed: int = 0) -> None:
    """Hold a reducer against its law, on data cut and merged in many ways.

    The data comes whole, in batches of any sizes, in any order, and to several reducers that are merged in any order,
    some of which saw nothing; the results must not differ beyond rounding. Beside that, a reducer must not write to
    or depend on the activation once `update` has returned, leave the other as it is when merged, give its result
    without changing, and be what it was after it was written and read.

    Args:
        factory: the class, or whatever makes one without arguments, as `sweep` takes it.
        activation: the data, at least two samples along the first axis. If left out, (24, 3, 4, 5) of normal values
            with ties and zeros among them; give your own where the reducer expects something else.
        seed: of the cuts.

    Raises:
        AssertionError: the law is broken; the message says which cut of the data shows it, and in what.
        ArgumentError: the factory makes no reducer.

    >>> import spatialprobe as sp
    >>> from spatialprobe.testing import check_reducer
    >>> check_reducer(sp.Moments)
    """
    values = _example() if activation is None else activation
    if not isinstance(values, torch.Tensor) or values.ndim < 2 or len(values) < 2 or values.layout != torch.strided:
        raise ArgumentError(
            f"activation must be a tensor of at least two samples (N, C, ...), not {short_repr(values)}."
        )
    draw = random.Random(as_int(seed, "seed"))
    create_reducers({"reducer": factory})
    whole = factory()
    _update(whole, values, list(range(len(values))))
    expected = whole.result()
    _same("A second call of result()", expected, whole.result())
    _same("Once written and read, it", expected, _written_and_read(factory, whole).result())
    _check_independent(factory, values, expected)
    for _ in range(_TRIALS):
        cut = _drawn_cut(len(values), draw)
        _same(
            f"With the samples in the parts {cut}, each part a reducer's batches, it",
            expected,
            _merged(factory, values, cut, draw),
        )


def _example() -> torch.Tensor:
    drawn = torch.randn(24, 3, 4, 5, generator=torch.Generator().manual_seed(0), device="cpu")
    coarse = (drawn[::2] * 2).round() / 2  # ties and zeros
    return torch.stack([coarse, drawn[1::2]], dim=1).flatten(0, 1)


def _update(reducer: Reducer, values: torch.Tensor, samples: list[int]) -> None:
    reducer.update(values[samples], torch.tensor(samples, dtype=torch.int64, device="cpu"))


def _written_and_read(factory: Factory, reducer: Reducer) -> Reducer:
    """Return the reducer as a checkpoint or another process returns it."""
    try:
        form = StateFormat([""], {"reducer": factory()}, {"reducer": factory()})
        state = SweepState({"": {"reducer": reducer}})
        return form.loads(form.dumps(state)).reducers[""]["reducer"]
    except (ArgumentError, StorageError, SweepError) as error:
        raise AssertionError(
            f"It cannot be written and read back, which checkpoint= and torchrun need: {error}"
        ) from error


def _check_independent(factory: Factory, values: torch.Tensor, expected: object) -> None:
    """That the activation is neither written to nor needed afterwards."""
    reducer, given = factory(), values.clone()
    samples = torch.arange(len(values), device="cpu")
    reducer.update(given, samples)
    if not torch.equal(given.nan_to_num(), values.nan_to_num()):
        raise AssertionError("update() wrote to the activation, which is the model's own: let it work on a new tensor.")
    given.zero_()
    samples.zero_()
    _same("After the activation was written over, it", expected, reducer.result())


def _drawn_cut(count: int, draw: random.Random) -> list[list[list[int]]]:
    """The samples, shuffled, as parts of batches of samples; some parts are empty."""
    order = draw.sample(range(count), count)
    parts: list[list[list[int]]] = [[] for _ in range(draw.randint(1, 4))]
    while order:
        size = draw.randint(1, len(order))
        batch, order = order[:size], order[size:]
        draw.choice(parts).append(batch)
    return parts


def _merged(factory: Factory, values: torch.Tensor, cut: list[list[list[int]]], draw: random.Random) -> object:
    """The result of one reducer for each part, merged two by two in any order."""
    reducers = [_reduced(factory, values, part) for part in cut]
    while len(reducers) > 1:
        draw.shuffle(reducers)
        other, seen = reducers.pop()
        one, seen_before = reducers.pop()
        before = copy.deepcopy(other).result() if seen else None  # the result of nothing may be an error
        one.merge(other)
        if seen:
            _same("merge(other) changed the other, which", before, other.result())
        reducers.append((one, seen + seen_before))
    return reducers[0][0].result()


def _reduced(factory: Factory, values: torch.Tensor, part: list[list[int]]) -> tuple[Reducer, int]:
    """A reducer that has seen these batches, and how many they were."""
    reducer = factory()
    for batch in part:
        _update(reducer, values, batch)
    return reducer, len(part)


def _same(what: str, expected: object, found: object) -> None:
    for difference in _differences(expected, found, "the result"):
        raise AssertionError(f"{what} gives another result: {difference}.")


def _differences(expected: Any, found: Any, where: str) -> Iterator[str]:
    """What is not the same, in words."""
    if type(expected) is not type(found):
        yield f"{where} is {kind_of(found)}, not {kind_of(expected)}"
    elif isinstance(expected, torch.Tensor):
        yield from _tensor_differences(expected, found, where)
    elif isinstance(expected, np.ndarray) and expected.dtype.kind in "biufc":
        yield from _tensor_differences(torch.from_numpy(expected), torch.from_numpy(found), where)
    elif isinstance(expected, (float, np.floating)):
        yield from _tensor_differences(
            torch.tensor(float(expected), device="cpu").double(),
            torch.tensor(float(found), device="cpu").double(),
            where,
        )
    elif isinstance(expected, Mapping) or is_dataclass(expected) or isinstance(expected, (tuple, list)):
        ours, theirs, name = _parts(expected), _parts(found), _naming(expected)
        if list(ours) != list(theirs):
            yield f"{where} has {list(theirs)}, not {list(ours)}"
            return
        for key in ours:
            yield from _differences(ours[key], theirs[key], name(where, key))
    elif expected != found:
        yield f"{where} is {found!r}, not {expected!r}"


def _tensor_differences(expected: torch.Tensor, found: torch.Tensor, where: str) -> Iterator[str]:
    if (expected.shape, expected.dtype) != (found.shape, found.dtype):
        yield f"{where} is {found.dtype} {tuple(found.shape)}, not {expected.dtype} {tuple(expected.shape)}"
        return
    apart = ~torch.isclose(found, expected, rtol=0, atol=_rounding(expected), equal_nan=True)
    if bool(apart.any()):
        at = tuple(apart.nonzero()[0].tolist())
        place = f"{where}[{', '.join(map(str, at))}]" if at else where
        yield f"{place} is {found[at].item()!r}, not {expected[at].item()!r}"


def _rounding(expected: torch.Tensor) -> float:
    """How far values may be apart for rounding."""
    if not (expected.is_floating_point() or expected.is_complex()):
        return 0.0
    digits = _DIGITS.get(expected.abs().dtype, _FEWEST_DIGITS)
    finite = expected.abs()[torch.isfinite(expected)]
    return digits * float(finite.max()) if finite.numel() else 0.0


def _parts(value: Any) -> dict[Any, Any]:
    """The entries of a mapping or sequence, or the fields of a dataclass."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(enumerate(value))


def _naming(value: Any) -> Callable[[str, Any], str]:
    return (lambda where, key: f"{where}.{key}") if is_dataclass(value) else (lambda where, key: f"{where}[{key!r}]")
