"""sweep(): every value of every layer to every reducer, the model as it was, and errors that say where."""

from __future__ import annotations

import copy
import gc
import io
import random
import re
import sys
import types
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
import tqdm.std
from sweeps import REDUCERS, Numbered, flat, images, small_model, swept
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset, WeightedRandomSampler
from zoo import CONVOLUTIONS, ZOO, Chain

import spatialprobe as sp
from spatialprobe.statistics import progress

quiet = partial(sp.sweep, progress=False)


class Indexed(Numbered):
    """Takes whatever is an integer to Python, also from the end, and remembers what was taken."""

    def __init__(self, count):
        super().__init__(count)
        self.taken = []

    def __getitem__(self, index):
        self.taken.append(range(self.count)[index])
        return super().__getitem__(self.taken[-1])


class Anything(Numbered):
    """Takes any index."""

    def __getitem__(self, index):
        return super().__getitem__(3)


class Everything:
    """All values, with their samples: the oracle's memory."""

    def __init__(self):
        self.values, self.samples = [], []

    def update(self, activation, samples):
        assert not torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert samples.dtype == torch.int64
        self.values.append(activation.clone())
        self.samples += samples.tolist()

    def merge(self, other):
        self.values += other.values
        self.samples += other.samples

    def result(self):
        return torch.cat(self.values), self.samples


ALL = {"all": Everything}


def hooked(model, inputs, layers, size):
    """Return the outputs of every layer in evaluation mode, cloned by hooks of the test's own, batch by batch."""
    found = {layer: [] for layer in layers}
    handles = [
        model.get_submodule(layer).register_forward_hook(
            lambda _, __, output, layer=layer: found[layer].append(output.detach().clone())
        )
        for layer in layers
    ]
    with torch.no_grad():
        for batch in inputs.split(size):
            model(batch)
    for handle in handles:
        handle.remove()
    return {layer: torch.cat(values) for layer, values in found.items()}


def state_of(model):
    """All that must be as it was: values bit by bit, identities, modes, hooks."""
    return {
        "tensors": {name: (id(t), t.clone()) for name, t in [*model.named_parameters(), *model.named_buffers()]},
        "gradients": [p.grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            (dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks)) for m in model.modules()
        ],
        "random": (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()),
        "grad": torch.is_grad_enabled(),
    }


def assert_as_it_was(model, before):
    after = state_of(model)
    assert after["tensors"].keys() == before["tensors"].keys()
    for name, (identity, value) in before["tensors"].items():
        assert after["tensors"][name][0] == identity, name
        assert torch.equal(after["tensors"][name][1], value), name
    for what in ("gradients", "modes", "hooks", "grad"):
        assert after[what] == before[what], what
    assert torch.equal(after["random"][0], before["random"][0])
    assert np.array_equal(after["random"][1], before["random"][1])
    assert after["random"][2] == before["random"][2]


