"""Invalid arguments: the error names the argument and its valid values, before anything fails inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe import evidence

CONV = nn.Conv2d(3, 4, 3).requires_grad_(False)
IMAGES = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


class Two(nn.Module):
    """A model of two inputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image, mask):
        return self.conv(image * mask)


def record():
    return sp.capture(CONV, IMAGES)[""]


def exemplars():
    return sp.sweep(CONV, IMAGES, {"top": sp.Exemplars}, progress=False)[""]["top"]


def field():
    return sp.receptive_fields(CONV, IMAGES)[""]


def probing(images=IMAGES, labels=LABELS, layer="", **options):
    return evidence.linear_probe(
        CONV, images, labels, layer, **{"test_images": IMAGES, "test_labels": LABELS, **options}
    )


def sweep(model=CONV, **options):
    return sp.sweep(model, IMAGES, {"moments": sp.Moments}, progress=False, **options)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: sp.Probe(CONV, dtype="float16"), "dtype must be a torch.dtype.* not 'float16'"),
        (lambda: sp.Probe(CONV, pick=0), "pick must be a function.* not 0"),
        (lambda: sp.Probe(CONV, transform="mean"), "transform must be a function.* not 'mean'"),
        (lambda: sp.Probe(CONV, device="gpu"), "device must be a torch.device or its name.* not 'gpu'"),
        (lambda: sp.Probe(CONV, max_bytes="5 MB"), "max_bytes must be a number of bytes"),
        (lambda: sp.Probe(CONV, at=["output"]), r"at must be one of 'output', 'post_activation', not \['output'\]"),
        (lambda: sp.Probe(CONV, IMAGES), r"layers cannot be a Tensor \(6, 3, 12, 12\)"),
        (lambda: sp.capture(CONV, IMAGES)["", "first"], "The number of a run must be an integer, not 'first'"),
        (lambda: sp.receptive_fields(CONV, IMAGES, input="mask"), "input must be an integer, not 'mask'"),
        (lambda: sp.receptive_fields(CONV, IMAGES, axes=2), "axes must be integers"),
        (lambda: sp.receptive_fields(CONV, IMAGES, unit_axes="yx"), "unit_axes must be integers"),
        (lambda: sp.receptive_fields(CONV, IMAGES, source=2), "source cannot be 2"),
        (lambda: sp.receptive_fields(CONV, IMAGES, ignore=nn.SiLU()), "ignore takes module types or class names"),
        (lambda: field().box(1, 1, channel="a"), "channel must be an integer, not 'a'"),
        (lambda: sp.effective_receptive_field(CONV, IMAGES, 0), "layer cannot be 0"),
        (lambda: sp.effective_receptive_field(CONV, IMAGES / 0, ""), "images hold values that are infinite"),
        (lambda: sp.effective_receptive_field(CONV, (255 * IMAGES).byte(), ""), "images are torch.uint8"),
        (lambda: sp.effective_receptive_field(CONV, IMAGES, "", unit=3), "unit must be integers"),
        (lambda: sp.effective_receptive_field(CONV, IMAGES, "", channels="some"), "channels must be integers"),
        (lambda: sp.feature_maps({"a": IMAGES}), r"a mapping of records.* Tensor \(6, 3, 12, 12\) in it"),
        (lambda: sp.feature_maps(record(), sample="a"), "sample must be an integer, not 'a'"),
        (lambda: sp.feature_maps(record(), scale=("a", "b")), "scale must be two finite numbers"),
        (lambda: sp.feature_maps(record()).save(5), "path must be a name .* not 5"),
        (lambda: sp.evolution([record()], sample="a"), "sample must be an integer"),
        (lambda: sp.write_report(5, CONV, IMAGES), "path must be a name .* not 5"),
        (lambda: sp.save_activations(5, [record()]), "path must be a name .* not 5"),
        (lambda: sweep(checkpoint=5), "path must be a name .* not 5"),
        (lambda: sweep(checkpoint_seconds="a"), "checkpoint_seconds must be a number, not 'a'"),
        (lambda: sp.sweep(CONV, IMAGES, {1: sp.Moments}), "reducers are found by names such as 'moments', not by 1"),
        (lambda: sweep(device="gpu"), "device must be a torch.device or its name"),
        (lambda: evidence.orientation_tuning(CONV, "", frequencies=0.1), "frequencies must be one or more numbers"),
        (lambda: evidence.orientation_tuning(CONV, "", frequencies=["a"]), "frequencies must be one or more numbers"),
        (lambda: evidence.patch_coherence(exemplars(), IMAGES, field(), seed="a"), "seed must be an integer"),
        (lambda: evidence.kernel_surgery(CONV, "", seed="a"), "seed must be an integer"),
        (lambda: evidence.frozen_copy(CONV, seed=0.5), "seed must be an integer, not 0.5"),
        (lambda: evidence.footprint(CONV, IMAGES, "", (1, 1), seed="a"), "seed must be an integer"),
        (lambda: evidence.PixelPermutation(32.0, 32), "height must be an integer, not 32.0"),
        (lambda: evidence.PixelPermutation(32, 0), "width must be at least 1, not 0"),
        (lambda: evidence.PixelPermutation(12, 12)(IMAGES.numpy()), "images must be a tensor .* not an ndarray"),
        (lambda: probing(penalty="a"), "penalty must be a number, not 'a'"),
        (lambda: probing(test_labels=LABELS[:2]), "test_labels must be int64"),
        (lambda: probing(labels=LABELS.numpy()), r"not ndarray\. Pass .* torch.as_tensor\(labels\)"),
        (lambda: probing(test_images=IMAGES / 0), "test_images hold values that are infinite"),
        (lambda: probing(layer=LABELS), r"layer cannot be a Tensor \(6,\)"),
    ],
)
def test_arguments_of_the_wrong_kind(use, message):
    """The message names the argument and the value that was passed."""
    with pytest.raises(sp.ArgumentError, match=message):
        use()


