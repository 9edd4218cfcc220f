"""What modules and sizes say about the layout of an output, before anything is followed."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from turned import Mixer, made

from spatialprobe.model.layout import Signs, channels_second


def outputs(model, images):
    """Return each module with its output, by name, for those that return a tensor."""
    found = {}
    handles = [
        module.register_forward_hook(
            lambda module, _, output, name=name: None if name in found else found.update({name: (module, output)})
        )
        for name, module in model.named_modules()
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return {name: pair for name, pair in found.items() if isinstance(pair[1], torch.Tensor)}


def doubted(model, images):
    """Return the names of the layers whose layout is in doubt."""
    signs = Signs.of(model)
    pairs = outputs(model, images).items()
    return {name for name, (module, output) in pairs if signs.layout_of(module, tuple(output.shape)) is None}


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x1_0", "squeezenet1_1"]
)
def test_convolutional_networks_are_not_doubted(name):
    """ReLUs, dropouts, blocks and containers of channels-first networks need no pass to be sure of."""
    with torch.device("meta"):
        model, images = getattr(torchvision.models, name)().eval(), torch.zeros(2, 3, 96, 96)
    assert doubted(model, images) == set()


def test_every_channels_last_output_is_doubted():
    """In torchvision's Swin all but the convolution, the last permutation and what has no units are in doubt."""
    with torch.device("meta"):
        model, images = torchvision.models.swin_t().eval(), torch.zeros(2, 3, 96, 96)
    sure = {name for name, (_, output) in outputs(model, images).items() if output.ndim > 2} - doubted(model, images)
    assert sure <= {"features.0.0", "permute", "avgpool"}
    with torch.device("meta"):
        model = torchvision.models.convnext_tiny().eval()
    last = {name for name in outputs(model, images) if name.split(".")[-1] in "12345" and ".block." in name}
    assert last <= doubted(model, images)
    assert not {name for name in doubted(model, images) if name.count(".") < 3}


@pytest.mark.parametrize("name", ["swin", "mixer", "convnext", "tokens"])
def test_small_channels_last_models(name):
    """Layer norms are not the only sign: a linear layer over maps is one too."""
    model, images, layers = made(name)
    assert set(layers) <= doubted(model, images)


def test_a_class_that_turns_axes_inside_is_not_known_by_its_type():
    """A norm over channels that is given channels last, by a class of its own, is not channels first by its type."""

    class Last(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x.movedim(-1, 1)).movedim(1, -1)

    model = nn.Sequential(nn.Conv2d(3, 6, 1), Last(6), nn.Linear(6, 6))
    signs = Signs.of(model)
    assert signs.layout_of(model[1], (1, 7, 5, 6)) is None
    assert signs.layout_of(nn.BatchNorm2d(6), (1, 6, 7, 5)) == "channels_first"


def test_a_linear_layer_over_the_width_is_doubted():
    """What a linear layer, or a container that ends with one, makes of maps has no certain layout."""
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Sequential(nn.ReLU(), nn.Linear(6, 2)))
    signs = Signs.of(model)
    assert signs.layout_of(model[1][1], (1, 5, 4, 2)) is None
    assert signs.layout_of(model[1], (1, 5, 4, 2)) is None
    assert signs.layout_of(model[1][1], (1, 2)) == "channels_first"
    assert signs.layout_of(Mixer(6), (1, 7, 8, 6)) is None


def test_values_are_turned_as_a_view():
    """(N, *units, C) becomes (N, C, *units) in the same memory, for any number of axes."""
    for shape in ((2, 7, 3), (2, 7, 5, 3), (2, 4, 7, 5, 3)):
        values = torch.rand(shape)
        turned = channels_second(values, "channels_last")
        assert turned.shape == (2, 3, *shape[1:-1])
        assert turned.data_ptr() == values.data_ptr()
        assert torch.equal(turned[:, 1], values[..., 1])
        assert channels_second(values, "channels_first") is values
