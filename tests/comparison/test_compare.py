"""compare(): similarities and channels as plain numpy computes them, laws of both, and models left as they were."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.comparison.matching import match_greedily

SAMPLES = 83


class Quiet(nn.Sequential):
    """A small convolutional network."""


def network(seed, channels=6):
    """Return a network of three convolutions, with maps of several sizes and in-place nonlinearities."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Quiet(
            nn.Conv2d(3, channels, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 8, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 5, 3),
        )


@cache
def images(count=SAMPLES):
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def compared(one, other, data=None, **options):
    return sp.compare(one, other, images() if data is None else data, **({"progress": False} | options))


def values_of(model, data=None):
    """Return all activations of each convolution, float64 (N, C, L)."""
    with sp.Probe(model) as probe, torch.no_grad():
        model((images() if data is None else data).clone())
    return {name: record.tensor.double().flatten(2).numpy() for name, record in probe.items()}


def independence(first, second):
    """Return the unbiased Hilbert-Schmidt independence criterion, term by term as in [Song et al. 2012, eq. 5]."""
    n = len(first)
    first, second = first - np.diag(np.diag(first)), second - np.diag(np.diag(second))
    ones = np.ones(n)
    found = np.trace(first @ second) - 2 / (n - 2) * (ones @ first @ second @ ones)
    found += (ones @ first @ ones) * (ones @ second @ ones) / ((n - 1) * (n - 2))
    return found / (n * (n - 3))


def alignment(one, other):
    """Return the linear CKA of two arrays (N, ...) of all the data at once."""
    first, second = (rows.reshape(len(rows), -1) @ rows.reshape(len(rows), -1).T for rows in (one, other))
    return independence(first, second) / np.sqrt(independence(first, first) * independence(second, second))


def exact(one, other):
    return np.array([[alignment(first, second) for second in other.values()] for first in one.values()])


def test_whole_data_in_one_batch_is_the_exact_estimate():
    """Each entry equals numpy's, over all pairs of layers of two different models."""
    one, other = network(0), network(1, channels=4)
    found = compared(one, other, batch_size=SAMPLES)
    assert found.cka.shape == (3, 3)
    assert np.allclose(found.cka, exact(values_of(one), values_of(other)), atol=1e-6)
    assert found.standard_error.isnan().all()
    assert found.n == SAMPLES


@pytest.mark.parametrize("batch_size", [1, 7, 20, 32, 79])
def test_batch_sizes_agree(batch_size):
    """The estimate from batches of any size lies within four standard errors of that from all data."""
    one, other = network(0), network(1)
    found = compared(one, other, batch_size=batch_size)
    assert found.n == SAMPLES
    assert found.standard_error.isfinite().all()
    whole = exact(values_of(one), values_of(other))
    assert (np.abs(found.cka.numpy() - whole) <= 4 * found.standard_error.numpy() + 1e-6).all()


