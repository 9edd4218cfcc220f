"""Alignment of channels with concepts, beside plain loops over images, units and pixels."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe import evidence
from spatialprobe.evidence.concepts import find_thresholds
from spatialprobe.statistics.overlap import Overlap
from spatialprobe.testing import check_reducer

align = partial(evidence.concept_alignment, progress=False)


@pytest.fixture(autouse=True)
def seeded():
    """Draw the weights of models without a seed of their own from one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def pairs(count, side=12, concepts=3, seed=0):
    """Return random images with random masks of concept numbers, in patches of three pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, concepts + 1, (count, side // 3, side // 3), generator=generator)
    masks = coarse.repeat_interleave(3, 1).repeat_interleave(3, 2)
    return list(zip(torch.rand(count, 3, side, side, generator=generator), masks, strict=True))


def by_hand(model, data, layer, quantile, other, concepts):
    """Return the intersections over unions of a layer, by loops, with the masks of the images in `other`."""
    images = torch.stack([image for image, _ in data])
    with torch.no_grad():
        values = sp.capture(model, images, layers=layer)[layer].tensor.double()
    field = sp.receptive_fields(model, images[:1])[layer]
    boxes = {(y, x): field.box(y, x, clip=False) for y in range(values.shape[2]) for x in range(values.shape[3])}
    middles = {unit: ((y0 + y1 - 1) // 2, (x0 + x1 - 1) // 2) for unit, (y0, x0, y1, x1) in boxes.items()}
    found = np.zeros((values.shape[1], concepts))
    for channel in range(values.shape[1]):
        ordered = values[:, channel].flatten().sort(descending=True).values
        threshold = ordered[int(quantile * len(ordered)) - 1]  # so many units are active
        for concept in range(concepts):
            both = either = 0
            for image in range(len(data)):
                active = (values[image, channel] >= threshold).numpy()
                numbers = data[other[image]][1].numpy()
                for unit, middle in middles.items():
                    if all(0 <= place < size for place, size in zip(middle, numbers.shape, strict=True)):
                        inside = numbers[middle] == concept + 1
                        both += active[unit] and inside
                        either += active[unit] or inside
            found[channel, concept] = both / either if either else 0
    return found


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_intersections_over_unions_are_those_of_loops(layer):
    """The measure equals loops over images, channels, units and pixels, up to the width of a histogram's bin."""
    model, data = ZOO["chain"].model(), pairs(4)
    found = align(model, data, layer, quantile=0.1, batch_size=3)[layer]
    plain = by_hand(model, data, layer, 0.1, range(4), 3)
    np.testing.assert_allclose(found.iou, plain, atol=0.012)
    assert (found.n, found.shuffles, found.concepts) == (4, 3, ("1", "2", "3"))
    others = [[(image + step) % 4 for image in range(4)] for step in (1, 2, 3)]
    plain = np.mean([by_hand(model, data, layer, 0.1, other, 3) for other in others], axis=0)
    np.testing.assert_allclose(found.control, plain, atol=0.012)  # three readings: each image has each other's masks
    assert (found.best == found.margin.argmax(1)).all()
    assert (found.best_margin == found.margin.max(1)).all()
    size = 144 if layer == "conv1" else 16
    assert (found.active <= 0.1 * size * 4).all()


class Counted(list):
    """A data set that counts how often each sample is read."""

    def __init__(self, samples):
        super().__init__(samples)
        self.reads = [0] * len(samples)

    def __getitem__(self, index):
        self.reads[index] += 1
        return super().__getitem__(index)


def test_two_passes_for_all_layers():
    """All layers share a pass for thresholds and one for counts, after one for masks; each has what it has alone."""
    model, data = ZOO["chain"].model(), Counted(pairs(6))
    both = align(model, data, ["conv1", "conv2"], quantile=0.1, batch_size=3)
    assert data.reads[1:] == [3] * 5
    for layer, found in both.items():
        alone = align(model, data, layer, quantile=0.1, batch_size=3)[layer]
        assert (found.iou == alone.iou).all()
        assert (found.threshold == alone.threshold).all()


def test_a_detector_is_named_and_mappings_may_overlap():
    """A channel that sees a concept's pixels has an intersection over union of 1; names come from the mappings."""
    data = []
    for image, numbers in pairs(12, seed=1):
        image = image / 2
        image[0][numbers == 2] += 1
        data.append((image, {"two": (numbers == 2).numpy(), "any": numbers > 0, "never here": numbers > 9}))
    model = nn.Conv2d(3, 2, 1)
    model.weight.data.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[:, :, None, None])
    share = float(np.mean([masks["two"].mean() for _, masks in data]))
    found = align(model, data, "", concepts=["any", "two"], quantile=share)[""]
    assert found.concepts == ("any", "two")
    assert found.best[0] == 1
    assert found.iou[0, 1] > 0.98
    assert found.margin[0, 1] > 0.7
    assert abs(found.margin[1]).max() < 0.05
    assert "two" in repr(found).splitlines()[2]
    assert "<table" in found._repr_html_()


