"""Mosaics at half their size: the means of their values, with labels and marks that stay readable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

import spatialprobe as sp
from spatialprobe.render.letters import LINE_HEIGHT
from spatialprobe.render.palette import HATCH, LEVELS, NONFINITE, PAPER
from spatialprobe.render.squeeze import squeeze


def mosaic_of(maps, **options):
    return sp.feature_maps(torch.as_tensor(maps, dtype=torch.float32)[None], **options)


def tile(mosaic, label, height, width):
    top, left = label.top + LINE_HEIGHT, label.left
    return mosaic.pixels[top : top + height, left : left + width]


def test_each_pixel_is_the_mean_of_those_it_stands_for():
    """The codes of a map are the means of its codes, square by square, up to rounding."""
    whole = mosaic_of(np.random.default_rng(0).normal(size=(6, 100, 80)))
    half = squeeze(whole, 2)
    assert [label.text for label in half.labels] == [str(channel) for channel in range(6)]
    for label, small in zip(whole.labels, half.labels, strict=True):
        codes = tile(whole, label, 100, 80).astype(float).reshape(50, 2, 40, 2)
        means = [codes[y, :, x].mean() for y in range(50) for x in range(40)]
        assert abs(tile(half, small, 50, 40).ravel() - means).max() <= 0.5
    assert half.colors is whole.colors


def test_marks_stay():
    """One unit that is not finite is seen, a dead map is hatched, and nothing else has their colors."""
    maps = np.random.default_rng(0).normal(size=(3, 101, 101))
    maps[0, 33, 50] = np.nan
    maps[1] = 0
    half = squeeze(mosaic_of(maps), 2)
    holed, dead, sound = (tile(half, label, 50, 50) for label in half.labels)
    assert (holed == NONFINITE).sum() == 1
    assert set(np.unique(dead)) == {HATCH, PAPER}
    assert 0.1 < (dead == HATCH).mean() < 0.2
    assert sound.max() < LEVELS
    assert [label.text[:3] for label in half.labels] == ["0 n", "1 d", "2"]


def test_labels_are_written_as_large_as_before():
    """What is written on the smaller picture is what is written on paper."""
    half = squeeze(mosaic_of(np.random.default_rng(0).normal(size=(4, 80, 80))), 2)
    for label in half.labels:
        line = half.pixels[label.top : label.top + LINE_HEIGHT, label.left : label.left + label.width]
        assert (line != PAPER).any()
        assert line.min() >= PAPER
    assert (half.unwritten(codes=True)[half.labels[0].top : half.labels[0].top + LINE_HEIGHT] == PAPER).all()


def test_what_cannot_be_made_smaller():
    """A mosaic whose numbers would run into each other, or with an image across its lines, stays as it is."""
    small = mosaic_of(torch.rand(60, 32, 32), columns=30)
    assert squeeze(small, 2) is small
    beside = sp.feature_maps(torch.rand(1, 4, 20, 20), image=torch.rand(3, 40, 40), columns=2)
    assert squeeze(beside, 2) is beside


def test_colors():
    """A mosaic in colors has the means of the colors."""
    whole = mosaic_of(torch.rand(4, 80, 80))
    colored = squeeze(replace(whole, pixels=whole.array, colors=None), 2)
    first = colored.labels[0]
    exact = tile(replace(whole, pixels=whole.array), whole.labels[0], 80, 80).reshape(40, 2, 40, 2, 3).mean(axis=(1, 3))
    assert abs(tile(colored, first, 40, 40) - exact).max() <= 0.5
