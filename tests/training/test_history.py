"""Tables, CSV files, figures and animations of a history, and the sinks to which a monitor logs."""

from __future__ import annotations

import copy
import csv
import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import spatialprobe as sp

IMAGES = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1))


def watch(model=None, *, steps=5, weights=None, **options):
    """Return the monitor of a short training; weights before each step are added to a list."""
    model = model or make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    options = {"every": 2, "at": "post_activation", "gradients": True, "images": IMAGES, **options}
    with sp.Monitor(model, {"moments": sp.Moments, "dead": sp.Dead, "top": sp.Exemplars}, **options) as monitor:
        for _ in range(steps):
            if weights is not None:
                weights.append(copy.deepcopy(model.state_dict()))
            optimizer.zero_grad()
            model(torch.rand(4, 1, 8, 8)).square().mean().backward()
            optimizer.step()
    return monitor


@pytest.fixture(scope="module")
def history():
    return watch().history


def test_tables_are_means_over_channels(history):
    """Against a loop over the rows; booleans count as shares."""
    for statistic in ("moments.std", "moments.gradient.mean", "dead.dead"):
        table = history.table(statistic)
        assert (table.shape, table.dtype) == ((3, 2), np.float64)
        reducer, _, name = statistic.rpartition(".")
        for row in history:
            if row.reducer == reducer:
                place = history.steps.index(row.step), history.layers.index(row.layer)
                assert table[place] == pytest.approx(getattr(row.result, name).double().mean().item())
    assert {"moments.std", "dead.fired", "moments.gradient.nonfinite"} <= set(history.statistics)
    assert "top.values" not in history.statistics


def test_tables_of_reducers_of_ones_own():
    """A number, or one for each channel, under the reducer's name alone; channels without a value do not count."""

    class Largest:
        def __init__(self, result):
            self._result = result

        def update(self, activation, samples):
            pass

        def merge(self, other):
            pass

        def result(self):
            return self._result

    reducers = {
        "one": lambda: Largest(2.5),
        "each": lambda: Largest(np.array([1.0, np.nan, 3.0])),
        "text": lambda: Largest("a"),
    }
    model = make_model()
    with sp.Monitor(model, reducers, layers="0") as monitor:
        model(IMAGES)
    assert monitor.history.statistics == ("one", "each")
    assert monitor.history.table("one").tolist() == [[2.5]]
    assert monitor.history.table("each").tolist() == [[2.0]]


def test_csv_holds_every_number(history, tmp_path):
    """Read back, each number is that of the row's result, bit for bit; further axes stand behind the name."""
    lines = list(csv.DictReader(io.StringIO(history.to_csv(tmp_path / "h.csv").read_text())))
    assert list(lines[0]) == ["step", "layer", "statistic", "channel", "value"]
    found = {
        (int(line["step"]), line["layer"], line["statistic"], int(line["channel"])): line["value"] for line in lines
    }
    for row in history:
        if row.reducer in ("moments", "moments.gradient"):
            for channel, value in enumerate(row.result.std.tolist()):
                assert float(found[row.step, row.layer, f"{row.reducer}.std", channel]) == value
        if row.reducer == "top":
            assert float(found[row.step, row.layer, "top.values[3]", 1]) == row.result.values[1, 3]
    assert len(found) == len(lines)


def test_maps_are_those_of_a_fixed_batch_before_the_step(history):
    """In evaluation mode, with the weights that the sampled step began with."""
    weights = []
    monitor = watch(weights=weights)
    model = make_model()
    for step in monitor.history.steps:
        model.load_state_dict(weights[step])
        expected = model.eval()[:2](IMAGES)
        (run,) = monitor.history.maps[step]["0"]
        assert torch.equal(run.tensor, expected)
    assert monitor.history.evolution("0", sample=1).title == "0, post activation, sample 1 in 3 steps"


def test_an_animation_has_a_frame_for_each_step(history, tmp_path):
    with Image.open(history.to_gif(tmp_path / "maps.gif", "2")) as image:
        assert (image.format, image.n_frames) == ("GIF", 3)
    with pytest.raises(sp.ArgumentError, match=r"This picture is saved as .gif, not as 'maps.png'"):
        history.to_gif(tmp_path / "maps.png", "2")
    with pytest.raises(sp.LayerNotFoundError, match="There are no maps of layer 'conv'"):
        history.evolution("conv")
    with pytest.raises(sp.ArgumentError, match="There are no maps: pass the monitor a fixed batch, images="):
        watch(images=None).history.evolution("0")


def test_a_figure_has_a_line_and_a_row_for_each_layer(history):
    """The lines hold the table's values, the rows of colors too, and both name the layers."""
    figure = history.figure("moments.std")
    lines, heat = figure.axes[:2]
    drawn = np.array([line.get_ydata() for line in lines.lines])
    np.testing.assert_array_equal(drawn.T, history.table("moments.std"))
    mesh = next(one for one in heat.collections if hasattr(one, "get_array"))
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(2, 3).T, history.table("moments.std"))
    assert [text.get_text() for text in heat.get_yticklabels()] == ["0", "2"]
    assert figure.get_size_inches()[0] == 7.6
    assert history.figure("dead.dead", "A title", width=5).get_size_inches()[0] == 5


@pytest.mark.parametrize("values", [[np.nan, np.nan], [0.0, 0.0], [-1.0, 2.0], [1e-9, 1.0]])
def test_figures_of_odd_values(values):
    """Nothing known, all zero, signed, and of many orders: each is drawn."""
    from spatialprobe.render.history_page import history_figure

    table = np.array(values)[:, None]
    assert len(history_figure(table, (0, 10), ["$a_" * 20], "x").axes) == 3
    history_figure(table[:1], (0,), ["a"], "x").canvas.draw()


def test_histories_print_and_pickle(history):
    """As a table that says how the layers changed, in a notebook too; a pickled one is read back."""
    assert repr(history).startswith("History of Sequential: 3 steps, 0 to 4, 2 layers\n  layer  moments.mean")
    assert history._repr_html_().count("<tr>") == 3
    again = pickle.loads(pickle.dumps(history))
    np.testing.assert_array_equal(again.table("moments.std"), history.table("moments.std"))
    assert torch.equal(again.maps[2]["0"][0].tensor, history.maps[2]["0"][0].tensor)
    assert history[0] == history.rows[0]
    assert len(history[:4]) == 4


def test_wrong_names_of_statistics(history):
    with pytest.raises(sp.ArgumentError, match=r"statistic must be one of 'moments.count', .*, not 'moments.standard'"):
        history.table("moments.standard")
    with pytest.raises(sp.ArgumentError, match=r"'top.values' has several numbers for each channel"):
        history.figure("top.values")
    with sp.Monitor(make_model(), [sp.Moments]) as monitor:
        with pytest.raises(sp.ArgumentError, match=r"The history is empty: no step was sampled"):
            monitor.history.table("moments.mean")
        assert repr(monitor.history).startswith("History of Sequential: 0 steps")
        monitor._model(IMAGES)
