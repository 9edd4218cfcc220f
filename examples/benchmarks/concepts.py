"""The cost of aligning all channels of a network with concepts, beside two plain loops over the same images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from benchmarks.method import Table, paired

import spatialprobe as sp


def measure(quick: bool) -> Iterator[Table]:
    """Yield the time for the network that is shipped, over drawn patterns with their masks."""
    torch.set_num_threads(1)
    count, rounds = (256, 3) if quick else (1024, 10)
    model = sp.examples.load_network().eval()
    images, _, masks = sp.examples.draw_masked_patterns(count)
    data = list(zip(images, masks, strict=True))

    @torch.no_grad()
    def loops() -> None:
        for _ in range(2):
            for batch in images.split(64):
                model(batch)

    def align() -> object:
        return sp.evidence.concept_alignment(model, data, concepts=sp.examples.CLASSES, progress=False)

    figures = paired(loops, {"concept_alignment": align}, rounds)
    title = f"all convolutions of the network that is shipped, {count} images of 32 x 32"
    yield Table(title, "times two plain loops", tuple(figures))
