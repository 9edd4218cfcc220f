"""The monitor: what it samples, when, with which hooks, and how it says what is wrong."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp

MOMENTS = {"moments": sp.Moments}


def small(inplace=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 2))


def run(model, steps, *, optimizer=None, each=None):
    torch.manual_seed(1)
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        loss = model(torch.rand(4, 1, 8, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if each is not None:
            each(step)


def truth(model, steps, at):
    """Return the values and gradients of both convolutions at each step, by plain hooks in a loop of its own."""
    model, found = copy.deepcopy(model), {}
    layers = {"0": model[0], "2": model[2]} if at == "output" else {"0": model[1]}
    step = [0]

    def keep(name):
        def hook(module, args, output):
            held = found.setdefault((step[0], name), [output.detach().clone().double().numpy()])
            output.register_hook(lambda gradient: held.append(gradient.double().numpy()))

        return hook

    for name, module in layers.items():
        module.register_forward_hook(keep(name))
    run(model, steps, each=lambda _: step.__setitem__(0, step[0] + 1))
    return found


@pytest.mark.parametrize("at", ["output", "post_activation"])
def test_values_and_gradients_are_those_of_the_step(at):
    """Means, deviations and dead channels at every second step equal numpy's, of values that hooks kept."""
    model = small(inplace=at == "output")
    expected = truth(model, 5, at)
    layers = ["0", "2"] if at == "output" else ["0"]
    with sp.Monitor(model, [sp.Moments, sp.Dead], layers=layers, at=at, every=2, gradients=True) as monitor:
        run(model, 5)
    history = monitor.history
    assert (history.steps, history.layers) == ((0, 2, 4), tuple(layers))
    for row in history:
        value = expected[row.step, row.layer][row.reducer.endswith(".gradient")]
        assert (row.result.layer, row.result.at) == (row.layer, at)
        if row.reducer.startswith("moments"):
            np.testing.assert_allclose(row.result.mean, value.mean((0, 2, 3)), rtol=1e-9, atol=1e-15)
            np.testing.assert_allclose(row.result.std, value.std((0, 2, 3)), rtol=1e-7)
        else:
            np.testing.assert_array_equal(row.result.fired, (value > 0).any((2, 3)).sum(0))
    assert len(history) == 3 * len(layers) * 4


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_no_hook_is_on_a_layer_between_sampled_steps():
    """At a sampled step the layers have hooks; at the others, and after it, only the model has, a pair."""
    model, seen = small(), []
    model[1].register_forward_pre_hook(lambda module, args: seen.append(hooks(model)))
    with sp.Monitor(model, MOMENTS, every=3, gradients=True):
        run(model, 4, each=lambda step: seen.append(hooks(model)))
    assert seen == [7, 3, 3, 3, 3, 3, 7, 3]  # two on each of two convolutions, the pair, and the one above
    assert hooks(model) == 1


def test_only_forwards_in_training_mode_are_steps():
    """Evaluations between steps are not counted, nor are forwards of a part of the model."""
    model = small()
    with sp.Monitor(model, MOMENTS, every=1) as monitor:
        run(
            model,
            2,
            each=lambda _: (model.eval(), model(torch.rand(1, 1, 8, 8)), model.train(), model[0](torch.rand(1, 8, 8))),
        )
    assert monitor.history.steps == (0, 1)
    assert monitor.forwards == 2


class Recursive(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, depth=2):
        return self.conv(x) if depth == 0 else self(self.conv(x), depth - 1)


def test_a_model_that_calls_itself_is_one_step():
    model = Recursive()
    with sp.Monitor(model, MOMENTS, every=1) as monitor:
        for _ in range(2):
            model(torch.rand(2, 1, 4, 4))
    assert [row.result.count.item() for row in monitor.history] == [3 * 32, 3 * 32]


def test_a_single_layer_is_a_model_too():
    """The model's own hooks end the step after those of the layer that it is."""
    conv = nn.Conv2d(1, 2, 3)
    conv.register_forward_hook(lambda module, args, output: output * 2)
    with sp.Monitor(conv, MOMENTS, every=1, images=torch.rand(1, 1, 5, 5)) as monitor:
        images = torch.rand(4, 1, 5, 5)
        doubled = conv(images)
    np.testing.assert_allclose(monitor.history[0].result.mean, doubled.detach().double().mean((0, 2, 3)))
    assert monitor.history.layers == ("",)


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt])
def test_a_forward_that_raises_is_no_sample_and_leaves_no_hook(raised):
    """Training may go on after an exception or an interrupt in the middle of a sampled forward."""
    model, fails = small(), [True]

    def fail(module, args):
        if fails[0]:
            raise raised

    model[2].register_forward_pre_hook(fail)
    with sp.Monitor(model, MOMENTS, every=1) as monitor:
        with pytest.raises(raised):
            run(model, 1)
        fails[0] = False
        run(model, 1)
        assert hooks(model) == 3
    assert monitor.history.steps == (1,)
    assert monitor.history[0].result.count[0] == 4 * 36
    assert hooks(model) == 1


