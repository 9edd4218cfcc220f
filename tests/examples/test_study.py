"""The study end to end: what it trains, what it writes, and what it refuses."""

from __future__ import annotations

import json

import cifar10_study
import pytest
import torch
from data import load
from PIL import Image
from simple_cnn import DeepCNN, SimpleCNN
from training import evaluate, train

import spatialprobe as sp

PICTURES = {"overview.png", "input.png", "conv1_maps.png", "conv2_maps.png", "conv1_kernels.png"}


@pytest.fixture(autouse=True)
def threads():
    """The study sets the number of threads; other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(tmp_path, *options):
    assert cifar10_study.main(["--out", str(tmp_path), *options]) == 0
    return json.loads((tmp_path / "metrics.json").read_text())


def test_study_writes_what_it_promises(tmp_path, capsys):
    """Pictures and metrics are written, their paths printed, and every picture names its data source."""
    metrics = run(tmp_path, "--limit", "40", "--epochs", "2", "--device", "cpu")
    assert {path.name for path in tmp_path.iterdir()} == PICTURES | {"metrics.json", "report.html"}
    printed = capsys.readouterr().out
    assert str(tmp_path / "report.html") in printed
    assert "SimpleCNN, trained on patterns (drawn, seed 0)" in (tmp_path / "report.html").read_text(encoding="utf-8")
    for name in PICTURES:
        assert str(tmp_path / name) in printed
        assert Image.open(tmp_path / name).text["Source"] == "patterns (drawn, seed 0)"
    assert metrics["data"] == "patterns (drawn, seed 0)"
    assert [score["images"] for score in metrics["train"]] == [40, 40]
    assert metrics["test"]["images"] == 40
    assert metrics["versions"]["torch"] == torch.__version__


def test_same_seed_same_numbers(tmp_path):
    """On one machine a seed gives the same numbers twice, and another seed gives others."""
    options = ("--limit", "40", "--epochs", "1", "--device", "cpu")
    first, second = run(tmp_path, *options), run(tmp_path, *options)
    assert first == second
    assert run(tmp_path, *options, "--seed", "1")["train"] != first["train"]


def test_one_batch_demonstration(tmp_path):
    """`--batches 1` trains on exactly one batch of four images."""
    metrics = run(tmp_path, "--batches", "1", "--limit", "40", "--device", "cpu")
    assert [score["images"] for score in metrics["train"]] == [4]


def test_training_is_the_reference_procedure():
    """One epoch equals, bit for bit, the procedure written out: batches of 4, Adam 1e-3, cross-entropy."""
    data = load("patterns", limit=16)
    torch.manual_seed(0)
    model, reference = SimpleCNN(), SimpleCNN()
    reference.load_state_dict(model.state_dict())
    train(model, data.train_images, data.train_labels, epochs=1, seed=5)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.001)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(5))
    for start in range(0, 16, 4):
        index = order[start : start + 4]
        optimizer.zero_grad()
        logits = reference(data.train_images[index].float() / 255)
        torch.nn.CrossEntropyLoss()(logits, data.train_labels[index]).backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters(), strict=True))


def test_convolutions_learn_the_patterns():
    """A quarter of the reference training already lifts the SimpleCNN far above what pixels alone allow (25 %)."""
    torch.set_num_threads(1)
    data = load("patterns")
    torch.manual_seed(0)
    model = SimpleCNN()
    train(model, data.train_images, data.train_labels, epochs=1, seed=0)
    assert evaluate(model, data.test_images, data.test_labels).accuracy > 0.5


def test_deep_network_of_depth_two_is_the_simple_one():
    """The variant of any depth, at depth 2, is the SimpleCNN bit for bit."""
    torch.manual_seed(0)
    simple = SimpleCNN()
    torch.manual_seed(0)
    deep = DeepCNN(2)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(simple(images), deep(images))
    assert list(simple.state_dict()) == list(deep.state_dict())


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_every_depth_has_that_many_convolutions(depth):
    """A network of any depth runs, and has maps for each of its convolutions."""
    model = DeepCNN(depth, classes=4)
    with sp.Probe(model, at="post_activation") as probe:
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    assert list(probe) == [f"conv{number}" for number in range(1, depth + 1)]
    with pytest.raises(ValueError, match="at least 1"):
        DeepCNN(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "must be at least 1"),
        (["--limit", "-3"], "must be at least 1"),
        (["--device", "tpu"], "invalid choice"),
    ],
)
def test_bad_options(options, message, capsys):
    """A bad option is refused before anything is loaded."""
    with pytest.raises(SystemExit) as caught:
        cifar10_study.main(options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_data(tmp_path, capsys):
    """Data that cannot be had ends the study with the reason and status 2, and nothing is written."""
    out = tmp_path / "out"
    assert cifar10_study.main(["--data", f"folder:{tmp_path}/none", "--out", str(out)]) == 2
    assert "No folder" in capsys.readouterr().err
    assert not out.exists()
