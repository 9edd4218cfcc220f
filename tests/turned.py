"""Small channels-last models, and a wrapper that also outputs a layer's output permuted to channels-first."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.convnext import CNBlock
from torchvision.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torchvision.models.vision_transformer import VisionTransformer
from torchvision.ops import Permute


class Mixer(nn.Module):
    """A block as in a MetaFormer, without a layer norm: pools (N, H, W, C), then maps the channels linearly."""

    def __init__(self, channels):
        super().__init__()
        self.pool, self.map = nn.AvgPool2d(3, 1, 1), nn.Linear(channels, channels)

    def forward(self, x):
        return x + torch.relu(self.map(self.pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))


class Tokens(nn.Module):
    """Patches as tokens (N, tokens, C) after a class token."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6)
        self.token = nn.Parameter(torch.ones(1, 1, 6))

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.norm(torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1))


def volume():
    """Return a channels-last network over volumes, whose units lie along three axes."""
    return nn.Sequential(nn.Conv3d(3, 6, 4, stride=4), Permute([0, 2, 3, 4, 1]), nn.LayerNorm(6), nn.Linear(6, 5))


def waves():
    """Return a network over signals of one axis, (N, L, C)."""
    return nn.Sequential(nn.Conv1d(3, 6, 4, stride=2), Permute([0, 2, 1]), nn.LayerNorm(6), nn.Linear(6, 5))


def swin():
    """Return a Swin stage: window-attention blocks on 8 x 8 units, then a patch merging to 4 x 4."""
    block = {"window_size": [4, 4], "num_heads": 2}
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4),
        Permute([0, 2, 3, 1]),
        nn.LayerNorm(8),
        SwinTransformerBlock(8, shift_size=[0, 0], **block),
        SwinTransformerBlock(8, shift_size=[2, 2], **block),
        PatchMerging(8),
    )


def mixer():
    """Return a channels-last network without any layer norm."""
    return nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), Permute([0, 2, 3, 1]), Mixer(6), nn.Identity(), Mixer(6))


# A model, its input shape, and its channels-last layers.
TURNED = {
    "swin": (swin, (2, 3, 32, 32), ("1", "2", "3", "4", "5")),
    "mixer": (mixer, (2, 3, 32, 40), ("1", "2", "3", "4", "4.map")),
    "convnext": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), CNBlock(6, 1.0, 0.0)),
        (2, 3, 32, 40),
        ("1.block.3",),
    ),
    "volume": (volume, (2, 3, 8, 12, 16), ("1", "2", "3")),
    "waves": (waves, (2, 3, 32), ("1", "2", "3")),
    "tokens": (lambda: nn.Sequential(Tokens()), (2, 3, 16, 24), ("0", "0.norm")),
}


def vit():
    """Return a small ViT, whose attention mixes all tokens."""
    return VisionTransformer(32, 8, 2, 2, 12, 24, num_classes=5)


def turn(name, output):
    """Return an output of a layer of this model as (N, C, *units), by hand."""
    return output[:, 1:].reshape(-1, 4, 6, 6).permute(0, 3, 1, 2) if name == "tokens" else output.movedim(-1, 1)


class Permuted(nn.Module):
    """A model that also passes one layer's output, permuted to (N, C, *units), through a module of its own."""

    def __init__(self, model, layer, turn=lambda output: output.movedim(-1, 1)):
        super().__init__()
        self.model, self.turned, self.layer, self.turn = model, nn.Identity(), layer, turn

    def forward(self, x):
        found = []
        module = self.model.get_submodule(self.layer)
        handle = module.register_forward_hook(lambda _, __, output: found.append(output))
        try:
            output = self.model(x)
        finally:
            handle.remove()
        self.turned(self.turn(found[0]))
        return output


def made(name):
    """Return the model with this name, with weights from a seed, an input, and its channels-last layers."""
    make, shape, layers = TURNED[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval(), torch.rand(shape), layers