def test_copies_of_the_model_are_not_monitored():
    """An average of the weights, or a file, made in the block holds inert hooks."""
    model = small()
    with sp.Monitor(model, MOMENTS, every=1) as monitor:
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            run(twin, 1)
        run(model, 1)
    assert monitor.forwards == 1


class Mixed(nn.Module):
    """A layer that runs at odd steps only, one whose gradient is lost, one frozen, and one without samples."""

    def __init__(self):
        super().__init__()
        self.frozen, self.odd, self.view = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.Flatten()
        self.never, self.total = nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(1)
        self.head, self.steps = nn.Linear(72, 1), 0
        self.frozen.requires_grad_(False)

    def forward(self, x):
        x = self.frozen(x)
        x = self.odd(x) if self.steps % 2 else x
        self.steps += 1
        self.total(x.sum(0))
        x = self.view(x)
        x += 1
        return self.head(x)


def test_layers_without_values_or_gradients():
    """A layer that did not run has no row, frozen ones and overwritten views no gradient; others are left out."""
    model = Mixed()
    with sp.Monitor(model, MOMENTS, layers="*", every=1, gradients=True) as monitor:
        for _ in range(2):
            model(torch.rand(4, 1, 8, 8)).mean().backward()
    history = monitor.history
    assert set(history.left_out) == {"never", "total"}
    assert history.left_out["never"] == "It did not run at a sampled step."
    assert "Its first axis is not the batch" in history.left_out["total"]
    table = dict(zip(history.layers, history.table("moments.mean").T, strict=True))
    assert np.isnan(table["odd"]).tolist() == [True, False]
    with_gradient = {(row.step, row.layer) for row in history if row.reducer == "moments.gradient"}
    assert with_gradient == {(0, "head"), (1, "odd"), (1, "head"), (0, ""), (1, "")}


def test_names_of_layers_demand_rows():
    """A layer chosen by name that never ran is an error at the end; one without usable values at once."""
    model = Mixed()
    with pytest.raises(sp.LayerNotRunError, match="These layers never ran at a sampled step: 'never'"):
        with sp.Monitor(model, MOMENTS, layers=["never", "head"], every=1):
            model(torch.rand(4, 1, 8, 8))
    with pytest.raises(sp.UnsupportedOutputError, match="Layer 'total' returned"):
        with sp.Monitor(model, MOMENTS, layers="total", every=1):
            model(torch.rand(4, 1, 8, 8))
    assert hooks(model) == 0


def test_tokens_and_channels_last_find_their_channels():
    """A layer whose type does not tell its layout is followed once, in the middle of the training."""

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(1, 6, 3), nn.LayerNorm(6), nn.Linear(6, 6)

        def forward(self, x, scale=1.0):
            return self.head(self.norm(self.conv(x).permute(0, 2, 3, 1))) * scale

    model = Last()
    with sp.Monitor(model, MOMENTS, layers=["norm", "head"], every=1, gradients=True) as monitor:
        output = model(torch.rand(4, 1, 8, 8), scale=1.0)
        output.mean().backward()
    rows = {(row.layer, row.reducer): row.result for row in monitor.history}
    np.testing.assert_allclose(rows["head", "moments"].mean, output.detach().double().mean((0, 1, 2)))
    assert rows["norm", "moments.gradient"].mean.shape == (6,)


def test_compiled_models_run_eagerly_at_sampled_steps_alone():
    """Between the sampled steps the compiled code runs, and layers have no hooks."""
    model, eager = small(), []

    class Told(nn.Module):
        def forward(self, x):
            eager.append(not torch.compiler.is_compiling())
            return x

    model.append(Told())
    compiled = torch.compile(model, backend="eager")
    compiled(torch.rand(4, 1, 8, 8))
    eager.clear()
    with sp.Monitor(compiled, MOMENTS, every=2) as monitor:
        run(compiled, 4)
    assert monitor.history.steps == (0, 2)
    assert len(monitor.history) == 4


