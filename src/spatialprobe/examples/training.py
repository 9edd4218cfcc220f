"""A short training loop, for a network of one's own beside the one that ships."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from spatialprobe.arguments import as_int, make_generator

Network = TypeVar("Network", bound=nn.Module)

LEARNING_RATE = 3e-3


def train_network(
    model: Network, images: torch.Tensor, labels: torch.Tensor, *, epochs: int = 1, batch_size: int = 50, seed: int = 0
) -> Network:
    """Return the model, trained in place on images (N, ...) and labels (N,) int64: Adam, cross-entropy.

    The batches are shuffled by the seed. The model is in training mode meanwhile, and in evaluation mode afterwards.

    >>> import spatialprobe as sp
    >>> images, labels = sp.examples.draw_patterns(200)
    >>> model = sp.examples.train_network(sp.examples.PatternNetwork(), images, labels)
    >>> model.training
    False
    """
    epochs, batch_size = as_int(epochs, "epochs", least=0), as_int(batch_size, "batch_size", least=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    order = make_generator(seed)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=order, device="cpu").split(batch_size):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()
