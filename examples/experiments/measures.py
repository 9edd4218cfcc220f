"""The measurements of the networks of one seed: plain numbers, so that they can be stored and averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from data import ImageData
from experiments import answers, dead, similarity, trials
from experiments.trials import Trained, Trial
from torch import nn
from training import as_input, evaluate

import spatialprobe as sp
from spatialprobe.examples import patterns

FEW, MANY, MOST = 32, 256, 2000  # images for gradients, for comparisons, and for sweeps and linear probes
PIXEL = (16, 16)
EXEMPLARS = 9
MASKED = 1000  # drawn patterns with masks, of which one half chooses and the other measures
QUANTILE = 0.05  # of a channel's units that count as active
# In units of the layer's stride, which is 1 for conv1 and 2 for conv2: whole ones, and half of one.
SHIFTS = {"conv1": {"multiple": (2, 4)}, "conv2": {"multiple": (2, 4), "between": (1, 3)}}
CPU = torch.device("cpu")


def of_seed(seed: int, other: int | None, have: Mapping[Trial, Trained], data: ImageData) -> dict[str, Any]:
    """Return everything that the claims need of one seed; its network is compared with that of the `other` seed."""

    def network(kind: str, seed: int = seed) -> nn.Module:
        trial = Trial(kind, seed)
        return trials.restored(trial, have[trial], len(data.classes))

    cnn, mlp, random = network(trials.CNN), network(trials.MLP_PLAIN), untrained(seed, len(data.classes))
    others = {"random": random, "permuted": network(trials.PERMUTED)}
    if other is not None:
        others["seed"] = network(trials.CNN, other)
    swept = as_input(data.test_images[:MOST], CPU)
    images = swept[:MANY]
    return {
        "accuracy": {kind: have[Trial(kind, seed)].test.accuracy for kind in trials.KINDS},
        "footprint": footprints(cnn, mlp, images[:FEW]),
        "equivariance": shift_errors(cnn, mlp, images),
        "surgery": surgery(cnn, data, seed),
        "selectivity": {
            "trained": selectivity(cnn),
            "random": selectivity(random),
            "permuted": selectivity(network(trials.PERMUTED)),
        },
        "similarity": similarity.matrices(cnn, others, swept),
        "coherence": {"trained": coherences(cnn, data, seed), "untrained": coherences(random, data, seed)},
        "alignment": {"trained": alignments(cnn, seed), "untrained": alignments(random, seed)},
        "synthesis": synthesis(cnn, data, seed),
        "answers": answers.deletions(cnn, images, seed),
        "dead": dead.dead_channels(cnn, random, swept),
    }


def untrained(seed: int, classes: int, depth: int = 2) -> nn.Module:
    """Return the network of a seed before training."""
    return trials.beginning(Trial(trials.CNN, seed, depth), classes).eval()


def footprints(cnn: nn.Module, mlp: nn.Module, images: torch.Tensor) -> dict[str, Any]:
    """Return for each layer the units that one pixel changes, those predicted, and whether they are the same."""
    found = {}
    for name, model, layer in (("conv1", cnn, "conv1"), ("conv2", cnn, "conv2"), ("mlp", mlp, "fc1")):
        print_ = sp.evidence.footprint(model, images, layer, PIXEL)
        found[name] = {
            "changed": int(print_.changed.sum()),
            "predicted": int(print_.predicted.sum()),
            "units": print_.changed.size,
            "equal": print_.equal,
            "n": print_.n,
        }
    return found


def shift_errors(cnn: nn.Module, mlp: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Return the mean relative error of each layer at each shift."""
    found = {
        f"{layer}, {kind}": sp.evidence.equivariance_error(cnn, images, layer, shift).mean
        for layer, shifts in SHIFTS.items()
        for kind, shift in shifts.items()
    }
    found["mlp"] = sp.evidence.equivariance_error(mlp, images, "fc1", SHIFTS["conv1"]["multiple"]).mean
    return found


def surgery(cnn: nn.Module, data: ImageData, seed: int) -> dict[str, float]:
    """Return the test accuracy with kernels averaged or shuffled and the head as it was trained."""
    found = {}
    for how in ("mean", "shuffle"):
        for name, layers in (("conv1", "conv1"), ("conv2", "conv2"), ("both", nn.Conv2d)):
            changed = sp.evidence.kernel_surgery(cnn, layers, how=how, seed=seed)
            found[f"{how}, {name}"] = evaluate(changed, data.test_images, data.test_labels).accuracy
    return found