class TestValues:
    @pytest.mark.parametrize("name", [name for name in ZOO if name not in ("shared", "3-d")])
    @pytest.mark.parametrize("stop_early", [True, False])
    def test_every_value_comes_once(self, name, stop_early):
        """The reducers see exactly what hooks of the test's own see, in batches of 3, 3 and 2 samples."""
        model = ZOO[name].model()
        inputs = torch.randn(8, *ZOO[name].shape[1:], generator=torch.Generator().manual_seed(0))
        layers = [layer for layer, module in model.named_modules() if isinstance(module, CONVOLUTIONS)]
        result = quiet(model, inputs, ALL, layers=layers, batch_size=3, stop_early=stop_early)
        expected = hooked(model, inputs, layers, 3)
        assert list(result) == layers
        for layer in layers:
            values, samples = result[layer]["all"]
            assert torch.equal(values, expected[layer])
            assert samples == list(range(8))

    @pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
    def test_overwritten_values_are_seen_before(self, name):
        """Batch norms whose outputs the model writes over, in residual sums and in-place ReLUs."""
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, num_classes=2).eval()
        layers = [layer for layer, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
        inputs = torch.rand(4, 3, 32, 32)
        result = quiet(model, inputs, ALL, layers=nn.BatchNorm2d, batch_size=2)
        expected = hooked(model, inputs, layers, 2)
        assert all(torch.equal(result[layer]["all"][0], expected[layer]) for layer in layers)

    def test_a_layer_that_runs_twice_feeds_one_reducer(self):
        """Both runs of each forward, in their order, with the samples of each."""
        model, inputs = ZOO["shared"].model(), torch.randn(5, 3, 8, 8)
        values, samples = quiet(model, inputs, ALL, batch_size=2)["conv"]["all"]
        first = model.conv(inputs).detach()
        second = model.conv(F.relu(first)).detach()
        expected = [half for at in (0, 2, 4) for half in (first[at : at + 2], second[at : at + 2])]
        assert torch.allclose(values, torch.cat(expected), atol=1e-6)
        assert samples == [0, 1, 0, 1, 2, 3, 2, 3, 4, 4]

    @pytest.mark.parametrize("stop_early", [True, False])
    def test_post_activation(self, stop_early):
        """The values of the nonlinearity that follows, be it a module or in place."""
        model, inputs = ZOO["chain"].model(), torch.randn(7, 3, 12, 12)
        result = quiet(model, inputs, ALL, at="post_activation", batch_size=3, stop_early=stop_early)
        expected = hooked(model, inputs, ["relu1", "relu2"], 3)
        assert torch.equal(result["conv1"]["all"][0], expected["relu1"])
        assert torch.equal(result["conv2"]["all"][0], expected["relu2"])
        assert result.at == "post_activation"

    def test_no_nonlinearity_follows(self):
        """Then there is nothing to reduce, and the error says so."""
        with pytest.raises(sp.UnresolvedActivationError, match="join"):
            quiet(ZOO["concat"].model(), torch.randn(2, 3, 9, 9), ALL, layers="join", at="post_activation")

    def test_evaluation_mode_without_gradients(self):
        """Dropout and batch norm are those of evaluation, whatever mode the model comes in."""
        model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)).train()
        inputs = torch.randn(6, 3, 4, 4)
        values, _ = quiet(model, inputs, ALL, batch_size=4)["2"]["all"]
        assert torch.equal(values, hooked(model.eval(), inputs, ["2"], 4)["2"])

    def test_autocast(self):
        """Layers hand on what autocasting makes of them; statistics are computed without it."""
        model, inputs = small_model(), images(9)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = quiet(model, inputs, ALL | {"moments": sp.Moments}, batch_size=4)
        values, moments = result["3"]["all"][0], result["3"]["moments"]
        assert values.dtype == torch.bfloat16
        flat_values = values.double().transpose(0, 1).flatten(1)
        assert torch.allclose(moments.variance, flat_values.var(1, correction=0), rtol=1e-12)

    def test_a_bfloat16_model(self):
        """Moments are exact for what it hands on."""
        result = quiet(small_model().bfloat16(), images(20).bfloat16() + 50, ALL | {"moments": sp.Moments})
        values = result["0"]["all"][0].double().transpose(0, 1).flatten(1)
        assert torch.allclose(result["0"]["moments"].mean, values.mean(1), rtol=1e-13)
        assert torch.allclose(result["0"]["moments"].variance, values.var(1, correction=0), rtol=1e-12)

    def test_one_pass_equals_the_whole_at_once(self):
        """Reducing in batches equals giving a reducer all activations of the whole data."""
        result, values = swept(images(30), batch_size=7), hooked(small_model().eval(), images(30), ["0", "3"], 7)
        for layer in result:
            for name, factory in REDUCERS.items():
                reducer = factory()
                reducer.update(values[layer], torch.arange(30))
                for key, expected in vars(reducer.result()).items():
                    found = torch.as_tensor(getattr(result[layer][name], key)).double()
                    assert torch.allclose(found, torch.as_tensor(expected).double(), rtol=1e-10, equal_nan=True), key


