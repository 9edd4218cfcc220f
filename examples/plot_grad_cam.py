"""Grad-CAM in ten lines: where did the network look when it chose its answer?

    python examples/plot_grad_cam.py

The activation and its gradient come from one record; the rest is the formula of Selvaraju et al. 2017: each channel
weighs as much as its mean gradient, and what is positive in the weighted sum spoke for the answer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from data import load
from matplotlib.figure import Figure
from simple_cnn import SimpleCNN
from torch import nn
from training import as_input, train

import spatialprobe as sp


def grad_cam(model: nn.Module, images: torch.Tensor, layer: str) -> torch.Tensor:
    """How much each place of the image speaks for the model's answer, (N, H, W), at least 0."""
    with sp.Probe(model, layer, at="post_activation", gradients=True) as probe:
        logits = model(images)
    logits.max(dim=1).values.sum().backward()
    record = probe[layer]
    weights = record.gradient.mean(dim=(2, 3), keepdim=True)
    cam = (weights * record.tensor).sum(dim=1, keepdim=True).relu()
    return F.interpolate(cam, images.shape[2:], mode="bilinear")[:, 0]


def main(arguments: list[str] | None = None) -> None:
    """Train a SimpleCNN on drawn patterns, and show eight test images with what spoke for the answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("grad_cam.png"))
    parser.add_argument("--limit", type=int, help="train on at most so many images")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data, model = load(limit=options.limit), SimpleCNN()
    train(model, data.train_images, data.train_labels, epochs=2, seed=0)
    shown = data.test_images[:8]
    cams = grad_cam(model.eval(), as_input(shown, torch.device("cpu")), "conv2")
    answers = model(as_input(shown, torch.device("cpu"))).argmax(1)
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for column, (above, below) in enumerate(figure.subplots(2, 8).T):
        above.imshow(shown[column].permute(1, 2, 0).numpy())
        above.set_title(f"{data.classes[data.test_labels[column]]}\n-> {data.classes[answers[column]]}", fontsize=8)
        below.imshow(shown[column].float().mean(0).numpy(), cmap="gray")
        below.imshow(cams[column].detach().numpy(), cmap="viridis", alpha=0.6)
        above.set_axis_off()
        below.set_axis_off()
    figure.suptitle(f"Grad-CAM of conv2 on {data.name}: the class -> the answer; each map on a scale of its own")
    figure.savefig(options.out)
    print(options.out)


if __name__ == "__main__":
    main()
