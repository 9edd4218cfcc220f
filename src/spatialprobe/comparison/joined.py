"""Batches that are too small for a comparison, joined with their neighbors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from spatialprobe.statistics.batches import Batch, Progress, Source

LEAST = 4  # samples of which similarity can be estimated without bias


@dataclass(frozen=True)
class JoinedBatch(Batch):
    """Batches that count as one: nearly always a single one."""

    parts: tuple[Batch, ...] = ()


class JoinedBatches:
    """A share of the data whose batches of fewer than four samples join the next, at the end the one before."""

    def __init__(self, source: Source) -> None:
        self.count, self.rows, self.first = source.count, source.rows, source.first
        self.identity, self.terms = source.identity, source.terms
        self._source = source

    def batches(self, done: Progress) -> Iterator[tuple[Batch, Progress]]:
        """Yield the batches that follow `done`, each with the progress once it is added."""
        ready: list[tuple[Batch, Progress]] = []  # enough samples, unless a last one that is too small follows
        begun: list[tuple[Batch, Progress]] = []
        for item in self._source.batches(done):
            begun.append(item)
            if sum(len(batch.samples) for batch, _ in begun) >= LEAST:
                if ready:
                    yield _join(ready)
                ready, begun = begun, []
        if ready or begun:
            yield _join(ready + begun)


def _join(items: list[tuple[Batch, Progress]]) -> tuple[Batch, Progress]:
    parts = tuple(batch for batch, _ in items)
    first = parts[0]
    samples = torch.cat([batch.samples for batch in parts])
    return JoinedBatch(first.number, first.inputs, samples, first.row, parts), items[-1][1]
