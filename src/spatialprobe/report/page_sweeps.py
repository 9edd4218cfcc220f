"""The sweeps that a page tells of: of which model each is, and whether it can be of these layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from spatialprobe.activations.records import At
from spatialprobe.arguments import check_one_of
from spatialprobe.errors import ArgumentError
from spatialprobe.model.samples import Images
from spatialprobe.report.layers import PageLayer
from spatialprobe.report.swept import Swept
from spatialprobe.statistics.result import SweepResult
from spatialprobe.text import kind_of


def sweeps_of(sweep: object, names: Sequence[str]) -> dict[str, SweepResult]:
    """Return the sweep of each model by its name.

    Raises:
        ArgumentError: it is none, or two models have one sweep.
    """
    if sweep is None:
        return {}
    if len(names) == 1 or isinstance(sweep, SweepResult) or not isinstance(sweep, Mapping):
        if len(names) > 1:
            raise ArgumentError(f"sweep is {kind_of(sweep)}: of two models pass a mapping of sweeps by {names}.")
        return {names[0]: sweep}  # type: ignore[dict-item]  # checked by the caller
    if not set(sweep) <= set(names):
        raise ArgumentError(f"sweep has the names {', '.join(map(str, sweep))}, and the models {', '.join(names)}.")
    return dict(sweep)


def check_sweeps(sweeps: Mapping[str, object], dataset: object) -> None:
    """Check that sweeps are results of `sweep`, and that there is one where there is a data set.

    Raises:
        ArgumentError: one is not, or there is none.
    """
    for sweep in sweeps.values():
        if not isinstance(sweep, SweepResult):
            raise ArgumentError(f"sweep is {kind_of(sweep)}: pass what sp.sweep(...) returned.")
    if not sweeps and dataset is not None:
        raise ArgumentError(
            "dataset= is where the patches of a sweep's exemplars come from: pass the sweep of it too, "
            "sweep=sp.sweep(model, dataset, {'top': sp.Exemplars})."
        )


def check_shared(sweep: SweepResult, shown: Sequence[PageLayer]) -> None:
    """Check that a sweep is of some layer that is on the page.

    Raises:
        ArgumentError: it is of none.
    """
    if not any(layer.layer in sweep.layers for layer in shown):
        raise ArgumentError(
            f"The sweep is of a {sweep.model} with the layers {', '.join(sweep.layers)}, none of which is on the page: "
            f"{', '.join(layer.name for layer in shown)}. Give the sweep of this model, or leave it out."
        )


def choose_point(at: At | None, sweeps: Mapping[str, SweepResult]) -> At:
    """Return the point at which values are taken: as requested, as swept, or at the layers' outputs.

    Raises:
        ArgumentError: the sweeps took values at others.
    """
    if at is not None:
        check_one_of(at, "at", At)
    swept = {sweep.at for sweep in sweeps.values()}
    if len(swept) > 1:
        raise ArgumentError("The sweeps took values at different points: sweep both models with the same at=.")
    if not swept:
        return at or "output"
    (found,) = swept
    if at is not None and at != found:
        raise ArgumentError(f"at={at!r}, but the sweep took values at {found!r}: leave at out, or sweep again.")
    return "post_activation" if found == "post_activation" else "output"


def add_sweep(layer: PageLayer, sweep: SweepResult, dataset: Images | None) -> PageLayer:
    """Return the layer with what the sweep says about it; as it is where it was not swept."""
    results: Mapping[str, Any] | None = sweep.layers.get(layer.layer)
    if results is None:
        return layer
    fields = [grid.field for grid in layer.grids]
    return replace(layer, swept=Swept.of(results, sweep.samples, layer.of, fields, dataset))