class TestEarlyEnd:
    class Tail(nn.Module):
        """A model that tells, outside of itself, how often its tail runs."""

        def __init__(self, runs):
            super().__init__()
            self.conv, self.tail = nn.Conv2d(3, 2, 3), nn.Linear(2, 2)
            self.tail.register_forward_pre_hook(lambda *_: runs.append(1))

        def forward(self, x):
            return self.tail(self.conv(x).amax((2, 3)))

    def test_learnt_on_the_first_batch(self):
        """The first batch runs to the end, those after it stop at the last layer that is needed."""
        for stop_early, expected in ((True, 1), (False, 5)):
            runs = []
            model = self.Tail(runs)
            assert quiet(model, images(10), ALL, batch_size=2, stop_early=stop_early).samples == 10
            assert len(runs) == expected

    def test_layers_that_run_several_times_run_to_the_end(self):
        """A layer whose number of runs depends on the samples has all of its runs in every batch."""

        class Recurs(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 3, 1)

            def forward(self, x):
                for _ in range(int(x.flatten()[0])):
                    x = self.conv(x)
                return x

        data = torch.stack([torch.full((3, 2, 2), float(runs)) for runs in (2, 4, 3)])
        result = quiet(Recurs(), data, ALL, batch_size=1)
        assert result["conv"]["all"][1] == [0] * 2 + [1] * 4 + [2] * 3

    def test_another_order_runs_to_the_end(self):
        """A batch that runs its layers in another order than the first is not cut short."""

        class Swaps(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.batches = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), 0

            def forward(self, x):
                self.batches += 1
                first, second = (self.a, self.b) if self.batches % 2 else (self.b, self.a)
                return second(first(x))

        result = quiet(Swaps(), images(12), ALL, batch_size=2)
        assert [result[layer]["all"][1] for layer in "ab"] == [list(range(12))] * 2

    def test_a_model_that_swallows_everything(self):
        """Even a bare except does not let it go on."""

        class Swallows(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.tail = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 1, 1)
                self.tail.register_forward_hook(lambda *_: runs.append(1))

            def forward(self, x):
                try:
                    y = self.conv(x)
                except:  # noqa: E722
                    y = x
                return self.tail(x), y

        runs = []
        model = Swallows()
        assert quiet(model, images(10), ALL, layers="conv", batch_size=2)["conv"]["all"][1] == list(range(10))
        assert len(runs) == 1


