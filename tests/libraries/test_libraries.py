"""Models as libraries build them: every function, against plain hooks, axes that are permuted by hand, and gradients.

Here is a small part of all models. `matrix.py` beside this file runs all, and writes the table in the documentation.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import stateful
from library_checks import CHECKS, outcome
from library_models import all_models

pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.filterwarnings("ignore"),  # libraries warn of what they will change
]
PAGE = Path(__file__).parents[2] / "docs" / "libraries.md"


@pytest.mark.parametrize("one", [one for one in all_models() if one.ci], ids=str)
def test_every_function(one, tmp_path):
    """Every function has the results that hooks and gradients show by hand, and restores the model."""
    pytest.importorskip("timm" if one.slow else one.library)  # a slow one where the extra `libraries` is installed
    model = one.built()
    one.call(model, one.images())
    before = stateful.everything(model)
    one.call(model, one.images())
    again = stateful.everything(model)
    kept = [key for key in before if stateful.same(before[key], again[key])]  # detectors store sizes in each forward
    for name in CHECKS:
        assert outcome(one, model, name, tmp_path), name
        after = stateful.everything(model)
        assert [key for key in kept if not stateful.same(before[key], after[key])] == [], name


def test_table_has_every_model():
    """The table in the documentation has a row for each model, and nothing failed when it was written."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    assert [row for row in rows if row != "model" and row not in CHECKS and row != "function"] == [
        one.name for one in all_models()
    ]
    assert "fails" not in text
