"""The state of a sweep, and its format for checkpoints and other processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spatialprobe.errors import ArgumentError, StorageError, SweepError, describe_error
from spatialprobe.statistics.reducer import Reducer
from spatialprobe.storage.restricted_pickle import RestrictedPickle

_HOW_TO_NAME_TYPES = (
    "A reducer's state may hold numbers, strings, tensors, numpy arrays, containers of these, and objects of classes "
    "that a new reducer holds, that are nested in its class, or that its class lists: `state_types = (Entry,)`. Define "
    "classes and functions at the top of a module, and hold no open files, generators or lambdas."
)


@dataclass
class SweepState:
    """The reducers of every layer, and the number of samples they have seen."""

    reducers: dict[str, dict[str, Reducer]]  # layer -> name -> reducer
    samples: int = 0
    left_out: dict[str, str] = field(default_factory=dict)  # layer -> why its reducers get no values

    def merge(self, other: SweepState) -> None:
        """Add the state of another process.

        Raises:
            SweepError: a reducer raised.
        """
        self.samples += other.samples
        self.left_out |= other.left_out
        for layer, mine in self.reducers.items():
            for name, reducer in mine.items():
                try:
                    reducer.merge(other.reducers[layer][name])
                except Exception as error:
                    raise SweepError(f"reducer {name!r} of layer {layer!r} raised {describe_error(error)}") from error

    def results(self) -> dict[str, dict[str, object]]:
        """Return the result of each reducer of the layers that are not left out.

        Raises:
            SweepError: a reducer raised.
        """
        return {
            layer: {name: _compute_result(layer, name, reducer) for name, reducer in mine.items()}
            for layer, mine in self.reducers.items()
            if layer not in self.left_out
        }


class StateFormat:
    """The serialization of a sweep's state, in which bytes can create only objects of the reducers' own classes.

    Args:
        layers: the names of the layers.
        kinds: a new reducer for each name.
        others: another new reducer for each name, to check the first: a class or function that is defined again for
            each reducer cannot be read back.

    Raises:
        ArgumentError: a reducer cannot be written and read back.
    """

    def __init__(self, layers: Iterable[str], kinds: Mapping[str, Reducer], others: Mapping[str, Reducer]) -> None:
        for name, reducer in kinds.items():
            try:
                alone = RestrictedPickle([reducer])
                alone.loads(alone.dumps(others[name]))
            except StorageError as error:
                raise ArgumentError(
                    f"Reducer {name!r}, which checkpoint= and torchrun must write and read back, {error}. "
                    f"{_HOW_TO_NAME_TYPES}"
                ) from error
        self._layers = list(layers)
        self._kinds = {name: type(reducer) for name, reducer in kinds.items()}
        self._pickle = RestrictedPickle(kinds.values())

    def dumps(self, state: SweepState) -> bytes:
        """Return the state as bytes.

        Raises:
            SweepError: a reducer cannot be written.
        """
        try:
            return self._pickle.dumps((state.reducers, state.samples, state.left_out))
        except StorageError as error:
            raise SweepError(f"{self._find_unwritable(state)} {error}. {_HOW_TO_NAME_TYPES}") from error

    def loads(self, data: bytes) -> SweepState:
        """Return the state that was written.

        Raises:
            StorageError: the bytes name something that is not part of these reducers' state, or do not hold it.
        """
        found = self._pickle.loads(data)
        if not (isinstance(found, tuple) and len(found) == 3 and type(found[1]) is int and self._fits(found[0])):
            raise StorageError("does not hold these reducers")
        if type(found[2]) is not dict or not all(type(text) is str for pair in found[2].items() for text in pair):
            raise StorageError("does not say which layers it left out")
        return SweepState(*found)

    def _fits(self, reducers: object) -> bool:
        """Return whether `reducers` maps the layers to reducers of the expected names and classes."""
        if type(reducers) is not dict or list(reducers) != self._layers:
            return False
        return all(
            type(mine) is dict and {name: type(reducer) for name, reducer in mine.items()} == self._kinds
            for mine in reducers.values()
        )

    def _find_unwritable(self, state: SweepState) -> str:
        """Return the name of the first reducer that cannot be written by itself."""
        for layer, mine in state.reducers.items():
            for name, reducer in mine.items():
                try:
                    self._pickle.dumps(reducer)
                except StorageError:
                    return f"Reducer {name!r} of layer {layer!r}"
        return "The state of the reducers"


def _compute_result(layer: str, name: str, reducer: Reducer) -> object:
    try:
        return reducer.result()
    except Exception as error:
        raise SweepError(
            f"The result of reducer {name!r} of layer {layer!r} raised {describe_error(error)}."
        ) from error
