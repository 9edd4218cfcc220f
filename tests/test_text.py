"""Words, counts and tables in messages."""

import pytest

import spatialprobe as sp
from spatialprobe.text import format_count, kind_of, with_article

AN = ("int", "ndarray", "Embedding", "Upsample", "LSTM", "MLP", "_Inner", "ONNXModel")
A = ("uint8", "UNet", "UserDict", "GRU", "ReLU", "Conv2d")


@pytest.mark.parametrize(("word", "article"), [*((word, "an") for word in AN), *((word, "a") for word in A)])
def test_articles(word, article):
    """The article follows the pronunciation of a word or an abbreviation."""
    assert with_article(word) == f"{article} {word}"


def test_counts():
    """A count of one is singular, and other counts have the right plural."""
    nouns = {
        "layer": "layers",
        "class": "classes",
        "axis": "axes",
        "box": "boxes",
        "patch": "patches",
        "batch": "batches",
    }
    for noun, plural in nouns.items():
        assert format_count(1, noun) == f"1 {noun}"
        assert format_count(0, noun) == f"0 {plural}"
        assert format_count(2, noun) == f"2 {plural}"


def test_messages():
    """Messages have the right articles and plurals: `an int`, `1 class`."""
    assert kind_of(1) == "an int"
    with pytest.raises(sp.ArgumentError, match="not an int"):
        sp.feature_maps(3)
    with pytest.raises(sp.ArgumentError, match="not an int"):
        sp.Probe(3)
