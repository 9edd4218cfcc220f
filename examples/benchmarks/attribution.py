"""What attributions cost: of all convolutions beside one forward and backward pass, and of 64 channels removed.

The yardstick of the first table is what one would write for a single map: a forward and a backward pass that leaves
gradients in the parameters. captum attributes one layer a call, so that it runs once for each convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from benchmarks.method import Table, paired
from torch import nn

import spatialprobe as sp

CHANNELS = 64  # of the layer that loses each of its channels
CLASS = 3


def measure(quick: bool) -> Iterator[Table]:
    """ResNet-18: one pass for all convolutions, then one layer by ablation."""
    from torchvision.models import resnet18

    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet18(weights=None).eval()
    count, side, rounds = (2, 96, 5) if quick else (4, 224, 15)
    images = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    yield of_all_layers(model, images, rounds)
    yield by_ablation(model, images, rounds)


def of_all_layers(model: nn.Module, images: torch.Tensor, rounds: int) -> Table:
    """All convolutions in one pass, beside one forward and backward pass; captum beside it."""

    def both() -> None:
        model(images)[:, CLASS].sum().backward()
        model.zero_grad()

    def attribute(**options: Any) -> Callable[[], object]:
        return lambda: sp.attribute(model, images, CLASS, **options)

    contestants = {
        "gradient_x_activation, after the nonlinearity": attribute(),
        "grad_cam, after the nonlinearity": attribute(method="grad_cam"),
        "gradient_x_activation, of outputs": attribute(at="output"),
    }
    missing: tuple[str, ...] = ("captum",)
    if find_spec("captum") is not None:
        from captum.attr import LayerGradientXActivation

        layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]

        def captum() -> None:
            for layer in layers:
                LayerGradientXActivation(model, layer).attribute(images, CLASS)

        contestants[f"captum, {len(layers)} calls"], missing = captum, ()
    figures = paired(both, contestants, rounds)
    return Table(
        f"attribution of all convolutions of ResNet-18, {len(images)} images of {images.shape[-1]} pixels",
        "times one forward and backward",
        tuple(figures),
        missing,
    )


def by_ablation(model: nn.Module, images: torch.Tensor, rounds: int) -> Table:
    """Each of 64 channels removed, beside a loop of forward passes with a hook that sets one channel to zero."""
    layer = model.get_submodule("layer1.1.conv2")
    assert isinstance(layer, nn.Conv2d)
    assert layer.out_channels == CHANNELS

    @torch.no_grad()
    def loop() -> None:
        whole = model(images)[:, CLASS]
        for channel in range(CHANNELS):

            def remove(module: nn.Module, inputs: object, output: torch.Tensor, channel: int = channel) -> torch.Tensor:
                changed = output.clone()
                changed[:, channel] = 0
                return changed

            hook = layer.register_forward_hook(remove)
            whole - model(images)[:, CLASS]
            hook.remove()

    def ours() -> object:
        return sp.attribute(model, images, CLASS, layers="layer1.1.conv2", at="output", method="ablation")

    figures = paired(loop, {"method='ablation'": ours}, max(5, rounds // 3))
    return Table(f"ablation of {CHANNELS} channels of ResNet-18", "times a plain loop", tuple(figures))
