"""Several processes: no sample twice and none lost, one result for all, and one fate."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import subprocess
import sys
import time
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sweeps import Numbered, flat, images, outcome, small_model, swept, together
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

import spatialprobe as sp
from spatialprobe.statistics.batches import share
from spatialprobe.statistics.distributed import _pack, _unpack
from spatialprobe.statistics.state import StateFormat, SweepState

COUNT = 23  # divides by nothing
ROOT = Path(__file__).parents[2]


class Seen:
    """Which samples came, in order."""

    def __init__(self):
        self.samples = []

    def update(self, activation, samples):
        self.samples += samples.tolist()

    def merge(self, other):
        self.samples += other.samples

    def result(self):
        return {"samples": sorted(self.samples)}


class Raises(Seen):
    """Fails at a sample, or when merged."""

    def __init__(self, sample=None):
        super().__init__()
        self.sample = sample

    def update(self, activation, samples):
        if self.sample in samples.tolist():
            raise ZeroDivisionError(f"sample {self.sample} is bad")
        super().update(activation, samples)

    def merge(self, other):
        if self.sample is None:
            raise KeyError("does not merge")
        super().merge(other)


class Raises0(nn.Module):
    """A model that fails in the process of rank 0 alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        if os.environ["RANK"] == "0":
            raise RuntimeError("no memory here")
        return self.conv(x)


