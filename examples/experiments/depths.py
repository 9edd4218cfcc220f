"""The same network with more convolutions: the change of maps, fields and numbers with depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from data import ImageData
from experiments import measures, similarity, trials
from experiments.trials import CNN, Trained, Trial
from experiments.verdicts import number, percent
from training import as_input

import spatialprobe as sp

SHOWN = 4  # channels of each depth in the figure, so that four depths stand side by side


def of_depth(depth: int, seed: int, have: Mapping[Trial, Trained], data: ImageData) -> dict[str, Any]:
    """Return the results of `measures.along_layers` for one network, with its size and accuracy."""
    trial = Trial(CNN, seed, depth)
    model = trials.restored(trial, have[trial], len(data.classes))
    blank = measures.untrained(seed, len(data.classes), depth)
    return {
        "accuracy": have[trial].test.accuracy,
        "train_accuracy": have[trial].train[-1].accuracy,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        # Of the SimpleCNN, the network that the claims are about, every layer; of others the last.
        "similarity": similarity.matrices(
            model,
            {"itself": model},
            as_input(data.test_images[: measures.MOST], measures.CPU),
            [f"conv{number}" for number in range(1, depth + 1)],
        )["itself"],
        "layers": measures.along_layers(model, blank, ["conv1", "conv2"] if depth == 2 else [f"conv{depth}"], data),
    }


def figure(
    depths: Sequence[int], seed: int, have: Mapping[Trial, Trained], classes: int, image: torch.Tensor
) -> sp.Evolution:
    """Return the maps of the last convolution of every depth for one image (3, H, W), side by side."""
    records = {}
    for depth in depths:
        trial, layer = Trial(CNN, seed, depth), f"conv{depth}"
        model = trials.restored(trial, have[trial], classes)
        found = sp.capture(model, as_input(image[None], measures.CPU), layers=layer, at="post_activation")
        records[f"depth {depth}: {layer}"] = found[layer]
    return sp.evolution(records, order="max", limit=SHOWN, scale="robust")


def table(found: Mapping[int, Sequence[Mapping[str, Any]]]) -> list[tuple[str, ...]]:
    """Return a row for each depth, from `of_depth` of every seed: numbers of the last convolution, mean and spread."""
    rows: list[tuple[str, ...]] = [
        (
            "convolutions",
            "parameters",
            "test accuracy",
            "field (pixels)",
            "square with half of its effect",
            "with 99 %",
            "zeros after ReLU",
            "linear probe",
            "probe, untrained",
        )
    ]
    for depth, seeds in found.items():
        last = [list(one["layers"].values())[-1] for one in seeds]
        rows.append(
            (
                str(depth),
                f"{seeds[0]['parameters']:,}",
                percent([one["accuracy"] for one in seeds]),
                f"{last[0]['field']}, stride {last[0]['stride']}",
                number([one["effective"]["0.5"] for one in last]),
                number([one["effective"]["0.99"] for one in last]),
                percent([one["sparsity"] for one in last]),
                percent([one["probe"] for one in last]),
                percent([one["untrained probe"] for one in last]),
            )
        )
    return rows


def sentences(found: Mapping[int, Sequence[Mapping[str, Any]]], chance: float, test_images: int) -> list[str]:
    """Return the conclusions from the table, in words; networks that did not learn are named."""
    best = max(found, key=lambda depth: sum(one["accuracy"] for one in found[depth]))
    words = [
        f"The highest mean test accuracy is that of {best} convolutions: "
        f"{percent([one['accuracy'] for one in found[best]])}."
    ]
    limit = chance + 2 * (chance * (1 - chance) / test_images) ** 0.5
    for depth, seeds in found.items():
        stuck = sum(one["accuracy"] <= limit for one in seeds)
        if stuck:
            words.append(f"With {depth} convolutions {stuck} of {len(seeds)} networks did no better than chance.")
    return words
