"""Interpolations at random against what perturbing torch's own operator shows.

Run as a script to try as many as you like: `python tests/fields/interpolation_cases.py 5000 [SEED]`.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import spatialprobe as sp
from fields.perturbation import hulls

MODES = {
    1: ["nearest", "nearest-exact", "linear", "area"],
    2: ["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
    3: ["nearest", "nearest-exact", "trilinear", "area"],
}
LARGEST = {1: 150, 2: 16, 3: 6}
FACTORS = [2.3, 1.0005, 0.99999, 0.5, 2, 1 / 3, 1.1, 0.7]
CHANGE = 1024.0  # of a pixel, in an image of zeros
UNSEEN = {torch.float64: CHANGE * 1e-11}  # a change that is rounding's


@dataclass
class Case:
    """An interpolation and the image it is tried on."""

    sizes: list[int]
    options: dict
    channels: int
    dtype: torch.dtype
    channels_last: bool

    def resized(self, images):
        """The operator itself."""
        return F.interpolate(images, **self.options)

    def images(self, count):
        """Zeros in this layout."""
        made = torch.zeros(count, self.channels, *self.sizes, dtype=self.dtype)
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        return made.to(memory_format=formats[made.ndim]) if self.channels_last else made

    @property
    def runs(self):
        """Whether torch takes such sizes, and has such a kernel."""
        try:
            return self.resized(self.images(1)).numel() > 0
        except (RuntimeError, ValueError):
            return False

    def changed(self):
        """Which output of the first channel changes with which pixel, (*units, *pixels)."""
        pixels = int(np.prod(self.sizes))
        images = self.images(pixels + 1)
        for number, place in enumerate(np.ndindex(*self.sizes), start=1):
            images[(number, 0, *place)] = CHANGE
        with torch.no_grad():
            answers = self.resized(images)[:, 0]
        seen = ((answers[1:] - answers[:1]).abs() > UNSEEN.get(self.dtype, 0)).numpy()
        return np.moveaxis(seen, 0, -1).reshape(*answers.shape[1:], *self.sizes)

    def field(self):
        """What the library says."""
        model = Resizing(self)
        return sp.receptive_fields(model, self.images(1).to("meta"))[""]


class Resizing(nn.Module):
    """The case as a model."""

    def __init__(self, case):
        super().__init__()
        self.case = case

    def forward(self, images):
        return self.case.resized(images)


def draw(source):
    """A case at random; not all of them run."""
    axes = source.choice([1, 2, 2, 2, 3])
    mode = source.choice(MODES[axes])
    sizes = [source.randint(1, LARGEST[axes]) for _ in range(axes)]
    if axes == 2 and source.random() < 0.2:  # with a large output, other kernels come in
        sizes[source.randint(0, 1)] = source.randint(60, 140)
    options = {"mode": mode}
    if "linear" in mode or "cubic" in mode:
        options["align_corners"] = source.choice([True, False, None])
        options["antialias"] = axes == 2 and source.random() < 0.4
    if source.random() < 0.4:
        options["size"] = [source.randint(1, size * 3 // 2) for size in sizes]
    else:
        drawn = [source.choice([*FACTORS, _odd(source)]) for _ in sizes]
        options["scale_factor"] = source.choice([drawn, drawn[0]])
        options["recompute_scale_factor"] = source.choice([None, None, True])
    channels = source.choice([1, 1, 2, 3, 4, 5])
    dtype = source.choice([torch.float32] * 4 + [torch.float64] * 2 + [torch.bfloat16, torch.float16])
    return Case(sizes, options, channels, dtype, channels_last=axes > 1 and source.random() < 0.3)


def _odd(source):
    return round(source.uniform(0.3, 3.2), source.choice([1, 2, 3, 6]))


def judged(case):
    """In a word how the boxes of a case compare with what perturbing it shows, and where they are wrong."""
    field = case.field()
    found, axes = field.boxes(channel=0), len(case.sizes)
    truth = hulls(case.changed(), axes)
    inside = (found[..., :axes] <= truth[..., :axes]) & (truth[..., axes:] <= found[..., axes:])
    wrong = ~(inside.all(-1) | ~truth.any(-1))
    different = (found != truth).any(-1)
    if wrong.any() or (field.exact and different.any()):
        unit = tuple(np.argwhere(wrong if wrong.any() else different)[0])
        return "wrong", f"{case}: unit {unit} has {found[unit]}, and sees {truth[unit]}"
    return ("exact" if field.exact else "an upper bound"), ""


def main(count=2000, seed=0):
    """Try so many, and print how many were right."""
    source, kinds = random.Random(seed), Counter()
    while sum(kinds.values()) < count:
        case = draw(source)
        if case.runs:
            kind, where = judged(case)
            kinds[kind] += 1
            if where:
                sys.stdout.write(f"{where}\n")
    sys.stdout.write(f"{dict(kinds)}\n")
    return int(kinds["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
