"""explore(): the page of a model, swept, written and shown in one call."""

from __future__ import annotations

import sys
import tempfile
import types
import webbrowser

import pytest
import torch
from page_browser import Example
from report_reader import read
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import spatialprobe as sp

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
DATA = torch.rand(30, 3, 32, 32, generator=torch.Generator().manual_seed(6))


class Browser(webbrowser.BackgroundBrowser):
    """Notes what it is to open."""

    def __init__(self):
        super().__init__("nothing")
        self.opened = []

    def open_new_tab(self, url):
        self.opened.append(url)
        return True


@pytest.fixture
def model():
    torch.manual_seed(4)
    return Example().eval()


@pytest.fixture
def browser(monkeypatch):
    """A browser, at a screen of this machine."""
    found = Browser()
    monkeypatch.setattr(webbrowser, "get", lambda: found)
    for name in ("CI", "RANK", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    return found


@pytest.fixture
def displayed(monkeypatch):
    """A notebook, and what it displays."""
    shown = []
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=shown.append))
    return shown


def test_opened_where_there_is_a_browser(model, browser, tmp_path):
    """The page is at the path, and the browser is given its address; the model is as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = sp.explore(model, IMAGES, path=tmp_path / "a page.html", labels=["cat", "dog"], title="Mine")
    assert browser.opened == [(tmp_path / "a page.html").as_uri()]
    assert "a%20page.html" in browser.opened[0]
    assert report.path == tmp_path / "a page.html"
    assert "<title>Mine</title>" in report.path.read_text()
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "changes",
    [{"DISPLAY": ""}, {"CI": "true"}, {"RANK": "1"}],
    ids=["no display", "CI", "another rank"],
)
def test_not_opened_where_nobody_looks(model, browser, changes, monkeypatch, tmp_path):
    """The page is written all the same; open=True opens it there too, and open=False nowhere."""
    monkeypatch.setattr(sys, "platform", "linux")
    sp.explore(model, IMAGES, path=tmp_path / "page.html", open=False)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert sp.explore(model, IMAGES, path=tmp_path / "page.html").path.exists()
    assert browser.opened == []
    sp.explore(model, IMAGES, path=tmp_path / "page.html", open=True)
    assert len(browser.opened) == 1


def test_a_browser_in_the_terminal_is_left_alone(model, browser, monkeypatch, tmp_path):
    """It would take the terminal over; asked for a browser, the error comes before any work."""
    monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser("lynx"))
    assert sp.explore(model, IMAGES, path=tmp_path / "page.html").path.exists()
    with pytest.raises(sp.ArgumentError, match="open=True, but no web browser was found"):
        sp.explore(model, IMAGES, path=tmp_path / "other.html", open=True)
    assert not (tmp_path / "other.html").exists()


def test_in_a_notebook(model, browser, displayed, tmp_path):
    """The report shows itself at the end of the cell, so that nothing is displayed twice; open=True displays it now."""
    report = sp.explore(model, IMAGES, path=tmp_path / "page.html")
    assert (browser.opened, displayed) == ([], [])
    assert "srcdoc=" in report._repr_html_()
    assert displayed == [sp.explore(model, IMAGES, path=tmp_path / "page.html", open=True)]
    assert browser.opened == []


def test_a_notebook_holds_a_smaller_page(displayed, tmp_path):
    """The page's copy in the notebook takes 5 MB, unless more are asked for; elsewhere 20."""
    model = nn.Conv2d(3, 256, 3, padding=1)
    images = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    small = sp.explore(model, images, path=tmp_path / "small.html")
    large = sp.explore(model, images, path=tmp_path / "large.html", max_bytes=20_000_000)
    assert small.nbytes <= 5_000_000 < large.nbytes
    assert small.missing
    assert not large.missing


def test_swept_over_data(model, tmp_path):
    """The page has what write_report makes of a sweep with moments, dead channels and exemplars."""
    options = {"layers": ["conv1", "conv2"], "at": "post_activation"}
    explored = sp.explore(model, IMAGES, DATA, path=tmp_path / "a.html", open=False, **options)
    reducers = {"moments": sp.Moments, "dead": sp.Dead, "top": sp.Exemplars}
    sweep = sp.sweep(model, DATA, reducers, progress=False, **options)
    written = sp.write_report(tmp_path / "b.html", model, IMAGES, sweep=sweep, dataset=DATA, layers=options["layers"])
    assert explored.path.read_bytes() == written.path.read_bytes()


