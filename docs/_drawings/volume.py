"""The box of one unit in a volume, in three slices through its center."""

import torch
from look import ORANGE, make_figure
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

import spatialprobe as sp

SIZE, UNIT = 48, (5, 6, 4)


def make_volume() -> torch.Tensor:
    """Return a shell with three balls in it, and some noise."""
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 3, indexing="ij")
    volume = 0.5 * ((z**2 + y**2 + 1.3 * x**2).sqrt() - 0.75).abs().lt(0.07).float()
    for center, radius in (((-0.1, 0.1, -0.2), 0.25), ((0.3, -0.3, 0.2), 0.18), ((0.1, 0.4, 0.25), 0.14)):
        distance = sum((axis - one) ** 2 for axis, one in zip((z, y, x), center, strict=True))
        volume = volume.maximum(torch.exp(-distance / radius**2))
    return volume + 0.05 * torch.randn(SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def draw() -> Figure:
    """Return three slices, with the part of the box that lies in each."""
    model = nn.Sequential(nn.Conv3d(1, 4, 3, 2), nn.ReLU(), nn.Conv3d(4, 4, 3, 2), nn.ReLU())
    field = sp.receptive_fields(model, (1, 1, SIZE, SIZE, SIZE))["2"]
    box = field.box(*UNIT)
    middle = [(low + high) // 2 for low, high in zip(box.start, box.stop, strict=True)]
    volume = make_volume()
    figure = make_figure(8, 3.5)
    names = "zyx"
    for axis, axes in enumerate(figure.subplots(1, 3)):
        rows, columns = (one for one in range(3) if one != axis)
        axes.imshow(volume.select(axis, middle[axis]).numpy(), cmap="gray", vmin=0, vmax=1)
        place = (box.start[columns] - 0.5, box.start[rows] - 0.5)
        extent = (box.stop[columns] - box.start[columns], box.stop[rows] - box.start[rows])
        axes.add_patch(Rectangle(place, *extent, fill=False, edgecolor=ORANGE, linewidth=2.5))
        axes.set_title(f"slice {names[axis]} = {middle[axis]}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(names[columns], fontsize=9)
        axes.set_ylabel(names[rows], fontsize=9)
    figure.suptitle(f"unit {UNIT} sees {' × '.join(map(str, field.size))} voxels", fontsize=10)
    return figure
