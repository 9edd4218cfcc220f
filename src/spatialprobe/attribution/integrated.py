"""Integrated gradients of one run of a layer, along the straight path from the baseline [Sundararajan et al. 2017]."""

from __future__ import annotations

import numpy as np
import torch

from spatialprobe.attribution.forwards import Forwards
from spatialprobe.attribution.run import Run
from spatialprobe.errors import ProbeStateError


def integrate(
    forwards: Forwards, run: Run, baseline: float | torch.Tensor, steps: int, scores: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the integrated gradients, like the run's value, and what of the scores' change (N,) they do not explain.

    The integral is taken by Gauss-Legendre quadrature, as captum does by default: exact where the model is a
    polynomial on the path, of a degree below twice the steps.

    Args:
        forwards: the model and its images.
        run: of which layer; it alone is replaced.
        baseline: where the path begins.
        steps: points on the path.
        scores: (N,), those at its end.

    Raises:
        ProbeStateError: the scores do not depend on the run.
    """
    end = run.value
    start = run.baseline(baseline)
    positions, weights = _quadrature(steps)
    total = torch.zeros(end.shape, dtype=_wide(end.dtype), device=end.device)
    together = forwards.repeats
    forwards = forwards.behind(run, -(-steps // together))
    for first in range(0, steps, together):
        part = positions[first : first + together]
        factors = part.to(end.device, total.dtype).reshape(-1, *[1] * end.ndim)
        points = (start + factors * (end - start)).flatten(0, 1).to(end.dtype).requires_grad_()
        gradient = _gradient(forwards, run, points, len(part)).to(total.dtype)
        shares = weights[first : first + together].to(end.device, total.dtype).reshape(factors.shape)
        total += (shares * gradient.reshape(len(part), *end.shape)).sum(dim=0)
        forwards.bar.update(len(points))
    found = total * (end - start)
    with torch.no_grad():
        before = forwards.scores(run, lambda value: start.clone())
    forwards.mode.reset()
    change = scores.cpu().double() - before.cpu().double()
    return found, change - found.flatten(1).cpu().double().sum(dim=1)


def _gradient(forwards: Forwards, run: Run, points: torch.Tensor, times: int) -> torch.Tensor:
    """Return the gradient of the scores with respect to points (times * N, ...) in place of the run's value."""
    scores = forwards.scores(run, lambda value: points.clone(), times)  # the model may modify it in place
    try:
        (gradient,) = forwards.gradients(scores, [points])
    finally:
        forwards.mode.reset()
    if gradient is None:
        raise ProbeStateError(f"The scores do not depend on {run.name}, so that it has no integrated gradients.")
    return gradient


def _quadrature(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions (steps,) in [0, 1] and the weights of Gauss-Legendre quadrature, which sum to 1."""
    positions, weights = np.polynomial.legendre.leggauss(steps)
    return torch.from_numpy((1 + positions) / 2), torch.from_numpy(weights / 2)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which many values of another are summed."""
    return dtype if dtype is torch.float64 else torch.float32
