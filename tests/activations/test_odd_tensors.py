"""Every function that reads a record, on every kind of tensor that a layer may return."""

from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
from odd_tensors import IMAGES, KINDS, Model, Odd, Wrap, Wrapper, plain_twin
from torch import nn

import spatialprobe as sp
from spatialprobe.report.page_batch import PageBatch
from spatialprobe.report.passes import passes

pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.filterwarnings("ignore:.*uantized tensor.*:UserWarning", "ignore:.*uantize_per_tensor.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support:UserWarning", "ignore:Sparse .* tensor support:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*beta state:UserWarning", "ignore:Sparse invariant checks:UserWarning"),
]
RUNS = 3  # the first is copied, and where that teaches that the output is left alone, later ones are shared
READABLE = [name for name, kind in KINDS.items() if kind.values is not None]
UNREADABLE = [name for name, kind in KINDS.items() if kind.values is None]


def probed(model, **options):
    """A probe after several passes of the model."""
    with sp.Probe(model, "odd", **options) as probe:
        for _ in range(RUNS):
            model(IMAGES)
    return probe


def held(tensor):
    """What a tensor holds, read by torch's own means for its kind."""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    tensor = (tensor.detach() if tensor.layout is torch.strided else tensor.to_dense()).as_subclass(torch.Tensor)
    wide = {torch.complex32: torch.complex64}.get(tensor.dtype)
    if tensor.dtype is torch.bfloat16 or (tensor.dtype.itemsize == 1 and tensor.is_floating_point()):
        wide = torch.float32
    return (tensor if wide is None else tensor.to(wide)).numpy(force=True)


def assert_holds(found, kind, tolerance=0.0):
    """That values are those that numpy says the kind of tensor holds, and of a numpy dtype that can hold them."""
    expected = kind.values(IMAGES.numpy())
    assert found.shape == expected.shape
    assert found.dtype.kind == expected.dtype.kind
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance + 1e-6 * kind.approximate)


def saved(probe, folder):
    """The records of a probe after a way through a file."""
    return sp.load_activations(sp.save_activations(folder / "records.safetensors", probe)).records


