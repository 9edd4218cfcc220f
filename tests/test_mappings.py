"""Mappings that print as themselves, and whose keys a notebook completes."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe.mappings import FrozenMapping


class Twice(nn.Module):
    """Runs one layer twice."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.head(self.shared(self.shared(x)))


IMAGES = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
MAPPINGS = {
    "probe": lambda: sp.capture(Twice(), IMAGES),
    "plan": lambda: sp.plan(Twice(), IMAGES),
    "fields": lambda: sp.receptive_fields(Twice(), IMAGES, layers=nn.Conv2d),
    "sweep": lambda: sp.sweep(Twice(), IMAGES, {"top": sp.Exemplars}),
    "sweep's layers": lambda: sp.sweep(Twice(), IMAGES, {"top": sp.Exemplars}).layers,
}


@pytest.mark.parametrize("made", MAPPINGS.values(), ids=MAPPINGS)
def test_names_of_layers_are_completed(made):
    """IPython asks a mapping for its keys; those of all mappings from layers are the layers' names."""
    assert made()._ipython_key_completions_() == ["shared", "head"]


def test_other_keys_are_completed():
    """The reducers of a layer, and the pictures of a gallery, where one layer may have several."""
    assert sp.sweep(Twice(), IMAGES, {"top": sp.Exemplars})["head"]._ipython_key_completions_() == ["top"]
    gallery = sp.feature_maps(sp.capture(Twice(), IMAGES))
    assert gallery._ipython_key_completions_() == [("shared", 0), ("shared", 1), "head"]


def test_results_print_as_a_dict():
    """Nothing that a sweep or a field returns shows how it is kept from being changed."""
    result = sp.sweep(Twice(), IMAGES, {"dead": sp.Dead})
    dead = "DeadResult(dead=bool (2,), fired=int64 (2,))"
    assert repr(result["head"]) == f"{{'dead': {dead}}}"
    assert repr(result.left_out) == "{}"
    assert repr(result.layers).endswith(f"'head': {{'dead': {dead}}}}}")
    effective = sp.effective_receptive_field(nn.Conv2d(3, 1, 3), IMAGES, "")
    for mapping in (effective.sides, effective.area_ratio):
        assert repr(mapping) == repr(dict(mapping))


def test_frozen():
    """It takes no entries, follows no later change of what it was made from, and is a mapping in all else."""
    items = {"a": 1, "b": [2]}
    frozen = FrozenMapping(items)
    items["c"] = 3
    assert frozen == {"a": 1, "b": [2]}
    assert (list(frozen), len(frozen), frozen["a"], frozen.get("c")) == (["a", "b"], 2, 1, None)
    assert pickle.loads(pickle.dumps(frozen)) == frozen
    assert repr(frozen.keys()) == "dict_keys(['a', 'b'])"
    assert list(frozen.items()) == list(zip(frozen.keys(), frozen.values(), strict=True))
    with pytest.raises(TypeError, match="does not support item assignment"):
        frozen["a"] = 2
    with pytest.raises(KeyError):
        frozen["c"]


def test_a_notebook_shows_rows():
    """One for each key, with names and values as text."""
    page = FrozenMapping({"<b>": "it returns a tuple & a list.", "n": 3})._repr_html_()
    assert page.count("<tr>") == 2
    assert "&lt;b&gt;" in page
    assert "tuple &amp; a list" in page
    assert "<b>" not in page


def test_ipython_prints_it_as_a_dict():
    """Over several lines where one is too short."""
    pretty = pytest.importorskip("IPython.lib.pretty")
    values = {f"layer{index}": "x" * 30 for index in range(4)}
    assert pretty.pretty(FrozenMapping(values)) == pretty.pretty(values)
    assert pretty.pretty(FrozenMapping(values)).count("\n") == 3
