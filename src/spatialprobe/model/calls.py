"""A mapping from layer names to one value for each run of a layer."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

from spatialprobe.arguments import as_int
from spatialprobe.errors import AmbiguousCallError, ArgumentError, LayerNotRunError
from spatialprobe.mappings import CompletedMapping
from spatialprobe.text import format_count

T = TypeVar("T", covariant=True)


class LayerCalls(CompletedMapping[str, T], Generic[T]):
    """A mapping from layer names to one value for each run, in the order in which the layers first ran.

    `len`, `in` and iteration refer to layers. `self["conv1"]` is the value of a layer that ran once, `self["conv1", i]`
    that of the i-th of several runs; `values()` and `items()` raise an error if a layer ran more than once.
    """

    _called = "found"  # the name of the mapping in error messages
    _how_to_fix = ""  # more that can be done about an ambiguous layer, for its error message

    @abstractmethod
    def calls(self, layer: str) -> tuple[T, ...]:
        """Return the values of all runs of one layer, in the order of execution; raise an error if there are none."""

    def __getitem__(self, key: str | tuple[str, int]) -> T:
        layer, index = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
        found = self.calls(layer)
        if index is None:
            if len(found) > 1:
                raise AmbiguousCallError(
                    f"Layer {layer!r} ran {len(found)} times. Use {self._called}[{layer!r}, i] for one run "
                    f"(i from 0 to {len(found) - 1}), or {self._called}.calls({layer!r}) for all"
                    f"{self._how_to_fix.format(layer=layer)}."
                )
            return found[0]
        index = as_int(index, "The number of a run")
        if not -len(found) <= index < len(found):
            raise LayerNotRunError(
                f"Layer {layer!r} ran {format_count(len(found), 'time')}: there is no run {index}, counted from 0."
            )
        return found[index]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        try:
            self.calls(key) if isinstance(key, str) else self[key]  # type: ignore[index]
        except (KeyError, TypeError, ArgumentError):
            return False
        return True