class Restless(Numbered):
    """Images with random augmentation, which are others each time."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + torch.rand(()), label


class Swapped(Numbered):
    """Images of which the first is another."""

    def __getitem__(self, index):
        return super().__getitem__(index or 1)


class Sharded(Numbered):
    """Images of which each process has its own share only."""

    def __getitem__(self, index):
        first, last = share(COUNT, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        if not first <= index < last:
            raise FileNotFoundError(f"image {index} is elsewhere")
        return super().__getitem__(index)


class Exits(nn.Module):
    """A model whose process is gone at the third batch, if it is of a certain rank."""

    def __init__(self, rank=1):
        super().__init__()
        self.conv, self.batches, self.rank = nn.Conv2d(3, 2, 3), 0, rank
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        self.batches += 1
        if self.batches == 3 and os.environ["RANK"] == str(self.rank):
            os._exit(7)
        return self.conv(x)


def seen(data, **arguments):
    result = sp.sweep(small_model(), data, {"seen": Seen}, layers="0", progress=False, **arguments)
    return result["0"]["seen"]["samples"]


def raising(reducer, data, **arguments):
    return sp.sweep(small_model(), data, {"mine": reducer}, layers="0", batch_size=2, progress=False, **arguments)


def concepts():
    """The alignment of both layers with concepts that random masks name, image by image, so that all round alike."""
    masks = torch.randint(0, 3, (COUNT, 8, 8), generator=torch.Generator().manual_seed(0))
    data = list(zip(images(COUNT), masks, strict=True))
    found = sp.evidence.concept_alignment(small_model(), data, quantile=0.1, batch_size=1, progress=False)
    return {(layer, field.name): getattr(one, field.name) for layer, one in found.items() for field in fields(one)}


def in_all_ways(folder):
    """One process's outcomes of many sweeps, one after the other."""
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    data = Numbered(COUNT)

    def loader():
        sampler = DistributedSampler(data, ranks, rank, shuffle=True)  # pads to equal shares
        return seen(DataLoader(data, 3, sampler=sampler))

    def group_of_the_users():
        torch.distributed.init_process_group("gloo")
        try:
            return flat(swept(data)), torch.distributed.is_initialized()
        finally:
            torch.distributed.destroy_process_group()

    last = rank == ranks - 1

    def late():
        if last:
            time.sleep(2.5)
        return seen(data, timeout=1.5 if rank == 0 else 30)

    def orphaned():
        """The last rank ends, and a process that it forked lives on, as workers of a loader may."""
        if last and not os.fork():
            time.sleep(20)
            os._exit(0)
        return sp.sweep(Exits(rank=ranks - 1), Numbered(60), {"seen": Seen}, batch_size=2, progress=False)

    def other(**arguments):
        """The last rank is called with other arguments."""
        usual = {"model": small_model(), "data": data, "reducers": {"seen": Seen}, "layers": "0", "progress": False}
        return sp.sweep(**(usual | (arguments if last else {})))

    ways = {
        "data set": lambda: flat(swept(data)),
        "tensor": lambda: flat(swept(images(COUNT))),
        "seen": lambda: seen(data, batch_size=4),
        "workers": lambda: seen(data, batch_size=4, num_workers=1),
        "one sample": lambda: flat(swept(Numbered(1))),
        "own iterable": lambda: seen([images(COUNT)[i : i + 1] for i in range(rank, COUNT, ranks)]),
        "distributed sampler": loader,
        "concepts": concepts,
        "model raises on one": lambda: sp.sweep(Raises0(), data, {"seen": Seen}, progress=False),
        "reducer raises": lambda: raising(partial(Raises, COUNT - 1), data),
        "data raises": lambda: raising(Seen, Numbered(COUNT, broken=(0,))),
        "slow rank raises": lambda: raising(Seen, Numbered(COUNT, broken=(COUNT - 1,), seconds=0.02 * rank)),
        "merge raises": lambda: raising(Raises, data),
        "nothing at all": lambda: seen([]),
        "no pickle": lambda: raising(lambda: type("Local", (Seen,), {})(), data),
        "checkpoint": lambda: flat(swept(data, checkpoint=folder / "checkpoint")),
        "checkpoint again": lambda: flat(swept(data, checkpoint=folder / "checkpoint")),
        "store": lambda: flat(swept(data, store=folder / "acts.zarr")),
        "their group": group_of_the_users,
        "refused batch_size": lambda: other(batch_size=0),
        "refused model": lambda: other(model="model"),
        "refused timeout": lambda: other(timeout="soon"),
        "refused layers": lambda: other(layers="conv9"),
        "random data": lambda: seen(Restless(COUNT)),
        "shares of data": lambda: seen(Sharded(COUNT)),
        "other weights": lambda: other(model=small_model(seed=1)),
        "other modules": lambda: other(model=nn.Sequential(*small_model()[:2], nn.GELU(), *small_model()[3:])),
        "other data": lambda: other(data=Numbered(COUNT + 1)),
        "other sample": lambda: other(data=Swapped(COUNT)),
        "other tensor": lambda: sp.sweep(small_model(), images(COUNT) + (last / 8), {"seen": Seen}, progress=False),
        "other arguments": lambda: other(batch_size=3, nonfinite="count"),
        "other reducers": lambda: other(reducers={"seen": partial(Raises, 3), "top": sp.Exemplars}),
        "other layers": lambda: other(layers="3"),
        "other dtype": lambda: in_float64(last, lambda: seen(data)),
        "group is none of ours": lambda: (seen(data), torch.distributed.is_initialized())[1],
        "late": late,
        "after that": lambda: seen(data),
        "orphaned": orphaned,
    }
    found = {}
    for name, way in ways.items():
        began = time.monotonic()
        found[name] = outcome(way)
        found[name, "seconds"] = time.monotonic() - began
        put(folder, rank, found)
    return found


def put(folder, rank, found):
    """Leave what was found so far, should this process not come to its end."""
    (folder / f"{rank}.so_far").write_bytes(pickle.dumps(found))


def in_float64(where, call):
    """What a call returns, under another default dtype in some processes."""
    torch.set_default_dtype(torch.float64 if where else torch.float32)
    try:
        return call()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module", params=[pytest.param(2, marks=pytest.mark.long), 3])
