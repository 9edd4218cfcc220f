"""The protocol of reducers, and the law that every reducer must obey."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.text import kind_of

_OF_LIBRARY = ("spatialprobe.statistics.", "spatialprobe.comparison.")
_Same = TypeVar("_Same", bound="Reducer")


class Taker(Protocol):
    """Whatever takes the activations of a layer batch by batch."""

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Add one batch."""


@runtime_checkable
class Reducer(Protocol):
    """A reducer of activations, which takes a batch at a time and keeps only what its result needs.

    The law: the result does not depend on how the data is split, nor on its order. It makes no difference whether the
    data comes in one batch or in many, and whether one reducer sees all of it or several see parts and are merged in
    any order (in floating point: no difference beyond rounding). Merging a reducer that has seen nothing changes
    nothing. `testing.check_reducer` checks a reducer against this law.

    Any class with these three methods is a reducer; it need not inherit from anything. To be written to a checkpoint
    or merged across processes it must be picklable; if objects of further classes enter its state later, its class
    lists them in a tuple, `state_types`.

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
    >>> check_reducer(sp.Dead)  # raises if the law is broken
    """

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Add one batch.

        The activation is the live tensor of the model: do not modify it or keep a reference to it. Its first axis is
        the batch; for a convolution it is (N, C, *spatial). `samples`, int64 (N,) on the CPU, are the positions of the
        batch's samples in the data. No gradients are recorded, and autocast is off.
        """

    def merge(self: _Same, other: _Same) -> None:
        """Add, in place, all that another reducer of the same class has seen; the other is not modified."""

    def result(self) -> object:
        """Return the result of all that was seen, without modifying the reducer."""


def counts_channels(reducer: Taker) -> bool:
    """Return whether a reducer takes (N, C, *units): one of this library's, or one that inherits their `update`.

    Others take the output of the layer with its axes as they are.
    """
    module = getattr(getattr(type(reducer), "update", None), "__module__", None)
    return isinstance(module, str) and module.startswith(_OF_LIBRARY)


Factory: TypeAlias = Callable[[], Reducer]


@dataclass(frozen=True)
class OfEachLayer:
    """Factories that differ from layer to layer, in what their reducers begin with alone: names and classes are one."""

    factories: Callable[[str], Mapping[str, Factory]]


Factories: TypeAlias = Mapping[str, Factory] | Sequence[type[Reducer]] | OfEachLayer


def create_layers(reducers: Factories, layers: Iterable[str]) -> dict[str, dict[str, Reducer]]:
    """Return new reducers for each layer, by name.

    Raises:
        ArgumentError: as of `create_reducers`.
    """
    if isinstance(reducers, OfEachLayer):
        return {layer: create_reducers(reducers.factories(layer)) for layer in layers}
    return {layer: create_reducers(reducers) for layer in layers}


def create_reducers(reducers: Factories) -> dict[str, Reducer]:
    """Return a new reducer from each factory, by name.

    Raises:
        ArgumentError: a name is not a string, or a factory cannot be called without arguments or returns no reducer.
    """
    return {name: _create(name, factory) for name, factory in as_factories(reducers).items()}


def as_factories(reducers: Factories) -> Mapping[str, Factory]:
    """Return a mapping from names to factories; the classes of a list are named in snake case.

    Raises:
        ArgumentError: `reducers` is neither a mapping nor a list of classes.
    """
    if isinstance(reducers, (list, tuple)):
        return _name_classes(reducers)
    if not isinstance(reducers, Mapping):
        raise ArgumentError(
            f"reducers is {kind_of(reducers)}: pass a mapping from names to factories, such as "
            "{'moments': sp.Moments}, or a list of classes, such as [sp.Moments, sp.Dead]."
        )
    return reducers


def _name_classes(classes: Sequence[object]) -> dict[str, Any]:
    """Return the classes of a list by their names in snake case: sp.ChannelCovariance as 'channel_covariance'.

    Raises:
        ArgumentError: an entry is not a class, or occurs twice.
    """
    found: dict[str, Any] = {}
    for kind in classes:
        if not isinstance(kind, type):
            raise ArgumentError(
                f"reducers holds {short_repr(kind)}, which is not a class: pass a mapping, {{'name': it}}, to name its "
                "results."
            )
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()
        if name in found:
            raise ArgumentError(f"reducers holds two classes named {name!r}: pass a mapping with a name for each.")
        found[name] = kind
    return found


def _create(name: str, factory: Factory) -> Reducer:
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
            f"reducers[{name!r}] returned {kind_of(reducer)}, which is not a reducer: it needs the methods "
            "update(activation, samples), merge(other) and result()."
        )
    return reducer
