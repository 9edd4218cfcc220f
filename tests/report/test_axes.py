"""Signals and volumes on the page: values, boxes, kernels, exemplars, and what is left out, equal to the model's."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from report_reader import over_of, read, unpacked
from torch import nn

import spatialprobe as sp
from spatialprobe.report.box_tables import BoxTable


def picture_of(uri):
    """Return the pixels (H, W, 3) of a data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)


def rand(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.3


class Signals(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv1d(2, 5, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(5, 6, 3, stride=2))


class Volumes(nn.Sequential):
    """Strides and kernels that differ between the axes."""

    def __init__(self):
        convs = nn.Conv3d(1, 5, (1, 3, 3), padding=(0, 1, 1)), nn.Conv3d(5, 4, 3, stride=(1, 2, 2), padding=(2, 1, 0))
        super().__init__(convs[0], nn.ReLU(), nn.MaxPool3d((2, 1, 1)), convs[1])


class ToLines(nn.Sequential):
    """Maps of images, then lines over their columns."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(1, 2), nn.Conv1d(32, 3, 3))


class ToMaps(nn.Sequential):
    """Lines of a signal, then maps of windows and positions."""

    def __init__(self):
        super().__init__(nn.Conv1d(1, 6, 4, stride=2), nn.Unflatten(1, (1, 6)), nn.Conv2d(1, 4, 3))


class Rolled(nn.Sequential):
    """Units whose slices depend on their row."""

    def __init__(self):
        super().__init__(nn.Conv3d(1, 2, 1), nn.Conv3d(2, 2, 2))

    def forward(self, x):
        y = self[0](x)
        return self[1](y + y.transpose(2, 3))


CASES = {
    "signals": (Signals, (2, 40), (nn.Conv1d,)),
    "volumes": (Volumes, (1, 6, 12, 10), (nn.Conv3d,)),
    "images to lines": (ToLines, (1, 8, 12), (nn.Conv2d, nn.Conv1d)),
    "signals to maps": (ToMaps, (1, 32), (nn.Conv1d, nn.Conv2d)),
    "irregular": (Rolled, (1, 5, 5, 6), (nn.Conv3d,)),
}


@pytest.mark.parametrize("kind", CASES)
def test_values_and_boxes_are_the_models(kind, tmp_path):
    """Each value within half a code, each unit's box along each axis, and the model as it was."""
    make, shape, layers = CASES[kind]
    torch.manual_seed(1)
    model, images = make().eval(), rand(2, *shape)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = sp.write_report(tmp_path / "page.html", model, images, layers=layers)
    page = read(report.path)
    fields, axes = sp.receptive_fields(model, images, layers=layers), len(shape) - 1
    assert len(report.layers) == 2
    assert page.data["input"]["axes"] == axes
    for name in report.layers:
        values = sp.capture(model, images[1:], layers=name)[name].tensor[0].numpy()
        assert page.values(name, 1).shape == values.shape
        assert np.abs(page.values(name, 1) - values).max() <= np.ptp(values) / 500
        field = fields[name]
        for unit in np.ndindex(*field.output_size):
            found = page.box(name, 0, *(0,) * (3 - len(unit)), *unit)[3 - axes :]
            box, whole = field.boxes(0)[unit], field.boxes(0, clip=False)[unit]
            wanted = [[box[i], box[axes + i], whole[i], whole[axes + i]] for i in range(axes)]
            seen = all(stop > start for start, stop, _, _ in wanted)
            assert list(map(list, found)) == wanted or (not seen and any(start >= stop for start, stop, *_ in found))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_tables_of_volumes_are_small():
    """Rows, columns and slices take a line each, where these say all; else each unit has its own."""
    model = Volumes().eval()
    table = BoxTable.of(sp.receptive_fields(model, (1, 1, 6, 12, 10))["3"], None)
    assert table.numbers.shape == (sum(table.size), 4)
    assert BoxTable.of(sp.receptive_fields(Rolled().eval(), (1, 1, 5, 5, 6))["1"], None).numbers.shape == (4, 4, 5, 12)


def test_signals_are_drawn_from_their_values(tmp_path):
    """The lines of the first eight channels, and the ends of each over all signals."""
    model, signals = nn.Sequential(nn.Conv1d(10, 3, 3)).eval(), rand(2, 10, 30)
    page = read(sp.write_report(tmp_path / "page.html", model, signals, layers=nn.Conv1d).path)
    low, high = (np.array(page.data["signals"][name]) for name in ("low", "high"))
    assert np.allclose(low, signals[:, :8].amin(dim=(0, 2)))
    assert np.allclose(high, signals[:, :8].amax(dim=(0, 2)))
    packed = page.data["images"][1]["signal"]
    codes = np.cumsum(unpacked(packed["differences"][0], "u1"), dtype=np.uint8).reshape(8, 30)
    first, last = unpacked(packed["numbers"], "<f8").reshape(5, 8)[:2, :, None]
    assert np.abs(first + (last - first) * codes / 254 - signals[1, :8].numpy()).max() < 0.003
    assert "Of the 10 channels of the input the first 8 are drawn." in page.text


def test_volumes_lie_slice_by_slice_on_their_picture(tmp_path):
    """Slice z lies in row z // columns and column z % columns of the picture."""
    import base64
    import io

    from PIL import Image

    volumes = torch.rand(1, 1, 5, 4, 6, generator=torch.Generator().manual_seed(2))
    page = read(sp.write_report(tmp_path / "page.html", nn.Conv3d(1, 2, 3), volumes, layers=nn.Conv3d).path)
    columns = page.data["input"]["columns"]
    picture = base64.b64decode(page.pictures()[0]["src"].split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))[..., 0]
    for z in range(5):
        row, column = divmod(z, columns)
        found = pixels[4 * row : 4 * row + 4, 6 * column : 6 * column + 6]
        assert np.abs(found - 255 * volumes[0, 0, z].numpy()).max() <= 1


@pytest.mark.parametrize("kind", ["signals", "volumes"])
def test_swept_and_explained(kind, tmp_path):
    """Exemplars lie at their units, with patches of the data at their boxes, and scores are explained."""
    make, shape, layers = CASES[kind]
    torch.manual_seed(1)
    inner = make()
    model = nn.Sequential(inner, nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    data = rand(9, *shape)
    options = {"layers": layers, "at": "output", "targets": 1, "progress": False}
    report = sp.explore(model, data[:2], data, path=tmp_path / "page.html", open=False, **options)
    page, name = read(report.path), report.layers[1]
    assert report.doubts == ()
    top = sp.sweep(model, data, {"top": sp.Exemplars}, layers=name, at="output", progress=False)[name]["top"]
    places = unpacked(page.layer(name)["sweep"]["places"], "<i4").reshape(*top.samples.shape, -1)
    assert np.array_equal(places[..., 0], top.samples.numpy())
    units = top.positions.numpy()
    wanted = units[..., [1, 2, 0]] if kind == "volumes" else np.stack([0 * units[..., 0], units[..., 0]], axis=-1)
    assert np.array_equal(places[..., 1:], wanted)
    patches = page.layer(name)["sweep"]["patches"]
    assert patches["ranks"] == top.samples.shape[1]
    sheet = picture_of(patches["sheet"])
    for channel, rank in ((0, 0), (1, 2)):
        sample, unit = int(top.samples[channel, rank]), tuple(units[channel, rank])
        row, column = divmod(channel * patches["ranks"] + rank, patches["columns"])
        cell = sheet[row * patches["tall"] :, column * patches["cell"] :][: patches["tall"], : patches["cell"]]
        deep, rows, columns = page.box(name, channel, *((0,) * (3 - len(unit)) + unit))
        if kind == "volumes":
            inside = cell[max(0, -rows[2]) :, max(0, -columns[2]) :][: rows[1] - rows[0], : columns[1] - columns[0]]
            shown = data[sample, 0, (deep[0] + deep[1] - 1) // 2, rows[0] : rows[1], columns[0] : columns[1]]
            low, high = data[:2].min(), data[:2].max()  # brightness is that of the page's images
            expected = ((shown - low) / (high - low)).clamp(0, 1) * 255
            assert np.abs(inside[..., 0] - expected.numpy()).max() <= 1
        else:
            dark = cell[: patches["tall"] // 2, :, 0] < 60  # the line of the first channel
            expected = data[sample, 0, columns[0] : columns[1]].numpy()
            wide = patches["cell"] // (columns[3] - columns[2])
            middles = dark[:, (columns[0] - columns[2]) * wide :][:, wide // 2 :: wide][:, : len(expected)]
            heights = [np.flatnonzero(line).mean() for line in middles.T]
            assert np.corrcoef(heights, expected)[0, 1] < -0.99
    found = sp.attribute(model, data[:2], 1, layers=name, at="output")[name]
    contributions = page.layer(name)["contributions"]
    assert np.allclose(unpacked(contributions["channels"], "<f4").reshape(2, -1), found.channels, rtol=1e-5)
    for image in range(2):
        over, step = over_of(contributions["over"], image)
        spread = contributions["over"]["spreads"][0]
        lines = [unpacked(spread[axis], "<i4") for axis in ("slices", "rows", "columns") if spread[axis]]
        density = found.map[image].numpy() * found.map[image].numel() / data[0, 0].numel()
        assert np.abs(over - density[np.ix_(*lines)]).max() <= step
        assert over.shape == shape[1:]


def test_kernels_of_all_axes(tmp_path):
    """Those over lines are one row, those over volumes slices one below the other."""
    for kind, shape in (("signals", [2, 1, 5]), ("volumes", [5, 9, 3])):
        make, size, layers = CASES[kind]
        model = make().eval()
        page = read(sp.write_report(tmp_path / "page.html", model, rand(1, *size), layers=layers).path)
        name = page.data["layers"][kind == "volumes"]["name"]
        kernels, weight = page.layer(name)["kernels"], model.get_submodule(name).weight.detach().numpy()
        assert (kernels["shape"], kernels["depth"]) == (shape, 3 if kind == "volumes" else 1)
        codes = unpacked(kernels["codes"], "u1").reshape(len(weight), *shape).astype(float)
        reach = unpacked(kernels["reach"], "<f4")[:, None, None, None]
        assert np.abs((codes / 127 - 1) * reach - weight.reshape(codes.shape)).max() <= reach.max() / 250


def test_large_volumes_fit(tmp_path):
    """A page of many slices stays within its bytes: maps of half the resolution, then fewer images and channels."""
    model, volumes = nn.Sequential(nn.Conv3d(1, 12, 3, padding=1)).eval(), rand(2, 1, 8, 32, 32)
    for limit in (286_000, 146_000):
        report = sp.write_report(tmp_path / "page.html", model, volumes, layers=nn.Conv3d, max_bytes=limit)
        assert 0.7 * limit < report.nbytes <= limit
        assert report.reduced
        page = read(report.path)
        channels, step = page.layer("0")["channels"] or list(range(12)), page.layer("0")["every"]
        values = sp.capture(model, volumes[:1], layers="0")["0"].tensor[0].numpy()[channels]
        fine = unpacked(page.layer("0")["maps"][0]["numbers"], "<f8").reshape(5, -1)
        assert np.allclose(fine[1], values.reshape(len(values), -1).max(axis=1))
        every = max(step for _, step in page.layer("0")["pieces"])
        kept = page.values("0", 0)[..., :: every // step, :: every // step]
        assert np.abs(kept - values[..., ::every, ::every]).max() <= np.ptp(values) / 254


def test_wrong_inputs(tmp_path):
    """An image without a batch, and other numbers of axes, are refused with what to do."""
    path = tmp_path / "page.html"
    with pytest.raises(sp.ArgumentError, match=r"becomes a batch with image\[None\]"):
        sp.write_report(path, nn.Conv2d(3, 2, 3), rand(3, 8, 8))
    with pytest.raises(sp.ArgumentError, match=r"Signals are \(N, C, L\), volumes \(N, C, D, H, W\)"):
        sp.write_report(path, nn.Conv1d(3, 2, 3), rand(3, 8), layers=nn.Conv1d)
    volumes = Volumes().eval(), rand(2, 1, 6, 12, 10)
    with pytest.raises(sp.ArgumentError, match=r"one signed map \(d, h, w\) for each, \(N, d, h, w\)"):
        sp.write_report(path, *volumes, layers=nn.Conv3d, overlays={"mine": rand(2, 12, 10)})
    signals = Signals().eval(), rand(2, 2, 40)
    with pytest.raises(sp.ArgumentError, match=r"one signed map \(w,\) for each, \(N, w\)"):
        sp.write_report(path, *signals, layers=nn.Conv1d, overlays={"mine": rand(2, 12, 10)})
    sp.write_report(path, *signals, layers=nn.Conv1d, overlays={"mine": rand(2, 20)})
    assert read(path).data["overlays"][0]["over"]["spreads"][0]["width"] == 20


def test_signals_that_are_not_finite(tmp_path):
    """Infinite and NaN values of input and maps are kept as such; the ends are those of the others."""
    signals = rand(1, 2, 40)
    signals[0, 0, 3], signals[0, 1] = torch.inf, torch.nan
    page = read(sp.write_report(tmp_path / "page.html", Signals().eval(), signals, layers=nn.Conv1d).path)
    assert page.data["signals"]["low"][1] == page.data["signals"]["high"][1] == 0
    assert np.isnan(page.values("0", 0)).all()
    assert "Values of the input that are infinite or NaN are crimson." in page.text
