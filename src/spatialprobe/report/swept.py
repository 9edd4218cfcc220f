"""The results of a sweep for the channels of one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.samples import Images
from spatialprobe.render.exemplar_checks import check_samples
from spatialprobe.report.patch_sheets import Patches, check_places
from spatialprobe.statistics.dead import DeadResult
from spatialprobe.statistics.exemplars import ExemplarsResult
from spatialprobe.statistics.moments import MomentsResult


@dataclass(frozen=True, eq=False)
class Swept:
    """Statistics and exemplars of one layer over a data set; what was not swept for is empty or None."""

    samples: int
    statistics: Mapping[str, npt.NDArray[np.float64]]  # name -> (C,)
    values: npt.NDArray[np.float64] | None = None  # (C, k) of the exemplars, NaN for an empty place
    places: npt.NDArray[np.int64] | None = None  # (C, k, 3) sample, y, x, in volumes (C, k, 4) then z; -1: empty
    has_boxes: bool = True  # whether the page knows what the units at these places see
    patches: Patches | None = None  # a sheet of those that are small
    sheet_ranks: int = 0  # exemplars of each channel that are on the sheet
    wants_sheet: bool = False  # whether patches are small enough for a sheet, be there room for it or not

    @staticmethod
    def of(
        results: Mapping[str, Any],
        samples: int,
        channels: int,
        fields: Sequence[ReceptiveField],
        dataset: Images | None,
    ) -> Swept:
        """Return what the results of a layer's shipped reducers say; those of others are passed over.

        What the units of exemplars see is known where all images have one size, those of the page (one field) and those
        that were swept, and where the layer runs once.

        Raises:
            ArgumentError: they are of another layer than the maps, or the data set is not the one that was swept.
        """
        statistics: dict[str, npt.NDArray[np.float64]] = {}
        exemplars = None
        for result in results.values():
            if isinstance(result, MomentsResult):
                statistics |= _moments(result)
            elif isinstance(result, DeadResult):
                statistics["fired"] = result.fired.numpy() / max(1, samples)
            elif isinstance(result, ExemplarsResult) and result.values.numel():
                exemplars = result
        lengths = {len(values) for values in statistics.values()} | ({len(exemplars.values)} if exemplars else set())
        if lengths - {channels}:
            raise ArgumentError(
                f"The sweep of {fields[0].layer!r} is of {', '.join(map(str, sorted(lengths)))} channels, but the "
                f"layer returned {channels}: pass the sweep of this model."
            )
        if exemplars is None:
            return Swept(samples, statistics)
        has_boxes = len(fields) == 1 and exemplars.map_size is not None and not exemplars.several_runs
        if has_boxes:
            check_places(exemplars, fields[0])
        if dataset is not None:
            check_samples(exemplars, dataset)
        return Swept(
            samples,
            statistics,
            exemplars.values.numpy(),
            _places(exemplars),
            has_boxes,
        )

    def left_out(self) -> str | None:
        """Return the words that say what of the patches is not kept, None if all is."""
        if not self.wants_sheet or self.values is None or self.sheet_ranks == self.values.shape[1]:
            return None
        ranks = f"patches of {self.sheet_ranks} of {self.values.shape[1]} exemplars of each channel"
        return ranks if self.sheet_ranks else "no exemplar patches"

    def of_channels(self, chosen: npt.NDArray[np.int64]) -> Swept:
        """The same for some of the channels, before patches are cut."""
        return replace(
            self,
            statistics={name: values[chosen] for name, values in self.statistics.items()},
            values=None if self.values is None else self.values[chosen],
            places=None if self.places is None else self.places[chosen],
        )


def _places(exemplars: ExemplarsResult) -> npt.NDArray[np.int64]:
    """(C, k, 3) sample, y, x: units of a line lie in row 0; in volumes (C, k, 4), z comes last."""
    samples, units = exemplars.samples.numpy()[..., None], exemplars.positions.numpy()
    if units.shape[-1] == 1:
        units = np.concatenate([np.zeros_like(units), units], axis=-1)
    return np.concatenate([samples, units[..., -2:], units[..., :-2]], axis=-1)


def _moments(result: MomentsResult) -> dict[str, npt.NDArray[np.float64]]:
    return {
        "mean": result.mean.numpy(),
        "std": result.std.numpy(),
        "minimum": result.minimum.numpy(),
        "maximum": result.maximum.numpy(),
        "zeros": result.zero_fraction.numpy(),
        "nonfinite": result.nonfinite.numpy(),
    }