READERS = {
    "tensor": lambda record: held(record.tensor),
    "numpy": lambda record: record.numpy(),
    "array": lambda record: np.asarray(record),
    "copy": lambda record: np.array(record, copy=True),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", READABLE)
def test_values_are_those_of_the_layer_on_every_pass(name, reader):
    """Whatever a layer returns, a record gives its values, from the first pass and from later ones."""
    for record in probed(Model(KINDS[name])).records:
        assert_holds(READERS[reader](record), KINDS[name])


@pytest.mark.parametrize("copy", ["auto", "always", "never"])
@pytest.mark.parametrize("name", READABLE)
def test_values_outlast_what_the_model_does_to_them(name, copy):
    """A later pass that modifies the output, in its hidden parts too, leaves right values or an error, never others."""
    kind, model = KINDS[name], Model(KINDS[name])
    with sp.Probe(model, "odd", copy=copy) as probe:
        for _ in range(RUNS):
            model(IMAGES)
        model.spoil = kind.spoil
        model(IMAGES)
    for record in probe.records:
        try:
            values = record.numpy()
        except sp.MutatedActivationError:
            continue
        assert_holds(values, kind)


@pytest.mark.parametrize("name", READABLE)
def test_joined_runs(name):
    """`concatenated` gives the values of all runs, one after the other; what has no batch is refused."""
    probe, expected = probed(Model(KINDS[name])), KINDS[name].values(IMAGES.numpy())
    if not expected.ndim:
        with pytest.raises(sp.ArgumentError, match="cannot be concatenated along the batch"):
            probe.concatenated("odd")
        return
    found = held(probe.concatenated("odd"))
    np.testing.assert_allclose(found, np.concatenate([expected] * RUNS), atol=1e-6 * KINDS[name].approximate)


@pytest.mark.parametrize("name", READABLE)
def test_file_gives_back_what_was_saved(name, tmp_path):
    """A file holds the values of every pass, or says that its format cannot."""
    probe = probed(Model(KINDS[name]))
    if "quantized" in name or name == "complex32":
        with pytest.raises(sp.StorageError, match=r"safetensors (does not support|cannot store)"):
            saved(probe, tmp_path)
        return
    for record in saved(probe, tmp_path):
        assert_holds(record.numpy(), KINDS[name])


KEEPINGS = {
    "float64": {"dtype": torch.float64},
    "complex128": {"dtype": torch.complex128},
    "device": {"device": "cpu"},
    "transform": {"transform": lambda output: output},
    "copying transform": {"transform": torch.clone},
    "bounded": {"max_bytes": 10**6},
    "bounded on a device": {"device": "cpu", "max_bytes": 10**6},
}


@pytest.mark.parametrize("keeping", KEEPINGS)
@pytest.mark.parametrize("name", READABLE)
def test_values_as_they_are_kept(name, keeping):
    """Values kept elsewhere, in another dtype, through a transform or within a bound are the same, on every pass."""
    kind, options = KINDS[name], KEEPINGS[keeping]
    expected = kind.values(IMAGES.numpy())
    if expected.dtype.kind == "c" and keeping == "float64":
        with pytest.raises(sp.UnsupportedOutputError, match="would drop the imaginary part"):
            probed(Model(kind), **options)
        return
    for record in probed(Model(kind), **options).records:
        np.testing.assert_allclose(record.numpy(), expected, atol=1e-6 * kind.approximate)
        assert record.dtype is options.get("dtype", record.dtype)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_said_of_a_record_can_always_be_said(name):
    """The words of a record and of a probe, and the bytes that they take, are there for every kind of tensor."""
    probe = probed(Model(KINDS[name]))
    assert "odd" in repr(probe)
    for record in probe.records:
        assert repr(record).startswith("Activation('odd', shape=(")
        assert record._repr_html_().startswith("<code>")
        assert record.nbytes >= 0
        assert record.device.type == ("meta" if name == "meta" else "cpu")


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_has_no_values_says_so(name, tmp_path):
    """A tensor without values, without one shape, or in a form of its own is refused by every reader, with the way."""
    probe = probed(Model(KINDS[name]))
    for record in probe.records:
        assert record.tensor is not None
        readers = {
            "numpy": record.numpy,
            "array": lambda record=record: np.asarray(record),
            "plot": record.plot,
            "maps": lambda record=record: sp.feature_maps(record),
            "mapping": lambda record=record: sp.feature_maps({"one": record}),
            "evolution": lambda record=record: sp.evolution([record, record]),
            "histogram": lambda record=record: sp.activation_histogram(record),
            "save": lambda record=record: sp.save_activations(tmp_path / "records.safetensors", record),
        }
        for reader in readers.values():
            with pytest.raises(sp.SpatialProbeError, match=r"(?s)'odd'.*(transform=|real device)"):
                reader()
    for reducer in (sp.Moments, sp.Histogram, sp.Exemplars, sp.ChannelCovariance, sp.Dead):
        with pytest.raises(sp.UnsupportedOutputError, match="'odd'"):
            sp.sweep(Model(KINDS[name]), IMAGES, {"one": reducer}, layers="odd")


def test_nested_tensors_have_no_one_shape():
    """A record of parts that differ in size keeps them, and refuses to name one shape, in a plan too."""
    record = probed(Model(KINDS["nested"])).records[0]
    assert [part.shape for part in record.tensor.unbind()] == [(4, 5, 6), (4, 3, 6)]
    with pytest.raises(sp.UnsupportedOutputError, match="parts differ in size"):
        record.shape  # noqa: B018
    with pytest.raises(sp.UnsupportedOutputError, match="no single shape"):
        sp.plan(Model(KINDS["nested"]), IMAGES, layers="odd")
    padded = sp.capture(
        Model(KINDS["nested"]),
        IMAGES,
        layers="odd",
        transform=lambda output: torch.nested.to_padded_tensor(output, 0.0),
    )["odd"]
    assert padded.shape == (2, 4, 5, 6)
    np.testing.assert_array_equal(padded.numpy()[1, :, :3], IMAGES.numpy()[1, :, :3])


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"nested", "jagged"}))
def test_plan_is_what_comes_true(name):
    """Shape, dtype and bytes that a plan tells are those of the record, for every kind of tensor."""
    planned = sp.plan(Model(KINDS[name]), IMAGES, layers="odd")["odd"]
    record = sp.capture(Model(KINDS[name]), IMAGES, layers="odd")["odd"]
    assert (planned.shape, planned.dtype, planned.nbytes) == (record.shape, record.dtype, record.nbytes)


def twins(name):
    """The third record of a layer, and that of one that returns the same values as a plain tensor."""
    return probed(Model(KINDS[name])).records[-1], probed(plain_twin(KINDS[name])).records[-1]


