"""The drawn patterns: reproducible, balanced, and told apart only by how neighboring pixels relate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spatialprobe.examples import patterns


@pytest.fixture(scope="module")
def drawn():
    """Training and held-out images, as numbers in -0.5 to 0.5, one row an image."""
    return [
        (images.reshape(len(images), -1).astype(np.float32) / 255 - 0.5, labels)
        for images, labels in (patterns.draw(4000, 0), patterns.draw(1000, 1))
    ]


def test_same_seed_same_images():
    """A seed draws the same images bit for bit; another seed draws others."""
    images, labels = patterns.draw(50, 3)
    again, labels_again = patterns.draw(50, 3)
    assert np.array_equal(images, again)
    assert np.array_equal(labels, labels_again)
    assert not np.array_equal(images, patterns.draw(50, 4)[0])


@pytest.mark.parametrize("count", [1, 10, 237])
def test_shapes_and_balance(count):
    """Images and labels have the promised form, and no class has two more images than another."""
    images, labels = patterns.draw(count, 0)
    assert (images.shape, images.dtype) == ((count, 3, 32, 32), np.uint8)
    assert (labels.shape, labels.dtype) == ((count,), np.int64)
    assert np.ptp(np.bincount(labels, minlength=10)) <= 1


def test_order_is_random():
    """The classes come shuffled, so that the first hundred images hold all of them."""
    assert set(patterns.draw(1000, 0)[1][:100]) == set(range(10))


def test_linear_classifier_fails(drawn):
    """Ridge regression on pixels, the best of several strengths, stays below 25 % on held-out images."""
    (images, labels), (held_out, answers) = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in drawn]
    gram, targets = images.T @ images, images.T @ nn.functional.one_hot(labels).float()
    accuracies = []
    for strength in (1, 100, 10_000):
        factor = torch.linalg.cholesky(gram + strength * torch.eye(len(gram)))
        scores = held_out @ torch.cholesky_solve(targets, factor)
        accuracies.append((scores.argmax(1) == answers).float().mean())
    assert max(accuracies) < 0.25


def test_small_perceptron_fails(drawn):
    """A network of fully connected layers learns its training images, but stays below 25 % on held-out ones."""
    (images, labels), (held_out, answers) = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in drawn]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3072, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(7):
            for index in torch.randperm(len(images)).split(100):
                loss = nn.functional.cross_entropy(model(4 * images[index]), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    assert (model(4 * images).argmax(1) == labels).float().mean() > 0.9
    assert (model(4 * held_out).argmax(1) == answers).float().mean() < 0.25


def test_colors_do_not_tell_the_class(drawn):
    """The nearest class mean of each image's color statistics is right hardly more often than chance."""
    features = []
    for images, labels in drawn:
        colors = images.reshape(len(images), 3, -1)
        features.append((np.concatenate([colors.mean(2), colors.std(2), np.abs(colors).mean(2)], axis=1), labels))
    (train, labels), (test, answers) = features
    means = np.stack([train[labels == label].mean(axis=0) for label in range(10)])
    nearest = np.linalg.norm((test[:, None] - means) / train.std(axis=0), axis=2).argmin(axis=1)
    assert np.mean(nearest == answers) < 0.2


@pytest.mark.parametrize("arguments", [(0, 0), (-1, 0), (10, 0, 4)])
def test_nothing_to_draw(arguments):
    """No images, or images too small for a pattern, are refused."""
    with pytest.raises(ValueError, match="at least one image of at least 8 x 8"):
        patterns.draw(*arguments)
