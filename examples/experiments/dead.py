"""Channels that training has killed: which, and how much of it their bias did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from experiments.verdicts import Findings
from torch import nn

import spatialprobe as sp


def dead_channels(cnn: nn.Module, before: nn.Module, images: torch.Tensor) -> dict[str, Any]:
    """Return for each convolution how many channels it has, and the dead ones, whose output is never above zero.

    Of each dead channel: the largest output that any unit has in the images, before and after training, and what its
    bias has changed. An output is a weighted sum and the bias, so the rest of the change is that of the largest sum.
    """
    first, last = _largest(before, images), _largest(cnn, images)
    return {layer: _of_layer(cnn, before, layer, first[layer], last[layer]) for layer in last}


def _largest(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    swept = sp.sweep(model, images, {"moments": sp.Moments}, batch_size=500, progress=False)
    return {layer: swept[layer]["moments"].maximum for layer in swept}


def _of_layer(cnn: nn.Module, before: nn.Module, layer: str, first: torch.Tensor, last: torch.Tensor) -> dict[str, Any]:
    biases = [model.get_submodule(layer).get_parameter("bias").detach() for model in (before, cnn)]
    return {
        "channels": len(last),
        "dead": {
            str(channel): {
                "before": float(first[channel]),
                "after": float(last[channel]),
                "bias": float(biases[1][channel] - biases[0][channel]),
            }
            for channel in (last <= 0).nonzero().flatten().tolist()
        },
    }


def count_dead(found: Mapping[str, Any]) -> int:
    """Return how many channels are dead, in all layers of `dead_channels`."""
    return sum(len(layer["dead"]) for layer in found.values())


def sentences(findings: Findings, images: int) -> list[str]:
    """Return which channels are dead in the networks of which seeds, and why, as measured on so many test images."""
    by_seed = {seed: found["dead"] for seed, found in zip(findings.seeds, findings.of_seed, strict=True)}
    dead = [one for found in by_seed.values() for layer in found.values() for one in layer["dead"].values()]
    if not dead:
        return [f"On {images:,} test images no channel of a SimpleCNN is dead."]
    named = "; ".join(f"seed {seed}: {_names(found)}" for seed, found in by_seed.items() if count_dead(found))
    channels = sum(layer["channels"] for found in by_seed.values() for layer in found.values())
    return [
        f"{len(dead)} of the {channels} channels of the SimpleCNNs are dead: their output is above zero at no unit in "
        f"{images:,} test images ({named}). Behind the ReLU they are zero, and so is the gradient that could revive "
        "them.",
        _reason(dead),
    ]


def _names(found: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{layer} channel{'s' * (len(one['dead']) > 1)} {' and '.join(one['dead'])}"
        for layer, one in found.items()
        if one["dead"]
    )


def _reason(dead: Sequence[Mapping[str, float]]) -> str:
    first, last, bias = (fmean(one[name] for one in dead) for name in ("before", "after", "bias"))
    rest = last - first - bias
    return (
        f"Before training their largest output before the ReLU was {first:.2f} on average, and after it {last:.2f}. "
        f"Of this change of {last - first:+.2f}, {bias:+.2f} comes from their bias and {rest:+.2f} from their weights "
        "and inputs."
    )
