"""A layer that runs several times has a clear place in every result, or an error that says what to do."""

from __future__ import annotations

import pytest
import torch
from report_reader import read
from torch import nn

import spatialprobe as sp
from spatialprobe import evidence

IMAGES = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(0))


class Siamese(nn.Module):
    """One convolution looks at the image and at its mirror image; `mark` is behind the second run."""

    def __init__(self):
        super().__init__()
        self.conv, self.mark, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Identity(), nn.Linear(8, 3)

    def forward(self, x):
        one, other = self.conv(x), self.mark(self.conv(x.flip(-1)))
        return self.head(torch.cat([one, other], 1).relu().mean((2, 3)))


class Loop(nn.Module):
    """A recurrent cell over the columns of the maps, and a convolution whose runs differ in size."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.cell = nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2), nn.GRUCell(6, 3)

    def forward(self, x):
        y = self.pool(self.conv(x))
        y = y + nn.functional.interpolate(self.conv(self.pool(y)), size=(6, 6))
        state = y.new_zeros(len(y), 3)
        for column in y[:, 0].unbind(-1):
            state = self.cell(column, state)
        return state


@pytest.fixture(scope="module")
def siamese():
    torch.manual_seed(0)
    return Siamese().eval()


@pytest.fixture(scope="module")
def loop():
    torch.manual_seed(0)
    return Loop().eval()


def runs_of(model):
    """Return both outputs of the convolution, by hand."""
    with torch.no_grad():
        return model.conv(IMAGES), model.conv(IMAGES.flip(-1))


@pytest.fixture(scope="module")
def swept(siamese):
    reducers = {"moments": sp.Moments, "top": sp.Exemplars, "dead": sp.Dead}
    return sp.sweep(siamese, IMAGES, reducers, layers=["conv", "mark"], batch_size=2, progress=False)


def test_records_plans_and_fields_keep_runs_apart(siamese, loop):
    """Each run has a record, a field and a place in the plan; without its number there is an error with the ways."""
    records, fields = (
        sp.capture(siamese, IMAGES, layers="conv"),
        sp.receptive_fields(siamese, IMAGES[:1], layers="conv"),
    )
    for run, by_hand in enumerate(runs_of(siamese)):
        assert torch.equal(records["conv", run].tensor, by_hand)
    assert [field.box(2, 3) for field in fields.calls("conv")] == [(1, 2, 4, 5), (1, 7, 4, 10)]
    assert sp.plan(loop, IMAGES, layers="*")["cell"].calls == 6
    assert [field.output_size for field in sp.receptive_fields(loop, IMAGES[:1]).calls("conv")] == [(12, 12), (3, 3)]
    found = sp.attribute(siamese, IMAGES, 1, layers="conv", at="output")
    for several in (records, fields, found):
        with pytest.raises(sp.AmbiguousCallError, match=r"'conv' ran 2 times. Use .*\['conv', i\] for one run"):
            several["conv"]


def test_sweeps_and_monitors_take_all_runs(siamese, swept):
    """Statistics are over the values of all runs, each sample of exemplars counts once, and results say so."""
    both = torch.cat(runs_of(siamese)).double()
    assert torch.allclose(swept["conv"]["moments"].mean, both.mean((0, 2, 3)))
    assert torch.allclose(swept["conv"]["moments"].variance, both.var((0, 2, 3), correction=0))
    best = torch.stack([run.amax((2, 3)) for run in runs_of(siamese)]).amax(0)
    assert torch.allclose(swept["conv"]["top"].values.float(), best.sort(0, descending=True).values.T)
    assert (swept["conv"]["top"].several_runs, swept["mark"]["top"].several_runs) == (True, False)
    with sp.Monitor(siamese, {"moments": sp.Moments}, layers="conv", every=1) as monitor:
        siamese.train()(IMAGES)
    siamese.eval()
    (row,) = monitor.history
    assert torch.allclose(row.result.mean, both.mean((0, 2, 3)))


def test_split_sweeps_know_of_the_runs(siamese):
    """In any split and order of the samples, merged or not, exemplars know whether the layer ran several times."""
    for times in (1, 2):
        parts = [sp.Exemplars(k=2), sp.Exemplars(k=2)]
        for first in (3, 0):
            for run in runs_of(siamese)[:times]:
                parts[first % 2].update(run[first : first + 3], torch.arange(first, first + 3))
        parts[0].merge(parts[1])
        assert parts[0].result().several_runs is (times == 2)


def test_what_needs_one_run_says_so(siamese, loop, swept):
    """Patches and concepts are refused, since each run sees something else; a mark behind one run serves."""
    fields = sp.receptive_fields(siamese, IMAGES[:1], layers=["conv", "mark"])
    for draw in (sp.exemplar_patches, evidence.patch_coherence):
        with pytest.raises(sp.ArgumentError, match=r"'conv' ran several times .* nn.Identity\(\) behind the run"):
            draw(swept["conv"]["top"], IMAGES, fields["conv", 1])
        draw(swept["mark"]["top"], IMAGES, fields["mark"])
    masks = [(image, torch.arange(144).reshape(12, 12) % 3) for image in IMAGES]
    for model in (siamese, loop):
        with pytest.raises(sp.UnsupportedOutputError, match="'conv' ran 2 times, and its units see something else"):
            evidence.concept_alignment(model, masks, "conv", progress=False)
    found = evidence.concept_alignment(siamese, masks, [nn.Conv2d, "mark"], progress=False)
    assert list(found) == ["mark"]
    assert "ran 2 times" in found.left_out["conv"]


def test_pages_show_each_run(siamese, loop, swept, tmp_path):
    """The page has each run with its own fields; exemplars are listed without patches where runs are several."""
    options = {"layers": ["conv", "mark"], "targets": 1, "progress": False}
    report = sp.write_report(tmp_path / "p.html", siamese, IMAGES[:2], sweep=swept, dataset=IMAGES, **options)
    page = read(report.path)
    assert report.layers == ("conv run 0", "conv run 1", "mark")
    assert [page.layer(name)["sweep"]["hasBoxes"] for name in report.layers] == [False, False, True]
    assert [page.boxes(name, 0)[2, 3, :4].tolist() for name in report.layers] == [[1, 2, 4, 5], *[[1, 7, 4, 10]] * 2]
    assert "patches" in page.layer("mark")["sweep"]
    assert "patches" not in page.layer("conv run 1")["sweep"]
    with pytest.raises(sp.ArgumentError, match=r"no maps\.$"):  # one reason, not one a run
        sp.write_report(tmp_path / "p.html", loop, IMAGES[:1], layers=nn.GRUCell)


def test_attribution_and_ablation_of_one_run(siamese):
    """A run's contributions are its own, and only its channels are removed to check them."""
    found = sp.attribute(siamese, IMAGES, 1, layers="conv", at="output", method="ablation", progress=False)
    for run, by_hand in enumerate(runs_of(siamese)):
        kept = [*runs_of(siamese)]
        kept[run] = by_hand * torch.tensor([0.0, 1, 1, 1])[:, None, None]
        with torch.no_grad():
            left = siamese.head(torch.cat(kept, 1).relu().mean((2, 3)))[:, 1]
            whole = siamese(IMAGES)[:, 1]
        assert torch.allclose(found["conv", run].channels[:, 0], whole - left, atol=1e-6)


