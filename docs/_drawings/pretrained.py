"""What the transform of a pretrained ResNet-18 keeps of a photo, and what its stages see of that."""

from look import CRIMSON, ORANGE, TEAL, VIOLET, make_figure
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torchvision.models import ResNet18_Weights, resnet18

import spatialprobe as sp

STAGES = {"layer1": ORANGE, "layer2": VIOLET, "layer3": TEAL, "layer4": CRIMSON}


def draw() -> Figure:
    """Return the resized photo, dimmed outside of the crop, and the crop with the box of a unit of each stage."""
    transform = ResNet18_Weights.IMAGENET1K_V1.transforms()
    (resized,), (size,) = transform.resize_size, transform.crop_size
    margin = (resized - size) // 2
    photo = sp.examples.load_photo(resized)
    crop = photo[:, margin : margin + size, margin : margin + size]
    dimmed = 0.35 * photo + 0.65
    dimmed[:, margin : margin + size, margin : margin + size] = crop
    figure = make_figure(8, 3.9)
    left, right = figure.subplots(1, 2)
    left.imshow(dimmed.permute(1, 2, 0).numpy())
    left.set_title(f"resized to {resized} pixels, cropped to {size}", fontsize=9)
    right.imshow(crop.permute(1, 2, 0).numpy())
    right.set_title("the box of a unit in each stage", fontsize=9)
    fields = sp.receptive_fields(resnet18(weights=None).eval(), (1, 3, size, size), layers=list(STAGES))
    for step, (layer, color) in enumerate(STAGES.items()):
        field = fields[layer]
        box = field.box(*(round(share * units) for share, units in zip((0.4, 0.52), field.output_size, strict=True)))
        place, inset = (box.x0 - 0.5, box.y0 - 0.5), 1.5 * (step == len(STAGES) - 1)
        extent = (box.x1 - box.x0 - 2 * inset, box.y1 - box.y0 - 2 * inset)
        label = f"{layer}: {field.size[0]} × {field.size[1]}"
        corner = (place[0] + inset, place[1] + inset)
        right.add_patch(Rectangle(corner, *extent, fill=False, edgecolor=color, linewidth=2.5, label=label))
    right.legend(fontsize=8, loc="lower left")
    for axes in (left, right):
        axes.set_axis_off()
    return figure
