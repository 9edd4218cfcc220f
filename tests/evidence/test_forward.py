"""Measures of models that are not called on images alone: `forward=` equals the wrapper that one would write."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp

IMAGES = torch.rand(6, 3, 14, 14, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 2
STEPS = 7


class Denoiser(nn.Module):
    """Takes a list of images and a time step by name, and returns a mapping."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, images, *, step):
        return {"sample": self.second(torch.tanh(self.conv(torch.stack(list(images)) * step)))}


class Wrapped(nn.Module):
    """The wrapper by hand."""

    def __init__(self):
        super().__init__()
        self.inner = Denoiser()

    def forward(self, images):
        return self.inner(list(images), step=STEPS)


def call(model, images):
    return model(list(images), step=STEPS)


MEASURES = {
    "footprint": lambda model, layer, **more: sp.evidence.footprint(model, IMAGES, layer, pixel=(6, 7), **more),
    "equivariance": lambda model, layer, **more: sp.evidence.equivariance_error(
        model, IMAGES, layer, shift=(1, 2), **more
    ),
    "linear probe": lambda model, layer, **more: sp.evidence.linear_probe(
        model, IMAGES, LABELS, layer, test_images=IMAGES, test_labels=LABELS, **more
    ),
    "orientation": lambda model, layer, **more: sp.evidence.orientation_tuning(model, layer, shape=(3, 20, 20), **more),
    "effective field": lambda model, layer, **more: sp.effective_receptive_field(model, IMAGES, layer, **more),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_equal_to_a_wrapper_by_hand(measure):
    """Each measure, with `forward=`, is that of the wrapper, and leaves the model and the images as they were."""
    model, given = Denoiser().train(), IMAGES.clone()
    found, expected = measure(model, "second", forward=call), measure(Wrapped().train(), "inner.second")
    for field in dataclasses.fields(found):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
        elif field.name != "layer":
            assert one == other or one is other
    assert found.layer == "second"
    assert all(module.training for module in model.modules())
    assert not model.conv._forward_hooks
    assert torch.equal(IMAGES, given)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_what_is_no_function(measure):
    """`forward=` must be callable; without it the error shows the line to write."""
    with pytest.raises(sp.ArgumentError, match="forward"):
        measure(Denoiser(), "second", forward=3)
    with pytest.raises(sp.ForwardError, match="forward=lambda model, images|missing 1 required keyword"):
        measure(Denoiser(), "second")


def test_images_of_mappings(tmp_path):
    """Patches, coherence and page of samples that are mappings are those of the plain images."""
    model = Denoiser()
    forms = {
        "plain": (IMAGES, None),
        "mappings": ([{"image": image, "label": torch.zeros(1, 14, 14)} for image in IMAGES], None),
        "several": ([{"image": image, "depth": image[:1]} for image in IMAGES], lambda sample: sample["image"]),
    }
    result = sp.sweep(model, IMAGES, {"top": sp.Exemplars}, forward=call, progress=False)
    field = sp.receptive_fields(Wrapped(), (1, 3, 14, 14))["inner.second"]
    top, field = result["second"]["top"], dataclasses.replace(field, layer="second")
    plain = sp.exemplar_patches(top, IMAGES, field)
    for data, image in forms.values():
        assert np.array_equal(sp.exemplar_patches(top, data, field, image=image).array, plain.array)
        assert np.array_equal(
            sp.evidence.patch_coherence(top, data, field, image=image).values,
            sp.evidence.patch_coherence(top, IMAGES, field).values,
        )
        report = sp.write_report(
            tmp_path / "page.html", model, IMAGES[:2], sweep=result, dataset=data, image=image, forward=call
        )
        assert (report.layers, report.doubts, report.missing) == (("conv", "second"), (), "")
    with pytest.raises(sp.ArgumentError, match=r"2 tensors .*image=lambda sample: sample\['image'\]"):
        sp.exemplar_patches(top, forms["several"][0], field)
    with pytest.raises(sp.ArgumentError, match="image= raised KeyError"):
        sp.exemplar_patches(top, forms["several"][0], field, image=lambda sample: sample["picture"])
