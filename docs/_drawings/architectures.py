"""What one unit sees in the first stage of a CNN, of a Swin and of a vision transformer."""

from look import ORANGE, make_figure
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn
from torchvision.models import resnet18
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

import spatialprobe as sp

SIZE = 224


def draw() -> Figure:
    """Return the photo three times, with the box of a unit whose place is the same."""
    swin = SwinTransformer([4, 4], 24, [1, 1], [2, 2], [7, 7], num_classes=10)
    vit = VisionTransformer(SIZE, 16, num_layers=1, num_heads=2, hidden_dim=24, mlp_dim=48)
    cases: dict[str, tuple[nn.Module, str, int]] = {
        "ResNet-18, stage 1": (resnet18(weights=None), "layer1", 4),
        "Swin, first block": (swin, "features.1.0", 4),
        "ViT, first block": (vit, "encoder.layers.encoder_layer_0", 16),
    }
    photo = sp.examples.load_photo(SIZE).permute(1, 2, 0).numpy()
    figure = make_figure(8.4, 3.1)
    for axes, (name, (model, layer, stride)) in zip(figure.subplots(1, 3), cases.items(), strict=True):
        field = sp.receptive_fields(model.eval(), (1, 3, SIZE, SIZE))[layer]
        y, x = 92 // stride, 118 // stride
        box = field.box(y, x)
        axes.imshow(photo)
        place = (box.x0 - 0.5, box.y0 - 0.5)
        axes.add_patch(Rectangle(place, box.x1 - box.x0, box.y1 - box.y0, fill=False, edgecolor=ORANGE, linewidth=3))
        axes.plot((x + 0.5) * stride, (y + 0.5) * stride, "o", color=ORANGE, markersize=4)
        axes.set_title(f"{name}: {box.y1 - box.y0} × {box.x1 - box.x0} pixels", fontsize=9)
        axes.set_axis_off()
    return figure
