"""How a rule is held against gradients: a box that is too small, and one that is exact."""

import torch
from look import CRIMSON, TEAL, make_figure
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

import spatialprobe as sp

UNIT = (3, 3)
SIZE = 13


def draw() -> Figure:
    """Return where a unit's gradient is, with the box of a rule that forgets the dilation, and with the real one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2), nn.Conv2d(1, 1, 3))
    images = torch.rand(1, 1, SIZE, SIZE, requires_grad=True)
    model(images)[0, 0][UNIT].backward()
    assert images.grad is not None
    gradient = images.grad[0, 0].abs()
    wrong = nn.Sequential(nn.ZeroPad2d(-1), nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    figure = make_figure(7.4, 3.3)
    titles = ("too small: an AssertionError", "exact: check_rule passes")
    for axes, one, title, color in zip(figure.subplots(1, 2), (wrong, model), titles, (CRIMSON, TEAL), strict=True):
        box = sp.receptive_fields(one, (1, 1, SIZE, SIZE))[""].box(*UNIT)
        axes.imshow(gradient.numpy(), cmap="binary", vmin=0, vmax=float(gradient.max()))
        outside = gradient.clone()
        outside[box.y0 : box.y1, box.x0 : box.x1] = 0
        for y, x in outside.nonzero().tolist():
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=CRIMSON, alpha=0.55))
        place = (box.x0 - 0.5, box.y0 - 0.5)
        axes.add_patch(Rectangle(place, box.x1 - box.x0, box.y1 - box.y0, fill=False, edgecolor=color, linewidth=3))
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure
