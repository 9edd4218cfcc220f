"""The study end to end: what it trains, what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace

import cifar10_study
import pytest
import quick_study
import torch
from data import load
from experiments import jobs, trials, workers
from experiments.cache import Cache
from experiments.options import parse
from experiments.progress import Progress
from experiments.verdicts import Difference
from matplotlib import rcParams
from PIL import Image
from simple_cnn import DeepCNN, SimpleCNN
from training import Score, evaluate, train

import spatialprobe as sp

pytestmark = pytest.mark.no_cover

PICTURES = {
    "overview.png",
    "input.png",
    "conv1_maps.png",
    "conv2_maps.png",
    "conv1_kernels.png",
    "accuracies.png",
    "deletion.png",
    "footprint.png",
    "learning.png",
    "orientation.png",
    "similarity.png",
    "synthesized.png",
    "conv2_exemplars.png",
    "depths.png",
    "depth_similarity.png",
}
SIXTY = ("--limit", "60", "--epochs", "1", "--device", "cpu", "--name", "sixty patterns")


@pytest.fixture(autouse=True)
def threads():
    """The study sets the number of threads; other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(out, *options):
    """Run a study whose measurements are of few images and short searches, and return its metrics."""
    with pytest.MonkeyPatch.context() as patch, quick_study.short_searches():
        patch.setattr(jobs, "OfSeed", quick_study.OfSeed)
        patch.setitem(rcParams, "savefig.dpi", 40)
        assert cifar10_study.main(["--out", str(out), *options]) == 0
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The whole study of three seeds and two depths, side by side in processes: its folder, and its metrics."""
    out = tmp_path_factory.mktemp("study")
    threads = torch.get_num_threads()
    metrics = run(out, *SIXTY, "--depths", "3,2", "--jobs", "2", "--docs", str(out / "docs"))
    torch.set_num_threads(threads)
    return out, metrics


@pytest.mark.long
def test_study_writes_what_it_promises(whole):
    """Pictures, metrics and report are written; every picture names its data source, and those of the report exist."""
    out, metrics = whole
    files = {path.name for path in out.iterdir()}
    assert files == PICTURES | {"metrics.json", "report.md", "report.html", "cache", "docs"}
    assert "SimpleCNN, trained on sixty patterns" in (out / "report.html").read_text(encoding="utf-8")
    for name in PICTURES:
        assert Image.open(out / name).text["Source"] == "sixty patterns"
    assert metrics["data"] == "sixty patterns"
    assert [score["images"] for score in metrics["train"]] == [60]
    assert metrics["test"]["images"] == 60
    assert metrics["versions"]["torch"] == torch.__version__
    shown = re.findall(r"!\[.*?\]\((.*?)\)", (out / "report.md").read_text())
    assert shown
    assert set(shown) <= PICTURES


@pytest.mark.long
def test_a_page_for_others_shows_no_image_of_the_data(whole):
    """With --docs the same text is written with every picture that it shows, but those of images of the data."""
    out, _ = whole
    text = (out / "docs" / "results.md").read_text()
    shown = set(re.findall(r"!\[.*?\]\((.*?)\)", text))
    assert {path.name for path in (out / "docs").iterdir()} == shown | {"results.md"}
    assert shown == set(re.findall(r"!\[.*?\]\((.*?)\)", (out / "report.md").read_text())) - {"conv2_exemplars.png"}
    assert "report.html" not in text
    for name in ("overview.png", "depths.png"):  # of the photo
        assert (out / "docs" / name).read_bytes() != (out / name).read_bytes()
    assert (out / "docs" / "similarity.png").read_bytes() == (out / "similarity.png").read_bytes()


@pytest.mark.long
def test_report_says_what_the_numbers_say(whole):
    """Seven claims, each with its rule, n and spread; the verdict in words is that of metrics.json."""
    out, metrics = whole
    text = (out / "report.md").read_text()
    assert len(metrics["claims"]) == 7
    for number, claim in enumerate(metrics["claims"], start=1):
        word = "supported" if claim["supported"] else "not supported"
        assert f"### {number}. {claim['claim']}: {word}\n" in text
        assert claim["rule"] in text
        assert claim["supported"] == (not claim["failed"])
        for one in claim["differences"]:
            assert one["n"] == 3
            assert one["mean"] == pytest.approx(sum(one["values"]) / 3)
            assert one["counts"] == (one["mean"] > 2 * max(one["spread"], one["sampling"]))
    assert f"{sum(claim['supported'] for claim in metrics['claims'])} of 7 claims are supported" in text
    # one pass over 60 images teaches nothing: what cannot be shown is not claimed, what is built in can be
    assert [claim["supported"] for claim in metrics["claims"]][:4] == [True, True, False, False]


@pytest.mark.long
def test_depths_are_measured(whole):
    """Each depth has its numbers for every seed, and a row of the table; the field grows with depth."""
    out, metrics = whole
    assert metrics["depths"] == [2, 3]
    fields = []
    for depth in ("2", "3"):
        found = metrics["by_depth"][depth]
        assert list(found) == ["0", "1", "2"]
        fields.append(found["0"]["layers"][f"conv{depth}"]["field"])
        assert f"\n| {depth} | {found['0']['parameters']:,} |" in (out / "report.md").read_text()
    assert fields == [8, 18]


@pytest.mark.long
def test_a_study_that_was_ended_continues(whole, tmp_path, capsys):
    """With --resume nothing is done twice, and what is missing or damaged is done: the metrics are the same."""
    out, metrics = whole
    shutil.copytree(out / "cache", tmp_path / "cache")
    lost, damaged, *_ = sorted((tmp_path / "cache").glob("mlp--seed*"))
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert run(tmp_path, *SIXTY, "--depths", "3,2", "--resume") == metrics
    printed = capsys.readouterr().out
    assert printed.count("test accuracy") == 2
    assert "measures" not in printed


def test_results_of_other_configurations_are_not_mixed(tmp_path):
    """What was trained on other images or labels, for longer, or with another seed or depth, is not taken for this."""
    procedure, images = workers.Procedure(epochs=1, batches=2, device="cpu"), load(limit=8)
    score = Score(1.0, 0.5, 8)
    kept = trials.Trained({"weight": torch.arange(3.0)}, (score,), score)
    job = trials.Trial(trials.CNN, 0)
    Cache(tmp_path, images, procedure).keep(job, kept)
    found = Cache(tmp_path, load(limit=8), procedure).get(job)
    assert torch.equal(found.state["weight"], torch.arange(3.0))
    assert (found.train, found.test) == (kept.train, kept.test)
    assert [path.suffix for path in tmp_path.iterdir()] == [".pt"]
    others = [
        (images, replace(procedure, epochs=2), job),
        (images, replace(procedure, batches=None), job),
        (images, replace(procedure, device="cuda"), job),
        (images, procedure, replace(job, seed=1)),
        (images, procedure, replace(job, depth=3)),
        (images, procedure, replace(job, kind=trials.PERMUTED)),
        (load(limit=9), procedure, job),
        (replace(images, test_labels=images.test_labels.flip(0)), procedure, job),
    ]
    assert [Cache(tmp_path, *about).get(other) for *about, other in others] == [None] * len(others)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The study of the first seed and depth alone, one job after the other."""
    out, threads = tmp_path_factory.mktemp("single"), torch.get_num_threads()
    metrics = run(out, *SIXTY, "--seeds", "1", "--depths", "2", "--jobs", "1")
    torch.set_num_threads(threads)
    return out, metrics


