"""A small network that has learnt the drawn patterns: trained in seconds, and once for all examples that show it."""

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
    """The drawn patterns that the examples share."""
    return _patterns()


def trained(make: Callable[[], nn.Module] = SimpleCNN) -> nn.Module:
    """A network of this kind after one pass over the patterns, in evaluation mode; a copy for each call."""
    return deepcopy(_trained(make))


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