def outcomes(request, tmp_path_factory):
    """All outcomes of two, and of three processes, and their folder."""
    folder = tmp_path_factory.mktemp("ranks")
    with contextlib.suppress(FileNotFoundError):  # the last rank ends before its time
        together(in_all_ways, folder, request.param, seconds=120)
    found = [pickle.loads((folder / f"{rank}.so_far").read_bytes()) for rank in range(request.param)]
    return found, folder


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes that are compared: how a convolution rounds depends on the number of its threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone():
    """The same sweep in this process."""
    return flat(swept(Numbered(COUNT)))


def assert_alike(found, expected):
    """The same up to how the model itself rounds, in float32, and exactly in all else."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if getattr(value, "dtype", None) == np.float64:
            assert np.allclose(found[key], value, rtol=1e-5, atol=1e-6, equal_nan=True), key
        else:
            assert np.array_equal(found[key], value), key


def assert_identical(found, expected):
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], value, equal_nan=True) for key, value in expected.items())


@pytest.mark.parametrize("way", ["data set", "tensor", "checkpoint", "checkpoint again", "store"])
def test_every_rank_has_the_whole_result(outcomes, alone, way):
    """What one process would have found, and to the last bit the same on every rank."""
    if way == "store":
        pytest.importorskip("zarr")
    ranks, _ = outcomes
    for rank in ranks:
        assert_alike(rank[way], alone)
        assert_identical(rank[way], ranks[0][way])


@pytest.mark.parametrize("way", ["seen", "workers", "own iterable"])
def test_no_sample_twice_and_none_lost(outcomes, way):
    """23 samples on two or three ranks, with or without workers, or as the user shares them out."""
    for rank in outcomes[0]:
        assert rank[way] == list(range(COUNT))


def test_concepts_of_all_images(outcomes):
    """Every rank has the alignment that one process finds: thresholds are of all images, and each is counted once."""
    expected = concepts()
    for found in outcomes[0]:
        assert found["concepts"].keys() == expected.keys()
        assert all(np.array_equal(found["concepts"][key], value) for key, value in expected.items())


def test_positions_with_a_distributed_sampler(outcomes):
    """Positions are those in the data set; what the sampler repeats to make shares equal comes twice."""
    for rank in outcomes[0]:
        assert set(rank["distributed sampler"]) == set(range(COUNT))
        assert len(rank["distributed sampler"]) == -(-COUNT // len(outcomes[0])) * len(outcomes[0])


def test_fewer_samples_than_ranks(outcomes):
    """A rank without samples brings nothing, and gets the result."""
    for rank in outcomes[0]:
        assert_alike(rank["one sample"], flat(swept(Numbered(1))))


@pytest.mark.parametrize(
    ("way", "guilty", "message"),
    [
        ("model raises on one", 0, "SweepError: The model raised RuntimeError"),
        ("reducer raises", -1, "ZeroDivisionError: sample 22 is bad at layer '0'"),
        ("data raises", 0, "OSError: image 0 is torn"),
        ("slow rank raises", -1, "OSError: image 22 is torn"),
    ],
)
def test_one_fate(outcomes, way, guilty, message):
    """One rank's failure is every rank's, with its text; the rank that failed raises its own error."""
    ranks, _ = outcomes
    guilty %= len(ranks)
    for number, rank in enumerate(ranks):
        kind, text = rank[way]
        assert kind == "SweepError"
        assert message.removeprefix("SweepError: ") in text
        assert text.startswith(f"Rank {guilty} of {len(ranks)} failed, and with it the sweep: ") == (number != guilty)


@pytest.mark.parametrize(
    ("way", "kind", "message"),
    [
        ("merge raises", "SweepError", "could not be merged: SweepError: reducer 'mine' of layer '0' raised KeyError"),
        ("nothing at all", "ArgumentError", "the data is empty"),
        ("no pickle", "ArgumentError", "Reducer 'mine', which checkpoint= and torchrun must write and read back"),
    ],
)
def test_failures_that_all_share(outcomes, way, kind, message):
    """What no rank can do is the same error on every rank."""
    for rank in outcomes[0]:
        assert rank[way][0] == kind
        assert message in rank[way][1]


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("refused batch_size", "ArgumentError: batch_size must be at least 1, not 0."),
        ("refused model", "ArgumentError: "),
        ("refused timeout", "ArgumentError: timeout must be a number, not 'soon'."),
        ("refused layers", "LayerNotFoundError: No layer named 'conv9'."),
    ],
)
def test_arguments_that_one_rank_refuses(outcomes, way, message):
    """All ranks end with an error that names it, and soon."""
    ranks, _ = outcomes
    for number, rank in enumerate(ranks):
        kind, text = rank[way]
        guilty = number == len(ranks) - 1
        assert kind == (message.partition(":")[0] if guilty else "SweepError")
        prefix = f"Rank {len(ranks) - 1} of {len(ranks)} failed, and with it the sweep: "
        assert text.startswith(message.partition(": ")[2] if guilty else prefix + message)
        assert rank[way, "seconds"] < 10


@pytest.mark.parametrize(
    ("way", "differs"),
    [
        (
            "other weights",
            r"the weights 0\.weight, 0\.bias, 1\.running_mean, 1\.running_var, 3\.weight, 3\.bias and 2 more",
        ),
        ("other modules", r"the modules 2 \(GELU\(approximate='none'\), not ReLU\(\)\)"),
        ("other data", r"the data: its length \(24, not 23\), sample \d+.*"),
        ("other sample", r"the data: .*sample 0"),
        ("other tensor", r"the data: its values"),
        ("other arguments", r"batch_size= \(3, not 64\), nonfinite= \('count', not 'error'\)"),
        ("other reducers", r"the reducers seen, top \(rank 0 has none\)"),
        ("other layers", r"the layers 0 \(only rank 0 has it\), 3 \(rank 0 has none\)"),
        ("other dtype", r"the default dtype \(torch\.float64, not torch\.float32\).*"),
    ],
)
def test_ranks_that_were_called_for_other_sweeps(outcomes, way, differs):
    """What differs is found before the first batch, and is the same error on every rank, which says what and where."""
    ranks, _ = outcomes
    for rank in ranks:
        kind, text = rank[way]
        assert kind == "SweepError"
        assert re.match(
            rf"The {len(ranks)} processes were not called for the same sweep\. "
            rf"Rank {len(ranks) - 1} differs from rank 0 in {differs}\. All must have the same",
            text,
        ), text


@pytest.mark.parametrize("way", ["random data", "shares of data"])
def test_data_that_cannot_be_compared(outcomes, way):
    """Random augmentation, and data of which each rank can read only its own share, are no other data."""
    for rank in outcomes[0]:
        assert rank[way] == list(range(COUNT))


def test_a_rank_that_comes_late(outcomes):
    """The others give it up after the timeout and say so; it learns that at once; and the next sweep is well."""
    ranks, _ = outcomes
    missing = f"Rank {len(ranks) - 1} of {len(ranks)} did not come to the sweep within 1.5 s."
    for number, rank in enumerate(ranks):
        kind, text = rank["late"]
        assert kind == "SweepError"
        assert missing in text
        assert text.startswith(missing if number == 0 else f"Rank 0 of {len(ranks)} failed, and with it the sweep")
        assert rank["after that"] == list(range(COUNT))


def test_a_rank_that_is_gone_and_leaves_a_child(outcomes):
    """A process that it forked does not keep its connections open: the others end at once."""
    ranks, _ = outcomes
    for rank in ranks[:-1]:
        kind, text = rank["orphaned"]
        assert kind == "PeerGoneError"
        assert f"rank {len(ranks) - 1} of {len(ranks)}: its connection was closed" in text
        assert rank["orphaned", "seconds"] < 10
    assert "orphaned" not in ranks[-1]


def test_no_group_is_made(outcomes):
    """A sweep needs no process group, and leaves none."""
    for rank in outcomes[0]:
        assert rank["group is none of ours"] is False


def test_a_group_that_was_there_stays(outcomes, alone):
    """The default process group is used, and is still there afterwards."""
    for rank in outcomes[0]:
        found, still_there = rank["their group"]
        assert_alike(found, alone)
        assert still_there


def test_the_store_is_whole(outcomes):
    """Every rank wrote its own chunks: all activations are there, in order."""
    zarr = pytest.importorskip("zarr")
    group, model = zarr.open_group(outcomes[1] / "acts.zarr", mode="r"), small_model().eval()
    with torch.no_grad():
        expected = model[:1](images(COUNT)), model[:4](images(COUNT))
    for name, value in zip("03", expected, strict=True):
        assert group[name]["sample"][:].tolist() == list(range(COUNT))
        assert np.allclose(group[name]["activation"][:], value.numpy(), atol=1e-6)


def test_checkpoints_of_all_ranks(outcomes):
    """Each rank has its own file beside the first one's."""
    files = sorted(path.name for path in outcomes[1].glob("checkpoint*"))
    assert files == ["checkpoint", *(f"checkpoint.rank{rank}" for rank in range(1, len(outcomes[0])))]


