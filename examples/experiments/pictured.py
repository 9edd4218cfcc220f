"""Which network and which image the pictures show, by rules instead of by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from data import SIZE, ImageData
from experiments import measures
from experiments.dead import count_dead, dead_channels
from simple_cnn import SimpleCNN
from torch import nn
from training import as_input

import spatialprobe as sp
from spatialprobe.examples import load_photo

CANDIDATES = 500  # test images among which the shown one is found
EDGE = 2  # units whose field reaches beyond the image, on each side of a map of conv1 or conv2


@dataclass(frozen=True)
class Shown:
    """What the pictures show: a trained network, and an image."""

    seed: int  # of the network
    network: SimpleCNN
    dead: int  # how many channels of its convolutions are dead
    image: torch.Tensor  # uint8 (3, 32, 32)
    about: str  # the image, in words
    ranking: tuple[int, ...] = ()  # test images by the rule, best first; empty where the image is none of them

    @property
    def reason(self) -> str:
        """Why this network."""
        return (
            f"The pictures are of the network in which the fewest channels are dead ({self.dead or 'none'}), that of "
            f"seed {self.seed}."
        )


def choose(networks: Mapping[int, SimpleCNN], data: ImageData, image: int | None) -> Shown:
    """Return the network with the fewest dead channels, of equals the first, and the image that shows most in it.

    `image` is the test image to show instead of the one that `rank_images` finds.
    """
    inputs = as_input(data.test_images[: measures.MOST], measures.CPU)
    dead = {
        seed: count_dead(dead_channels(model, measures.untrained(seed, len(data.classes)), inputs))
        for seed, model in networks.items()
    }
    seed = min(networks, key=lambda seed: dead[seed])
    ranking = rank_images(networks[seed], data) if image is None else _from(image, len(data.test_images))
    label = data.classes[int(data.test_labels[ranking[0]])]
    about = f"one test image ({label}) of {data.name}"
    return Shown(seed, networks[seed], dead[seed], data.test_images[ranking[0]], about, ranking)


def rank_images(model: nn.Module, data: ImageData) -> tuple[int, ...]:
    """Return test images that the network classifies correctly, best first: those in which every map varies most.

    What counts is the geometric mean, over the channels of both convolutions, of a map's standard deviation over that
    channel's mean standard deviation; so an image that leaves a channel without any pattern comes late. The border of
    a map is left out, since it also shows the padding.
    """
    images, labels = as_input(data.test_images[:CANDIDATES], measures.CPU), data.test_labels[:CANDIDATES]
    with torch.no_grad(), sp.Probe(model, at="post_activation") as probe:
        right = model(images).argmax(1) == labels
    maps = [record.tensor[:, :, EDGE:-EDGE, EDGE:-EDGE] for record in probe.values()]
    spread = torch.cat([values.std((2, 3)) for values in maps], dim=1)
    spread = spread[:, spread.mean(0) > 0]  # dead channels tell no image from another
    score = (spread / spread.mean(0)).clamp(min=1e-6).log().mean(1)
    order = (score + 1000 * right).argsort(descending=True, stable=True)  # right ones first; scores are within -14 to 7
    return tuple(order.tolist())


def with_photo(shown: Shown) -> Shown:
    """Return the same network, with the photo that comes with spatialprobe instead of a test image."""
    photo = (load_photo(SIZE) * 255).round().to(torch.uint8)
    return Shown(shown.seed, shown.network, shown.dead, photo, f"a photo of {SIZE} x {SIZE} pixels")


def _from(index: int, count: int) -> tuple[int, ...]:
    return tuple(number % count for number in range(index, index + min(count, CANDIDATES)))
