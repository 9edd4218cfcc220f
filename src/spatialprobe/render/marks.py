"""Maps whose colors alone would mislead: dead, constant, or with values that are not finite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spatialprobe.render.scale import Extremes
from spatialprobe.render.sheet import Grid, room_for


@dataclass(frozen=True, eq=False)
class Marks:
    """Which maps are marked; each array (maps,) bool."""

    dead: npt.NDArray[np.bool_]  # zero everywhere
    constant: npt.NDArray[np.bool_]  # one value everywhere, not zero
    nonfinite: npt.NDArray[np.bool_]  # holds NaN or infinity

    @staticmethod
    def of(extremes: Extremes) -> Marks:
        """The marks of maps with these extremes; a map of a single unit is never called constant or dead."""
        same = (extremes.low == extremes.high) & ~extremes.nonfinite & (extremes.units > 1)
        zero = extremes.low == 0
        return Marks(same & zero, same & ~zero, extremes.nonfinite)

    def words(self, *, hatched: bool = True) -> list[str]:
        """A sentence that counts them, in a list; an empty list where there are none."""
        counts = {
            f"dead (zero everywhere{', hatched' if hatched else ''})": self.dead,
            "constant": self.constant,
            "with values that are not finite (crimson)": self.nonfinite,
        }
        told = [f"{int(mark.sum())} {words}" for words, mark in counts.items() if mark.any()]
        return [f"Marked: {', '.join(told)}."] if told else []

    def labels(self, names: Iterable[object], grid: Grid) -> list[str]:
        """The name of each map, with its mark in words where there is room, else in one letter."""
        labels = [str(name) for name in names]
        for word, mark in (("dead", self.dead), ("constant", self.constant), ("not finite", self.nonfinite)):
            for index in np.flatnonzero(mark):
                long = f"{labels[index]} {word}"
                labels[index] = long if room_for(long, grid) else f"{labels[index]} {word[0]}"
        return labels