@pytest.mark.long
def test_ranks_that_are_ended_at_random():
    """A few of the rounds of `tests/kill_ranks.py`: whatever ends a rank, and when, the others end soon and well."""
    command = [sys.executable, str(ROOT / "tests" / "kill_ranks.py"), "--rounds", "5", "--timeout", "2", "--seed", "1"]
    path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=150,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )
    assert ran.returncode == 0, ran.stdout
    assert "hung after 15 s: 0 rounds; not as they should be: 0 rounds" in ran.stdout


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 16))
def test_shares(count, ranks, unit):
    """Shares are whole units, follow each other, cover all, and differ by a unit at most."""
    shares = [share(count, rank, ranks, unit) for rank in range(ranks)]
    assert [sample for first, last in shares for sample in range(first, last)] == list(range(count))
    sizes = [-(-(last - first) // unit) for first, last in shares]
    assert max(sizes) - min(sizes) <= 1
    assert all(first % unit == 0 for first, last in shares if last > first)


@pytest.mark.long
def test_under_torchrun(tmp_path):
    """The example, started as its docstring says."""
    script = ROOT / "examples" / "distributed_sweep.py"
    (line,) = re.findall(r"^ +torchrun (.*)$", script.read_text(), re.MULTILINE)
    options = line.replace("examples/distributed_sweep.py", str(script)).split()
    command = [sys.executable, "-m", "torch.distributed.run", *options, "--limit", "30", "--out", str(tmp_path / "r")]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=100, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ran.returncode == 0, ran.stderr
    result = sp.SweepResult.load(tmp_path / "r")
    assert result.samples == 30
    assert set(result) == {"conv1", "conv2"}
    assert ran.stdout.count("30 samples") == 1  # one process speaks


class _Bomb:
    def __reduce__(self):
        return os.system, ("exit 0",)


def test_what_a_rank_sends_can_run_no_code():
    """Bytes that name something else than the reducers' classes are a failure, which is sent on."""
    form = StateFormat(["0"], {"dead": sp.Dead()}, {"dead": sp.Dead()})
    state = SweepState({"0": {"dead": sp.Dead()}}, 3)
    assert _unpack(_pack(state, form), form).samples == 3
    torch.save(_Bomb(), made := io.BytesIO())
    for sent in (made.getvalue(), pickle.dumps(_Bomb()), b""):
        found = _unpack(b"1" + sent, form)
        assert type(found).__name__ == "_Failure"
        assert "what a rank sent" in found.text
        assert _unpack(_pack(found, form), form).text == found.text
