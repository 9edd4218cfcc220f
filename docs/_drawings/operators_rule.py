"""What a unit sees through an operator without a rule, and with the rule of the how-to."""

import torch
from look import CRIMSON, TEAL, make_figure
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

import spatialprobe as sp

SIZE = 32


class Unknown(torch.autograd.Function):
    """Stands for an operator that no rule describes: it mixes all there is."""

    @staticmethod
    def forward(context: object, image: torch.Tensor) -> torch.Tensor:
        """Return the mean of everything, at each place."""
        return image.mean((1, 2, 3), keepdim=True).expand_as(image)


class Blurred(nn.Module):
    """A convolution, and a mean over three rows."""

    def __init__(self, known: bool) -> None:
        super().__init__()
        self.conv, self.known = nn.Conv2d(3, 4, 3), known

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the maps of the convolution, blurred."""
        maps = self.conv(images)
        return nn.functional.avg_pool2d(maps, (3, 1), stride=1, padding=(1, 0)) if self.known else Unknown.apply(maps)


def draw() -> Figure:
    """Return a photo with the box of one unit, twice."""
    photo = sp.examples.load_photo(SIZE)
    figure = make_figure(7, 3.4)
    for axes, known, color in zip(figure.subplots(1, 2), (False, True), (CRIMSON, TEAL), strict=True):
        field = sp.receptive_fields(Blurred(known), (1, 3, SIZE, SIZE))[""]
        box = field.box(10, 13)
        axes.imshow(photo.permute(1, 2, 0).numpy())
        place = (box.x0 - 0.5, box.y0 - 0.5)
        axes.add_patch(Rectangle(place, box.x1 - box.x0, box.y1 - box.y0, fill=False, edgecolor=color, linewidth=3))
        height, width = box.y1 - box.y0, box.x1 - box.x0
        title = f"with the rule: exact, {height} × {width}" if known else f"without a rule: a bound, {height} × {width}"
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    return figure