def test_a_checkup_is_a_panel(model, tmp_path):
    """The page has the panel that write_report makes of a checkup."""
    found = sp.checkup(model, DATA, rules=["training_mode", "never_run"], progress=False)
    explored = sp.explore(model, IMAGES, path=tmp_path / "a.html", open=False, checkup=found)
    written = sp.write_report(tmp_path / "b.html", model, IMAGES, checkup=found)
    assert explored.path.read_bytes() == written.path.read_bytes()
    assert b'<details id="checkup">' in written.path.read_bytes()


class Batches(IterableDataset):
    """Samples that come one after the other."""

    def __iter__(self):
        return iter(DATA)


KINDS = {
    "tensor": (lambda: DATA, True),
    "data set": (lambda: TensorDataset(DATA, torch.arange(30)), True),
    "loader": (lambda: DataLoader(TensorDataset(DATA, torch.arange(30)), batch_size=7, shuffle=True), True),
    "batches": (lambda: iter(DATA.split(7)), False),
    "stream": (Batches, False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_data(model, kind, tmp_path):
    """Statistics come of all that a sweep takes, patches where samples are found by their number."""
    make, has_patches = KINDS[kind]
    report = sp.explore(model, IMAGES, make(), path=tmp_path / "page.html", layers="conv1", open=False)
    page = read(report.path)
    (layer,) = page.data["layers"]
    assert layer["sweep"]["samples"] == 30
    assert bool(page.data["samples"]) == has_patches
    assert report.doubts == ()


class Branching(nn.Module):
    """Has a layer that never runs, and one without maps."""

    def __init__(self):
        super().__init__()
        self.conv, self.unused, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))


def test_layers_without_maps_are_left_out(tmp_path):
    """They are neither swept nor shown, and are named, as by write_report."""
    report = sp.explore(
        Branching().eval(), IMAGES, DATA, path=tmp_path / "page.html", layers=(nn.Conv2d, nn.Linear), open=False
    )
    assert report.layers == ("conv",)
    assert any("unused is left out" in sentence for sentence in report.reduced)
    assert any("head" in sentence for sentence in report.reduced)


def test_a_temporary_page(model, monkeypatch, tmp_path):
    """Without a path each page has a folder of its own, which stays; a page that fails leaves none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one, other = (sp.explore(model, IMAGES, open=False, layers="conv1") for _ in range(2))
    assert one.path != other.path
    assert {one.path.name, other.path.name} == {"report.html"}
    before = sorted(tmp_path.iterdir())
    assert len(before) == 2
    with pytest.raises(sp.ArgumentError, match="max_bytes"):
        sp.explore(model, IMAGES, open=False, max_bytes=10)
    assert sorted(tmp_path.iterdir()) == before


class Counted(nn.Module):
    """Counts its passes."""

    def __init__(self):
        super().__init__()
        self.conv, self.passes = nn.Conv2d(3, 4, 3), []

    def forward(self, x):
        self.passes.append(len(x))
        return self.conv(x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "page.pdf"}, "does not end in .html"),
        ({"labels": ["one"]}, "2 images, but 1 label"),
        ({"images": IMAGES[0]}, r"a batch with image\[None\]"),
        ({"open": 3}, "open must be True or False"),
        ({"at": "input"}, "at must be"),
        ({"classes": "cat"}, "classes must be strings"),
        ({"max_bytes": -1}, "max_bytes"),
        ({"checkup": {}}, "checkup is a dict: pass what sp.checkup"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_arguments_are_told_before_the_model_runs(changes, message):
    """A long sweep does not end in an error about the page's name."""
    model = Counted()
    with pytest.raises(sp.ArgumentError, match=message):
        sp.explore(**{"model": model, "images": IMAGES, "data": DATA, "open": False, **changes})
    assert model.passes == []


def test_errors_of_the_sweep_pass_through(model, tmp_path):
    """Empty data and data that cannot be read are its errors, and no page is written."""
    for data, kind in ((DATA[:0], sp.ArgumentError), (3, sp.ArgumentError), (DATA[:, :2], sp.SweepError)):
        with pytest.raises(kind):
            sp.explore(model, IMAGES, data, path=tmp_path / "page.html", open=False)
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_takes_its_options(model, tmp_path):
    """A checkpoint, batches and the bar are the sweep's."""
    state = tmp_path / "state"
    sp.explore(
        model, IMAGES, DATA, path=tmp_path / "page.html", layers="conv1", batch_size=5, checkpoint=state, open=False
    )
    assert state.read_bytes()
