"""What the reducer of the how-to counts: at how many places each channel is the strongest."""

import torch
from look import DARK, GRAY, make_figure, strip
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

import spatialprobe as sp


def draw() -> Figure:
    """Return an image, which channel wins at each place of it, and each channel's share over many images."""
    model = sp.examples.load_network()
    images, _ = sp.examples.draw_patterns(100, seed=1, size=64)
    photo = sp.examples.load_photo(128)
    activations = sp.capture(model, images, layers="conv4", at="post_activation")["conv4"].tensor
    winner = activations.argmax(1)
    on_photo = sp.capture(model, photo[None], layers="conv4", at="post_activation")["conv4"].tensor.argmax(1)[0]
    share = torch.bincount(winner.flatten(), minlength=24) / winner.numel()
    colors = ListedColormap([colormaps["turbo"](0.05 + 0.9 * c / 23) for c in range(24)])

    figure = make_figure(8.4, 2.7)
    image, places, bars = figure.subplots(1, 3, width_ratios=[1, 1, 2])
    image.imshow(photo.permute(1, 2, 0).numpy())
    image.set_title("a photo", fontsize=9)
    places.imshow(on_photo.numpy(), cmap=colors, vmin=-0.5, vmax=23.5)
    places.set_title("the strongest channel of conv4", fontsize=9)
    for axes in (image, places):
        axes.set_axis_off()
    bars.bar(range(24), 100 * share.numpy(), color=colors(range(24)), edgecolor=DARK, linewidth=0.4)
    bars.set_xticks(range(0, 24, 3))
    bars.set_xlabel("channel", fontsize=9)
    bars.set_ylabel("places won (%)", fontsize=9)
    bars.axhline(100 / 24, color=GRAY, linestyle=":", linewidth=1)
    bars.set_title("over 100 patterns, as the reducer counts them", fontsize=9)
    strip(bars)
    return figure
