"""What a reducer is, and the one law that it must keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.text import kind_of

_Same = TypeVar("_Same", bound="Reducer")


@runtime_checkable
class Reducer(Protocol):
    """Takes activations a batch at a time, and keeps only what its result needs.

    The law: the data in any split and any order gives the same result. Whether it comes in one batch or in many, and
    whether one reducer sees all of it or several see parts and are merged, in whatever order, makes no difference
    (in floating point: no difference beyond rounding). A reducer that was given nothing merges as nothing.
    `testing.check_reducer` holds a reducer against this.

    Any class with these three methods is one; it need not inherit from anything. To be kept in a checkpoint or
    merged across processes it must be possible to pickle it; of classes that come into its state later its own class
    has a tuple, `state_types`.

    >>> import torch, spatialprobe as sp
    >>> from spatialprobe.testing import check_reducer
    >>> class Largest:
    ...     def __init__(self):
    ...         self.value = -torch.inf
    ...     def update(self, activation, samples):
    ...         self.value = max(self.value, activation.max().item())
    ...     def merge(self, other):
    ...         self.value = max(self.value, other.value)
    ...     def result(self):
    ...         return self.value
    >>> isinstance(Largest(), sp.Reducer)
    True
    >>> check_reducer(sp.Dead)  # shows where the law is broken, if it is
    """

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Take one batch.

        The activation is the live tensor of the model: read it, do not write to it or keep it. Its first axis is the
        batch, for a convolution it is (N, C, *spatial). `samples`, int64 (N,) on the CPU, are the positions of the
        batch's samples in the data. No gradients are recorded, and autocasting is off.
        """

    def merge(self: _Same, other: _Same) -> None:
        """Take in, in place, all that another reducer of the same kind has seen; the other is left as it is."""

    def result(self) -> object:
        """What came of all that was seen; asking for it changes nothing."""


def counts_channels(reducer: Reducer) -> bool:
    """Return whether a reducer is given (N, C, *units): this library's, and those that inherit their `update`.

    Others are given what the layer returns, with its axes as they are.
    """
    module = getattr(getattr(type(reducer), "update", None), "__module__", None)
    return isinstance(module, str) and module.startswith("spatialprobe.statistics.")


Factory: TypeAlias = Callable[[], Reducer]
Factories: TypeAlias = Mapping[str, Factory] | Sequence[type[Reducer]]


def create_reducers(reducers: Factories) -> dict[str, Reducer]:
    """One new reducer of each kind.

    Raises:
        ArgumentError: a name is no text, or a factory cannot be called without arguments, or does not make reducers.
    """
    if isinstance(reducers, (list, tuple)):
        reducers = _by_name(reducers)
    if not isinstance(reducers, Mapping):
        raise ArgumentError(
            f"reducers is {kind_of(reducers)}: pass a mapping from names to factories, such as "
            "{'moments': sp.Moments}, or a list of classes, such as [sp.Moments, sp.Dead]."
        )
    return {name: _made(name, factory) for name, factory in reducers.items()}


def _by_name(classes: Sequence[object]) -> dict[str, Any]:
    """Return the classes of a list by their names: sp.ChannelCovariance as 'channel_covariance'.

    Raises:
        ArgumentError: one of them is no class, or there twice.
    """
    found: dict[str, Any] = {}
    for kind in classes:
        if not isinstance(kind, type):
            raise ArgumentError(
                f"reducers holds {short_repr(kind)}, which is no class: pass {{'name': it}}, so that its results are "
                "found by a name."
            )
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()
        if name in found:
            raise ArgumentError(f"reducers holds two classes named {name!r}: pass a mapping with a name for each.")
        found[name] = kind
    return found


def _made(name: str, factory: Factory) -> Reducer:
    if not isinstance(name, str):
        raise ArgumentError(f"reducers are found by names such as 'moments', not by {short_repr(name)}.")
    if not callable(factory):
        raise ArgumentError(
            f"reducers[{name!r}] is {short_repr(factory)}, which cannot be called. Pass the class itself, such as "
            "sp.Moments, or partial(sp.Exemplars, k=9): every layer gets a reducer of its own."
        )
    try:
        reducer = factory()
    except TypeError as error:
        raise ArgumentError(f"reducers[{name!r}] cannot be called without arguments: {error}.") from error
    if not isinstance(reducer, Reducer) or isinstance(reducer, type):
        raise ArgumentError(
            f"reducers[{name!r}] made {kind_of(reducer)}, which is no reducer: it needs the methods "
            "update(activation, samples), merge(other) and result()."
        )
    return reducer
