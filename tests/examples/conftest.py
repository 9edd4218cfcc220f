"""What scripts and notebooks share: an empty folder to run in, and little to train on."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import spatialprobe as sp


@pytest.fixture
def empty_folder(monkeypatch, tmp_path):
    """Run in an empty folder, where nothing of the repository's `examples` or `tests` can be imported."""
    monkeypatch.chdir(tmp_path)
    root = Path(__file__).parents[2]
    own = {str(root), *(str(root / folder) for folder in ("examples", "tests", "tests/libraries"))}
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in own])
    return tmp_path


@pytest.fixture
def few_images(monkeypatch):
    """Draw few images, fewer large ones, and search shortly, so that all is quick; restore torch's random state."""
    draw, masked = sp.examples.draw_patterns, sp.examples.draw_masked_patterns

    def draw_few(count, **rest):
        return draw(min(count, 20 if rest.get("size", 32) > 32 else 100), **rest)

    monkeypatch.setattr(sp.examples, "draw_patterns", draw_few)
    monkeypatch.setattr(sp, "maximize_activation", partial(sp.maximize_activation, steps=16))
    monkeypatch.setattr(sp.examples, "draw_masked_patterns", lambda count, **rest: masked(min(count, 200), **rest))
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)
