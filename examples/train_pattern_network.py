"""Train the network that ships with spatialprobe on the drawn patterns, and write its weights into the package.

    python examples/train_pattern_network.py

It takes two minutes on one core. While it trains, each convolution is followed by a batch norm, so that no channel
dies; afterwards these are folded into the kernels. Every epoch has patterns of its own, drawn from the number of the
epoch, so that none is seen twice; those of `draw_patterns(2000, seed=1)` are never among them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

import spatialprobe as sp
from spatialprobe.examples import PatternNetwork, draw_patterns
from spatialprobe.examples.network import WEIGHTS

EPOCHS, IMAGES, BATCH = 6, 8000, 50
FIRST_SEED = 1000  # of the first epoch's patterns
CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4")
LEARNING_RATE = 1e-2  # at the top of its cycle
HELD_OUT = 1  # the seed of the test patterns


def train(epochs: int = EPOCHS) -> PatternNetwork:
    """Return the trained network, in evaluation mode."""
    model = PatternNetwork()
    torch.manual_seed(0)
    for layer in (model.conv1, model.conv2, model.conv3, model.conv4, model.fc):
        layer.reset_parameters()  # torch's own, as batch norms set the scale
    model = normalized(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * (IMAGES // BATCH))
    for epoch in range(epochs):
        images, labels = draw_patterns(IMAGES, seed=FIRST_SEED + epoch)
        batches = zip(images.split(BATCH), labels.split(BATCH), strict=True)
        for some, answers in tqdm(batches, f"epoch {epoch + 1}/{epochs}", IMAGES // BATCH, leave=False, disable=None):
            optimizer.zero_grad()
            F.cross_entropy(model(some), answers).backward()
            optimizer.step()
            schedule.step()
    return folded(model.eval())


def normalized(model: PatternNetwork) -> PatternNetwork:
    """Return the network with a batch norm behind each convolution; it is changed in place."""
    for name in CONVOLUTIONS:
        convolution = model.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        setattr(model, name, nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels)))
    return model


def folded(model: PatternNetwork) -> PatternNetwork:
    """Return the network with its batch norms folded into the convolutions, for the same logits; changed in place."""
    for name in CONVOLUTIONS:
        convolution, norm = model.get_submodule(name).children()
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        setattr(model, name, fuse_conv_bn_eval(convolution, norm))
    return model


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    """Return the share of right answers on the held-out patterns."""
    images, labels = draw_patterns(2000, seed=HELD_OUT)
    return (model(images).argmax(1) == labels).float().mean().item()


def dead_channels(model: nn.Module) -> dict[str, list[int]]:
    """Return the channels of each convolution that are never above zero on the held-out patterns."""
    images, _ = draw_patterns(2000, seed=HELD_OUT)
    swept = sp.sweep(model, images, {"dead": sp.Dead}, at="post_activation", progress=False)
    return {layer: swept[layer]["dead"].dead.nonzero().flatten().tolist() for layer in swept}


def main() -> None:
    """Train, say how well it does, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default {EPOCHS}")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the file to write (default: in the package)")
    options = parser.parse_args()
    model = train(options.epochs)
    print(f"right answers on held-out patterns: {accuracy(model):.1%}; dead channels: {dead_channels(model)}")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