class TestData:
    class Stream(IterableDataset):
        def __iter__(self):
            return (Numbered(11)[i] for i in range(11))

    WAYS = {
        "tensor": lambda: images(11),
        "view": lambda: images(22)[:11],
        "data set": lambda: Numbered(11),
        "tensor data set": lambda: TensorDataset(images(11), torch.arange(11)),
        "list of batches": lambda: [images(11)[:5], images(11)[5:]],
        "list of tuples": lambda: [(images(11)[:5], "labels"), [images(11)[5:], None]],
        "generator": lambda: (images(11)[i : i + 3] for i in range(0, 11, 3)),
        "empty batches": lambda: [images(11)[:0], images(11), images(11)[:0]],
        "loader": lambda: DataLoader(Numbered(11), 4),
        "loader with workers": lambda: DataLoader(Numbered(11), 4, num_workers=1),
        "loader of tensors": lambda: DataLoader(TensorDataset(images(11)), 4),
        "stream": lambda: TestData.Stream(),
        "loader of a stream": lambda: DataLoader(TestData.Stream(), 4),
    }

    @pytest.mark.parametrize("way", WAYS)
    def test_all_kinds(self, way):
        """Tensors, data sets, loaders and iterables give the same samples at the same positions."""
        values, samples = quiet(small_model(), self.WAYS[way](), ALL, batch_size=4)["0"]["all"]
        with torch.no_grad():
            expected = small_model().eval()[0](images(11))
        assert torch.allclose(values, expected, atol=1e-6)
        assert samples == list(range(11))

    @pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there is one core
    def test_workers(self):
        """Samples that other processes load."""
        assert quiet(small_model(), Numbered(11), ALL, batch_size=4, num_workers=2)["0"]["all"][1] == list(range(11))

    def test_a_shuffling_loader(self):
        """Positions are those in the data set, not of the order in which they came."""
        values, samples = quiet(small_model(), DataLoader(Numbered(11), 4, shuffle=True), ALL)["0"]["all"]
        assert samples != sorted(samples)
        with torch.no_grad():
            assert torch.allclose(values, small_model().eval()[0](images(11)[samples]), atol=1e-6)

    ORDERS = {
        "numpy integers": SubsetRandomSampler(np.arange(10, -1, -1)),
        "small numpy integers": np.array([3, 0, 10], np.int8),
        "a tensor": torch.tensor([3, 0, 10]),
        "tensors": [torch.tensor(3), torch.tensor(0, dtype=torch.uint8)],
        "weights": WeightedRandomSampler(torch.ones(11), 20),
        "counted from the end": [-1, 3, -11],
        "booleans": [True, False],
    }

    @pytest.mark.parametrize("name", ORDERS)
    def test_samplers_of_any_integers(self, name):
        """Positions are right for whatever a data set can be indexed with, counted from its beginning."""
        data = Indexed(11)
        values, samples = quiet(small_model(), DataLoader(data, 4, sampler=self.ORDERS[name]), ALL)["0"]["all"]
        assert samples == data.taken
        with torch.no_grad():
            assert torch.allclose(values, small_model().eval()[0](images(11)[samples]), atol=1e-6)

    @pytest.mark.parametrize(
        ("index", "workers"),
        [("3", 0), ((3,), 1), (3.0, 0), (None, 0), (torch.tensor(3.0), 0), (torch.tensor([3, 4]), 0)],
        ids=repr,
    )
    @pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there is one core
    def test_samplers_of_something_else(self, index, workers):
        """An index that is no whole number has no position, which is an error; the way out is an iterator."""
        data = Anything(11)
        loader = DataLoader(data, 1, sampler=[index], num_workers=workers)
        with pytest.raises(sp.ArgumentError, match=r"sampler yields .* not a position .* Pass iter\(loader\)"):
            quiet(small_model(), loader, ALL)
        assert quiet(small_model(), iter(DataLoader(data, 1, sampler=[index, index])), ALL)["0"]["all"][1] == [0, 1]

    def test_a_loader_with_its_own_way(self):
        """Its collate_fn and its sampler are its own."""
        loader = DataLoader(
            Numbered(11),
            batch_sampler=[[9, 2], [0], [10, 10, 1]],
            collate_fn=lambda pairs: (torch.stack([-image for image, _ in pairs]), "more"),
        )
        values, samples = quiet(small_model(), loader, ALL)["0"]["all"]
        assert samples == [9, 2, 0, 10, 10, 1]
        with torch.no_grad():
            assert torch.allclose(values, small_model().eval()[0](-images(11)[samples]), atol=1e-6)

    def test_batches_of_a_data_set(self):
        """batch_size samples run at once, the rest last."""
        sizes = []

        class Sizes(nn.Conv2d):
            def forward(self, x):
                sizes.append(len(x))
                return super().forward(x)

        quiet(Sizes(3, 1, 1), Numbered(11), ALL, layers="", batch_size=4)
        assert sizes == [4, 4, 3]

    def test_samples_of_other_shapes_in_other_batches(self):
        """A fully convolutional model takes them: the statistics are over all values."""
        batches = [torch.randn(2, 3, 8, 8), torch.randn(3, 3, 12, 9), torch.randn(1, 3, 3, 3)]
        model = nn.Conv2d(3, 2, 3)
        result = quiet(model, batches, {"moments": sp.Moments, "top": sp.Exemplars, "dead": sp.Dead}, layers="")[""]
        with torch.no_grad():
            values = torch.cat([model(batch).transpose(0, 1).flatten(1) for batch in batches], dim=1).double()
        assert torch.allclose(result["moments"].mean, values.mean(1), atol=1e-7)
        assert torch.allclose(result["top"].values[:, 0], values.amax(1))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (lambda: torch.empty(0, 3, 8, 8), "the data is empty"),
            (lambda: [], "the data is empty"),
            (lambda: Numbered(0), "the data is empty"),
            (lambda: torch.tensor(3.0), "a tensor without axes"),
            (lambda: 3, "the data is an int: pass a data set"),
            (lambda: None, "the data is a NoneType"),
            (lambda: "folder", "the data is a str"),
            (lambda: {"train": images(2)}, "the data is a dict"),
            (lambda: images(2).numpy(), "torch.from_numpy makes one"),
            (lambda: list(images(2)), r"took batch 0 .*of shape \(3, 8, 8\), for one image without a batch axis"),
            (lambda: images(2)[0], r"pass torch.stack\(images\), image\[None\], a Dataset or a DataLoader"),
        ],
    )
    def test_no_data(self, data, message):
        """Empty data and what is none are refused."""
        with pytest.raises(sp.ArgumentError, match=message):
            quiet(small_model(), data(), ALL)

    def test_another_number_format(self):
        """The model's error comes with what to do."""
        with pytest.raises(sp.SweepError, match=r"The inputs are torch.uint8, .* bytes divided by 255"):
            quiet(small_model(), images(2).byte(), ALL)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (lambda: [images(2), "text"], "The data yielded a str: .* This was for batch 1"),
            (lambda: [images(2), torch.tensor(1.0)], "The data yielded a tensor without axes"),
            (lambda: Odd(11), r"Sample 6 has shape \(3, 9, 8\), but sample 4, in the same batch, \(3, 8, 8\)"),
            (lambda: Numbered(11, broken=(5,)), "data set raised OSError: image 5 is torn at sample 5. This was .* 1"),
            (lambda: Texts(3), "A sample is a str: it must be a tensor"),
            (lambda: DataLoader(Numbered(11, broken=(5,)), 4), "The data raised OSError: image 5 is torn at batch 1"),
        ],
    )
    def test_bad_data(self, data, message):
        """What the data does wrong is told with its batch and sample."""
        with pytest.raises(sp.SweepError, match=message):
            quiet(small_model(), data(), ALL, batch_size=4)