MEASURES = {
    "effective field": lambda model: (
        sp.effective_receptive_field(model, IMAGES, "conv", unit=(2, 3)).box == (1, 2, 4, 5)
    ),
    "footprint": lambda model: bool(evidence.footprint(model, IMAGES, "conv", pixel=(3, 3)).changed[2, 2]),
    "equivariance": lambda model: evidence.equivariance_error(model, IMAGES, "conv", shift=(0, 1)).mean == 0,
    "orientation": lambda model: len(evidence.orientation_tuning(model, "conv", shape=(1, 12, 12)).angle) == 4,
    "synthesis": lambda model: (
        sp.maximize_activation(model, "conv", [0], shape=(1, 12, 12), unit=(2, 3), steps=1, progress=False).images.shape
        == (1, 1, 12, 12)
    ),
    "edit": lambda model: silenced(model) == [0.0, 0.0],
    "comparison": lambda model: (
        float(sp.compare(model, model, IMAGES, layers="conv", progress=False).cka[0, 0]) > 0.999
    ),
    "checkup": lambda model: "duplicate_channels" in sp.checkup(model, IMAGES, layers="conv", progress=False).passed,
}


def silenced(model):
    """Return the sums of a channel that is removed, run by run."""
    with sp.edited(model, {"conv": sp.ablate([1])}):
        return [float(record.tensor[:, 1].abs().sum()) for record in sp.capture(model, IMAGES, layers="conv").records]


@pytest.mark.parametrize("name", MEASURES)
def test_measures_take_the_first_run_and_edits_all(siamese, name):
    """Measures of one layer are of its first run, as they say; edits, comparisons and checkups take all runs."""
    assert MEASURES[name](siamese)
