"""The channels of a layer of one model beside those of its namesake in another."""

from __future__ import annotations

import torch

from spatialprobe.comparison.matching import match_channels
from spatialprobe.comparison.result import ChannelComparison
from spatialprobe.comparison.rows import Rows, scale

_SMALL = 16  # units: of smaller maps all samples are one product, which is faster than one for each sample (measured)
_NOISE = 8  # a channel whose deviation is at most this many rounding errors of its mean is constant


class ChannelSums:
    """Sums over all samples and units of the channels of two layers, in float64, joined as in `Moments`."""

    def __init__(self) -> None:
        self._start(0)

    def _start(self, channels: int) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device="cpu")

        self._count, self._precision = 0, 0.0
        self._mean, self._other_mean = zeros(channels), zeros(channels)
        self._squares, self._other_squares = zeros(channels), zeros(channels)  # of deviations from the mean
        self._products = zeros(channels, channels)  # of deviations of a channel of one and a channel of the other
        self._differences = zeros(channels)  # squared, of namesakes

    def add(self, one: Rows, other: Rows) -> None:
        """Add one run of both layers on a batch; both have the same shape."""
        n, c, length = one.centered.shape
        if not len(self._mean):
            self._start(c)
        other = other.to(one.centered.device)
        mean, other_mean = one.mean.mean(dim=1), other.mean.mean(dim=1)
        between, other_between = one.mean - mean[:, None], other.mean - other_mean[:, None]
        squares = one.squares + n * between.square().sum(dim=1)
        other_squares = other.squares + n * other_between.square().sum(dim=1)
        products = _cross_products(one, other) + n * (between @ other_between.T)
        differences = _squared_differences(one, other) + n * (one.mean - other.mean).square().sum(dim=1)
        self._precision = max(self._precision, one.precision, other.precision)
        self._differences += differences.cpu()
        self._join(n * length, mean, other_mean, squares, other_squares, products)

    def merge(self, other: ChannelSums) -> None:
        """Add the values that another process has seen."""
        if not other._count:
            return
        if not len(self._mean):
            self._start(len(other._mean))
        self._precision = max(self._precision, other._precision)
        self._differences += other._differences
        self._join(
            other._count,
            other._mean,
            other._other_mean,
            other._squares,
            other._other_squares,
            other._products,
        )

    def _join(self, count: int, *parts: torch.Tensor) -> None:
        """Apply Chan's update by a part with this count, means, squares and products."""
        mean, other_mean, squares, other_squares, products = (part.cpu() for part in parts)
        total = self._count + count
        apart, other_apart = mean - self._mean, other_mean - self._other_mean
        weight = self._count * (count / total)
        self._mean += apart * (count / total)
        self._other_mean += other_apart * (count / total)
        self._squares += squares + apart.square() * weight
        self._other_squares += other_squares + other_apart.square() * weight
        self._products += products
        self._products.addr_(apart, other_apart, alpha=weight)
        self._count = total

    @property
    def is_empty(self) -> bool:
        """Whether no values have been added."""
        return not self._count

    def result(self, layer: str) -> ChannelComparison:
        """Return the comparison of the channels so far."""
        std, other_std = (
            self._deviation(squares, mean)
            for squares, mean in ((self._squares, self._mean), (self._other_squares, self._other_mean))
        )
        scales = std[:, None] * other_std[None, :] * self._count
        matrix = torch.where(scales > 0, self._products / scales, 0.0).clamp(-1, 1)
        match, matched_by = match_channels(matrix)
        distance = (self._differences / max(self._count, 1)).sqrt()
        return ChannelComparison(
            layer=layer,
            count=self._count,
            correlation=matrix.diagonal().clone(),
            match=match,
            match_correlation=matrix.gather(1, match[:, None])[:, 0],
            matched_by=matched_by,
            drift=torch.where(distance > 0, distance / std, 0.0),
            mean=self._mean.clone(),
            other_mean=self._other_mean.clone(),
            std=std,
            other_std=other_std,
        )

    def _deviation(self, squares: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """Return the standard deviations, 0 where they are no more than rounding errors of the mean."""
        std = (squares / max(self._count, 1)).sqrt()
        return torch.where(std > _NOISE * self._precision * mean.abs(), std, 0.0)


def _cross_products(one: Rows, other: Rows) -> torch.Tensor:
    """Return the sums over samples and units of the products of all pairs of channels, float64 (C, C)."""
    dtype = torch.promote_types(one.centered.dtype, other.centered.dtype)
    first, second = one.centered.to(dtype), other.centered.to(dtype)
    _, c, length = first.shape
    if length < _SMALL:
        products = first.transpose(0, 1).reshape(c, -1) @ second.transpose(0, 1).reshape(c, -1).T
    else:
        products = torch.addbmm(first.new_zeros(c, c), first, second.transpose(1, 2))
    return scale(products.double(), one.exponent + other.exponent)


def _squared_differences(one: Rows, other: Rows) -> torch.Tensor:
    """Return the sums over samples and units of the squared differences of namesakes, float64 (C,)."""
    if one.centered is other.centered:
        return torch.zeros_like(one.squares)
    first, second, exponent = one.centered, other.centered, max(one.exponent, other.exponent)
    if one.exponent != other.exponent:
        first, second = scale(first, one.exponent - exponent), scale(second, other.exponent - exponent)
    found = torch.zeros_like(one.squares)
    for mine, theirs in zip(first, second, strict=True):  # by sample, so that the difference stays in the cache
        norms: torch.Tensor = torch.linalg.vector_norm(mine - theirs, dim=1)
        found += norms.double().square_()
    return scale(found, 2 * exponent)