class Odd(Numbered):
    def __getitem__(self, index):
        return torch.zeros(3, 9 if index == 6 else 8, 8), 0


class Texts(Numbered):
    def __getitem__(self, index):
        return "text", index


class Fails(nn.Module):
    """Raises in its second batch, after its conv."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.batches = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), 0

    def forward(self, x):
        self.batches += 1
        y = self.norm(self.conv(x))
        if self.batches == 2:
            self.norm.running_mean += 1  # leaves something behind
            raise ValueError("model is tired")
        return y


class Tired:
    """A reducer that raises in its second batch."""

    def __init__(self, error=ValueError):
        self.error, self.updates = error, 0

    def update(self, activation, samples):
        self.updates += 1
        if self.updates == 2:
            raise self.error("no more")

    def merge(self, other):
        pass

    def result(self):
        raise KeyError("nothing")


class Overwrites(Tired):
    def update(self, activation, samples):
        activation.relu_()


FAILURES = {
    "model": (
        Fails,
        ALL,
        {"stop_early": False},
        sp.SweepError,
        r"model is tired in batch 1 \(samples 4 to 7\), inputs \(4, 3, 8, 8\), after layer 'conv'",
    ),
    "reducer": (
        small_model,
        {"mine": Tired},
        {},
        sp.SweepError,
        r"'mine' raised ValueError: no more at layer '0' in batch 1 \(samples 4 to 7\), on an",
    ),
    "result": (
        small_model,
        {"mine": Tired},
        {"batch_size": 20},
        sp.SweepError,
        "reducer 'mine' of layer '0' raised KeyError",
    ),
    "overwriting": (
        small_model,
        {"mine": Overwrites},
        {},
        sp.SweepError,
        "Reducer 'mine' modified the output of layer '0' in place",
    ),
    "interrupt": (small_model, {"mine": partial(Tired, KeyboardInterrupt)}, {}, KeyboardInterrupt, "no more"),
    "layer": (small_model, ALL, {"layers": "nothing"}, sp.LayerNotFoundError, "nothing"),
    "at": (small_model, ALL, {"at": "input"}, sp.ArgumentError, "at"),
    "nonfinite": (small_model, ALL, {"nonfinite": "maybe"}, sp.ArgumentError, "nonfinite"),
    "batch size": (small_model, ALL, {"batch_size": 0}, sp.ArgumentError, "batch_size must be at least 1, not 0"),
    "batch size in words": (small_model, ALL, {"batch_size": "4"}, sp.ArgumentError, "an integer, not '4'"),
    "workers": (small_model, ALL, {"num_workers": -1}, sp.ArgumentError, "num_workers must be at least 0, not -1"),
    "no mapping": (small_model, sp.Moments, {}, sp.ArgumentError, "reducers is a type: pass a mapping"),
    "an instance": (small_model, {"m": sp.Moments()}, {}, sp.ArgumentError, r"reducers\['m'\] is .* cannot be called"),
    "arguments": (small_model, {"m": Numbered}, {}, sp.ArgumentError, "cannot be called without arguments"),
    "no reducer": (small_model, {"m": dict}, {}, sp.ArgumentError, "returned a dict, which is not a reducer"),
    "nothing to do": (small_model, {}, {}, sp.ArgumentError, "this sweep would have no result"),
}


class TestRestoration:
    @pytest.mark.parametrize("training", [True, False])
    def test_after_a_sweep(self, training):
        """Weights, buffers, modes, hooks, gradients, random state: bit by bit and object by object."""
        model = small_model().train(training)
        model[1].eval()  # a mix
        model.register_forward_hook(lambda *_: None)
        before = state_of(model)
        swept_model = quiet(model, images(10), REDUCERS, batch_size=4)
        assert swept_model.samples == 10
        assert_as_it_was(model, before)

    @pytest.mark.parametrize("name", FAILURES)
    def test_after_every_failure(self, name):
        """And after every exception, whose text says where."""
        make, reducers, arguments, kind, message = FAILURES[name]
        model = make().train()
        before = state_of(model)
        with pytest.raises(kind, match=message):
            quiet(model, images(10), reducers, **({"batch_size": 4} | arguments))
        assert_as_it_was(model, before)

    def test_buffers_that_the_model_writes(self):
        """A counter among the buffers, a new tensor in its place, and a lazily filled one come back."""

        class Counts(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 2, 3)
                self.register_buffer("calls", torch.zeros(()))
                self.register_buffer("mask", torch.ones(3))
                self.register_buffer("cache", None)

            def forward(self, x):
                self.calls += 1
                self.mask = torch.zeros(3)
                self.cache = x.mean()
                return self.conv(x)

        model = Counts()
        before = state_of(model)
        quiet(model, images(10), REDUCERS, batch_size=4)
        assert_as_it_was(model, before)
        assert model.cache is None

    def test_random_models(self):
        """A model that draws numbers leaves the random state as it was."""

        class Draws(nn.Conv2d):
            def forward(self, x):
                return super().forward(x) + torch.randn(())

        model = Draws(3, 2, 3)
        before = state_of(model)
        quiet(model, DataLoader(Numbered(10), 4, shuffle=True), REDUCERS, layers="")
        assert_as_it_was(model, before)

    def test_nothing_is_kept(self):
        """No activation outlives its batch, also where the sweep fails."""
        gc.collect()
        gc.freeze()  # what is there before is neither collected nor counted
        held = []

        class Counts(sp.Moments):
            def update(self, activation, samples):
                gc.collect()
                held.append(sum(1 for one in gc.get_objects() if isinstance(one, torch.Tensor) and one.ndim == 4))
                super().update(activation, samples)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quiet(nn.Conv2d(3, 2, 3), images(24), {"mine": Counts}, layers="", batch_size=4)
        assert len(set(held[1:])) == 1


class TestNonFinite:
    class Poisoned(nn.Module):
        def __init__(self, value, layer=1):
            super().__init__()
            self.a, self.b, self.value = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), value

        def forward(self, x):
            y = self.a(x)
            hit = x[:, :1].amax((1, 2, 3), keepdim=True) > 99  # the image that is marked
            return self.b(torch.where(hit, self.value, y))

    @staticmethod
    def marked(sample):
        data = images(10)
        data[sample, 0, 0, 0] = 100
        return data

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_an_error_that_says_where(self, value):
        """Layer, sample and batch, and what to do."""
        with pytest.raises(
            sp.NonFiniteActivationError,
            match=r"The output of layer 'b' has \d+ NaN and \d+ infinite values for sample 6, in batch 1 "
            r"\(samples 4 to 7\)",
        ):
            quiet(self.Poisoned(value), self.marked(6), {"moments": sp.Moments}, batch_size=4)

    def test_counted(self):
        """They are left out of all statistics, and Moments says how many there were."""
        result = quiet(self.Poisoned(torch.nan), self.marked(6), REDUCERS | ALL, batch_size=4, nonfinite="count")
        assert result["b"]["moments"].nonfinite.tolist() == [64, 64]
        assert result["a"]["moments"].nonfinite.tolist() == [0] * 4
        good = [sample for sample in range(10) if sample != 6]
        values = result["b"]["all"][0][good].transpose(0, 1).flatten(1).double()
        assert torch.allclose(result["b"]["moments"].mean, values.mean(1))
        assert result["b"]["histogram"].counts.sum() == 2 * 9 * 64
        assert 6 not in result["b"]["top"].samples

    def test_a_sum_that_overflows_is_not_an_infinite_value(self):
        """Large values are finite."""
        model = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(model.weight)
        data = torch.full((2, 1, 4, 4), 3e38)
        assert quiet(model, data, {"m": sp.Moments}, layers="")[""]["m"].mean.item() == pytest.approx(3e38)


class TestLayers:
    def test_one_that_does_not_run(self):
        """An error in the first batch where it was chosen by name, else left out by name; no empty result."""
        model = nn.ModuleDict({"used": nn.Conv2d(3, 2, 1), "idle": nn.Conv2d(3, 2, 1)})
        model.forward = lambda x: model["used"](x)
        for exact in (["used", "idle"], model["idle"]):
            with pytest.raises(sp.LayerNotRunError, match=r"'idle' did not run in batch 0 \(samples 0 to 3\)"):
                quiet(model, images(8), ALL, batch_size=4, layers=exact)
        with pytest.raises(sp.LayerNotRunError, match=r"All layers are left out. Layer 'idle' did not run"):
            quiet(model, images(8), ALL, batch_size=4, layers="idl*")
        result = quiet(model, images(8), ALL, batch_size=4)
        assert (list(result), list(result.left_out)) == (["used"], ["idle"])
        assert "Left out: idle" in repr(result)

    def test_one_without_a_batch(self):
        """A layer whose first axis is not the batch is refused."""

        class Folds(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(1, 2, 1)

            def forward(self, x):
                return self.conv(x.flatten(0, 1)[:, None])

        with pytest.raises(sp.UnsupportedOutputError, match=r"returned \(12, 2, 8, 8\) for the 4 samples of batch 0"):
            quiet(Folds(), images(8), ALL, batch_size=4)

    def test_one_that_returns_a_tuple(self):
        """Not one tensor: refused with what it returned."""
        with pytest.raises(sp.UnsupportedOutputError, match="'block'"):
            quiet(ZOO["tuple"].model(), torch.randn(2, 3, 6, 6), ALL, layers="block")

    def test_a_copy_of_the_model_is_free(self):
        """A model copied while it is swept carries no working hook of the sweep."""
        copies = []

        class Copies(Everything):
            def update(self, activation, samples):
                copies.append(copy.deepcopy(model))
                super().update(activation, samples)

        model = Chain()
        quiet(model, torch.randn(2, 3, 12, 12), {"mine": Copies}, layers="conv1")
        copies[0](torch.randn(5, 3, 12, 12))

    def test_compiled_models(self):
        """A model that torch.compile wraps is swept as it is."""
        model = small_model()
        compiled = torch.compile(model, backend="eager")
        result = quiet(compiled, images(6), REDUCERS, batch_size=4)
        assert result.samples == 6


class TestProgress:
    def test_a_bar(self, capsys):
        """Samples done, of how many, and how fast; at the end how many, and in how many seconds."""
        quiet_but = partial(sp.sweep, small_model(), images(10), ALL, batch_size=4)
        quiet_but(progress=True)
        shown = capsys.readouterr().err
        assert "0/10" in shown
        assert re.search(r"sweep: 10 samples in \d+\.\d seconds *\n$", shown)
        quiet_but(progress=False)
        quiet_but()  # "auto", and this is no terminal
        assert capsys.readouterr().err == ""

    def test_at_a_terminal(self, monkeypatch, capsys):
        """The bar is there where somebody looks."""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        sp.sweep(small_model(), images(10), ALL, batch_size=4)
        assert "samples" in capsys.readouterr().err

    def test_a_sweep_that_continues(self, tmp_path, capsys):
        """The bar begins where the checkpoint ends, and says so at the end."""

        class Breaks(Numbered):
            reads = 0

            def __getitem__(self, index):
                self.reads += index == 9
                if index == 9 and self.reads == 2:  # not when it is looked at, but when it is swept
                    raise KeyboardInterrupt
                return super().__getitem__(index)

        data = Breaks(10)
        options = {"batch_size": 4, "progress": True, "checkpoint": tmp_path / "state", "checkpoint_seconds": 0}
        with pytest.raises(KeyboardInterrupt):
            sp.sweep(small_model(), data, ALL, **options)
        capsys.readouterr()
        sp.sweep(small_model(), data, ALL, **options)
        shown = capsys.readouterr().err
        assert "8/10" in shown
        assert re.search(r"sweep: 10 samples in \d+\.\d seconds, 8 samples before *\n$", shown)

    @pytest.mark.parametrize("widgets", [False, True])
    def test_in_a_notebook(self, widgets, monkeypatch, capsys):
        """A bar without a warning: of widgets where they are installed, else as text that is not red."""
        made = []

        class Automatic(tqdm.std.tqdm):
            def __init__(self, **options):
                made.append(options["desc"])
                super().__init__(**options, file=io.StringIO())

        shell = types.SimpleNamespace(kernel=object())
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Automatic))
        monkeypatch.setattr(progress, "find_spec", lambda name: object() if widgets else None)
        sp.sweep(small_model(), images(10), ALL, batch_size=4)
        shown = capsys.readouterr()
        assert shown.err == ""
        assert made == (["sweep"] if widgets else [])
        assert ("sweep: 10 samples in" in shown.out) != widgets


def test_same_as_flat():
    """Two sweeps of the same give the same to the last bit."""
    one, other = flat(swept(images(10))), flat(swept(images(10)))
    assert all(np.array_equal(one[key], other[key], equal_nan=True) for key in one)


class Gives(Exception):
    """What a model may raise."""


class Fails(nn.Module):
    """Raises in its second pass, behind a layer that ran."""

    def __init__(self):
        super().__init__()
        self.conv, self.passes = nn.Conv2d(3, 4, 3), 0

    def forward(self, x):
        x = F.relu(self.conv(x))
        self.passes += 1
        if self.passes == 2:
            raise Gives("second pass")
        return x


@pytest.mark.parametrize("stop_early", [True, False])
def test_no_mode_of_torch_is_left_on(stop_early):
    """Following what comes after a layer ends with each pass, also with one that was stopped or that failed."""
    before = torch.overrides._get_current_function_mode_stack()
    swept(images(20), at="post_activation", stop_early=stop_early, layers="0")
    assert torch.overrides._get_current_function_mode_stack() == before
    with pytest.raises(sp.SweepError, match="Gives: second pass"):
        sp.sweep(Fails(), images(20), REDUCERS, at="post_activation", stop_early=False, batch_size=4, progress=False)
    assert torch.overrides._get_current_function_mode_stack() == before


def test_a_layer_that_stops_running():
    """A layer that runs for bright images only has no statistics of all samples: the batch that lacks it says so."""

    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.always, self.bright = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.always(x) + (self.bright(x) if x.mean() > 0 else 0)

    batches = [images(4) * 0 + 1, images(4) * 0 - 1]
    with pytest.raises(sp.LayerNotRunError, match=r"'bright' did not run in batch 1 \(samples 4 to 7\)"):
        sp.sweep(Sometimes(), batches, {"moments": sp.Moments}, progress=False, layers=["always", "bright"])
    found = sp.sweep(Sometimes(), batches, {"moments": sp.Moments}, progress=False)
    assert list(found) == ["always"]
    assert "batch 1" in found.left_out["bright"]


def test_a_list_of_reducer_classes():
    """Classes in a list are found by their own names; what has no name of its own is refused with what to do."""
    model, data = nn.Conv2d(3, 4, 3), torch.rand(6, 3, 8, 8)
    listed = sp.sweep(model, data, [sp.Moments, sp.ChannelCovariance], progress=False)[""]
    named = sp.sweep(model, data, {"moments": sp.Moments}, progress=False)[""]
    assert list(listed) == ["moments", "channel_covariance"]
    assert torch.equal(listed["moments"].mean, named["moments"].mean)
    with pytest.raises(sp.ArgumentError, match="which is not a class: pass a mapping, {'name': it}"):
        sp.sweep(model, data, [partial(sp.Exemplars, k=2)], progress=False)
    with pytest.raises(sp.ArgumentError, match="two classes named 'moments'"):
        sp.sweep(model, data, (sp.Moments, sp.Moments), progress=False)