@pytest.mark.parametrize(
    "measure",
    [
        lambda images: evidence.footprint(CONV, images, "", (1, 1)),
        lambda images: evidence.equivariance_error(CONV, images, "", (1, 1)),
        lambda images: sp.effective_receptive_field(CONV, images, ""),
        lambda images: probing(images=images),
    ],
)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 12, 12), np.float32), r"torch.from_numpy\(array\)"),
        ([IMAGES[0], IMAGES[1]], r"torch.stack\(images\)"),
        ((IMAGES, IMAGES), "forward= calls a model of a list or of several inputs"),
        (IMAGES[:0], r"at least one image, not a Tensor \(0, 3, 12, 12\)"),
    ],
    ids=["array", "list", "tuple", "none"],
)
def test_images_of_another_form(measure, images, message):
    """The message describes what was passed instead of a batch, and how to convert it to one."""
    with pytest.raises(sp.ArgumentError, match=message):
        measure(images)


@pytest.mark.parametrize(
    "measure",
    [
        lambda model: evidence.footprint(model, IMAGES, "conv", (1, 1)),
        lambda model: evidence.equivariance_error(model, IMAGES, "conv", (1, 1)),
        lambda model: sp.effective_receptive_field(model, IMAGES, "conv"),
        lambda model: evidence.linear_probe(model, IMAGES, LABELS, "conv", test_images=IMAGES, test_labels=LABELS),
        lambda model: evidence.orientation_tuning(model, "conv"),
        lambda model: sp.write_report("never.html", model, IMAGES),
    ],
)
def test_models_of_several_inputs(measure):
    """A measure that passes only images to the model says so, and suggests no arguments that it does not take."""
    with pytest.raises(sp.ForwardError, match="called on the images alone: say how it is called") as caught:
        measure(Two())
    assert "a tuple with one for each input" not in str(caught.value)
    assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: sp.sweep(model, IMAGES, {"moments": sp.Moments}, progress=False),
        lambda model: sp.write_report("never.html", model, IMAGES),
        lambda model: evidence.footprint(model, IMAGES, "", (1, 1)),
        lambda model: evidence.orientation_tuning(model, ""),
        lambda model: sp.feature_maps(sp.capture(model, IMAGES.to("meta"))),
    ],
)
def test_models_without_values(use):
    """A model on the meta device, whose tensors have no values, is refused before anything is computed."""
    with pytest.raises(sp.ArgumentError, match="on the meta device, where tensors have no values"):
        use(nn.Conv2d(3, 4, 3, device="meta"))


def test_models_whose_weights_are_not_made_yet():
    """A lazy layer cannot be re-initialized before it is initialized."""
    with pytest.raises(sp.ArgumentError, match="not initialized yet: run it once"):
        evidence.frozen_copy(nn.Sequential(nn.LazyConv2d(4, 3)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("compiled", [torch.jit.script, lambda model: torch.jit.trace(model, IMAGES)])
@pytest.mark.parametrize(
    "use",
    [
        lambda model: sp.Probe(model),
        lambda model: sp.receptive_fields(model, IMAGES),
        lambda model: sweep(model),
        lambda model: evidence.footprint(model, IMAGES, "0", (1, 1)),
        lambda model: sp.Probe(nn.Sequential(model), "0.0"),
    ],
)
def test_compiled_to_torchscript(compiled, use):
    """Layers without hooks are refused before anything runs, and the message says what to pass."""
    with pytest.raises(sp.ArgumentError, match="compiled to TorchScript.* pass the model that was compiled"):
        use(compiled(nn.Sequential(nn.Conv2d(3, 4, 3))))