def test_batches_and_their_jackknife_are_those_of_a_plain_loop():
    """Sums over batches, and leaving out one batch after the other, as plain loops compute them."""
    one, other = network(0), network(1)
    found = compared(one, other, list(images(80).split(16)))
    mine, theirs = values_of(one, images(80)), values_of(other, images(80))
    sums = np.zeros((5, 3))
    for batch in range(5):
        rows = slice(16 * batch, 16 * batch + 16)
        first, second = (part["2"][rows].reshape(16, -1) for part in (mine, theirs))
        pairs = ((first, second), (first, first), (second, second))
        sums[batch] = [independence(a @ a.T, b @ b.T) for a, b in pairs]
    aligned = [part[0] / np.sqrt(part[1] * part[2]) for part in [sums.sum(0), *(sums.sum(0) - sums)]]
    assert np.isclose(float(found.cka[1, 1]), aligned[0], atol=1e-6)
    error = np.sqrt(4 / 5 * np.square(aligned[1:] - np.mean(aligned[1:])).sum())
    assert np.isclose(float(found.standard_error[1, 1]), error, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_layer_is_like_itself(dtype):
    """A model with itself or a copy of itself has ones, correlations of one and no drift, in any dtype."""
    model = network(0).to(dtype)
    for other in (model, copy.deepcopy(model)):
        found = compared(model, other, images(40).to(dtype), batch_size=16)
        assert torch.allclose(found.cka.diagonal(), torch.ones(3).double(), atol=1e-6)
        for one in found.values():
            assert torch.allclose(one.correlation, torch.ones(len(one.drift)).double(), atol=1e-6)
            assert not one.drift.any()
            assert one.match.tolist() == list(range(len(one.match)))


class Fixed(nn.Module):
    """Returns rows of a table: what a layer outputs is chosen sample by sample."""

    def __init__(self, table):
        super().__init__()
        self.layer = nn.Identity()
        self.table = table

    def forward(self, numbers):
        return self.layer(self.table[numbers[:, 0].long()])


def similarity(first, second, **options):
    """Return the similarity of two tables of activations."""
    numbers = torch.arange(len(first)).float()[:, None]
    found = compared(Fixed(first), Fixed(second), numbers, layers=nn.Identity, layout="channels_first", **options)
    assert found.standard_error.isfinite().all() or found.standard_error.isnan().all()
    return float(found.cka)


@given(seed=st.integers(0, 9999), factor=st.sampled_from([1e-25, 1e-3, 1.0, 7e5, 1e30]), size=st.integers(4, 40))
@settings(max_examples=12, deadline=None)
def test_rotation_scale_and_shift_change_nothing(seed, factor, size):
    """Turning the features of a layer, scaling them by any factor and shifting them leaves its similarity."""
    draw = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(24, 6, generator=draw) for _ in range(2))
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=draw))
    expected = similarity(first, second, batch_size=size)
    changed = ((second @ turn + torch.randn(6, generator=draw)) * factor)[:, :, None]
    assert -1 <= expected <= 1
    assert similarity(first, changed, batch_size=size) == pytest.approx(expected, abs=1e-4)
    assert similarity(second, first, batch_size=size) == pytest.approx(expected, abs=1e-6)
    assert similarity(second, changed, batch_size=size) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.1, -7.3, 1e30])
def test_a_constant_layer_is_like_nothing(level):
    """A dead or constant layer has 0 with every layer, itself too, whatever the rounding of its mean."""
    constant, other = torch.full((23, 4, 3), level), torch.randn(23, 4, 3)
    assert similarity(constant, constant, batch_size=7) == 0
    assert similarity(constant, other, batch_size=7) == similarity(other, constant, batch_size=7) == 0


def test_constant_layers_are_named():
    """A layer that is constant in one model is called so, and never the one that another is most like."""
    model = network(0)
    model[2].weight.data[:] = 0
    found = compared(model, network(1))
    assert (found.constant, found.other_constant) == (("2", "4"), ())
    assert "  2      0.000  0.000  (constant) " in repr(found)
    other = compared(network(1), model)
    assert (other.constant, other.other_constant) == ((), ("2", "4"))
    assert "Constant, and so similar to nothing: 2 columns '2', '4'." in other.figure().texts[1].get_text()
    single = compared(network(1), model, other_layers="2")
    assert repr(single).count("(all constant)") == 3


def test_values_far_from_zero_keep_their_digits():
    """A large mean costs no precision."""
    rows, other = torch.randn(40, 8, dtype=torch.float64), torch.randn(40, 8, dtype=torch.float64)
    far = (rows + 1e4).float()
    expected = alignment((far.double() - 1e4).numpy(), other.numpy())  # as numpy needs it
    assert similarity(far, other.float(), batch_size=40) == pytest.approx(expected, abs=1e-5)


def pairs_of(first, second):
    """Return correlation matrix, drift and spread of two arrays (N, C, L), by numpy."""
    mine, theirs = (np.moveaxis(part, 1, 0).reshape(part.shape[1], -1) for part in (first, second))
    c = len(mine)
    drift = np.sqrt(np.square(mine - theirs).mean(axis=1)) / mine.std(axis=1)
    return np.corrcoef(mine, theirs)[:c, c:], drift, mine.std(axis=1)


