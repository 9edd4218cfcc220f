"""Colors that color-blind readers can tell apart, by an independent simulation of their sight."""

from __future__ import annotations

import numpy as np
import pytest

from spatialprobe.render.palette import HATCH, LEVELS, NONFINITE, PAPER, colors, palette

# Linear sRGB as it looks to each kind of sight [Machado, Oliveira and Fernandes 2009, severity 1.0].
SIGHTS = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
RED_GREEN = np.array([[200, 0, 0], [0, 140, 0]])


def seen(rgb, sight):
    """CIELAB (D65) of sRGB colors as one kind of sight has them, written down from the definitions."""
    encoded = np.asarray(rgb, float) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.transpose(SIGHTS[sight]), 0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    ratio = linear @ to_xyz.T / [0.95047, 1.0, 1.08883]
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def distance(one, other, sight):
    return np.linalg.norm(seen(one, sight) - seen(other, sight), axis=-1)


@pytest.mark.parametrize("sight", SIGHTS)
def test_signs_are_told_apart(sight):
    """-v and +v differ as much to a color-blind reader as to anyone: on average by 70, and clearly from a tenth on."""
    values = colors(True)
    below, above = values[: LEVELS // 2][::-1], values[LEVELS // 2 + 1 :]
    apart = distance(below, above, sight)
    assert apart.mean() > 0.95 * distance(below, above, "normal").mean() > 65
    assert apart[LEVELS // 20 :].min() > 20


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("signed", [False, True])
def test_values_keep_their_distances(sight, signed):
    """Neighboring codes are never the same color, and the ends of a map are far apart."""
    values = colors(signed)
    assert distance(values[1:], values[:-1], sight).min() > 0.3
    ends = (values[0], values[-1]) if not signed else (values[0], values[LEVELS // 2])
    assert distance(*ends, sight) > 60


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("signed", [False, True])
def test_marks_are_no_values(sight, signed):
    """What is not finite looks like no value and not like paper; the hatching shows on zero."""
    entries = palette(signed)
    others = np.concatenate([entries[:LEVELS], entries[[PAPER, HATCH]]])
    assert distance(others, entries[NONFINITE], sight).min() > 15
    assert distance(entries[LEVELS // 2 if signed else 0], entries[HATCH], sight) > 30


def test_the_simulation_can_fail():
    """Red and green of about one lightness, far apart to most, come close in the simulation."""
    apart = {sight: distance(*RED_GREEN, sight) for sight in SIGHTS}
    assert apart["deuteranopia"] < 0.35 * apart["normal"]
