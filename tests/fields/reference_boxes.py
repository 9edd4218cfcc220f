"""Make reference receptive fields of whole architectures: `python tests/fields/reference_boxes.py`, some minutes.

A unit's field is where the gradient of the unit, summed over its channels, with respect to the input is not zero, in a
linearized copy of the network: float64, every weight a positive constant, nonlinearities, norms and dropout left out,
max-pooling replaced by average pooling with the same window. Nothing cancels, so the gradient is nonzero exactly where
the unit can depend on a pixel. Size, stride and start are those of units in the middle of long strips, far from every
border. It shares nothing with the library, and writes `reference_boxes.json` beside this file.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
import torchvision
from torch import nn

PATH = Path(__file__).with_suffix(".json")
PLAIN = {"googlenet": {"aux_logits": False, "init_weights": False, "transform_input": False}}
SHAPE = (1, 3, 224, 224)
STRIP = (64, 2048)  # rows and columns of the strips
LAYERS = {
    "alexnet": ["features.0", "features.2", "features.3", "features.5", "features.6", "features.8", "features.12"],
    "vgg16": ["features.0", "features.4", "features.9", "features.16", "features.23", "features.30"],
    "resnet18": ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"],
    "resnet50": ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"],
    "googlenet": ["conv1", "maxpool1", "conv3", "inception3a", "maxpool3", "inception4e", "inception5b"],
}


def build(name):
    """Return an architecture with random weights, in evaluation mode."""
    return torchvision.models.get_model(name, weights=None, **PLAIN.get(name, {})).eval()


def linearize(model):
    """Return a copy in which no gradient cancels."""
    plain = copy.deepcopy(model).double()
    for parent in list(plain.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (nn.ReLU, nn.BatchNorm2d, nn.Dropout)):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, name, pool)
    for parameter in plain.parameters():
        nn.init.constant_(parameter, 1 / max(1, parameter[0].numel()))
    return plain


def outputs_of(model, image, layers):
    """Return the outputs of some layers, by name."""
    found = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: found.update({name: output})
        )
        for name in layers
    ]
    model(image)
    for hook in hooks:
        hook.remove()
    return found


def hull(image, output, unit):
    """Return [y0, x0, y1, x1], half open, of the pixels that a unit depends on."""
    (gradient,) = torch.autograd.grad(output[0, :, unit[0], unit[1]].sum(), image, retain_graph=True)
    moved = gradient[0].abs().sum(0) > 0
    rows, columns = moved.any(1).nonzero().flatten(), moved.any(0).nonzero().flatten()
    return [int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1]


def boxes_of(output, image):
    """Return the boxes of three units: a corner, one beside the middle, the last."""
    height, width = output.shape[2:]
    units = [[0, 0], [height // 2, width // 2 - 1], [height - 1, width - 1]]
    return [{"unit": unit, "box": hull(image, output, unit)} for unit in units]


def spacing(output, image, axis):
    """Return size, stride and start along the long axis of a strip."""
    middle = [length // 2 for length in output.shape[2:]]
    after = [place + (number == axis) for number, place in enumerate(middle)]
    first, second = hull(image, output, middle), hull(image, output, after)
    stride = second[axis] - first[axis]
    return first[axis + 2] - first[axis], stride, first[axis] - middle[axis] * stride


def measure(name):
    """Return the reference fields of one architecture."""
    model, layers = linearize(build(name)), LAYERS[name]
    image = torch.ones(SHAPE, dtype=torch.float64, requires_grad=True)
    found = {
        layer: {"output_size": list(output.shape[2:]), "boxes": boxes_of(output, image)}
        for layer, output in outputs_of(model, image, layers).items()
    }
    for axis, shape in enumerate([STRIP[::-1], STRIP]):
        strip = torch.ones((1, 3, *shape), dtype=torch.float64, requires_grad=True)
        for layer, output in outputs_of(model, strip, layers).items():
            for key, value in zip(("size", "stride", "start"), spacing(output, strip, axis), strict=True):
                found[layer].setdefault(key, []).append(value)
    return {"input": list(SHAPE), "layers": found}


if __name__ == "__main__":
    about = " ".join(__doc__.split("\n\n")[1].split())
    PATH.write_text(json.dumps({"about": about, **{name: measure(name) for name in LAYERS}}, indent=1) + "\n")