def test_channels_are_those_of_numpy():
    """Correlation, drift, mean and spread of each channel, over batches, equal numpy's over all the data."""
    one, other = network(0), network(1)
    found = compared(one, other, batch_size=16)
    mine, theirs = values_of(one), values_of(other)
    for layer, channels in found.items():
        matrix, drift, std = pairs_of(mine[layer], theirs[layer])
        assert np.allclose(channels.correlation, matrix.diagonal(), atol=1e-5)
        assert np.allclose(channels.drift, drift, rtol=1e-5)
        assert np.allclose(channels.std, std, rtol=1e-5)
        assert np.allclose(channels.mean, mine[layer].mean(axis=(0, 2)), atol=1e-5)
        assert np.allclose(channels.match_correlation, matrix[np.arange(len(matrix)), channels.match], atol=1e-5)
        assert sorted(channels.match.tolist()) == list(range(len(matrix)))
        assert channels.count == mine[layer].size // len(matrix)


def test_most_changed_is_sorted():
    """Layers, channels and drifts, the largest drift first."""
    found = compared(network(0), network(1))
    every = [(layer, c, float(d)) for layer, one in found.items() for c, d in enumerate(one.drift)]
    assert found.most_changed(100) == sorted(every, key=lambda entry: -entry[2])
    assert found.most_changed(3) == found.most_changed(100)[:3]


def test_permuted_channels_are_found():
    """A network whose first layer's channels were permuted is the same network, and `match` says how."""
    one, other = network(0), network(0)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        other[0].weight.copy_(one[0].weight[order])
        other[0].bias.copy_(one[0].bias[order])
        other[2].weight.copy_(one[2].weight[:, order])
    found = compared(one, other)
    assert found["0"].match.tolist() == order.argsort().tolist()
    assert torch.allclose(found["0"].match_correlation, torch.ones(6).double(), atol=1e-5)
    assert torch.allclose(found.cka.diagonal(), torch.ones(3).double(), atol=1e-5)
    assert float(found["2"].drift.max()) < 1e-5


def test_a_pruned_channel_is_found():
    """Setting a channel's weights to zero shows as its drift, and as no spread in the other model."""
    one, other = network(0), network(0)
    with torch.no_grad():
        other[2].weight[3] = 0
    found = compared(one, other)
    assert int(found["2"].drift.argmax()) == 3
    assert not found["2"].drift[[0, 1, 2, 4, 5, 6, 7]].any()
    assert float(found["2"].other_std[3]) == 0 == float(found["2"].correlation[3])
    assert compared(other, one)["2"].drift[3] == torch.inf
    assert compared(other, other)["2"].drift[3] == 0


def test_greedy_match_without_scipy(monkeypatch):
    """Without scipy the largest correlations go first; where they are clear, the match is the same."""
    matrix = torch.eye(5)[torch.tensor([2, 4, 0, 1, 3])] + 0.1 * torch.rand(5, 5)
    assert match_greedily(matrix).tolist() == [2, 4, 0, 1, 3]
    monkeypatch.setattr("spatialprobe.comparison.matching.find_spec", lambda name: None)
    assert compared(network(0), network(1))["0"].matched_by == "greedy"


def test_several_models_are_each_compared():
    """A sequence gives a list, each entry as if compared alone, and `one` runs once for all."""
    one, others = network(0), [network(1), network(0), network(2)]
    runs = []
    handle = one.register_forward_hook(lambda *_: runs.append(1))
    found = compared(one, [*others, one], batch_size=16)
    handle.remove()
    assert len(runs) <= 7  # six batches, and one for the maps of examples; later ones end before the hook
    for each, other in zip(found, [*others, one], strict=True):
        alone = compared(one, other, batch_size=16)
        assert torch.equal(each.cka, alone.cka)
        assert torch.equal(each["2"].drift, alone["2"].drift)


