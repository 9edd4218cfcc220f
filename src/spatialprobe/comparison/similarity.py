"""The similarity of layers as centered kernel alignment, estimated without bias from batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_GROUPS = 64  # of batches, of which the jackknife leaves out one at a time


def unbiased_center(gram: torch.Tensor) -> torch.Tensor:
    """Return the entries above the diagonal of a Gram matrix (N, N), centered without the diagonal: (N (N - 1) / 2,).

    The products of two such vectors, summed, are N (N - 3) / 2 times the unbiased estimate of the Hilbert-Schmidt
    independence criterion of [Song et al. 2012, eq. 5], in the form of [Székely and Rizzo 2014, eq. 3.1].

    >>> rows = torch.tensor([[0.0], [1.0], [0.0], [3.0]], dtype=torch.float64)
    >>> unbiased_center(rows @ rows.T)
    tensor([-0.5000,  1.0000, -0.5000, -0.5000,  1.0000, -0.5000],
           dtype=torch.float64)
    """
    n = len(gram)
    gram = gram.clone().fill_diagonal_(0)
    sums = gram.sum(dim=1) / (n - 2)
    centered = gram - sums[:, None] - sums[None, :] + sums.sum() / (n - 1)
    above = torch.triu_indices(n, n, 1, device="cpu")
    return centered[above[0], above[1]]


class SimilaritySums:
    """Sums over batches from which the similarity of each layer of one model with each of another follows.

    Batches are summed in 64 groups, which the standard error needs; up to 64 batches each has a group of its own.

    Args:
        layers: the number of layers of one model.
        others: that of the other.
    """

    def __init__(self, layers: int, others: int) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(_GROUPS, *shape, dtype=torch.float64, device="cpu")

        self._products = zeros(layers, others)
        self._squares, self._other_squares = zeros(layers), zeros(others)
        self._batches = zeros()

    def add(self, number: int, ones: Sequence[torch.Tensor | None], others: Sequence[torch.Tensor | None]) -> None:
        """Add a batch.

        Args:
            number: of the batch, over all processes.
            ones: for each layer the Gram matrix of its samples, centered by `unbiased_center`; None if left out.
            others: the same for the layers of the other model.
        """
        group = number % _GROUPS
        mine, theirs = _stack(ones), _stack(others)
        self._products[group] += mine @ theirs.T
        self._squares[group] += mine.square().sum(dim=1)
        self._other_squares[group] += theirs.square().sum(dim=1)
        self._batches[group] += 1

    def merge(self, other: SimilaritySums) -> None:
        """Add the batches of another process."""
        for name, mine in vars(self).items():
            mine += vars(other)[name]

    def is_finite(self) -> bool:
        """Return whether no sum has overflowed."""
        return all(bool(sums.isfinite().all()) for sums in vars(self).values())

    def constant(self) -> tuple[list[bool], list[bool]]:
        """Return which layers of each model were the same for all samples of every batch."""
        one, other = ((sums.sum(dim=0) == 0).tolist() for sums in (self._squares, self._other_squares))
        return one, other

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the similarities and their standard errors, both (layers, others).

        The errors are those of the jackknife over groups of batches; NaN for a single one.
        """
        filled = self._batches > 0
        parts = [sums[filled] for sums in (self._products, self._squares, self._other_squares)]
        whole = [part.sum(dim=0) for part in parts]
        cka, m = _align(*whole), int(filled.sum())
        if m < 2:
            return cka, torch.full_like(cka, torch.nan)
        left = torch.stack(
            [_align(*(sums - part[i] for sums, part in zip(whole, parts, strict=True))) for i in range(m)]
        )
        return cka, (left - left.mean(dim=0)).square().sum(dim=0).mul((m - 1) / m).sqrt()


def _align(products: torch.Tensor, squares: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return products normalized by squares; 0 where a layer is constant."""
    scale = squares.clamp(min=0).sqrt()[:, None] * others.clamp(min=0).sqrt()[None, :]
    return torch.where(scale > 0, products / scale, 0.0)


def _stack(vectors: Sequence[torch.Tensor | None]) -> torch.Tensor:
    length = next((len(vector) for vector in vectors if vector is not None), 0)
    return torch.stack(
        [torch.zeros(length, dtype=torch.float64, device="cpu") if vector is None else vector for vector in vectors]
    )