@pytest.mark.long
def test_fewer_than_three_seeds_support_nothing_that_varies(single):
    """With one seed no difference counts, and the reason is given."""
    out, metrics = single
    claims = [claim for claim in metrics["claims"] if claim["differences"]]
    assert claims
    assert not any(claim["supported"] for claim in claims)
    assert "1 seeds, and the rule takes 3" in (out / "report.md").read_text()


@pytest.mark.long
def test_same_seed_same_numbers(single, whole):
    """A seed gives the same numbers one job after the other and side by side; another seed gives others."""
    (_, alone), (_, beside) = single, whole
    for by_seed in beside["by_depth"].values():
        assert by_seed["0"] != by_seed["1"] != by_seed["2"]
    assert len(alone["accuracy"]) == len(trials.KINDS)
    assert alone["accuracy"].items() <= beside["accuracy"].items()
    assert alone["by_depth"]["2"]["0"] == beside["by_depth"]["2"]["0"]
    measures = beside["measures"]["0"]
    similarity = {name: one for name, one in measures["similarity"].items() if name != "seed"}  # one seed has no other
    assert alone["measures"]["0"] == measures | {"similarity": similarity}


def test_one_batch_demonstration(tmp_path):
    """`--batches 1` trains on exactly one batch of four images."""
    data = load(limit=8)
    study = cifar10_study.Study(parse(["--batches", "1", "--device", "cpu", "--out", str(tmp_path)], ""), data)
    trained = trials.Trial(trials.CNN, 0).run(data, study.procedure, {}, lambda work: None)
    assert [score.images for score in trained.train] == [4]


