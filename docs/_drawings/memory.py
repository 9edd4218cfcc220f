"""How much each way of the how-to keeps, of a ResNet-18 on a batch of 32 images."""

import torch
from look import DARK, ORANGE, make_figure, strip
from matplotlib.figure import Figure
from torchvision.models import resnet18

import spatialprobe as sp

BATCH = 32


def draw() -> Figure:
    """Return the size of each convolution's output, and the total of each way."""
    model, images = resnet18(weights=None).eval(), torch.rand(1, 3, 224, 224)
    plan = sp.plan(model, images)
    mebibytes = {layer: BATCH * one.nbytes / 2**20 for layer, one in plan.items()}
    channels = sum(BATCH * 2 * one.shape[1] for one in plan.values()) / 2**20  # means over places, in float16
    totals = {
        "all convolutions": sum(mebibytes.values()),
        "dtype=torch.float16": sum(mebibytes.values()) / 2,
        'layers="layer1.*", stop_early=True': sum(mebibytes[one] for one in mebibytes if one.startswith("layer1")),
        'layers="layer4.*"': sum(mebibytes[one] for one in mebibytes if one.startswith("layer4")),
        "transform: means over places, float16": channels,
    }
    figure = make_figure(8.6, 3.1)
    layers, ways = figure.subplots(1, 2)
    layers.bar(range(len(mebibytes)), list(mebibytes.values()), color=DARK)
    layers.set_xticks(range(0, len(mebibytes), 4))
    layers.set_xlabel("convolution, from first to last", fontsize=9)
    layers.set_ylabel("MiB", fontsize=9)
    layers.set_title(f"ResNet-18, {BATCH} images: each output", fontsize=9)
    ways.barh(range(len(totals)), list(totals.values()), 0.42, color=[DARK] + [ORANGE] * (len(totals) - 1))
    for row, (name, value) in enumerate(totals.items()):
        ways.text(0.025, row - 0.37, name, fontsize=8, va="center")
        ways.text(value * 1.15, row, f"{value:.{int(value < 10)}f} MiB", fontsize=8, va="center")
    ways.set_ylim(len(totals) - 0.5, -0.75)
    ways.set_xscale("log")
    ways.set_xlim(0.02, 9000)
    ways.set_yticks([])
    ways.set_title("what is kept", fontsize=9)
    for axes in (layers, ways):
        strip(axes)
    return figure
