"""One channel of one photo, recorded from the same network as libraries wrap and convert it."""

from collections.abc import Callable

import torch
from look import make_figure
from matplotlib.figure import Figure
from torch import nn
from torch.utils.checkpoint import checkpoint

import spatialprobe as sp

LAYER, CHANNEL = "conv2", 6


class Recomputing(nn.Module):
    """A network whose activations are recomputed in the backward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the network returns."""
        return checkpoint(self.model, images, use_reentrant=False)


def record(model: nn.Module, photo: torch.Tensor) -> torch.Tensor:
    """Return the map of the channel, as float32."""
    with torch.no_grad(), sp.Probe(model, f"*{LAYER}", at="post_activation") as probe:
        model(photo[None])
    return next(iter(probe.values())).tensor[0, CHANNEL].float()


def draw() -> Figure:
    """Return a map for each, with its largest difference from the plain one, as a share of its largest value."""
    photo = sp.examples.load_photo(160)
    plain = record(sp.examples.load_network(), photo)
    wrap: dict[str, Callable[[nn.Module], nn.Module]] = {
        "the plain model": lambda model: model,
        "torch.compile": torch.compile,
        "checkpointing": Recomputing,
        "channels_last": lambda model: model.to(memory_format=torch.channels_last),
        "bfloat16": lambda model: model.bfloat16(),
    }
    figure = make_figure(9, 2.3)
    for axes, (name, made) in zip(figure.subplots(1, len(wrap)), wrap.items(), strict=True):
        seen = record(made(sp.examples.load_network()), photo.bfloat16() if name == "bfloat16" else photo)
        difference = float((seen - plain).abs().max() / plain.max())
        axes.imshow(seen.numpy(), cmap="viridis", vmin=0, vmax=float(plain.quantile(0.995)))
        equal = "equal" if difference < 1e-5 else f"within {difference:.1%}"
        axes.set_title(name if name == "the plain model" else f"{name}: {equal}", fontsize=9)
        axes.set_axis_off()
    return figure
