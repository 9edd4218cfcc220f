"""Dead channels, which are never above zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spatialprobe.statistics.summary import Summary
from spatialprobe.statistics.units import as_units, check_mergeable, check_same_channels, check_samples


@dataclass(frozen=True, eq=False, repr=False)
class DeadResult(Summary):
    """Which channels were above zero, and in how many samples.

    >>> import torch, spatialprobe as sp
    >>> swept = sp.sweep(torch.nn.Conv2d(1, 2, 3), torch.rand(5, 1, 8, 8), {"found": sp.Dead}, progress=False)
    >>> swept[""]["found"].fired.shape
    torch.Size([2])
    """

    dead: torch.Tensor  # bool (C,): no sample had a value above zero
    fired: torch.Tensor  # int64 (C,): samples with a value above zero


class Dead:
    """A reducer to the number of samples in which each channel has a value above zero, and to the dead channels.

    It is most useful with `at="post_activation"`. If a layer runs several times in one forward pass, each sample counts
    once.

    >>> import torch, spatialprobe as sp
    >>> dead = sp.Dead()
    >>> dead.update(torch.tensor([[0.0, 1.0], [-1.0, 2.0]]), torch.tensor([0, 1]))
    >>> dead.result().dead, dead.result().fired
    (tensor([ True, False]), tensor([0, 2]))
    """

    def __init__(self) -> None:
        self._fired = torch.zeros(0, dtype=torch.int64, device="cpu")
        self._latest = torch.zeros(0, dtype=torch.int64, device="cpu")  # the samples of the last batch (N,), and
        self._latest_fired = torch.zeros(0, 0, dtype=torch.bool, device="cpu")  # in which channels they fired (N, C)

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Add the values of one batch, (N, C, *spatial)."""
        units = as_units(activation)
        check_samples(samples, activation)
        if not len(self._fired):
            self._fired = torch.zeros(units.shape[1], dtype=torch.int64, device="cpu")
        check_same_channels(len(self._fired), units.shape[1])
        if not units.numel():
            return
        strongest = units.amax(dim=2)
        fired = ((units > 0).any(dim=2) if bool(strongest.isnan().any()) else strongest > 0).cpu()
        samples = samples.cpu()
        if torch.equal(samples, self._latest):
            new = fired & ~self._latest_fired
            self._latest_fired = fired | self._latest_fired
        else:
            new = self._latest_fired = fired
            self._latest = samples.clone()
        self._fired = self._fired + new.sum(dim=0)

    def merge(self, other: Dead) -> None:
        """Add the values that another reducer of the same class has seen.

        Raises:
            ArgumentError: the other is of another class, or has another number of channels.
        """
        check_mergeable(self, other)
        if not len(other._fired):
            return
        if not len(self._fired):
            self._fired = torch.zeros_like(other._fired)
        check_same_channels(len(self._fired), len(other._fired))
        self._fired = self._fired + other._fired

    def result(self) -> DeadResult:
        """Return the counts so far."""
        return DeadResult(self._fired == 0, self._fired.clone())
