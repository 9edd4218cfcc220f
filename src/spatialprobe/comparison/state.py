"""The state of a comparison, and its format for checkpoints and other processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from spatialprobe.comparison.channels import ChannelSums
from spatialprobe.comparison.similarity import SimilaritySums
from spatialprobe.errors import StorageError
from spatialprobe.storage.restricted_pickle import RestrictedPickle


@dataclass
class PairState:
    """What is summed of one model and another."""

    similarity: SimilaritySums
    channels: dict[str, ChannelSums]  # by layer of both
    left_out: dict[str, str]  # layer of the other -> why it is not compared
    unmatched: dict[str, str]  # layer of both -> why its channels are not compared

    @staticmethod
    def of(layers: Sequence[str], others: Sequence[str]) -> PairState:
        """Return a new state for the layers of both models."""
        both = {name: ChannelSums() for name in layers if name in others}
        return PairState(SimilaritySums(len(layers), len(others)), both, {}, {})

    def merge(self, other: PairState) -> None:
        """Add what another process has seen."""
        self.similarity.merge(other.similarity)
        self.left_out |= other.left_out
        self.unmatched |= other.unmatched
        for name, sums in self.channels.items():
            if name not in self.unmatched:
                sums.merge(other.channels[name])


@dataclass
class ComparisonState:
    """What is summed of one model and each of the others."""

    pairs: list[PairState]
    left_out: dict[str, str] = field(default_factory=dict)  # layer of one -> why it is not compared
    samples: int = 0

    def merge(self, other: ComparisonState) -> None:
        """Add what another process has seen."""
        self.samples += other.samples
        self.left_out |= other.left_out
        for mine, theirs in zip(self.pairs, other.pairs, strict=True):
            mine.merge(theirs)


class ComparisonFormat:
    """The serialization of a comparison's state, which can create only objects of its own classes."""

    def __init__(self, state: ComparisonState) -> None:
        self._pickle = RestrictedPickle([state, ChannelSums(), SimilaritySums(0, 0)])
        self._layers = [_names(pair) for pair in state.pairs]

    def dumps(self, state: ComparisonState) -> bytes:
        """Return the state as bytes."""
        return self._pickle.dumps(state)

    def loads(self, data: bytes) -> ComparisonState:
        """Return the state that was written.

        Raises:
            StorageError: the bytes do not hold the state of this comparison.
        """
        found = self._pickle.loads(data)
        if not isinstance(found, ComparisonState) or [_names(pair) for pair in _pairs(found)] != self._layers:
            raise StorageError("does not hold the sums of this comparison")
        return found


def _pairs(state: ComparisonState) -> Iterable[PairState]:
    return [pair for pair in state.pairs if isinstance(pair, PairState)] if isinstance(state.pairs, list) else []


def _names(pair: PairState) -> tuple[str, ...]:
    return tuple(pair.channels)