def test_first_pictures_come_first(tmp_path, monkeypatch):
    """The pictures of the first network are drawn before a second is trained."""
    seen = []

    def failing(*arguments, **options):
        seen.append(sorted(path.name for path in tmp_path.glob("*.png")))
        if len(seen) > 1:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(trials, "train", failing)
    with pytest.raises(KeyboardInterrupt):
        cifar10_study.main(["--out", str(tmp_path), *SIXTY, "--seeds", "1", "--depths", "2"])
    assert seen[0] == []
    assert "overview.png" in seen[1]


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


@pytest.mark.long
def test_convolutions_learn_the_patterns():
    """A fifth of the reference training already lifts the SimpleCNN far above what pixels alone allow (25 %)."""
    torch.set_num_threads(1)
    data = load("patterns")
    torch.manual_seed(0)
    model = SimpleCNN()
    train(model, data.train_images, data.train_labels, epochs=1, seed=0, batches=1600)
    assert evaluate(model, data.test_images[:1000], data.test_labels[:1000]).accuracy > 0.5


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
        (["--preset", "huge"], "invalid choice"),
        (["--depths", "2,0"], "at least 1"),
        (["--depths", "0"], "at least 1"),
        (["--depths", "deep"], "whole numbers separated by commas"),
        (["--seeds", "0"], "at least 1"),
        (["--layer", "conv9"], "no such convolution. It has conv1, conv2"),
    ],
)
def test_bad_options(options, message, capsys, monkeypatch):
    """A bad option is refused before anything is loaded."""
    monkeypatch.setattr(cifar10_study, "load", None)
    with pytest.raises(SystemExit) as caught:
        cifar10_study.main(options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("folders", [(), ("train/a", "train/b", "test/a", "test/b")], ids=["missing", "empty"])
def test_missing_data(folders, tmp_path, capsys, monkeypatch):
    """Data that cannot be had ends the study with the reason and status 2; nothing is trained or written."""
    monkeypatch.setattr(trials, "train", None)
    for folder in folders:
        (tmp_path / "images" / folder).mkdir(parents=True)
    out = tmp_path / "out"
    assert cifar10_study.main(["--data", f"folder:{tmp_path}/images", "--out", str(out)]) == 2
    assert ("No image" if folders else "No folder") in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ("patterns", 4, 8000, (0, 1, 2), (2, 3))),
        (["--preset", "full"], ("cifar10", 10, None, (0, 1, 2), (2, 3, 4, 6))),
        (["--preset", "full", "--data", "folder:x", "--limit", "9"], ("folder:x", 10, 9, (0, 1, 2), (2, 3, 4, 6))),
        (["--seeds", "2", "--seed", "5", "--depths", "6,2"], ("patterns", 4, 8000, (5, 6), (2, 6))),
        (["--seeds", "3,1,3", "--batches", "7"], ("patterns", 1, 8000, (3, 1), (2, 3))),
    ],
)
def test_options(options, expected):
    """Presets fill in what is left out; seeds are a number of them, or a list."""
    found = parse(options, "")
    assert (found.data, found.epochs, found.limit, found.seeds, found.depths) == expected
    again = parse(shlex.split(found.command)[2:], "")
    assert again == replace(found, data="folder:PATH" if found.data.startswith("folder") else found.data)


def test_remaining_time():
    """What is left follows from how fast it went, and work that need not be done does not count."""
    times = iter([0.0, 10.0, 30.0])
    progress = Progress(200.0, clock=lambda: next(times))
    progress.skip(100.0)
    progress.advance(25.0)
    assert progress.words() == "[ 25%, 10 s gone, about 30 s left]"
    progress.advance(50.0)
    assert progress.words() == "[ 75%, 30 s gone, about 10 s left]"


def test_a_difference_counts_by_the_rule():
    """Twice the larger of spread and sampling error, and three seeds at least."""
    steady, varying = Difference("a", (0.3, 0.3, 0.31)), Difference("b", (0.1, 0.9, 0.2))
    assert (steady.counts, varying.counts) == (True, False)
    assert not Difference("c", (0.3, 0.3)).counts
    assert not Difference("d", (0.3, 0.3, 0.31), sampling=0.2).counts
    assert not Difference("e", (-0.3, -0.3, -0.31)).counts
