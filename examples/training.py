"""The reference training procedure of the study, and the evaluation that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

BATCH_SIZE = 4
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Score:
    """The loss and accuracy of a model on some images."""

    loss: float  # mean cross-entropy, nats
    accuracy: float  # share of right answers, 0 to 1
    images: int  # how many


def as_input(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return uint8 images (N, 3, H, W) as the networks take them: float32 in [0, 1]."""
    return images.to(device).float() / 255


def train(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int,
    seed: int,
    batches: int | None = None,
    tick: Callable[[], object] | None = None,
) -> list[Score]:
    """Return one score an epoch, over the training images: batches of 4, shuffled, Adam, cross-entropy.

    `batches` ends every epoch after so many; the model is changed and left in training mode. A bar shows how far it
    is, unless `tick` is called after each batch instead.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    order = torch.Generator().manual_seed(seed)
    scores = []
    model.train()
    for epoch in range(1, epochs + 1):
        chosen = torch.randperm(len(images), generator=order).split(BATCH_SIZE)[:batches]
        loss_sum = right = seen = 0.0
        with tqdm(chosen, desc=f"epoch {epoch}/{epochs}", unit="batch", disable=True if tick else None) as progress:
            for index in progress:
                answers = labels[index].to(device)
                logits = model(as_input(images[index], device))
                loss = F.cross_entropy(logits, answers)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss_sum += loss.item() * len(index)
                right += (logits.argmax(1) == answers).sum().item()
                seen += len(index)
                if tick:
                    tick()
        scores.append(Score(loss_sum / seen, right / seen, int(seen)))
    return scores


@torch.no_grad()
def evaluate(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Score:
    """Return the model's score in evaluation mode; it is left in that mode."""
    device = next(model.parameters()).device
    model.eval()
    loss_sum = right = 0.0
    for some, answers in _batches(images, labels, 500):
        logits = model(as_input(some, device))
        answers = answers.to(device)
        loss_sum += F.cross_entropy(logits, answers, reduction="sum").item()
        right += (logits.argmax(1) == answers).sum().item()
    return Score(loss_sum / len(images), right / len(images), len(images))


def _batches(images: torch.Tensor, labels: torch.Tensor, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(images.split(size), labels.split(size), strict=True)