def outcome(function, *arguments):
    """What a function returns, or the kind of this library's error that it raises."""
    try:
        return function(*arguments)
    except sp.SpatialProbeError as error:
        return type(error)


PICTURES = {
    "maps": lambda record: sp.feature_maps(record).array,
    "robust": lambda record: sp.feature_maps(record, scale="robust", order="mean").array,
    "mapping": lambda record: sp.feature_maps({"one": record})["one"].array,
    "evolution": lambda record: sp.evolution([record, record]).array,
    "histogram": lambda record: sp.activation_histogram(record).counts,
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", READABLE)
def test_pictures_show_the_values(name, picture):
    """A picture of any kind of tensor is that of the same values in a plain one, or both are refused."""
    found, expected = (outcome(PICTURES[picture], record) for record in twins(name))
    assert isinstance(found, type) == isinstance(expected, type), found
    np.testing.assert_array_equal(found, expected)


REDUCERS = {
    "moments": sp.Moments,
    "histogram": sp.Histogram,
    "bounded": lambda: sp.Histogram(bins=8, low=-2, high=2),
    "exemplars": sp.Exemplars,
    "covariance": sp.ChannelCovariance,
    "dead": sp.Dead,
}


@pytest.mark.parametrize("reducer", REDUCERS)
@pytest.mark.parametrize("name", READABLE)
def test_sweeps_reduce_the_values(name, reducer):
    """A reducer makes of any kind of tensor what it makes of the same values in a plain one, or both are refused."""

    def swept(model):
        return sp.sweep(model, IMAGES, {"one": REDUCERS[reducer]}, layers="odd", batch_size=3)["odd"]["one"]

    assert_alike(outcome(swept, Model(KINDS[name])), outcome(swept, plain_twin(KINDS[name])))


@pytest.mark.parametrize("name", KINDS)
def test_reducers_called_by_hand(name):
    """A shipped reducer that is given a tensor by hand reads its values, or refuses it with an error of its own."""
    kind, live = KINDS[name], KINDS[name].make(IMAGES).detach()
    for reducer in REDUCERS.values():
        found = outcome(reduced, reducer, live)
        if kind.values is None:
            assert found is sp.UnsupportedOutputError
            continue
        values = np.asarray(kind.values(IMAGES.numpy()))
        expected = outcome(reduced, reducer, torch.from_numpy(values.astype(np.result_type(values, np.float64))))
        assert_alike(found, expected)


def reduced(reducer, activation):
    """What a reducer makes of one activation."""
    made = reducer()
    made.update(activation, torch.arange(activation.size(0) if activation.dim() else 1))
    return made.result()


def assert_alike(found, expected):
    """That two results of a reducer are alike, or are both the same error."""
    if isinstance(expected, type) or isinstance(found, type):
        assert found is expected
        return
    for field, value in vars(expected).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(getattr(found, field), value, rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", KINDS)
def test_page_shows_the_values(name, tmp_path):
    """The page shows of any kind of tensor what it shows of the same values in a plain one, or refuses it."""
    kind = KINDS[name]
    outcome(partial(sp.write_report, tmp_path / "page.html", Model(kind), IMAGES, layers="odd"))
    if kind.values is None:
        return
    found, expected = (
        outcome(lambda model=model: passes(PageBatch.of(model, IMAGES, None, None, None), "odd", "output").maps)
        for model in (Model(kind), plain_twin(kind))
    )
    if isinstance(expected, type) or isinstance(found, type):
        assert found is expected
        return
    assert found.keys() == expected.keys()
    for run, maps in expected.items():
        for mine, plain in zip(found[run], maps, strict=True):
            np.testing.assert_array_equal(mine.codes, plain.codes)
            np.testing.assert_allclose(mine.numbers, plain.numbers, rtol=1e-5, atol=1e-6)


MEASURES = {
    "orientation": lambda model: (
        sp.evidence.orientation_tuning(model, "odd", shape=(4, 32, 32), angles=4, phases=3, frequencies=[0.2]).response
    ),
    "footprint": lambda model: sp.evidence.footprint(model, IMAGES, "odd", pixel=(2, 2), draws=1).changed,
    "linear probe": lambda model: (
        sp.evidence.linear_probe(
            model, IMAGES, torch.tensor([0, 1, 0]), "odd", test_images=IMAGES, test_labels=torch.tensor([0, 1, 0])
        ).values
    ),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", KINDS)
def test_measures_read_the_values(name, measure):
    """A measure of any kind of tensor is that of the same values in a plain one, or a clear error."""
    found = outcome(MEASURES[measure], Model(KINDS[name]))
    if isinstance(found, type) or KINDS[name].values is None:
        assert isinstance(found, type)
        return
    np.testing.assert_allclose(found, MEASURES[measure](plain_twin(KINDS[name])), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_effective_fields_refuse_clearly(name):
    """The effective field of a layer that returns an odd kind of tensor is there, or a clear error."""
    outcome(sp.effective_receptive_field, Model(KINDS[name]), IMAGES, "odd")


class Follows(nn.Module):
    """A convolution, an odd layer that may keep the graph, and a loss whose gradient there is twice its output."""

    def __init__(self, make):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.odd = Odd(make)

    def forward(self, x):
        return self.odd(self.conv(x))


def squares(output):
    """The sum of the squares of all elements."""
    if output.is_nested:
        return sum((part * part).sum() for part in output.unbind())
    if isinstance(output, Wrapper):
        return (output * output).sum()
    if output.is_complex():
        return (output.real**2 + output.imag**2).sum()
    dense = output if output.layout is torch.strided else output.to_dense()
    return (dense.float() ** 2 if dense.dtype.itemsize == 1 else dense * dense).sum()


def elements(tensor):
    """All elements of a tensor of any kind, in one line."""
    if tensor.is_nested:
        return np.concatenate([held(part).ravel() for part in tensor.unbind()])
    return held(tensor.inside if isinstance(tensor, Wrapper) else tensor).ravel()


GRADIENTS = {
    **{name: KINDS[name].make for name in READABLE},
    "nested": lambda x: torch.nested.as_nested_tensor([x[0], x[1, :, :3]]),
    "jagged": lambda x: torch.nested.as_nested_tensor([x[0, 0], x[1, 0, :3]], layout=torch.jagged),
    "detached nested": KINDS["nested"].make,
    "detached jagged": KINDS["jagged"].make,
    "wrapper": lambda x: Wrap.apply(x) if x.requires_grad else Wrapper(x),
    "detached wrapper": lambda x: Wrapper(x.detach()),
}
NEVER = {"detached nested", "detached wrapper", "zero tensor"}  # a graph can never begin in these
ONLY_FOLLOWED = {"nested", "wrapper"}  # and in these not where the model is frozen


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_right_or_refused(name, frozen):
    """The gradient at a layer of any kind of tensor is the one known, or refused with layer, kind and what to do."""
    model = Follows(GRADIENTS[name]).requires_grad_(not frozen)
    dtype = GRADIENTS[name](IMAGES).dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        with pytest.raises(sp.UnsupportedOutputError, match="'odd' is .*, which has no gradient"):
            sp.capture(model, IMAGES, layers="odd", gradients=True)
        return
    if name in NEVER or (frozen and name in ONLY_FOLLOWED):
        with pytest.raises(sp.UnsupportedOutputError, match="'odd' returned a.*no graph can start.*choose a layer"):
            sp.capture(model, IMAGES, layers="odd", gradients=True)
        return
    with sp.Probe(model, "odd", gradients=True) as probe:
        output = model(IMAGES)
    if name in ("complex32", "CSR, batched"):  # torch has no square of the one, no backward pass of the other
        return
    squares(output).backward()
    found, expected = elements(probe["odd"].gradient), 2 * elements(probe["odd"].tensor)
    np.testing.assert_allclose(found, expected, rtol=0.07 if dtype.itemsize == 1 else 1e-2, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_a_tensor_of_the_model_stays_out_of_the_graph(name):
    """A tensor that a layer holds and returns never requires a gradient, whatever kind it is."""
    kept = KINDS[name].make(IMAGES).detach()
    model = nn.Sequential(OrderedDict(odd=Odd(lambda x: kept)))
    model.odd.kept = kept
    for options in ({}, {"keep_graph": True}, {"at": "post_activation", "missing": "ignore"}):
        outcome(partial(sp.capture, model, IMAGES, layers="odd", gradients=True, **options))
        assert not kept.requires_grad
        assert kept.grad_fn is None


@pytest.mark.parametrize("name", KINDS)
def test_ablation_refuses_clearly(name):
    """Ablating a channel of what is not a plain dense tensor is a clear error of this library."""
    model = Model(KINDS[name])

    def run():
        with sp.edited(model, {"odd": sp.ablate([0])}):
            return model(IMAGES)

    outcome(run)
