"""Images made for four classes of the small network: as they are, after fewer steps, and in gray."""

import torch
from look import make_figure
from matplotlib.figure import Figure

import spatialprobe as sp

CLASSES = (0, 2, 4, 5)


def draw() -> Figure:
    """Return a column of images for each way to search, with the share of the values that it reaches."""
    model, names = sp.examples.load_network(), sp.examples.CLASSES

    def search(channels: int, **options: object) -> sp.MaximizedActivation:
        shape = (channels, 32, 32)
        return sp.maximize_activation(model, "fc", CLASSES, shape=shape, progress=False, **options)

    whole = search(3)
    searches = {
        "by default": whole,
        "steps=32": search(3, steps=32),
        "in gray": search(1, normalize=lambda images: images.expand(-1, 3, -1, -1)),
    }
    figure = make_figure(8, 6.1)
    axes = figure.subplots(len(searches), len(CLASSES))
    for row, (name, found) in zip(axes, searches.items(), strict=True):
        share = f"\n{found.reached.mean() / whole.reached.mean():.0%} of the value" if found is not whole else ""
        images = torch.broadcast_to(found.images, (len(CLASSES), 3, 32, 32)).permute(0, 2, 3, 1).numpy()
        for place, image, number, value in zip(row, images, CLASSES, found.reached.tolist(), strict=True):
            place.imshow(image, interpolation="nearest")
            place.set_title(f"{names[number]}: {value:.1f}", fontsize=9)
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
        row[0].set_ylabel(f"{name}{share}", fontsize=9)
    return figure
