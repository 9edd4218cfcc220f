"""A small network trained on the drawn patterns: trained in seconds, once for all examples that show it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache

import torch
from data import ImageData, load
from simple_cnn import SimpleCNN
from torch import nn
from training import train


def patterns() -> ImageData:
    """Return the drawn patterns that the examples share."""
    return _patterns()


def trained(make: Callable[[], nn.Module] = SimpleCNN) -> nn.Module:
    """Return a network of this class after one pass over the patterns, in evaluation mode; a copy for each call."""
    return deepcopy(_trained(make))


def forget() -> None:
    """Draw and train anew at the next call."""
    _patterns.cache_clear()
    _trained.cache_clear()


@cache
def _patterns() -> ImageData:
    return load()


@cache
def _trained(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
    train(model, _patterns().train_images, _patterns().train_labels, epochs=1, seed=0)
    return model.eval()
