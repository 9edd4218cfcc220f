"""Results as tables for a notebook: every field in few words, names as text."""

from __future__ import annotations

import pytest
import torch
from test_html_table import Reader
from torch import nn

import spatialprobe as sp

ODD = "<b>"
IMAGES = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = nn.ModuleDict({ODD: nn.Conv2d(1, 4, 3)})
    model.forward = lambda x: model[ODD](x)
    return model


def rows(result):
    """The rows of a result's table, by their first cell."""
    page = result._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    return dict(Reader(page).rows)


def test_results_of_reducers(model):
    """Tensors with dtype, shape and range; booleans by how many are true."""
    found = sp.sweep(model, IMAGES, [sp.Moments, sp.Dead], layers=ODD)[ODD]
    moments, mean = rows(found["moments"]), found["moments"].mean
    assert moments["mean"] == f"float64 (4,), {mean.min():.4g} to {mean.max():.4g}"
    assert moments["nonfinite"].endswith(" (4,), 0 to 0")
    dead = found["dead"].dead
    assert rows(found["dead"])["dead"] == f"bool (4,), {int(dead.sum())} of 4 true"


def test_a_field(model):
    """Its numbers, without what does not apply."""
    shown = rows(sp.receptive_fields(model, IMAGES, layers=ODD)[ODD])
    assert (shown["size"], shown["output_size"], shown["exact"]) == ("(3, 3)", "(10, 10)", "True")
    assert "unknown" not in shown
    assert "source" not in shown


def test_an_effective_field_is_a_picture(model):
    """With its numbers in the caption; over one axis there are the numbers alone."""
    page = sp.effective_receptive_field(model, IMAGES, ODD)._repr_html_()
    assert "<svg" in page
    assert "Center of mass" in page
    assert "<b>" not in page
    line = sp.effective_receptive_field(nn.Conv1d(1, 2, 3), torch.rand(2, 1, 9), "")
    assert dict(Reader(line._repr_html_()).rows)["n"] == "2"


def test_measures(model):
    """The mean, its spread and n come first; a footprint says whether it is the one predicted."""
    found = sp.evidence.equivariance_error(model, IMAGES, ODD, shift=(1, 1))
    shown = rows(found)
    assert list(shown)[:3] == ["n", "mean", "spread"]
    assert (shown["n"], shown["mean"]) == ("6", f"{found.mean:.4g}")
    changed = sp.evidence.footprint(model, IMAGES, ODD, pixel=(5, 5))
    assert rows(changed)["changed"] == "bool (10, 10), 9 of 100 true"
    assert rows(changed)["equal"] == "True"
    assert rows(sp.evidence.orientation_tuning(model, ODD))["n"]
