"""What a checkup costs beside a plain evaluation loop over the same images, and what of it does not grow with them.

ResNet-18 has the 3 x 3 stem that it is given for images of 32 x 32 pixels. The second table repeats the measurements
from which limits of rules are taken: how far rounding, other sizes of a batch, and dropout move the values of layers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from benchmarks.method import Figure, Table, paired
from torch import nn

import spatialprobe as sp

BATCH = 64


def measure(quick: bool) -> Iterator[Table]:
    """The cost on ResNet-18 at CIFAR size; then how far values move."""
    torch.set_num_threads(1)
    model = make_model()
    count, rounds = (128, 2) if quick else (1024, 6)
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def evaluate() -> None:
        for some in images.split(BATCH):
            model(some)

    def check(some: torch.Tensor) -> object:
        return sp.checkup(model, some, batch_size=BATCH, progress=False)

    check(images[:2])
    whole, few = f"checkup of {count} images", "checkup of 16 images"
    contestants = {whole: lambda: check(images), few: lambda: check(images[:16])}
    figures = paired(evaluate, contestants, rounds)
    yield Table(
        f"all rules on ResNet-18 at CIFAR size, {count} images",
        "times a plain evaluation loop over all images",
        tuple(figures),
        bound="The second row is what does not grow with the data: fields, and passes on the first 16 samples.",
    )
    yield changes(model, images[:16])


def make_model() -> nn.Module:
    """Return ResNet-18 for small images, with random weights."""
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet18(weights=None, num_classes=10)
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model.eval()


@torch.no_grad()
def changes(model: nn.Module, images: torch.Tensor) -> Table:
    """How far the output moves, relative to its norm: by the size of a batch, and by dropout of 1 % before layer 4."""
    whole = model(images)
    half = model(images[: len(images) // 2])
    rounding = (whole[: len(half)] - half).norm(dim=1) / half.norm(dim=1)
    layer = model.get_submodule("layer3")
    hook = layer.register_forward_hook(lambda module, args, output: torch.dropout(output, 0.01, True))
    dropped = (model(images) - whole).norm(dim=1) / whole.norm(dim=1)
    hook.remove()
    return Table(
        "how far the output of ResNet-18 moves",
        "of its norm, over 16 images",
        (
            Figure.of("half of the batch alone", rounding.tolist()),
            Figure.of("dropout of 1 % of the values of one layer", dropped.tolist()),
        ),
        bound="The limit of `nondeterministic` and `batch_mixing` is 0.01.",
    )
