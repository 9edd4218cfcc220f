"""The maps of the channels that changed most, on one sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from spatialprobe.comparison.joined import LEAST, JoinedBatch
from spatialprobe.comparison.result import ChangedChannel, Comparison
from spatialprobe.comparison.rows import Rows, scale
from spatialprobe.comparison.side import Side

_SHOWN = 8  # channels whose maps a comparison keeps
_Channels = set[tuple[str, int]]  # layer and channel


def add_examples(
    comparisons: Sequence[Comparison], batch: JoinedBatch, one: Side, others: Sequence[Side | None]
) -> list[Comparison]:
    """Return the comparisons with the maps of the channels that changed most, on the first sample of a batch.

    Args:
        comparisons: of one model with each of the others.
        batch: a few samples.
        one: the model that all are compared with.
        others: the others; None for the same model.
    """
    batch = _shorten(batch)
    wanted = [found.most_changed(_SHOWN) for found in comparisons]
    mine = _run(one, batch, {(layer, channel) for part in wanted for layer, channel, _ in part})
    made = []
    for found, part, other in zip(comparisons, wanted, others, strict=True):
        theirs = mine if other is None else _run(other, batch, {(layer, channel) for layer, channel, _ in part})
        changed = [
            ChangedChannel(layer, channel, drift, mine[layer, channel], theirs[layer, channel])
            for layer, channel, drift in part
            if (layer, channel) in mine and (layer, channel) in theirs
        ]
        made.append(replace(found, changed=tuple(changed)))
    return made


def _shorten(batch: JoinedBatch) -> JoinedBatch:
    """Return a batch of the first samples, where it can be cut."""
    if len(batch.parts) > 1 or not isinstance(batch.inputs, torch.Tensor):
        return batch
    short = replace(batch.parts[0], inputs=batch.inputs[:LEAST], samples=batch.samples[:LEAST])
    return replace(batch, inputs=short.inputs, samples=short.samples, parts=(short,))


def _run(side: Side, batch: JoinedBatch, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], torch.Tensor]:
    """Return the maps over two axes of some channels, by layer and channel, float32 (H, W)."""
    found: dict[tuple[str, int], torch.Tensor] = {}
    chosen = set(wanted)

    def use(layer: str, call: int, rows: Rows) -> None:
        size = side.sizes[layer]
        for name, channel in chosen if call == 0 and len(size) == 2 else ():
            if name == layer:
                values = rows.mean[channel] + scale(rows.centered[0, channel].double(), rows.exponent)
                found[layer, channel] = values.reshape(size).float().cpu()

    if chosen:
        side.run(batch, use)
    return found
