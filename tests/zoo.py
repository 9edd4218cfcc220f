"""Small models, each with a trait that breaks other tools, on which every part of the library is tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Specimen:
    """A model factory, and the shape of the model's input."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of the input, batch included

    def model(self, seed: int = 0) -> nn.Module:
        """Return the model in evaluation mode, with weights drawn from the seed."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.make().eval()

    def images(self, seed: int = 1) -> torch.Tensor:
        """Return an input drawn from the seed."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(seed))


class Chain(nn.Module):
    """A chain of a convolution, a ReLU module, a pool, a convolution and an in-place ReLU module."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 5, 3)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu2(self.conv2(self.pool(self.relu1(self.conv1(x)))))


class Residual(nn.Module):
    """A residual block: two convolutions with batch norms, added to the input out of place."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(3)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + x)


class InPlaceResidual(Residual):
    """A residual block whose sum modifies the second batch norm's output in place, as in torchvision's ResNets."""

    def forward(self, x):
        y = self.norm1(self.conv1(x)).relu_()
        y = self.norm2(self.conv2(y))
        y += x
        return y.relu_()


class Concat(nn.Module):
    """Three branches of different depth, concatenated along the channels."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Conv2d(3, 2, 1)
        self.wide = nn.Conv2d(3, 3, 5, padding=2)
        self.deep = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
        self.join = nn.Conv2d(7, 4, 1)

    def forward(self, x):
        return self.join(torch.cat([self.narrow(x), self.wide(x), self.deep(x)], dim=1))


class Shared(nn.Module):
    """One convolution that runs twice and is registered under two names."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.again = self.conv

    def forward(self, x):
        return self.again(F.relu(self.conv(x)))


class Functional(nn.Module):
    """A model with functions, rather than modules, between its convolutions."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = F.avg_pool2d(F.relu(self.conv1(x), inplace=True), 2)
        return torch.sigmoid(self.conv2(x))


class Branching(nn.Module):
    """A block that returns a tuple, inside a model that returns a tensor."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            y = self.conv(x)
            return y, {"mean": y.mean(dim=(2, 3)), "note": "no tensor"}

    def __init__(self):
        super().__init__()
        self.block = self.Block()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(F.relu(self.block(x)[1]["mean"]))


ZOO = {
    "chain": Specimen(Chain, (2, 3, 12, 12)),
    "residual": Specimen(Residual, (2, 3, 8, 8)),
    "in-place": Specimen(InPlaceResidual, (2, 3, 8, 8)),
    "concat": Specimen(Concat, (2, 3, 9, 9)),
    "strided": Specimen(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, padding=1)),
        (2, 3, 17, 17),
    ),
    "dilated": Specimen(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2), nn.ReLU(), nn.Conv2d(4, 4, 3, dilation=3)),
        (2, 3, 16, 16),
    ),
    "asymmetric": Specimen(
        lambda: nn.Sequential(nn.Conv2d(3, 4, (1, 5), padding=(0, 2)), nn.ReLU(), nn.Conv2d(4, 4, (3, 1))),
        (2, 3, 10, 14),
    ),
    "grouped": Specimen(
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=4), nn.ReLU(), nn.ChannelShuffle(4), nn.Conv2d(8, 4, 3, groups=2)
        ),
        (2, 4, 10, 10),
    ),
    "shared": Specimen(Shared, (2, 3, 8, 8)),
    "functional": Specimen(Functional, (2, 3, 12, 12)),
    "tuple": Specimen(Branching, (2, 3, 6, 6)),
    "1-d": Specimen(lambda: nn.Sequential(nn.Conv1d(2, 4, 5), nn.ReLU(), nn.Conv1d(4, 3, 3)), (2, 2, 20)),
    "3-d": Specimen(lambda: nn.Sequential(nn.Conv3d(1, 3, 3), nn.ReLU(), nn.Conv3d(3, 2, 2)), (2, 1, 6, 7, 8)),
    "transposed": Specimen(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, stride=2)),
        (2, 3, 8, 8),
    ),
}

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
