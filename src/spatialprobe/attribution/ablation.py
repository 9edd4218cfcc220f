"""Scores without some of a layer's channels, measured: one run of the layer is replaced, whole images at a time."""

from __future__ import annotations

from dataclasses import replace

import torch

from spatialprobe.attribution.forwards import Forwards
from spatialprobe.attribution.run import Run
from spatialprobe.statistics.progress import Silent


def scores_without(forwards: Forwards, run: Run, removed: torch.Tensor, baseline: float | torch.Tensor) -> torch.Tensor:
    """Return the scores (M, N) of the images where some channels of a run are set to the baseline.

    Args:
        forwards: the model and its images.
        run: of which layer.
        removed: (M, N, C) bool: which channels go, in each of M variants, of each image.
        baseline: what takes their place.
    """
    variants, count, channels = removed.shape
    together = forwards.repeats
    forwards = forwards.behind(run, -(-variants // together))
    filling = run.baseline(baseline)
    found = []
    for first in range(0, variants, together):
        part = removed[first : first + together].to(run.value.device)
        mask = run.raw(part.reshape(-1, channels, *[1] * (run.value.ndim - 2)))
        found.append(_scores(forwards, run, mask, filling, len(part)))
        forwards.bar.update(len(part) * count)
    return torch.cat(found)


def depends_on(forwards: Forwards, run: Run) -> bool:
    """Return whether the scores differ, be it in the last digit, between two values of a run that differ everywhere."""
    value = run.maps(run.value)
    everything = torch.ones((1, *value.shape[:2]), dtype=torch.bool, device="cpu")
    quiet = replace(forwards, bar=Silent())
    below, above = (scores_without(quiet, run, everything, other) for other in (-1 - value, 1 + value))
    return not torch.equal(below, above)


def _scores(forwards: Forwards, run: Run, mask: torch.Tensor, filling: torch.Tensor, times: int) -> torch.Tensor:
    """Return the scores (times, N) where the masked channels of the repeated images are filled."""

    def change(value: torch.Tensor) -> torch.Tensor:
        repeated = filling.repeat(times, *[1] * (filling.ndim - 1)) if times > 1 else filling
        return torch.where(mask, repeated, value)

    with torch.no_grad():
        try:
            scores = forwards.scores(run, change, times)
        finally:
            forwards.mode.reset()
    return scores.reshape(times, -1).cpu()