def test_batches_of_other_forms():
    """Samples are counted in mappings and keyword arguments; images may need a function that calls the model."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, *, pixels):
            return {"logits": self.conv(pixels).mean((2, 3))}

    model = Named()
    images = {"pixels": torch.rand(2, 1, 8, 8), "label": torch.zeros(2)}
    options = {"images": {"here": images}, "forward": lambda model, batch: model(pixels=batch["here"]["pixels"])}
    for given in ({"images": images}, options):
        with sp.Monitor(model, {"top": sp.Exemplars}, every=1, **given) as monitor:
            model(pixels=torch.rand(4, 1, 8, 8))
        assert monitor.history[0].result.samples.shape == (2, 4)
        assert monitor.history.evolution("conv").frames


def test_a_monitor_is_entered_once_at_a_time():
    """Entering it twice raises; entering it again starts afresh."""
    model = small()
    monitor = sp.Monitor(model, MOMENTS, every=1)
    with monitor:
        with pytest.raises(sp.ProbeStateError, match="This monitor is already active"):
            monitor.__enter__()
        run(model, 3)
    with monitor:
        run(model, 1)
    assert monitor.history.steps == (0,)
    with pytest.raises(sp.ProbeStateError, match="This monitor is not active"):
        monitor.__exit__(None, None, None)


def test_a_model_that_never_trains_is_an_error():
    """A block that ends well without a training forward raises; one that ends with an exception keeps that."""
    model = small()
    with pytest.raises(sp.LayerNotRunError, match=r"never ran in training mode inside the block: call model.train\(\)"):
        with sp.Monitor(model, MOMENTS):
            model.eval()(torch.rand(1, 1, 8, 8))
    with pytest.raises(ZeroDivisionError):
        with sp.Monitor(model, MOMENTS):
            1 / 0  # noqa: B018
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be at least 1, not 0"),
        ({"every": 1.5}, "every must be an int"),
        ({"log": 3}, r"log is 3: pass a SummaryWriter of TensorBoard, a run of Weights & Biases"),
        ({"nonfinite": "count"}, "nonfinite must be one of 'error', 'record', not 'count'"),
        ({"gradients": 1}, "gradients must be True or False"),
        ({"reducers": {}}, "reducers is empty, and there are no images="),
        ({"layers": "covn"}, "No layer named 'covn'"),
    ],
)
def test_bad_arguments(options, message):
    reducers = options.pop("reducers", MOMENTS)
    with pytest.raises(sp.SpatialProbeError, match=message):
        sp.Monitor(small(), reducers, **options)


def test_a_reducer_that_raises_ends_the_step():
    class Broken(sp.Moments):
        def update(self, activation, samples):
            raise RuntimeError("no")

    model = small()
    with pytest.raises(sp.SweepError, match="Reducer 'broken' raised RuntimeError: no at layer '0' in step 0"):
        with sp.Monitor(model, {"broken": Broken}):
            run(model, 1)
    assert hooks(model) == 0


def poisoned(model, at_step):
    """Return a function that makes a weight infinite after some step."""
    return lambda step: step == at_step and model[2].weight.data[0].fill_(torch.inf)


def test_nonfinite_values_end_the_training_with_layer_step_and_sample():
    """The message names the first layer, and says that its input was finite and its weights were not."""
    model = small()
    with pytest.raises(
        sp.NonFiniteActivationError,
        match="The output of layer '2', torch.float32, has 64 infinite or NaN values, the first for sample 0, at step "
        "2. What it took was finite: they arise here. Its weights are not finite: an earlier step made them so.",
    ):
        with sp.Monitor(model, MOMENTS, every=1) as monitor:
            run(model, 5, each=poisoned(model, 1))
    (origin,) = monitor.nonfinite
    assert (origin.layer, origin.step, origin.sample, origin.input_finite) == ("2", 2, 0, True)
    assert monitor.history.steps == (0, 1)


def test_nonfinite_values_are_recorded():
    """With "record" training goes on, and the first layer of each step and direction is listed."""
    model = small()
    images = torch.rand(4, 1, 8, 8)
    images[3, 0, 0, 0] = torch.nan
    with sp.Monitor(model, MOMENTS, every=1, nonfinite="record", gradients=True) as monitor:
        model(images)
        model(images[:3]).sum().mul(torch.inf).backward()
    found = [(one.step, one.direction, one.layer, one.sample, one.input_finite) for one in monitor.nonfinite]
    assert found == [(0, "forward", "0", 3, False), (1, "backward", "2", 0, False)]
    assert monitor.history[0].result.nonfinite.tolist() == [1, 1, 1]


def test_nonfinite_gradients_raise_in_the_backward_pass():
    """Those of half precision do not, since a gradient scaler handles them."""
    model = small()
    with pytest.raises(sp.NonFiniteActivationError, match=r"The gradient at layer '2', torch.float32, .*at step 0"):
        with sp.Monitor(model, MOMENTS, gradients=True):
            model(torch.rand(4, 1, 8, 8)).sum().mul(torch.inf).backward()
    half = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1))
    with sp.Monitor(half, MOMENTS, gradients=True) as monitor:
        with torch.autocast("cpu", torch.float16):
            output = half(torch.rand(1, 1, 2, 2))
        (output.float().sum() * 1e30).backward()
    assert [(one.direction, one.dtype) for one in monitor.nonfinite] == [("backward", torch.float16)]


def test_the_loss_of_a_step_is_as_without_a_monitor():
    """A tensor hook that sees gradients changes none: their sum over two backward passes is reduced twice."""
    model = small()
    with sp.Monitor(model, MOMENTS, every=1, gradients=True) as monitor:
        loss = F.mse_loss(model(torch.rand(4, 1, 8, 8)), torch.zeros(4, 2))
        loss.backward(retain_graph=True)
        loss.backward()
    counts = {row.reducer: row.result.count[0].item() for row in monitor.history if row.layer == "0"}
    assert counts == {"moments": 4 * 36, "moments.gradient": 2 * 4 * 36}
