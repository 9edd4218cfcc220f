"""The reference SimpleCNN of the study, its deeper relatives, and a network without convolutions as a control."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


class SimpleCNN(nn.Module):
    """A CNN of two convolutions, each with ReLU and 2 x 2 max-pooling, and two fully connected layers.

    Takes images (N, 3, 32, 32) in [0, 1] and returns logits (N, classes). It does nothing to save its feature
    maps: spatialprobe takes them from outside.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 12, 3, padding=1)
        self.fc1 = nn.Linear(12 * 8 * 8, 120)
        self.fc2 = nn.Linear(120, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


class DeepCNN(nn.Module):
    """A SimpleCNN of any depth: `depth` convolutions conv1, conv2, ...; max-pooling after the first two only.

    The channels double from layer to layer up to 48, and the head stays that of the SimpleCNN, so that depth 2 is
    the SimpleCNN itself and every depth ends in maps of 8 x 8 (of 16 x 16 for depth 1). Beyond depth 2 the kernels
    begin as in He et al. 2015: from torch's own beginning each layer shrinks its input, and six of them leave so
    little of the image that training under the reference procedure does not set in.
    """

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is the number of convolutions and must be at least 1, not {depth}.")
        channels = [3, *(min(6 * 2**level, 48) for level in range(depth))]
        for number, (before, after) in enumerate(pairwise(channels), start=1):
            convolution = nn.Conv2d(before, after, 3, padding=1)
            if depth > 2:
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                nn.init.zeros_(convolution.get_parameter("bias"))
            self.add_module(f"conv{number}", convolution)
        side = 32 // 2 ** min(depth, 2)
        self.depth = depth
        self.fc1 = nn.Linear(channels[-1] * side * side, 120)
        self.fc2 = nn.Linear(120, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images
        for number in range(1, self.depth + 1):
            x = F.relu(self.get_submodule(f"conv{number}")(x))
            if number <= 2:
                x = F.max_pool2d(x, 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


class MLP(nn.Module):
    """A network with one hidden layer of fully connected units: about as many weights as the SimpleCNN.

    Takes images (N, 3, 32, 32) in [0, 1], which it centers: without that, its units die in the first steps.
    """

    def __init__(self, classes: int = 10, hidden: int = 30) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3 * 32 * 32, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(images.flatten(1) - 0.5)))