def test_other_layers_and_shared_modules():
    """Layers of other names are compared; two models may share layers, and a layer may run twice."""

    class Twice(nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.conv, self.head = conv, nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.head(self.conv(self.conv(x)))

    conv = nn.Conv2d(3, 3, 3, padding=1)
    one, other = Twice(conv), Twice(conv)
    found = compared(one, other)
    assert found["conv"].correlation.min() > 1 - 1e-6
    assert not found["conv"].drift.any()
    assert found["head"].drift.all()
    found = compared(one, conv, other_layers="")
    assert (found.layers, found.other_layers, len(found)) == (("conv", "head"), ("",), 0)
    found = compared(Twice(conv), nn.ModuleDict({"conv": conv, "head": nn.Identity()}).conv, other_layers=conv)
    assert 0 < float(found.cka[0, 0]) < 1


def test_unlike_namesakes_are_named():
    """Layers of one name but other channels, sizes or runs have a similarity, and no comparison of channels."""
    found = compared(network(0), network(1, channels=4))
    assert found.unmatched == {"0": "it has 6 channels in one model, 4 in the other."}
    with pytest.raises(sp.LayerNotFoundError, match="were not compared: it has 6 channels in one model, 4 in the"):
        found["0"]
    with pytest.raises(sp.LayerNotFoundError, match="no channels of a layer '9'. There are '2', '4'"):
        found["9"]
    wide = network(0)
    wide[0].padding = (1, 1)
    assert compared(network(0), wide).unmatched["0"] == "its maps have 100 units in one model, 144 in the other."


def test_layers_that_cannot_be_compared_are_left_out():
    """Of layers chosen by type those that return no tensor are left out on their side, and the rest is compared."""

    class Odd(nn.Conv2d):
        def forward(self, x):
            return (super().forward(x),)

    one, other = network(0), network(0)
    other[4] = Odd(8, 5, 3)
    found = compared(one, other)
    assert (found.layers, found.other_layers) == (("0", "2", "4"), ("0", "2"))
    assert "returned no single tensor" in found.other_left_out["4"]
    assert list(found) == ["0", "2"]
    assert "Left out: 4; .other_left_out says why." in repr(found)


@pytest.mark.parametrize("kind", ["data set", "loader", "mappings"])
def test_data_of_any_form(kind):
    """Data sets, loaders and mappings give what their tensor gives."""
    one, other = network(0), network(1)
    expected = compared(one, other, list(images(40).split(16)))
    if kind == "data set":
        found = compared(one, other, TensorDataset(images(40), torch.arange(40)), batch_size=16, seed=3)
        expected = compared(one, other, images(40), batch_size=16, seed=3)
    elif kind == "loader":
        found = compared(one, other, DataLoader(TensorDataset(images(40)), batch_size=16))
    else:
        batches = [{"pixels": part, "label": torch.zeros(len(part))} for part in images(40).split(16)]
        found = compared(one, other, batches, forward=lambda model, batch: model(batch["pixels"]))
    assert torch.equal(found.cka, expected.cka)
    assert torch.equal(found["4"].drift, expected["4"].drift)


def test_models_that_take_other_entries_of_a_batch():
    """Two models whose forwards name other entries of one mapping each get their own."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

    class Pixels(Named):
        def forward(self, pixels):
            return self.conv(pixels)

    class Image(Named):
        def forward(self, image):
            return self.conv(image)

    one, other = Pixels(), Image()
    other.load_state_dict(one.state_dict())
    batches = [{"pixels": part, "image": part} for part in images(40).split(10)]
    assert float(compared(one, other, batches).cka) == pytest.approx(1, abs=1e-6)


def test_small_batches_join_their_neighbors():
    """Batches of one to three samples join the next, a last one that before: as if they had been passed so."""
    one, other = network(0), network(1)
    found = compared(one, other, images(40).split([1, 2, 2, 9, 3, 12, 8, 3]))
    expected = compared(one, other, images(40).split([5, 9, 15, 11]))
    assert torch.allclose(found.cka, expected.cka, atol=1e-6)
    assert torch.allclose(found.standard_error, expected.standard_error, rtol=1e-3)
    assert torch.allclose(found["2"].drift, expected["2"].drift, rtol=1e-5)
    assert found.n == 40


def test_samples_are_read_in_a_fixed_shuffle():
    """The order depends on the seed alone; batches of samples sorted by class would hide what tells classes apart."""
    one, other = network(0), network(1)
    first, again, third = (compared(one, other, batch_size=16, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.cka, again.cka)
    assert not torch.equal(first.cka, third.cka)
    sorted_data = images() + torch.linspace(-3, 3, SAMPLES)[:, None, None, None]
    whole = exact(values_of(one, sorted_data), values_of(other, sorted_data))
    found = compared(one, other, sorted_data, batch_size=8)
    assert (np.abs(found.cka.numpy() - whole) < 0.1).all()
    by_class = compared(one, other, list(sorted_data.split(8)))
    assert (np.abs(by_class.cka.numpy() - whole) > 0.1).any()


def test_models_are_as_they_were():
    """Modes, buffers, hooks, gradients and random states of both models are restored, also after an error."""
    one, other = network(0), network(1)
    for model in (one, other):
        model.insert(1, nn.BatchNorm2d(6))
        model.append(nn.Dropout())
    other[0].weight.grad = torch.ones_like(other[0].weight)
    before = [copy.deepcopy(model.state_dict()) for model in (one, other)]
    wrong, random = torch.randn(8, 4, 12, 12), torch.get_rng_state()
    compared(one, other)
    with pytest.raises(sp.SweepError, match="The model raised"):
        compared(one, other, wrong)
    assert torch.equal(torch.get_rng_state(), random)
    for model, state in zip((one, other), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert all(module.training for module in model.modules())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(other[0].weight.grad, torch.ones_like(other[0].weight))
    assert torch.is_grad_enabled()


def test_compiled_and_twin_models():
    """A compiled copy runs eagerly, and a twin in another dtype is found alike."""
    one = network(0)
    assert not compared(one, torch.compile(copy.deepcopy(one), backend="eager"))["2"].drift.any()
    twin = copy.deepcopy(one).double()
    found = compared(one, twin, forward=lambda model, x: model(x.to(next(model.parameters()).dtype)))
    assert float(found["4"].drift.max()) < 1e-5


WRONG = {
    "no other": (lambda: compared(network(0), []), "other must be a model or a sequence of models, not"),
    "a path": (lambda: compared(network(0), "checkpoint.pt"), "Load a checkpoint into a copy"),
    "three samples": (lambda: compared(network(0), network(1), images(3)), "3 samples in all.*takes at least 4"),
    "a short iterable": (lambda: compared(network(0), network(1), [images(3)]), "3 samples in all"),
    "no data": (lambda: compared(network(0), network(1), []), "the data is empty"),
    "a layer": (lambda: compared(network(0), network(1), layers="9"), "No layer named '9'"),
    "another layer": (lambda: compared(network(0), network(1), other_layers="9"), "No layer named '9'"),
    "a seed": (lambda: compared(network(0), network(1), seed=0.5), "seed must be an int"),
    "a batch size": (lambda: compared(network(0), network(1), batch_size=0), "batch_size"),
    "NaN": (lambda: compared(network(0), network(1), images() * torch.nan), "NaN.*layers before; sp.find_nonfinite"),
    "no tensor": (
        lambda: compared(
            ZOO["tuple"].model(), ZOO["tuple"].model(), ZOO["tuple"].images().repeat(4, 1, 1, 1), layers="block"
        ),
        r"Layer 'block'.* a str\. Choose other layers, such as those inside it or behind it\.$",
    ),
    "too large": (
        lambda: similarity(torch.randn(8, 2).double() * 1e200, torch.randn(8, 2)),
        "too large to be compared, in batch 0",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    """What cannot be compared is an error that says why."""
    call, message = WRONG[name]
    with pytest.raises(sp.SpatialProbeError, match=message):
        call()
