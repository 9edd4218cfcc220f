"""What the units of a U-Net's decoder see: by channel, and by their place in a period."""

import torch
from look import CRIMSON, ORANGE, TEAL, make_figure
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

import spatialprobe as sp

SIZE, UNIT = 96, (40, 52)


class SmallUNet(nn.Module):
    """Two scales; the decoder joins the coarse maps, stretched, to the fine ones."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 4, 3, padding=1)
        self.coarse = nn.Sequential(nn.MaxPool2d(8), nn.Conv2d(4, 4, 3, padding=1), nn.Upsample(scale_factor=8))
        self.joined = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the joined maps."""
        fine = self.fine(images)
        joined: torch.Tensor = self.joined(torch.cat([fine, self.coarse(fine)], 1))
        return joined


def draw() -> Figure:
    """Return a photo with the boxes of one unit by channel, and one with those of neighbors of one channel."""
    photo = sp.examples.load_photo(SIZE).permute(1, 2, 0).numpy()
    field = sp.receptive_fields(SmallUNet(), (1, 3, SIZE, SIZE))["joined"]
    by_channel = {"a fine channel": (UNIT, 0, TEAL), "a coarse channel": (UNIT, 4, CRIMSON)}
    by_place = {
        f"column {UNIT[1] + step}": ((UNIT[0], UNIT[1] + step), 4, color)
        for step, color in ((0, CRIMSON), (3, ORANGE), (4, TEAL))
    }
    figure = make_figure(8, 3.9)
    titles = (f"one unit, {UNIT}: by channel", "neighbors of a coarse channel")
    for axes, boxes, title in zip(figure.subplots(1, 2), (by_channel, by_place), titles, strict=True):
        axes.imshow(photo)
        for step, (name, (unit, channel, color)) in enumerate(boxes.items()):
            box = field.box(*unit, channel=channel)
            place, inset = (box.x0 - 0.5, box.y0 - 0.5), 0.6 * step * (boxes is by_place)
            extent = (box.x1 - box.x0 - 2 * inset, box.y1 - box.y0 - 2 * inset)
            corner = (place[0] + inset, place[1] + inset)
            axes.add_patch(Rectangle(corner, *extent, fill=False, edgecolor=color, linewidth=2.5, label=name))
        axes.legend(fontsize=8, loc="lower left")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    return figure
