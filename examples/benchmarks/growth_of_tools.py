"""The growth of the costs of attribution, comparison, checkup, monitor, synthesis, concepts, pages and files.

All but files, which wait for the disk, are measured in CPU time.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.method import BURST, Figure, Table, paired
from simple_cnn import SimpleCNN
from torch import nn

import spatialprobe as sp

Pair = tuple[Callable[[], object], Callable[[], object]]  # the yardstick, and what is measured


def measure(quick: bool) -> Iterator[Table]:
    """Yield one curve after the other."""
    steps = 2 if quick else 99

    def grow(
        subject: str, title: str, unit: str, axis: str, pair: Callable[[int], Pair], counts: Sequence[int]
    ) -> Table:
        clock = time.perf_counter if title is FILES else time.process_time
        pairs = {str(n): pair(n) for n in counts[:steps]}
        figures = [paired(one, {n: other}, BURST, clock=clock)[0] for n, (one, other) in pairs.items()]
        return Table(title, unit, tuple(figures), axis=axis, subject=subject, bound=BOUNDS[title])

    passes, loops = "times the CPU time of a forward and backward", "times the CPU time of a plain loop"
    two_loops = "times the CPU time of two plain loops"
    yield grow("attribution", ATTRIBUTION, passes, "convolutions", attribute, (1, 4, 16, 64))
    yield grow("comparison", COMPARISON_LAYERS, two_loops, "convolutions", compare_layers, (1, 4, 16, 64))
    yield grow("comparison", COMPARISON, two_loops, "images", compare_images, (256, 1024, 4096))
    yield grow("checkup", CHECKUP, loops, "images", check_up, (256, 1024, 4096))
    yield grow(
        "monitor", MONITOR, "times the CPU time of the bare training step", "convolutions", monitor, (1, 4, 16, 64)
    )
    yield grow("synthesis", SYNTHESIS, "times the CPU time of one channel", "channels", maximize, (1, 4, 16, 64))
    yield grow("concepts", CONCEPTS, two_loops, "images", align, (256, 1024, 4096))
    yield grow("storage", FILES, "times numpy.savez", "MiB", save, (1, 8, 64, 256))
    yield pages((1, 4, 16, 64)[:steps])


ATTRIBUTION = "attribution to all layers of a stack of convolutions, 8 images of 32 x 32"
COMPARISON_LAYERS = "comparison of a stack of convolutions with a copy, 256 images of 32 x 32"
COMPARISON = "comparison of a SimpleCNN with a copy"
CHECKUP = "checkup of a SimpleCNN"
MONITOR = "a monitor with Moments at every step, 16 images of 32 x 32"
SYNTHESIS = "maximizing channels of one layer, 32 steps"
CONCEPTS = "aligning the channels of a SimpleCNN with concepts"
FILES = "writing activations with checksums"
PAGES = "the size of a page of a stack of convolutions of 16 channels on 32 x 32"
BOUNDS = {
    ATTRIBUTION: "One pass for all layers; each adds a hook and a product of its activation and gradient.",
    COMPARISON_LAYERS: "Similarities are of all pairs of layers, channels of namesakes: a matrix product for each.",
    COMPARISON: "Setting up is paid once, with a trace of the fields of both models; then every batch costs the same.",
    CHECKUP: "Fields, and passes over the first samples, are paid once: the curve falls toward the cost of a sweep.",
    MONITOR: "A price for each layer: its moments, beside its forward and backward.",
    SYNTHESIS: "All channels are one batch, in which each costs half of what it costs alone.",
    CONCEPTS: "Histograms in a first pass, thresholds and counts in a second: each image costs the same.",
    FILES: "Small files cost the sync and the rename that make them appear whole; large ones the checksums.",
    PAGES: "Every channel is kept until the page's bound of 20 MB; then the page chooses, and says so.",
}


def stack(layers: int, channels: int = 16) -> nn.Module:
    """Return convolutions with their ReLUs, and a head of 10 classes."""
    torch.manual_seed(0)
    sizes = [3] + [channels] * layers
    pairs = [(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(sizes)]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)
    return nn.Sequential(*[module for pair in pairs for module in pair], *head).eval()


def loop(models: Sequence[nn.Module], images: torch.Tensor) -> Callable[[], None]:
    """Return a plain loop over the images for each model, without gradients."""

    @torch.no_grad()
    def run() -> None:
        for model in models:
            for batch in images.split(64):
                model(batch)

    return run


def attribute(layers: int) -> Pair:
    """Return a forward and backward pass, and an attribution to all convolutions."""
    model, images = stack(layers), torch.rand(8, 3, 32, 32)

    def both() -> None:
        model(images)[:, 3].sum().backward()
        model.zero_grad()

    return both, lambda: sp.attribute(model, images, 3)


def compare_layers(layers: int) -> Pair:
    """Return two plain loops, and a comparison of a stack with its copy."""
    model, images = stack(layers), torch.rand(256, 3, 32, 32)
    other = copy.deepcopy(model)
    return loop([model, other], images), lambda: sp.compare(model, other, images, progress=False)


def compare_images(count: int) -> Pair:
    """Return two plain loops, and a comparison of a SimpleCNN with its copy."""
    model, images = SimpleCNN().eval(), torch.rand(count, 3, 32, 32)
    other = copy.deepcopy(model)
    return loop([model, other], images), lambda: sp.compare(model, other, images, progress=False)


def check_up(count: int) -> Pair:
    """Return a plain loop, and a checkup of a SimpleCNN."""
    model, images = SimpleCNN().eval(), torch.rand(count, 3, 32, 32)
    return loop([model], images), lambda: sp.checkup(model, images, progress=False)


def monitor(layers: int) -> Pair:
    """Return some training steps, and the same in a monitor that samples each of them."""
    model, images, labels = stack(layers).train(), torch.rand(16, 3, 32, 32), torch.arange(16) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def train() -> None:
        for _ in range(4):
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def watched() -> None:
        with sp.Monitor(model, {"moments": sp.Moments}, every=1):
            train()

    return train, watched


def maximize(channels: int) -> Pair:
    """Return the search for one channel, and for several of the same layer."""
    model = stack(2, 64)
    search = partial(sp.maximize_activation, model, "2", shape=(3, 32, 32), steps=32, progress=False)
    return lambda: search([0]), lambda: search(list(range(channels)))


def align(count: int) -> Pair:
    """Return two plain loops, and an alignment with the concepts of the drawn patterns."""
    model = SimpleCNN().eval()
    images, _, masks = sp.examples.draw_masked_patterns(count)
    data = list(zip(images, masks, strict=True))
    names = sp.examples.CLASSES
    run = partial(sp.evidence.concept_alignment, model, data, concepts=names, progress=False)
    return loop([model, model], images), run


def save(size: int) -> Pair:
    """Return a plain file, and one with metadata and checksums, of so many MiB in 8 records."""
    model = nn.Sequential(*[nn.Identity() for _ in range(8)])
    probe = sp.capture(model, torch.rand(1, 1, size, 2**15), layers=nn.Identity)
    arrays = {record.layer: record.numpy() for record in probe.records}
    folder = tempfile.TemporaryDirectory()  # goes when both functions have gone
    return (
        lambda: np.savez(Path(folder.name, "theirs"), allow_pickle=False, **arrays),
        lambda: sp.save_activations(Path(folder.name, "ours"), probe),
    )


def pages(counts: Sequence[int]) -> Table:
    """Return the sizes of pages by layers: they do not vary."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for layers in counts:
            path = Path(folder, "page.html")
            sp.write_report(path, stack(layers), sp.examples.draw_patterns(1)[0], progress=False)
            size = path.stat().st_size / 1000
            figures.append(Figure(str(layers), size, size, size))
    return Table(PAGES, "kB", tuple(figures), axis="convolutions", subject="report", bound=BOUNDS[PAGES])