def test_margins_are_around_zero_without_relation():
    """For random images the margin of a channel is as often above zero as below, and within chance."""
    found = align(ZOO["chain"].model(), pairs(60, concepts=4), "conv1", quantile=0.05, seed=3)["conv1"]
    scores = found.margin / found.spread
    assert abs(scores.mean()) < 1.0
    assert 0.2 < (found.margin > 0).mean() < 0.8
    assert abs(found.margin).max() < 0.03


def test_place_and_frequency_are_no_alignment():
    """A concept at the same place in every image has the intersection of the control: the margin is zero."""
    left = torch.zeros(12, 12, dtype=torch.int64)
    left[:, :6] = 1
    data = [(image.clone(), left) for image, _ in pairs(8)]
    for image, _ in data:
        image[:, :, :6] += 1
    model = nn.Conv2d(3, 2, 1)
    nn.init.ones_(model.weight)
    found = align(model, data, "", quantile=0.3)[""]
    assert found.iou.max() > 0.2
    assert abs(found.margin).max() == 0


def test_dead_channels_and_layers_without_place():
    """A channel without active units has no best concept; layers that see the whole image are left out, or an error."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 2, 1))
    model[0].bias.data.copy_(torch.tensor([-100.0, 1.0]))
    found = align(model, pairs(6), at="output", quantile=0.1)
    assert list(found) == ["0"]
    assert "have no place in the image" in found.left_out["3"]
    assert "Left out: 3" in repr(found)
    dead = align(model, pairs(6), "1", quantile=0.1)["1"]
    assert dead.best.tolist()[0] == -1
    assert dead.best_margin[0] == 0
    assert "never active" in repr(dead)
    with pytest.raises(sp.UnsupportedOutputError, match="Layer '3' .*|The units of layer '3' have no place"):
        align(model, pairs(6), "3")


def test_volumes_signals_and_functions():
    """Masks have the axes of the images; samples of any form are read by functions."""
    signal = [(torch.rand(2, 20), torch.arange(20) % 3) for _ in range(3)]
    assert align(ZOO["1-d"].model(), signal, "0", quantile=0.2)["0"].units == 16
    model = ZOO["chain"].model()
    plain = align(model, pairs(5), "conv1", quantile=0.1)["conv1"]
    samples = [{"x": image, "truth": masks} for image, masks in pairs(5)]
    read = align(
        model,
        samples,
        "conv1",
        quantile=0.1,
        image=lambda sample: sample["x"] - 1,
        masks=lambda sample: sample["truth"],
        forward=lambda net, images: net(images + 1),
    )["conv1"]
    assert (read.iou == plain.iou).all()


def test_thresholds_and_reducer():
    """At most the share of values lies from the threshold on; counts obey the law of reducers."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2000, 3, generator=generator)
    histogram = sp.Histogram(4096)
    histogram.update(values, torch.arange(2000))
    thresholds = find_thresholds(histogram.result(), 0.01)
    counts = (values >= thresholds).sum(0)
    assert (counts <= 20).all()
    assert (counts >= 18).all()
    held = (torch.arange(64)[:, None, None] % 3 == torch.arange(3)[:, None]).expand(64, 3, 20)
    check_reducer(lambda: Overlap(torch.zeros(3), torch.arange(20), lambda samples: held[samples % 64][None]))


def masked(mask):
    """Return two random images with this mask."""
    return [(torch.rand(3, 8, 8), mask)] * 2


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (masked(torch.ones(8, 9).long()), {}, "The mask of sample 0 is .8, 9., and its image has 8 x 8 pixels"),
        (masked(torch.rand(8, 8)), {}, "is of float32: pass a tensor of concept numbers"),
        (masked(torch.zeros(8, 8).long()), {}, "has a pixel of any concept"),
        (masked(torch.eye(8).long()), {"concepts": ["a", "b"]}, "has a pixel of concept 'b'"),
        (masked(2 * torch.eye(8).long()), {"concepts": ["a"]}, "must be 1 to 1, as many as concepts names"),
        (masked(-torch.eye(8).long()), {}, "numbers -1 to -1: they must be 1 and more"),
        (masked({1: torch.ones(8, 8) > 0}), {}, "name a concept 1: use strings"),
        (masked(torch.eye(8).long())[:1], {}, "data holds 1 image: the control takes masks"),
        ({"a": 1}, {}, "data raised KeyError: 0 for sample 0"),
        ([torch.rand(3, 8, 8)] * 2, {}, "Sample 0 is a Tensor, and its masks are not known"),
        (iter([]), {}, "which is read several times, by position"),
        (pairs(2), {"quantile": 1.0}, "quantile must be between 0 and 1"),
        (pairs(2), {"concepts": ["a", "a"]}, "concepts must be different names"),
        (pairs(2), {"masks": lambda sample: sample["mask"]}, "masks= raised TypeError"),
        ([*pairs(1), *pairs(1, side=15)], {}, "Sample 1 is an image of 15 x 15 pixels, sample 0 one of 12 x 12"),
    ],
    ids=range(15),
)
def test_wrong_arguments(data, options, message):
    """Each is refused by an error that says what to pass."""
    with pytest.raises(sp.ArgumentError, match=message):
        align(nn.Conv2d(3, 2, 3), data, "", **options)
