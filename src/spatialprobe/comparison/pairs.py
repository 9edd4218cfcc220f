"""One model beside each of several others: what a batch adds to the sums of a comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import cast

from spatialprobe.comparison.joined import LEAST, JoinedBatch
from spatialprobe.comparison.rows import Rows
from spatialprobe.comparison.side import Side
from spatialprobe.comparison.state import ComparisonState, PairState
from spatialprobe.errors import ArgumentError, NonFiniteActivationError
from spatialprobe.statistics.batches import Batch
from spatialprobe.text import format_count


class Pairs:
    """Runs all models on each batch.

    Args:
        one: the model that each other is compared with.
        others: the others; None for the same model with the same layers, which need not run again.
        number: returns the number of a batch over all processes.
    """

    def __init__(self, one: Side, others: Sequence[Side | None]) -> None:
        self._one = one
        self._others = others
        self._kept: dict[str, dict[int, Rows]] = {}  # of one model on the present batch, by layer and run

    def add(self, state: ComparisonState, batch: Batch, number: int) -> None:
        """Add a batch to the sums.

        Args:
            state: modified in place.
            batch: of samples.
            number: of the batch, over all processes.

        Raises:
            ArgumentError: it has fewer than four samples.
            NonFiniteActivationError: values are too large for the sums.
        """
        joined = cast(JoinedBatch, batch)
        if len(batch.samples) < LEAST:
            raise ArgumentError(
                f"a process has {format_count(len(batch.samples), 'sample')} in all: comparing layers without bias "
                f"takes at least {LEAST}. Pass more data, or use fewer processes."
            )
        self._kept = {}
        mine = self._one.run(joined, partial(self._keep, state))
        runs = Counter(self._one.calls)
        for pair, other in zip(state.pairs, self._others, strict=True):
            theirs = mine if other is None else other.run(joined, partial(self._compare, pair))
            if other is not None:
                self._check_runs(pair, runs, other)
            pair.similarity.add(number, mine, theirs)
            if not pair.similarity.is_finite():
                raise NonFiniteActivationError(
                    f"The values of some layers are too large to be compared, in {batch}: their fourth powers, summed, "
                    "exceed what float64 can hold."
                )
        self._kept = {}

    def _keep(self, state: ComparisonState, layer: str, call: int, rows: Rows) -> None:
        """Keep the rows of a layer for the models that have one of its name; compare it with itself at once."""
        for pair, other in zip(state.pairs, self._others, strict=True):
            if layer in pair.channels and other is None:
                pair.channels[layer].add(rows, rows)
            elif layer in pair.channels and layer not in pair.unmatched:
                self._kept.setdefault(layer, {})[call] = rows

    def _compare(self, pair: PairState, layer: str, call: int, rows: Rows) -> None:
        """Compare the rows of a layer with those of its namesake."""
        kept = self._kept.get(layer, {})
        if layer not in pair.channels or layer in pair.unmatched or call not in kept:
            return
        mine = kept.pop(call) if len(self._others) == 1 else kept[call]
        if mine.centered.shape != rows.centered.shape:
            pair.unmatched[layer] = _describe_shapes(mine, rows)
        else:
            pair.channels[layer].add(mine, rows)

    def _check_runs(self, pair: PairState, runs: Counter[str], other: Side) -> None:
        """Give up the channels of layers that run more often in one model than in the other."""
        for layer in pair.channels:
            if runs[layer] and other.calls[layer] and runs[layer] != other.calls[layer]:
                pair.unmatched.setdefault(
                    layer, f"it runs {runs[layer]} times in one model, {other.calls[layer]} times in the other."
                )


def _describe_shapes(one: Rows, other: Rows) -> str:
    (_, c, length), (_, other_c, other_length) = one.centered.shape, other.centered.shape
    if c != other_c:
        return f"it has {format_count(c, 'channel')} in one model, {other_c} in the other."
    return f"its maps have {format_count(length, 'unit')} in one model, {other_length} in the other."
