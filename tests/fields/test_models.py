"""Whole architectures: against published and independently computed boxes, and traced to the end without a gap."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import spatialprobe as sp

REFERENCE = Path(__file__).with_name("reference_boxes.json")  # made by reference_boxes.py
PLAIN = {"googlenet": {"aux_logits": False, "init_weights": False, "transform_input": False}}
PLAIN["inception_v3"] = PLAIN["googlenet"]


def built(name):
    """An architecture in evaluation mode with any weights: a field does not depend on them, and drawing takes long."""
    with pytest.MonkeyPatch.context() as patch:
        for init in [init for init in vars(nn.init) if init.endswith("_") and not init.startswith("_")]:
            patch.setattr(nn.init, init, lambda tensor, *args, **options: tensor)
        return torchvision.models.get_model(name, weights=None, **PLAIN.get(name, {})).eval()


@pytest.mark.parametrize(
    ("name", "layer", "size", "stride", "padding"),
    [
        ("vgg16", "features.30", 212, 32, 90),
        ("inception_v3", "Mixed_7c", 1311, 32, 618),
    ],
)
def test_published_numbers(name, layer, size, stride, padding):
    """The last row of the tables of Araujo, Norris and Sim (2019), which were derived on paper."""
    field = sp.receptive_fields(built(name), (1, 3, 299, 299), layers=layer)[layer]
    assert (field.size, field.stride, field.padding) == ((size,) * 2, (stride,) * 2, (padding,) * 2)
    assert field.exact


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet18", "resnet50", "googlenet"])
def test_reference_boxes(name):
    """Boxes, sizes, strides and starts that gradients of a linearized copy show."""
    reference = json.loads(REFERENCE.read_text())[name]
    fields = sp.receptive_fields(built(name), tuple(reference["input"]))
    assert len(reference["layers"]) >= 6
    for layer, truth in reference["layers"].items():
        field = fields[layer]
        for number in ("size", "stride", "start", "output_size"):
            assert list(getattr(field, number)) == truth[number], (layer, number)
        assert field.padding == tuple(-start for start in field.start)
        assert field.period == (1, 1)
        for box in truth["boxes"]:
            assert list(field.box(*box["unit"])) == box["box"], (layer, box)
        assert field.exact


@pytest.mark.parametrize(
    "name",
    [
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "mnasnet0_5",
        "mobilenet_v3_small",
        "regnet_y_400mf",
        "shufflenet_v2_x0_5",
        "squeezenet1_0",
        "swin_t",
        "vit_b_32",
    ],
)
def test_traced_without_a_gap(name):
    """Every module of every family has a field, on meta tensors, and no operator is without a rule."""
    fields = sp.receptive_fields(built(name), (1, 3, 224, 224))
    every = [field for layer in fields for field in fields.calls(layer)]
    assert len(every) > 50
    reasons = {reason for field in every for reason in field.unknown}
    assert reasons == ({"aten::_softmax where a constant may hide values"} if name == "swin_t" else set())
    assert {field.fallback for field in every} == {None}
    assert all(field.exact for field in every) or name == "swin_t"  # whose windows are masked
    assert fields[""].box().start == (0, 0)
    assert fields[""].box().stop >= (223, 223)  # SqueezeNet's first convolution leaves out the last row and column


def test_linear_layers_between_convolutions():
    """ConvNeXt turns its maps for linear layers and back; every convolution has the numbers of the closed formula.

    Sizes and strides of a chain of windows [Araujo et al. 2019, eq. 2]: nothing but the convolutions widens a field.
    """
    model = built("convnext_tiny")
    fields = sp.receptive_fields(model, (1, 3, 96, 96), layers=nn.Conv2d)
    size, stride, start = 1, 1, 0
    for name, conv in ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)):
        size, start = size + (conv.kernel_size[0] - 1) * stride, start - conv.padding[0] * stride
        stride *= conv.stride[0]
        field = fields[name]
        assert (field.size, field.stride, field.start) == ((size,) * 2, (stride,) * 2, (start,) * 2), name
        assert field.period == (1, 1)


def test_segmentation():
    """A network with dilated convolutions and a decoder, whose output is a dictionary."""
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    field = sp.receptive_fields(model, (1, 3, 64, 64), ignore=["SqueezeExcitation"])["classifier.low_classifier"]
    assert field.stride == (8, 8)
    assert field.exact
    assert field.ignored == ("SqueezeExcitation",)


def test_video():
    """Three axes: time, rows and columns."""
    field = sp.receptive_fields(torchvision.models.video.r3d_18(weights=None).eval(), (1, 3, 8, 32, 32))["layer1"]
    assert field.size == (11, 23, 23)  # the stem sees 3 x 7 x 7 at stride 1, 2, 2; four 3 x 3 x 3 convolutions follow
    assert field.stride == (1, 2, 2)


def test_detector_reads_values():
    """A detector looks at scores: it runs on the real device, says so, and its backbone is exact all the same."""
    torch.manual_seed(0)
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    ).eval()
    fields = sp.receptive_fields(model, ([torch.rand(3, 320, 320)],), layers=nn.Conv2d)
    first = next(iter(fields.values()))
    assert "nonzero" in first.fallback  # the operator of which meta tensors have no shape to give
    assert first.size == (3, 3)
    assert first.stride == (2, 2)
    assert all(field.exact for field in fields.values())  # they run before anything is read
