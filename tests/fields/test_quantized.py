"""Quantized models see what models on floats do; what is rounded on a scale of its own values sees all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.ao import quantization
from torch.ao.nn.quantized import FloatFunctional

import spatialprobe as sp
from fields.functions import Calls
from fields.perturbation import seen_alone

pytestmark = pytest.mark.filterwarnings("ignore")  # eager quantization is deprecated, and in wide use
SHAPE = (1, 3, 16, 14)
LAYERS = ["c1", "c2", "up", "pool", "c3", "average", "fc"]


class Net(nn.Module):
    """Two branches of convolutions, one of them strided, grouped and scaled up again, then a head."""

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
        self.c1, self.norm, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.c2, self.relu6 = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2), nn.ReLU6()
        # Of kernels of 2, torch 2.14 computes wrong values on processors without AVX-512: off by up to half the range.
        self.up = nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1)
        self.add, self.mul, self.cat = FloatFunctional(), FloatFunctional(), FloatFunctional()
        self.swish, self.gate, self.leaky, self.elu = nn.Hardswish(), nn.Sigmoid(), nn.LeakyReLU(), nn.ELU()
        self.pool, self.c3, self.average = nn.MaxPool2d(2), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(2, 5)

    def forward(self, x):
        near = self.relu(self.norm(self.c1(self.quant(x))))
        far = self.up(self.relu6(self.c2(near)))
        both = self.swish(self.add.add(near, far))
        both = self.mul.mul(both, self.gate(both))
        both = self.elu(self.leaky(self.cat.cat([both, near], 1)[:, 4:12]))
        return self.dequant(self.fc(self.average(self.c3(self.pool(both)))))


@pytest.fixture(scope="module")
def float_model():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def quantized(float_model):
    model = quantization.fuse_modules(float_model, [["c1", "norm", "relu"]])
    model.qconfig = quantization.get_default_qconfig("x86")
    model.up.qconfig = quantization.default_qconfig
    quantization.prepare(model, inplace=True)
    model(torch.rand(4, *SHAPE[1:]) * 2 - 1)
    return quantization.convert(model)


@pytest.mark.skipif("x86" not in torch.backends.quantized.supported_engines, reason="needs quantized operators of x86")
def test_quantized_models_see_what_floats_see(float_model, quantized):
    """Every layer of an int8 model has the exact boxes of the same layer on floats."""
    found, expected = (
        sp.receptive_fields(model, SHAPE, layers=LAYERS, layout="channels_first") for model in (quantized, float_model)
    )
    for layer in LAYERS:
        assert found[layer].exact, layer
        assert np.array_equal(found[layer].boxes(), expected[layer].boxes()), layer


@pytest.mark.skipif("x86" not in torch.backends.quantized.supported_engines, reason="needs quantized operators of x86")
def test_no_change_outside_the_boxes(quantized):
    """A change of one pixel changes no unit whose box does not hold it."""
    fields = sp.receptive_fields(quantized, SHAPE, layers=["up", "c3"])
    image = torch.rand(SHAPE)
    changed = image.clone()
    changed[..., 7, 5] = -3.0
    before, after = (sp.capture(quantized, one, layers=["up", "c3"]) for one in (image, changed))
    for layer in fields:
        differs = (before[layer].tensor.dequantize() != after[layer].tensor.dequantize()).any(1)[0].numpy()
        y0, x0, y1, x1 = np.moveaxis(fields[layer].boxes(), -1, 0)
        assert differs.any()
        assert not (differs & ~((y0 <= 7) & (y1 > 7) & (x0 <= 5) & (x1 > 5))).any()


class Observed(nn.Module):
    """A convolution whose output is rounded on a scale that is trained along."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.round = quantization.FusedMovingAvgObsFakeQuantize()

    def forward(self, x):
        return self.round(self.conv(x))


def test_observed_ranges():
    """While ranges are observed, each value sees all, as they set the scale; afterwards it sees its own window."""
    model = Observed().eval()
    model(torch.rand(SHAPE))
    observing = sp.receptive_fields(model, SHAPE)["round"]
    assert (observing.is_global, observing.exact) == (True, False)
    quantization.disable_observer(model.round)
    fixed = sp.receptive_fields(model, SHAPE)["round"]
    assert (fixed.size, fixed.exact) == ((3, 3), True)


def test_dynamic_ranges():
    """A layer that is rounded on a scale of its own input sees all of it."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(12, 2)).eval()
    dynamic = quantization.quantize_dynamic(model, {nn.Linear})
    field = sp.receptive_fields(dynamic, SHAPE, layout="channels_first")["1"]
    assert (field.is_global, field.exact) == (True, False)


def test_dynamic_recurrent_layers():
    """A quantized LSTM sees the steps before, as one on floats does."""

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.end = nn.LSTM(3, 4, batch_first=True), nn.Identity()

        def forward(self, x):
            return self.end(self.rnn(x.transpose(1, 2))[0])

    model = quantization.quantize_dynamic(Steps().eval(), {nn.LSTM})
    field = sp.receptive_fields(model, (1, 3, 9), layers="end", unit_axes=(1,))["end"]
    assert not field.exact
    assert field.boxes()[:, 1].tolist() == list(range(1, 10))


def rounded(x):
    return torch.quantize_per_tensor(x, 0.05, 128, torch.quint8)


OPERATORS = {
    "instance norm": (
        lambda x: torch.ops.quantized.instance_norm(rounded(x), None, None, 1e-5, 0.05, 128).dequantize(),
        F.instance_norm,
    ),
    "softmax": (
        lambda x: torch.ops.quantized.softmax(rounded(x), 2, 1 / 256, 0).dequantize(),
        lambda x: x.softmax(2),
    ),
    "prelu": (
        lambda x: torch.ops.quantized.prelu(rounded(x), rounded(torch.tensor([0.5, 1.0, 2.0])), 0.1, 128).dequantize(),
        lambda x: F.prelu(x, x.new_tensor([0.5, 1.0, 2.0])),
    ),
    "matrix product": (
        lambda x: torch.ops.quantized.matmul(rounded(x), rounded(x.mT.contiguous()), 0.1, 128).dequantize(),
        lambda x: x @ x.mT,
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_quantized_operators(name):
    """A quantized operator has the exact boxes of the one on floats, and a change of a pixel changes nothing beyond."""
    quantized, plain = OPERATORS[name]
    found, expected = (sp.receptive_fields(Calls(one), (1, 3, 4, 5))[""] for one in (quantized, plain))
    assert found.exact
    assert np.array_equal(found.boxes(), expected.boxes())
    changed = seen_alone(quantized, (1, 3, 4, 5), dtype=torch.float32).any(0)
    y0, x0, y1, x1 = np.moveaxis(found.boxes(), -1, 0)[..., None, None]
    y, x = np.ogrid[:4, :5]
    assert changed.any()
    assert not (changed & ~((y0 <= y) & (y < y1) & (x0 <= x) & (x < x1))).any()
