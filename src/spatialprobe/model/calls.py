"""A mapping from layer names to what was found of each of their runs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

from spatialprobe.arguments import as_int
from spatialprobe.errors import AmbiguousCallError, ArgumentError, LayerNotRunError
from spatialprobe.mappings import CompletedMapping
from spatialprobe.text import format_count

T = TypeVar("T", covariant=True)


class LayerCalls(CompletedMapping[str, T], Generic[T]):
    """Layer names to one thing for each run of the layer, in the order in which the layers first ran.

    `len`, `in` and iteration speak of layers. `self["conv1"]` is that of a layer that ran once, `self["conv1", i]` the
    i-th of several; `values()` and `items()` raise where a layer ran more than once.
    """

    _called = "found"  # the name that error messages give to the mapping
    _how_to_fix = ""  # further ways that a message about an ambiguous layer names

    @abstractmethod
    def calls(self, layer: str) -> tuple[T, ...]:
        """All of one layer, in the order of execution; raises if there is none."""

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
                f"Layer {layer!r} ran {format_count(len(found), 'time')}, counted from 0: there is no run {index}."
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
