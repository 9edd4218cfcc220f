"""Linear probes: the optimum of a convex problem, right where a line separates and at chance where nothing does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp
from spatialprobe.evidence import linear_probe
from spatialprobe.evidence.probing import _fit


def stripes(count, seed=0):
    """Images of upright and lying stripes, with noise, and which they are."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    wave = torch.sin(torch.arange(12.0) * 2).expand(12, 12)
    images = torch.where(labels[:, None, None] == 1, wave, wave.T) + 0.3 * torch.randn(
        count, 12, 12, generator=generator
    )
    return images[:, None], labels


def probe(model, layer, train=None, test=None, **options):
    (images, labels), (test_images, test_labels) = train or stripes(80), test or stripes(60, 1)
    return linear_probe(model, images, labels, layer, test_images=test_images, test_labels=test_labels, **options)


def edges():
    """A convolution that tells upright from lying edges, and a ReLU."""
    conv = nn.Conv2d(1, 2, 3, bias=False)
    across = torch.tensor([[-1.0, 0.0, 1.0]] * 3)
    conv.weight.data.copy_(torch.stack([across, across.T])[:, None])
    return nn.Sequential(conv, nn.ReLU())


def test_reads_what_is_there_and_no_more():
    """Rectified edges tell stripes apart; means of a linear filter do not, nor can random labels be read off."""
    found = probe(edges(), "0", at="post_activation")
    assert found.accuracy == found.mean == 1.0
    assert (found.n, found.train_n, found.features) == (60, 80, 2)
    assert probe(edges(), "1").accuracy == 1.0
    assert probe(edges(), "0").accuracy < 0.75
    generator = torch.Generator().manual_seed(5)
    shuffled = [
        (images, labels[torch.randperm(len(labels), generator=generator)])
        for images, labels in (stripes(80), stripes(60, 1))
    ]
    assert probe(edges(), "1", *shuffled).accuracy < 0.75


def test_values_are_the_single_answers():
    """`values` is one for each right answer, and `spread` theirs."""
    found = probe(edges(), "0")
    assert set(found.values.tolist()) == {0.0, 1.0}
    assert found.spread == pytest.approx((found.mean * (1 - found.mean)) ** 0.5)


def test_fit_is_the_optimum():
    """Gradient of the penalised cross-entropy, written out, is zero; and plain gradient descent comes to the same."""
    torch.manual_seed(0)
    features, labels = torch.randn(60, 5, dtype=torch.float64), torch.randint(0, 3, (60,))
    weights, bias = _fit(features, labels, 3, 0.01)
    error = (features @ weights + bias).softmax(1) - F.one_hot(labels, 3)
    assert (features.T @ error / 60 + 0.01 * weights).abs().max() < 1e-4
    assert error.mean(0).abs().max() < 1e-4
    slow, offset = torch.zeros(5, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for _ in range(4000):
        error = (features @ slow + offset).softmax(1) - F.one_hot(labels, 3)
        slow -= 0.5 * (features.T @ error / 60 + 0.01 * slow)
        offset -= 0.5 * error.mean(0)
    assert torch.allclose(weights, slow, atol=1e-3)


def test_pooling_to_a_grid():
    """With a grid each cell's mean is a feature: where a spot is can be read off only then."""
    generator = torch.Generator().manual_seed(0)
    images, labels = 0.1 * torch.rand(80, 1, 8, 8, generator=generator), torch.arange(80) % 2
    images[labels == 0, 0, 1, 1] += 1
    images[labels == 1, 0, 6, 6] += 1
    pair = (images, labels)
    assert probe(nn.Conv2d(1, 1, 1), "", pair, pair, grid=2).features == 4
    assert probe(nn.Conv2d(1, 1, 1), "", pair, pair, grid=2).accuracy == 1.0
    assert probe(nn.Conv2d(1, 1, 1), "", pair, pair).accuracy < 0.8


def test_layers_of_other_shapes():
    """Fully connected units are read as they are; one and three axes are pooled as two; dead features say nothing."""
    flat = nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.ReLU())
    assert probe(flat, "1").features == 16
    for conv, shape in ((nn.Conv1d(1, 2, 3), (1, 9)), (nn.Conv3d(1, 2, 2), (1, 4, 4, 4))):
        images, labels = torch.rand(20, *shape), torch.arange(20) % 2
        assert probe(conv, "", (images, labels), (images, labels)).features == 2
    dead = nn.Conv2d(1, 2, 3)
    nn.init.zeros_(dead.weight)
    assert probe(dead, "").accuracy == 0.5


def test_batches_and_repetition_change_nothing():
    """The same result in batches of any size, and every time."""
    first = probe(edges(), "1")
    assert probe(edges(), "1", batch_size=7).values.tolist() == first.values.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": (torch.rand(4, 1, 12, 12), torch.zeros(4).long())}, "at least two classes"),
        ({"train": (torch.rand(4, 1, 12, 12), torch.zeros(3).long())}, r"int64 \(4,\)"),
        ({"train": (torch.rand(4, 1, 12, 12), torch.zeros(4))}, "float32"),
        ({"train": (torch.rand(4, 1, 12, 12), torch.tensor([0, 1, -1, 0]))}, "negative"),
        ({"test": (torch.zeros(4, 1, 12, 12).byte(), torch.zeros(4).long())}, "floating-point"),
        ({"grid": 0}, "at least 1"),
        ({"grid": 11}, "more cells than the maps of layer '0' have units, 10 x 10. Pass at most 10"),
        ({"train": (torch.rand(4, 1, 12, 12), torch.zeros(4).int())}, r"torch.as_tensor\(labels\).long\(\)"),
        ({"penalty": 0}, "above 0"),
    ],
)
def test_errors(options, message):
    """What cannot be fitted is said."""
    with pytest.raises(sp.ArgumentError, match=message):
        probe(edges(), "0", **options)


def test_numbers_of_classes_do_not_matter():
    """Classes are told apart by any numbers, however large, and those never learnt are counted apart as wrong."""
    model, (images, labels) = edges(), stripes(40)
    first = probe(model, "1", (images, labels), (images, labels))
    far = probe(model, "1", (images, labels * 10**12), (images, labels * 10**12))
    assert far.values.tolist() == first.values.tolist()
    assert first.unseen == 0
    strange = labels.clone()
    strange[:3] = 7
    found = probe(model, "1", (images, labels), (images, strange))
    assert (found.unseen, found.values[:3].tolist()) == (3, [0, 0, 0])
    assert "3 of classes without training images" in repr(found)


def test_a_layer_that_never_runs():
    """It is said so, without words about blocks and options that this measure does not have."""
    model = edges()
    model.idle = nn.Conv2d(1, 1, 1)
    model.forward = lambda images: nn.Sequential.forward(nn.Sequential(model[0], model[1]), images)
    with pytest.raises(sp.LayerNotRunError, match="Layer 'idle' does not run when Sequential is given these images"):
        probe(model, "idle")


def test_unreadable_layers():
    """A layer unknown, of odd shape or of values that are no number is said."""
    with pytest.raises(sp.LayerNotFoundError, match="No layer named 'fc'"):
        probe(edges(), "fc")
    with pytest.raises(sp.UnsupportedOutputError, match=r"\d+ rows for \d+ samples"):
        probe(nn.Flatten(0), "")
    with pytest.raises(sp.UnsupportedOutputError, match=r"\(80, 1, 144\) for images of 4 axes"):
        probe(nn.Flatten(2), "")
    broken = edges()
    broken[0].weight.data.fill_(torch.inf)
    with pytest.raises(sp.ForwardError, match="infinite"):
        probe(broken, "0")
