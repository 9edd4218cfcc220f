"""What was found for single layers and is passed for the page, by the names of layers and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.alignment import ConceptAlignment
from spatialprobe.report.concepts import Concepts
from spatialprobe.report.layers import PageLayer
from spatialprobe.report.synthesized import Synthesized
from spatialprobe.synthesis.result import MaximizedActivation
from spatialprobe.text import kind_of


class OfLayer(Protocol):
    """A result that knows its layer."""

    @property
    def layer(self) -> str:
        """The layer's name."""


_Result = TypeVar("_Result", bound=OfLayer)


class LayerResults(Generic[_Result]):
    """The results that an argument holds.

    Args:
        given: a result, several, or a mapping of layers to results; of two models a mapping of their names to these.
        argument: the name of the argument.
        kind: the class of a result.
        source: the call that returns one.
        models: the names of the models.

    Raises:
        ArgumentError: it holds something else, or two results of one layer.
    """

    def __init__(self, given: object, argument: str, kind: type[_Result], source: str, models: Sequence[str]) -> None:
        self._argument, self._kind, self._source = argument, kind, source
        self._found = {model: self._by_layer(one) for model, one in self._by_model(given, models).items()}

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return any(self._found.values())

    def of(self, model: str, shown: Sequence[PageLayer]) -> Mapping[str, _Result]:
        """Return the results of a model's layers, by their names.

        Raises:
            ArgumentError: one is of a layer that the page does not show.
        """
        found = self._found.get(model, {})
        names = list(dict.fromkeys(one.layer for one in shown))
        for layer in found:
            if layer not in names:
                raise ArgumentError(
                    f"{self._argument} is of layer {layer!r}, which is not on the page: it shows "
                    f"{', '.join(map(repr, names))}. Leave it out, or choose it by layers=."
                )
        return found

    def _by_model(self, given: object, models: Sequence[str]) -> Mapping[str, object]:
        if given is None:
            return {}
        if len(models) == 1:
            return {models[0]: given}
        if not isinstance(given, Mapping) or not set(given) <= set(models):
            raise ArgumentError(
                f"{self._argument} is {kind_of(given)}: of two models pass a mapping of their names, "
                f"{' and '.join(map(repr, models))}, to what {self._source} returned."
            )
        return given

    def _by_layer(self, given: object) -> dict[str, _Result]:
        if isinstance(given, self._kind):
            return {given.layer: given}
        if isinstance(given, Mapping):
            return self._collect(given.values(), given)
        if isinstance(given, (list, tuple)):
            return self._collect(given)
        raise ArgumentError(f"{self._argument} is {kind_of(given)}: {self._hint()}")

    def _collect(self, results: Iterable[object], names: Iterable[object] | None = None) -> dict[str, _Result]:
        found: dict[str, _Result] = {}
        listed = list(results)
        for name, one in zip(listed if names is None else names, listed, strict=True):
            if not isinstance(one, self._kind):
                raise ArgumentError(f"{self._argument} holds {kind_of(one)}: {self._hint()}")
            if names is not None and name != one.layer:
                raise ArgumentError(f"{self._argument}[{short_repr(name)}] is of layer {one.layer!r}.")
            if one.layer in found:
                raise ArgumentError(f"{self._argument} holds two results of layer {one.layer!r}: pass one of them.")
            found[one.layer] = one
        return found

    def _hint(self) -> str:
        return f"pass what {self._source} returned, or a list or mapping of several layers' results."


def add_results(
    shown: Sequence[PageLayer],
    made: Mapping[str, MaximizedActivation],
    aligned: Mapping[str, ConceptAlignment],
) -> list[PageLayer]:
    """Return the layers with what was synthesized for their first runs, and what all runs align with."""
    return [
        replace(
            layer,
            synthesized=Synthesized.of(made[layer.layer], layer.of) if layer.layer in made and not layer.run else None,
            concepts=Concepts.of(aligned[layer.layer], layer.of) if layer.layer in aligned else None,
        )
        for layer in shown
    ]
