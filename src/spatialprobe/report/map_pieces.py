"""A layer's maps in pieces of a few channels, each encoded at most once, and only if the page may hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.report.packing import differences

_SAMPLED_CHANNELS, _SAMPLED_UNITS = 16, 2**15  # by which sizes are estimated
_SHARE = 20  # pieces are at least so many, for beside its maps a channel has kernels and numbers
_AROUND = 3  # bytes that stand around each text in the page


@dataclass(frozen=True, eq=False)
class MapPieces:
    """The maps of a layer for several images, the channels that are strongest in the first image first."""

    maps: tuple[CodedMaps, ...]  # one an image
    order: npt.NDArray[np.int64]  # (C,) the channels in the order in which pieces hold them
    bounds: tuple[int, ...]  # piece i holds the channels at bounds[i] to bounds[i + 1] of the order
    _texts: dict[tuple[int, int, int], str] = field(default_factory=dict)

    @staticmethod
    def of(maps: Sequence[CodedMaps], most: float) -> MapPieces:
        """Pieces of at most so many units of one image, or of one channel, in the order of the channels."""
        count, units = len(maps[0].codes), max(one.codes[0].size for one in maps)
        size = max(1, int(most // units))
        return MapPieces(tuple(maps), np.arange(count), (*range(0, count, size), count))

    @staticmethod
    def by_strength(
        maps: Sequence[CodedMaps], most: float, strength: npt.NDArray[np.float64] | None = None
    ) -> MapPieces:
        """The same, but the channels with the largest values come first: one alone, then at most a twentieth of all.

        `strength` (C,) says which these are; by default the magnitudes of the first image do.
        """
        count, units = len(maps[0].codes), max(one.codes[0].size for one in maps)
        size = max(1, min(int(most // units), count // _SHARE))
        order = np.argsort(-(maps[0].reach if strength is None else strength), kind="stable")
        return MapPieces(tuple(maps), order, (0, *range(1, count, size), count))

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self.bounds) - 1

    @property
    def units(self) -> int:
        """The units of one map, on average over images."""
        return sum(int(one.codes[0].size) for one in self.maps) // len(self.maps)

    def channels(self, piece: int) -> npt.NDArray[np.int64]:
        """Return the channels of a piece."""
        return self.order[self.bounds[piece] : self.bounds[piece + 1]]

    def text(self, image: int, piece: int, step: int) -> str:
        """Return a piece's maps for an image, one of `step` rows and columns of units, as the page holds them."""
        key = image, piece, step
        if key not in self._texts:
            self._texts[key] = differences(self.maps[image].codes[self.channels(piece)][..., ::step, ::step])
        return self._texts[key]

    def nbytes(self, image: int, piece: int, step: int) -> int:
        """Return the bytes that a piece's maps for an image take in the page."""
        return len(self.text(image, piece, step)) + _AROUND

    def rate(self) -> float:
        """Return about how many bytes of the page a unit takes, measured at some rows of some channels."""
        codes = self.maps[0].codes
        codes = codes.reshape(len(codes), -1, codes.shape[-1])
        channels = np.linspace(0, len(codes) - 1, min(_SAMPLED_CHANNELS, len(codes))).astype(np.int64)
        rows = max(1, min(codes.shape[1], _SAMPLED_UNITS // (len(channels) * codes.shape[2])))
        first = (codes.shape[1] - rows) // 2
        sample = codes[channels, first : first + rows]
        return len(differences(sample)) / sample.size
