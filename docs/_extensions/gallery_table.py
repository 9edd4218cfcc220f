"""The scripts of the gallery: which question each answers, and what its pictures show."""

from __future__ import annotations

from typing import NamedTuple

Part = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the picture


class Entry(NamedTuple):
    """One script."""

    alternatives: tuple[str, ...]  # the alternative text of each of its pictures, in order
    part: Part = (0, 0, 1, 1)  # which part of a picture the thumbnail shows, without its white margins
    picture: int = 1  # which picture


SECTIONS: dict[str, tuple[str, str, dict[str, Entry]]] = {
    "look": (
        "Look",
        "What does a layer output, and what does a channel respond to?",
        {
            "feature_maps": Entry(
                (
                    "The feature maps of four layers of a portrait: edges in the first two, larger regions in the last",
                    "The four strongest feature maps of conv2, in which the outlines of the portrait are bright",
                ),
                part=(0.12, 0.63, 0.8, 0.793),
            ),
            "kernels": Entry(
                (
                    "Twelve kernels of five by five colored weights",
                    "Sixteen kernels of three by three weights, orange below zero and violet above",
                ),
                part=(0.02, 0.13, 0.98, 0.78),
            ),
            "maximize_activation": Entry(
                (
                    "Images made for each channel and each class, real patches below, and curves that rise",
                    "For three channels the nine patches that activate each most: corners, checks and dots",
                ),
                part=(0, 0.05, 0.51, 0.51),
            ),
        },
    ),
    "locate": (
        "Locate",
        "Which pixels can a unit see, and which of them does it use?",
        {
            "receptive_fields": Entry(
                ("The size of the receptive field along the layers of five architectures, on a log scale",)
            ),
            "effective_field": Entry(
                (
                    "The effective field of a unit before and after training: a spot inside the square that it sees",
                    "The effective field beside the input, which is as bright as the field is strong",
                ),
                part=(0.5, 0.09, 0.86, 0.93),
            ),
            "decoder_periods": Entry(
                ("The intervals that the units of four layers of a decoder see: stairs whose steps repeat",),
                part=(0, 0.5, 1, 0.92),
            ),
            "footprint": Entry(
                ("An image, and the squares of units of conv2 and conv4 that change with one of its pixels",),
                part=(0, 0.12, 0.68, 1),
            ),
        },
    ),
    "sweep": (
        "Sweep",
        "What holds over a whole data set?",
        {
            "exemplars": Entry(
                (
                    "For six channels the nine top-activating patches: each row holds one pattern, such as dots",
                    "The distribution of all values as a curve, and of each channel as a row of colors",
                ),
                part=(0.03, 0.09, 1, 0.9),
            ),
            "concepts": Entry(
                ("For each channel of two layers the concept that it matches best, and how well",),
                part=(0.5, 0.05, 1, 0.5),
            ),
            "checkup": Entry(
                (
                    "The feature maps of a layer, its three dead channels first and hatched",
                    "An image with a grid of crimson rows and columns, which no unit sees",
                    "For each channel of a batch norm how far its statistics are from those of the data",
                ),
                part=(0.05, 0.05, 1, 0.93),
                picture=2,
            ),
        },
    ),
    "explain": (
        "Explain",
        "Which channels does an answer rest on, and does removing them change it?",
        {
            "attribution": Entry(
                (
                    "An image of stripes, the contribution of each of its places to the score, and both together",
                    "How far the score falls without the top three channels, three random ones, and the lowest three",
                ),
                part=(0.6, 0.14, 0.89, 0.85),
            ),
            "grad_cam": Entry(
                ("Eight images of patterns, and below each the places that spoke for the answer",),
                part=(0, 0.13, 0.38, 1),
            ),
            "ablation": Entry(
                ("How far the score of each class falls without each channel of conv4: a few dark squares a row",),
                part=(0.13, 0.14, 0.89, 0.87),
            ),
        },
    ),
    "compare": (
        "Compare and train",
        "What has changed between two models, and what changes while one trains?",
        {
            "compare": Entry(
                ("The similarity of four layers before and after training, and the maps that changed most",),
                part=(0, 0.12, 0.53, 0.78),
            ),
            "monitor": Entry(
                (
                    "The spread of every layer's activations during a training, as lines and as colors",
                    "The spread of every layer's gradients during a training, which rises at the end",
                    "The share of dead channels of every layer during a training, up to a fifth in conv4",
                    "An animation of the maps of a portrait in conv2 during a training",
                ),
                part=(0, 0.1, 1, 0.92),
            ),
            "evolution": Entry(
                ("The maps of a portrait in six channels of conv2, before and during a training",),
                part=(0.02, 0.1, 0.9, 0.9),
            ),
        },
    ),
    "prove": (
        "Prove",
        "Does a layer detect local patterns? Measurements, each against a control.",
        {
            "equivariance": Entry(
                ("The error of three layers for shifts of one to eight pixels: none in conv1",)
            ),
            "orientation": Entry(
                ("How strongly twelve channels answer to gratings of each direction, before and after training",),
                part=(0, 0.52, 1, 1),
            ),
            "patch_coherence": Entry(
                ("For six channels the nine top-activating patches, with their mean correlation",),
                part=(0.03, 0.3, 1, 0.92),
            ),
            "linear_probe": Entry(
                ("The accuracy of a linear classifier of each layer, trained and untrained",)
            ),
            "kernel_surgery": Entry(
                ("The kernels of conv1 as trained, with their taps shuffled or averaged, and random",),
                part=(0, 0.2, 0.52, 1),
            ),
            "pixel_permutation": Entry(
                ("An image, its pixels in another order, and the accuracies of two networks trained on either",),
                part=(0, 0.17, 0.53, 0.88),
            ),
        },
    ),
}
