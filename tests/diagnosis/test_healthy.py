"""Healthy networks give no error and no warning: a tool that cries wolf is turned off."""

from __future__ import annotations

import pytest
from benchmarks.healthy import LAYERS, NETWORKS, train

import spatialprobe as sp


@pytest.mark.parametrize("name", NETWORKS)
def test_healthy_networks_are_left_in_peace(name):
    """With and without norms, residuals, branches, gates, depthwise, dilated, decoders, over 1 to 3 axes."""
    model, images = train(name)
    found = sp.checkup(model, images, layers=LAYERS, progress=False)
    assert [one for one in found.findings if one.severity != "note"] == []
    assert not [why for why in found.skipped.values() if "raised" in why]
    assert not found.left_out
    assert len(found.passed) >= 11