def selectivity(model: nn.Module) -> float:
    """Return the mean orientation selectivity of conv1's channels."""
    return float(sp.evidence.orientation_tuning(model, "conv1").selectivity.mean())


def coherences(cnn: nn.Module, data: ImageData, seed: int) -> dict[str, dict[str, float]]:
    """Return the similarity of the exemplars of each convolution's channels, and that of random patches."""
    images = as_input(data.test_images[:MOST], CPU)
    found = {}
    for layer, results in exemplars(cnn, images).items():
        field = sp.receptive_fields(cnn, images[:1], layers=layer, at="post_activation")[layer]
        coherence = sp.evidence.patch_coherence(results["top"], images, field, seed=seed)
        found[layer] = {"exemplars": coherence.mean, "random": coherence.random, "channels": coherence.n}
    return found


def alignments(cnn: nn.Module, seed: int) -> dict[str, dict[str, Any]]:
    """Return how well each convolution's channels align with motifs of the drawn patterns, whatever it was trained on.

    As in Bau et al. 2017 the images with masks are a set of their own. Each channel's best motif is chosen on one half
    of them, and measured on the other; it is named only where it exceeds those of other images by twice their spread.
    """
    images, _, masks = patterns.draw_masked_patterns(MASKED, seed=1000 + seed)  # seen by no network in training
    pairs, half = list(zip(images, masks, strict=True)), MASKED // 2
    align = partial(sp.evidence.concept_alignment, cnn, concepts=patterns.CLASSES, quantile=QUANTILE, progress=False)
    chosen, measured = align(pairs[:half]), align(pairs[half:])
    found = {}
    for layer, one in measured.items():
        best = chosen[layer].best
        rows = np.flatnonzero(best >= 0)
        named = np.zeros(len(best), np.bool_)
        named[rows] = one.margin[rows, best[rows]] > 2 * one.spread[rows, best[rows]]
        found[layer] = {
            "own": float(one.iou[rows, best[rows]].mean()),
            "others": float(one.control[rows, best[rows]].mean()),
            "best": [one.concepts[best[channel]] if named[channel] else None for channel in range(len(best))],
        }
    return found


def synthesis(cnn: nn.Module, data: ImageData, seed: int) -> dict[str, float]:
    """Return the share of each convolution's channels that a synthesized image drives beyond the best test image."""
    images = as_input(data.test_images[:MOST], CPU)
    top = sp.sweep(cnn, images, {"top": partial(sp.Exemplars, k=1)}, batch_size=500, progress=False)
    found = {}
    for layer in top:
        made = sp.maximize_activation(
            cnn, layer, shape=tuple(images.shape[1:]), exemplars=top[layer]["top"], seed=seed, progress=False
        )
        assert made.best_real is not None
        found[layer] = float((made.reached > made.best_real).float().mean())
    return found


def exemplars(cnn: nn.Module, images: torch.Tensor) -> sp.SweepResult:
    """Return each channel's top-activating images."""
    top = partial(sp.Exemplars, k=EXEMPLARS)
    return sp.sweep(cnn, images, {"top": top}, at="post_activation", batch_size=500, progress=False)


def along_layers(
    model: nn.Module, blank: nn.Module, layers: Sequence[str], data: ImageData
) -> dict[str, dict[str, Any]]:
    """Return for each layer field, effective field, sparsity, and linear-probe accuracies, also untrained."""
    images = as_input(data.test_images[:MOST], CPU)
    fields = sp.receptive_fields(model, images[:1], layers=list(layers))
    swept = sp.sweep(
        model,
        images,
        {"moments": sp.Moments},
        layers=list(layers),
        at="post_activation",
        batch_size=500,
        progress=False,
    )
    found = {}
    for layer in layers:
        effective = sp.effective_receptive_field(model, images[:FEW], layer)
        found[layer] = {
            "field": fields[layer].size[0],
            "stride": fields[layer].stride[0],
            "effective": {str(mass): side for mass, side in effective.sides.items()},
            "std": float(np.mean(effective.std)),
            "sparsity": float(swept[layer]["moments"].zero_fraction.mean()),
            "probe": read_off(model, layer, data),
            "untrained probe": read_off(blank, layer, data),
        }
    return found


def read_off(model: nn.Module, layer: str, data: ImageData) -> float:
    """Return the accuracy of a linear probe on a layer after its ReLU."""
    return sp.evidence.linear_probe(
        model,
        as_input(data.train_images[:MOST], CPU),
        data.train_labels[:MOST],
        layer,
        test_images=as_input(data.test_images[:MOST], CPU),
        test_labels=data.test_labels[:MOST],
        at="post_activation",
        grid=2,
    ).accuracy
