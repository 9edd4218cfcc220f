"""The networks that are trained: which, on what, and from which initialization."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from data import SIZE, ImageData
from experiments.workers import Procedure
from simple_cnn import MLP, DeepCNN, SimpleCNN
from torch import nn
from training import Score, evaluate, train

import spatialprobe as sp

# The kernels of these are taken from the trained network, or drawn, and frozen; a fresh head is trained on them.
HEADS = ("trained kernels, new head", "averaged kernels, new head", "shuffled kernels, new head")
CNN, RANDOM, PERMUTED = "cnn", "random kernels, new head", "cnn on permuted pixels"
MLP_PLAIN, MLP_PERMUTED = "mlp", "mlp on permuted pixels"
KINDS = (CNN, PERMUTED, MLP_PLAIN, MLP_PERMUTED, RANDOM, *HEADS)


@dataclass(frozen=True)
class Trial:
    """A network to train."""

    kind: str
    seed: int
    depth: int = 2

    @property
    def needs(self) -> tuple[Trial, ...]:
        """The trial whose trained network this one begins with."""
        return (Trial(CNN, self.seed),) if self.kind in HEADS else ()

    @property
    def permuted(self) -> bool:
        """Whether it sees its images with their pixels in another order."""
        return self.kind in (PERMUTED, MLP_PERMUTED)

    def work(self, steps: int) -> float:
        """Return the approximate milliseconds of work on one core, from which the remaining time is estimated."""
        return steps * self._cost

    @property
    def _cost(self) -> float:
        if self.kind in (MLP_PLAIN, MLP_PERMUTED):
            return 0.8
        if self.kind in (RANDOM, *HEADS):
            return 1.5
        return {1: 3.0, 2: 2.2, 3: 2.8, 4: 4.5}.get(self.depth, 6.3 + 1.0 * (self.depth - 6))

    def run(
        self, data: ImageData, procedure: Procedure, have: Mapping[Trial, Trained], tick: Callable[[float], object]
    ) -> Trained:
        """Train and test the network."""
        source = restored(self.needs[0], have[self.needs[0]], len(data.classes)) if self.needs else None
        model = beginning(self, len(data.classes), source).to(procedure.device)
        train_images, test_images = data.train_images, data.test_images
        if self.permuted:
            rearranged = permutation(self.seed)
            train_images, test_images = rearranged(train_images), rearranged(test_images)
        scores = train(
            model,
            train_images,
            data.train_labels,
            epochs=procedure.epochs,
            seed=self.seed,
            batches=procedure.batches,
            tick=lambda: tick(self._cost),
        )
        test = evaluate(model, test_images, data.test_labels)
        state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        return Trained(state, tuple(scores), test)

    def __str__(self) -> str:
        name = self.kind if self.depth == 2 else f"{self.kind} of depth {self.depth}"
        return f"{name}, seed {self.seed}"


@dataclass(frozen=True)
class Trained:
    """The result of a trial."""

    state: Mapping[str, torch.Tensor]
    train: tuple[Score, ...]  # one an epoch
    test: Score


def plan(seeds: tuple[int, ...], depths: tuple[int, ...]) -> list[Trial]:
    """Return all trials: those that pictures and other trials need first, then the longest."""
    deep = [Trial(CNN, seed, depth) for depth in sorted(depths, reverse=True) if depth != 2 for seed in seeds]
    return [*(Trial(CNN, seed) for seed in seeds), *deep, *(Trial(kind, seed) for kind in KINDS[1:] for seed in seeds)]


def permutation(seed: int) -> sp.evidence.PixelPermutation:
    """Return the order of pixels that belongs to a seed."""
    return sp.evidence.PixelPermutation(SIZE, SIZE, seed=seed)


def beginning(trial: Trial, classes: int, trained: nn.Module | None = None) -> nn.Module:
    """Return the network before training; `trained` is the one that it needs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        if trial.kind in (MLP_PLAIN, MLP_PERMUTED):
            return MLP(classes)
        model = SimpleCNN(classes) if trial.depth == 2 else DeepCNN(trial.depth, classes)
    if trial.kind == RANDOM:
        return sp.evidence.frozen_copy(model, seed=trial.seed + 1000)  # other kernels than those of its seed's CNN
    if trial.kind in HEADS:
        if trained is None:
            raise ValueError(f"{trial} needs a trained network.")
        return with_kernels_of(changed(trained, trial.kind, trial.seed), model)
    return model


def changed(trained: nn.Module, kind: str, seed: int) -> nn.Module:
    """Return the trained network with its kernels as they are, averaged or shuffled."""
    if kind == HEADS[0]:
        return trained
    return sp.evidence.kernel_surgery(trained, nn.Conv2d, how="mean" if kind == HEADS[1] else "shuffle", seed=seed)


def with_kernels_of(source: nn.Module, model: nn.Module) -> nn.Module:
    """Return the model with the source's convolutions, which do not train."""
    kernels = dict(source.named_parameters())
    for name, parameter in model.named_parameters():
        if name.startswith("conv"):
            parameter.requires_grad_(False).copy_(kernels[name].detach())
    return model


def restored(trial: Trial, trained: Trained, classes: int) -> nn.Module:
    """Return the trained network of a trial, in evaluation mode, on the CPU."""
    model: nn.Module
    if trial.kind in (MLP_PLAIN, MLP_PERMUTED):
        model = MLP(classes)
    else:
        model = SimpleCNN(classes) if trial.depth == 2 else DeepCNN(trial.depth, classes)
    model.load_state_dict(trained.state)
    return model.eval()
