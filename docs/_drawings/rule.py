"""What the rule of the how-to measures: the share of zeros in each layer, and its limit."""

import torch
from look import CRIMSON, DARK, GRAY, make_figure, strip
from matplotlib.figure import Figure

import spatialprobe as sp

LIMIT, SHIFT = 0.9, 0.8


def draw() -> Figure:
    """Return the share of zeros of each layer of a healthy network, and of one whose third layer is too sparse."""
    images, _ = sp.examples.draw_patterns(100, seed=1)
    healthy, sparse = sp.examples.load_network(), sp.examples.load_network()
    with torch.no_grad():
        sparse.conv3.bias -= SHIFT
    figure = make_figure(8, 2.4)
    titles = ("as trained: it passes", f"conv3 less {SHIFT}: a finding")
    for axes, model, title in zip(figure.subplots(1, 2, sharex=True), (healthy, sparse), titles, strict=True):
        records = sp.capture(model, images, at="post_activation")
        shares = {layer: float((record.tensor == 0).float().mean()) for layer, record in records.items()}
        colors = [CRIMSON if one > LIMIT else DARK for one in shares.values()]
        axes.barh(list(shares), list(shares.values()), color=colors)
        for row, one in enumerate(shares.values()):
            axes.text(one + 0.01, row, f"{one:.0%}", va="center", fontsize=8)
        axes.axvline(LIMIT, color=GRAY, linestyle="--", linewidth=1)
        axes.set_title(title, fontsize=9)
        axes.set_xlim(0, 1.08)
        axes.set_xlabel("share of zeros; the limit is dashed", fontsize=9)
        axes.invert_yaxis()
        strip(axes)
    return figure
