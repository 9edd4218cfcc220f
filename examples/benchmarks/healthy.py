"""Healthy networks of many kinds, trained for a moment on stripes, and the images that they were trained on.

A checkup gives them no error and no warning, as the tests say, and the benchmark measures how far they stay from the
limits of its rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

STEPS = 40


def stripes(axes: int = 2, size: int = 16, count: int = 128, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images with a wave along a direction and a phase of their own, and whether it runs along the last axis."""
    generator = torch.Generator().manual_seed(7)
    grids = torch.meshgrid(*[torch.arange(size, dtype=torch.float32)] * axes, indexing="ij")
    turned = torch.arange(count) % 2
    place = torch.stack([grids[-1] if one else grids[0] for one in turned.tolist()])
    rest = (count, *[1] * axes)
    frequency = torch.rand(rest, generator=generator) * 0.6 + (0.5 if axes > 1 else 0.3 + 0.7 * turned.view(rest))
    wave = torch.sin(place * frequency + torch.rand(rest, generator=generator) * 6.3)
    tint = torch.rand(count, channels, *[1] * axes, generator=generator) * 2 - 1
    noise = 0.3 * torch.randn(count, channels, *[size] * axes, generator=generator)
    return wave.unsqueeze(1) * (0.5 + tint) + noise, turned


class Head(nn.Module):
    """A body, the mean over its maps, and a linear classifier."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body, self.linear = body, nn.Linear(channels, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.linear(self.body(x).flatten(2).mean(2))
        return value


class Residual(nn.Module):
    """Two convolutions, whose output is added to what they take."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + x)
        return value


class Branches(nn.Module):
    """Kernels of three sizes side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.three, self.five = (nn.Conv2d(8, 6, size, padding=size // 2) for size in (1, 3, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = F.relu(torch.cat([self.one(x), self.three(x), self.five(x)], 1))
        return value


class SqueezeExcite(nn.Module):
    """A gate for each channel, from the means over the maps."""

    def __init__(self, channels: int, active: type[nn.Module] = nn.SiLU) -> None:
        super().__init__()
        self.fc1, self.fc2, self.gate = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1), nn.Sigmoid()
        self.active = active()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = x * self.gate(self.fc2(self.active(self.fc1(x.mean((2, 3), keepdim=True)))))
        return value


class Bottleneck(nn.Module):
    """A residual bottleneck with a gate, as in SE-ResNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        layers = [*conv(channels, half, 1, bias=False), *conv(half, half, padding=1, bias=False)]
        layers += [nn.Conv2d(half, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.branch, self.gate = nn.Sequential(*layers), SqueezeExcite(channels, nn.ReLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.gate(self.branch(x)))


class Decoder(nn.Module):
    """A small U-Net, which returns an image between 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 4, stride=2, padding=1)
        self.up, self.out = nn.ConvTranspose2d(12, 8, 4, stride=2, padding=1), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = F.leaky_relu(self.down1(x), 0.1)
        up = F.leaky_relu(self.up(F.leaky_relu(self.down2(wide), 0.1)), 0.1)
        return torch.sigmoid(self.out(torch.cat([up, wide], 1)))


def conv(
    inputs: int,
    outputs: int,
    size: int = 3,
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    active: type[nn.Module] = nn.ReLU,
    **options: Any,
) -> list[nn.Module]:
    """Return a convolution with its norm and nonlinearity."""
    return [nn.Conv2d(inputs, outputs, size, **options), *([norm(outputs)] if norm else []), active()]


def separable(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """Return a depthwise and a pointwise convolution."""
    return [
        *conv(inputs, inputs, active=nn.ReLU6, groups=inputs, padding=1, stride=stride, bias=False),
        *conv(inputs, outputs, 1, active=nn.ReLU6, bias=False),
    ]


def group_norm(channels: int) -> nn.Module:
    """Return a norm over four groups of channels."""
    return nn.GroupNorm(4, channels)


def initialize_by_he(model: nn.Module) -> nn.Module:
    """Return a network initialized for ReLU [He et al. 2015]; torch's own initialization begins with dead channels."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


PLAIN: dict[str, Any] = {"norm": None, "padding": 1}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Head(nn.Sequential(*conv(3, 8, **PLAIN), nn.MaxPool2d(2), *conv(8, 16, **PLAIN)), 16),
    "batch norm": lambda: Head(nn.Sequential(*conv(3, 8, padding=1), nn.AvgPool2d(2), *conv(8, 16, padding=1)), 16),
    "residual": lambda: Head(nn.Sequential(*conv(3, 8, padding=1), Residual(8), nn.MaxPool2d(2), Residual(8)), 8),
    "depthwise": lambda: Head(nn.Sequential(*conv(3, 8, padding=1), *separable(8, 16, 2), *separable(16, 16)), 16),
    "dilated": lambda: Head(
        nn.Sequential(*conv(3, 8), *conv(8, 8, dilation=2, padding=2), *conv(8, 8, dilation=4, padding=4)), 8
    ),
    "branches": lambda: Head(
        nn.Sequential(*conv(3, 8, **PLAIN), Branches(), nn.MaxPool2d(2), *conv(18, 8, **PLAIN)), 8
    ),
    "tanh": lambda: Head(
        nn.Sequential(*conv(3, 8, 5, None, nn.Tanh), nn.AvgPool2d(2), *conv(8, 12, 3, None, nn.Tanh)), 12
    ),
    "gelu": lambda: Head(
        nn.Sequential(*conv(3, 8, norm=group_norm, active=nn.GELU), *conv(8, 8, norm=group_norm, active=nn.GELU)), 8
    ),
    "gates": lambda: Head(
        nn.Sequential(*conv(3, 8, active=nn.SiLU), SqueezeExcite(8), *conv(8, 8, stride=2, padding=1)), 8
    ),
    "gated bottlenecks": lambda: initialize_by_he(
        Head(nn.Sequential(*conv(3, 16, padding=1), Bottleneck(16), nn.MaxPool2d(2), Bottleneck(16)), 16)
    ),
    "unnormalized": lambda: initialize_by_he(
        Head(
            nn.Sequential(
                *(*conv(3, 8, **PLAIN), *conv(8, 8, **PLAIN), nn.MaxPool2d(2)),
                *(*conv(8, 16, **PLAIN), *conv(16, 16, **PLAIN), nn.MaxPool2d(2)),
                *conv(16, 16, **PLAIN),
            ),
            16,
        )
    ),
    "strided": lambda: Head(
        nn.Sequential(*conv(3, 8, 4, stride=2, padding=1), *conv(8, 16, 4, stride=2, padding=1)), 16
    ),
    "decoder": Decoder,
    "1-D": lambda: Head(
        nn.Sequential(
            nn.Conv1d(3, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 5, stride=2), nn.ReLU()
        ),
        8,
    ),
    "3-D": lambda: Head(
        nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(8, 8, 3)),
        8,
    ),
}
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


def train(
    name: str, *, seed: int = 3, padding_mode: Literal["zeros", "reflect"] = "zeros"
) -> tuple[nn.Module, torch.Tensor]:
    """Return a network after some steps of training, in evaluation mode, and its images."""
    axes = {"1-D": 1, "3-D": 3}.get(name, 2)
    images, labels = stripes(axes, size={1: 48, 2: 16, 3: 8}[axes])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NETWORKS[name]()
        for module in model.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                module.padding_mode = padding_mode
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for step in range(STEPS):
            batch = torch.arange(step * 32, step * 32 + 32) % len(images)
            output = model(images[batch])
            wanted = (images[batch] > 0).float() if output.shape == images[batch].shape else labels[batch]
            loss = F.mse_loss(output, wanted) if wanted.is_floating_point() else F.cross_entropy(output, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval(), images
