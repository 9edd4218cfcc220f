"""A check of reducers against their law: the result does not depend on how the data is split or ordered."""

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
_DIGITS = {torch.float64: 1e-9, torch.float32: 1e-4}  # the rounding error allowed, relative to the largest value
_FEWEST_DIGITS = 1e-2  # for the half precisions


def check_reducer(factory: Factory, activation: torch.Tensor | None = None, *, seed: int = 0) -> None:
    """Check a reducer against its law, on data split and merged in many ways.

    The data is passed whole, in batches of random sizes, in random order, and to several reducers that are merged in
    random order, some of which have seen nothing; the results must not differ beyond rounding. In addition, `update`
    must neither modify the activation nor keep a reference to it, `merge` must not modify the other reducer, `result`
    must not modify its own, and a reducer must be the same after it was written and read back.

    Args:
        factory: the class, or any callable that returns a new reducer without arguments, as for `sweep`.
        activation: the data, at least two samples along the first axis. By default (24, 3, 4, 5) normal values with
            ties and zeros among them; pass your own if the reducer expects something else.
        seed: the seed of the splits.

    Raises:
        AssertionError: the law is broken; the message shows the split of the data, and the difference of the results.
        ArgumentError: the factory does not return a reducer.

    >>> import spatialprobe as sp
    >>> from spatialprobe.testing import check_reducer
    >>> check_reducer(sp.Moments)
    """
    values = _example_activation() if activation is None else activation
    if not isinstance(values, torch.Tensor) or values.ndim < 2 or len(values) < 2 or values.layout != torch.strided:
        raise ArgumentError(
            f"activation must be a tensor of at least two samples (N, C, ...), not {short_repr(values)}."
        )
    draw = random.Random(as_int(seed, "seed"))
    create_reducers({"reducer": factory})
    whole = factory()
    _update(whole, values, list(range(len(values))))
    expected = whole.result()
    _check_same("A second call of result()", expected, whole.result())
    _check_same("Once written and read back, the reducer", expected, _write_and_read(factory, whole).result())
    _check_independent(factory, values, expected)
    for _ in range(_TRIALS):
        split = _draw_split(len(values), draw)
        _check_same(
            f"With the samples split into {split}, the batches of each reducer, the merged reducer",
            expected,
            _merge(factory, values, split, draw),
        )


def _example_activation() -> torch.Tensor:
    drawn = torch.randn(24, 3, 4, 5, generator=torch.Generator().manual_seed(0), device="cpu")
    coarse = (drawn[::2] * 2).round() / 2  # ties and zeros
    return torch.stack([coarse, drawn[1::2]], dim=1).flatten(0, 1)


def _update(reducer: Reducer, values: torch.Tensor, samples: list[int]) -> None:
    reducer.update(values[samples], torch.tensor(samples, dtype=torch.int64, device="cpu"))


def _write_and_read(factory: Factory, reducer: Reducer) -> Reducer:
    """Return the reducer after it was written and read back, as for a checkpoint or another process."""
    try:
        form = StateFormat([""], {"reducer": factory()}, {"reducer": factory()})
        state = SweepState({"": {"reducer": reducer}})
        return form.loads(form.dumps(state)).reducers[""]["reducer"]
    except (ArgumentError, StorageError, SweepError) as error:
        raise AssertionError(
            f"The reducer cannot be written and read back, which checkpoint= and torchrun need: {error}"
        ) from error


def _check_independent(factory: Factory, values: torch.Tensor, expected: object) -> None:
    """Check that `update` does not modify the activation, and that the reducer does not refer to it afterwards."""
    reducer, given = factory(), values.clone()
    samples = torch.arange(len(values), device="cpu")
    reducer.update(given, samples)
    if not torch.equal(given.nan_to_num(), values.nan_to_num()):
        raise AssertionError(
            "update() modified the activation in place, which belongs to the model: let it work on a new tensor."
        )
    given.zero_()
    samples.zero_()
    _check_same("After the activation was modified in place, the reducer", expected, reducer.result())


def _draw_split(count: int, draw: random.Random) -> list[list[list[int]]]:
    """Return the samples, shuffled, as parts of batches of samples; some parts are empty."""
    order = draw.sample(range(count), count)
    parts: list[list[list[int]]] = [[] for _ in range(draw.randint(1, 4))]
    while order:
        size = draw.randint(1, len(order))
        batch, order = order[:size], order[size:]
        draw.choice(parts).append(batch)
    return parts


def _merge(factory: Factory, values: torch.Tensor, split: list[list[list[int]]], draw: random.Random) -> object:
    """Return the result of one reducer for each part, merged pairwise in random order."""
    reducers = [_reduce(factory, values, part) for part in split]
    while len(reducers) > 1:
        draw.shuffle(reducers)
        other, seen = reducers.pop()
        one, seen_before = reducers.pop()
        before = copy.deepcopy(other).result() if seen else None  # `result` may raise before any update
        one.merge(other)
        if seen:
            _check_same("merge(other) modified the other, which", before, other.result())
        reducers.append((one, seen + seen_before))
    return reducers[0][0].result()


def _reduce(factory: Factory, values: torch.Tensor, part: list[list[int]]) -> tuple[Reducer, int]:
    """Return a reducer that has seen these batches, and the number of batches."""
    reducer = factory()
    for batch in part:
        _update(reducer, values, batch)
    return reducer, len(part)


def _check_same(what: str, expected: object, found: object) -> None:
    for difference in _differences(expected, found, "the result"):
        raise AssertionError(f"{what} returns another result: {difference}.")


def _differences(expected: Any, found: Any, where: str) -> Iterator[str]:
    """Yield descriptions of what differs between two results."""
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
        ours, theirs, name = _parts(expected), _parts(found), _name_format(expected)
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
    """Return how far values may differ because of rounding."""
    if not (expected.is_floating_point() or expected.is_complex()):
        return 0.0
    digits = _DIGITS.get(expected.abs().dtype, _FEWEST_DIGITS)
    finite = expected.abs()[torch.isfinite(expected)]
    return digits * float(finite.max()) if finite.numel() else 0.0


def _parts(value: Any) -> dict[Any, Any]:
    """Return the entries of a mapping or sequence, or the fields of a dataclass."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(enumerate(value))


def _name_format(value: Any) -> Callable[[str, Any], str]:
    return (lambda where, key: f"{where}.{key}") if is_dataclass(value) else (lambda where, key: f"{where}[{key!r}]")
