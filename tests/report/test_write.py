"""The page's file: what it holds, what it may take, and that nobody's text becomes markup."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
import zlib
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from report_reader import read, unpacked
from torch import nn
from turned import Permuted, made, turn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.report.page_batch import PageBatch
from spatialprobe.report.passes import passes

HOSTILE = '</script><script>document.title="taken"</script><img src=x onerror=alert(1)>\'"&\u2028\udc00 ü 猫 {{title}}'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "report.html"


def images_of(name):
    return torch.rand(ZOO[name].shape, generator=torch.Generator().manual_seed(3))


class Pooled(nn.Module):
    """A pool stands between the convolution and its ReLU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return F.relu(F.max_pool2d(self.conv(x), 3, 2))


@pytest.mark.parametrize("name", ["chain", "residual", "concat", "strided", "asymmetric", "grouped", "transposed"])
@pytest.mark.parametrize("at", ["output", "post_activation"])
def test_values_and_boxes_are_the_models(name, at, path):
    """For every layer, image, channel and unit: the value within half a step, the box that of `receptive_fields`."""
    model, images = ZOO[name].model(), images_of(name)
    layers = nn.Conv2d if name != "residual" or at == "output" else "conv1"
    if at == "post_activation" and name in ("concat", "strided", "dilated", "asymmetric", "grouped", "transposed"):
        layers = "deep.0" if name == "concat" else "0"
    report = sp.write_report(path, model, images, layers=layers, at=at)
    page = read(path)
    records = sp.capture(model, images, layers=layers, at=at)
    fields = sp.receptive_fields(model, images.shape)
    assert report.layers == tuple(records) == tuple(layer["name"] for layer in page.data["layers"])
    for layer, record in records.items():
        for image in range(len(images)):
            truth = record.tensor[image].double().numpy()
            step = (truth.max(axis=(1, 2)) - truth.min(axis=(1, 2)))[:, None, None] / 254
            assert (np.abs(page.values(layer, image) - truth) <= step * 0.501 + 1e-6).all()
            assert np.allclose(page.numbers(layer, image)[2], truth.mean(axis=(1, 2)), atol=1e-6)
        for channel in range(len(truth)):
            boxes = page.boxes(layer, channel)
            assert (boxes[..., :4] == fields[layer].boxes(channel)).all()
            assert (boxes[..., 4:] == fields[layer].boxes(channel, clip=False)).all()


def test_boxes_after_a_pool_are_those_of_the_values_shown(path):
    """With `at="post_activation"` boxes are what a shown unit sees, through the pool before the ReLU as well."""
    model, images = Pooled().eval(), torch.rand(1, 3, 12, 12)
    sp.write_report(path, model, images, at="post_activation")
    page, field = read(path), sp.receptive_fields(model, (1, 3, 12, 12))[""]
    assert page.layer("conv")["field"] == {"size": [5, 5], "stride": [2, 2], "ignored": []}
    assert (page.boxes("conv", 0)[..., :4] == field.boxes()).all()


class SEModule(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("ignore", [(), [SEModule], "SEModule"])
def test_ignored_gates(ignore, path):
    """Behind a gate units see the whole image, or their kernels' 5 x 5 pixels where it is ignored; the page says so."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), SEModule(), nn.Conv2d(4, 5, 3))
    data = torch.rand(9, 3, 12, 12)
    sweep = sp.sweep(model, data, {"top": sp.Exemplars}, progress=False)
    sp.write_report(path, model, data[:2], sweep=sweep, dataset=data, ignore=ignore)
    page = read(path)
    seen = page.boxes("2", 0)[1, 3, :4].tolist()
    cell = page.layer("2")["sweep"]["patches"]["cell"]
    if ignore:
        assert seen == [1, 3, 6, 8]
        assert cell < 12
        assert "Ignored: SEModule. These modules count as constant gates, which add nothing to a field." in page.text
    else:
        assert seen == [0, 0, 12, 12]
        assert cell >= 12
        assert "From 1 on each unit sees the whole image" in page.text


def test_ignored_gates_of_two_models(path):
    """What is ignored in one model is said of it by name, and the types to ignore may be an iterator."""
    models = {"gated": nn.Sequential(nn.Conv2d(3, 4, 3), SEModule()), "plain": nn.Sequential(nn.Conv2d(3, 4, 3))}
    sp.write_report(path, models, torch.rand(1, 3, 8, 8), ignore=iter(["SEModule"]))
    text = read(path).text
    assert "gated: Ignored: SEModule." in text
    assert "plain: Nothing to ignore: the model has no module of type SEModule." in text


def test_runs_of_one_layer_are_kept_apart(path):
    """A layer that runs twice is two layers of the page, each with its own values and boxes."""
    specimen = ZOO["shared"]
    report = sp.write_report(path, specimen.model(), specimen.images())
    assert report.layers == ("conv run 0", "conv run 1")
    page, fields = read(path), sp.receptive_fields(specimen.model(), specimen.shape)
    for run, name in enumerate(report.layers):
        assert (page.boxes(name, 0)[..., :4] == fields["conv", run].boxes()).all()


def test_kernels_are_the_weights(path):
    """A kernel's weights come back within half a step, all of a small one, the strongest inputs of a large one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 20, 3), nn.Conv2d(20, 6, (3, 5)), nn.Conv2d(6, 4, 1, groups=2))
    sp.write_report(path, model, torch.rand(1, 3, 12, 12))
    for name, conv in model.named_children():
        kernels = read(path).layer(name)["kernels"]
        weight = conv.weight.detach().numpy()
        inputs = unpacked(kernels["inputs"], "<i4").reshape(len(weight), -1)
        codes = unpacked(kernels["codes"], "u1").reshape(len(weight), *kernels["shape"]).astype(float)
        reach = unpacked(kernels["reach"], "<f4")
        first = np.arange(len(weight)) // (len(weight) // conv.groups) * weight.shape[1]
        for channel, one in enumerate(weight):
            picked = inputs[channel] - first[channel]
            assert np.abs((codes[channel] - 127) / 127 * reach[channel] - one[picked]).max() <= reach[channel] * 0.004
            norms = np.square(one).sum(axis=(1, 2))
            assert set(picked) == set(np.argsort(-norms)[:16])
        assert kernels["of"] == weight.shape[1]
    assert read(path).layer("0")["kernels"]["inColor"]


def test_sweep_and_exemplars(path):
    """Statistics are the sweep's; a patch on the sheet is the very pixels that its unit saw."""
    model, data = ZOO["chain"].model(), torch.rand(20, 3, 12, 12)
    reducers = {"m": sp.Moments, "top": lambda: sp.Exemplars(k=3), "dead": sp.Dead, "histogram": sp.Histogram}
    sweep = sp.sweep(model, data, reducers, at="post_activation", batch_size=8, progress=False)
    sp.write_report(path, model, data[:1], sweep=sweep, dataset=data)
    page = read(path)
    assert page.data["at"] == "post_activation"
    for name, results in sweep.items():
        layer, channels = page.layer(name)["sweep"], len(results["m"].mean)
        numbers = dict(zip(layer["names"], unpacked(layer["numbers"], "<f4").reshape(-1, channels), strict=True))
        assert np.allclose(numbers["mean"], results["m"].mean)
        assert np.allclose(numbers["std"], results["m"].std)
        assert np.allclose(numbers["zeros"], results["m"].zero_fraction)
        assert np.allclose(numbers["fired"], results["dead"].fired / 20)
        assert np.allclose(unpacked(layer["values"], "<f4").reshape(channels, 3), results["top"].values)
        places = unpacked(layer["places"], "<i4").reshape(channels, 3, 3)
        assert (places[..., 0] == results["top"].samples.numpy()).all()
        patches = layer["patches"]
        sheet = pixels_of(patches["sheet"])
        assert patches["ranks"] == 3
        for index, (sample, y, x) in enumerate(places.reshape(-1, 3).tolist()):
            y0, x0, y1, x1, whole_y0, whole_x0, _, _ = page.boxes(name, 0)[y, x]
            top, left = (patches["cell"] * place for place in divmod(index, patches["columns"]))
            top, left = top + y0 - whole_y0, left + x0 - whole_x0
            shown = sheet[top : top + y1 - y0, left : left + x1 - x0]
            assert (shown == np.rint(255 * data[sample, :, y0:y1, x0:x1].numpy()).transpose(1, 2, 0)).all()


def test_sweep_without_its_data_set(path):
    """Without the data set there are values and places, but no patches."""
    model, data = ZOO["chain"].model(), torch.rand(5, 3, 12, 12)
    sweep = sp.sweep(model, data, {"top": sp.Exemplars}, layers="conv2", progress=False)
    sp.write_report(path, model, data[:1], sweep=sweep)
    assert "patches" not in read(path).layer("conv2")["sweep"]
    assert read(path).layer("conv2")["sweep"]["columns"] == 5
    assert read(path).layer("conv1")["sweep"] is None


def pixels_of(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


def test_still_pictures_say_what_they_show(path):
    """Input images are there pixel by pixel, every layer has a picture, and each has alternative text."""
    model, images = ZOO["chain"].model(), torch.rand(2, 3, 12, 12)
    sp.write_report(path, model, images, labels=["one", "two"])
    page = read(path)
    inputs, stills = page.pictures()[:2], page.pictures()[2:]
    for image, still in zip(images, inputs, strict=True):
        assert (pixels_of(still["src"]) == np.rint(255 * image.numpy()).transpose(1, 2, 0)).all()
    assert [still["alt"] for still in inputs] == ["Input image 0: one", "Input image 1: two"]
    assert [still["alt"].split(",")[0] for still in stills] == ["conv1", "conv2"]
    assert "DecompressionStream" in page.text


def test_page_allows_nothing_but_itself(path):
    """The policy admits this style, this script and pictures in the page; nothing in it names another place."""
    sp.write_report(path, ZOO["chain"].model(), images_of("chain"))
    text, page = path.read_text(encoding="utf-8"), read(path)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert page.policy["default-src"] == "'none'"
    assert page.policy["img-src"] == "data:"
    _, packed, loader = page.scripts
    script = zlib.decompress(base64.b64decode(packed)).decode()
    for directive, contents in (("style-src", [style]), ("script-src", [loader, script])):
        digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in contents]
        assert page.policy[directive] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert not re.search(r"https?:|@import|url\(", script)
    assert not re.search(r"https?:|@import|url\(", text)
    assert all(
        one[key][:5] == "data:" or one[key][0] == "#"
        for _, one in page.attributes
        for key in one
        if key in ("src", "href")
    )
    assert all("style" not in one and not any(key.startswith("on") for key in one) for _, one in page.attributes)


def test_hostile_text_stays_text(path):
    """Names of layers, images and classes, and the title, are shown as they are, and add no tag and no script."""
    plain, hostile = (nn.Sequential() for _ in range(2))
    plain.add_module("conv", nn.Conv2d(3, 4, 3))
    hostile.add_module(HOSTILE.replace(".", ""), nn.Conv2d(3, 4, 3))
    for model in (plain, hostile):
        model.add_module("flat", nn.Flatten())
        model.add_module("last", nn.Linear(400, 2))
    images = torch.rand(1, 3, 12, 12)
    sp.write_report(path, plain, images, labels=["a"], classes=["b", "c"], title="d")
    expected = read(path).tags
    names = {"labels": [HOSTILE], "classes": [HOSTILE, HOSTILE], "title": HOSTILE}
    report = sp.write_report(path, hostile, images, layers=(nn.Conv2d, nn.Linear), **names)
    page = read(path)
    assert sorted(page.tags) == sorted([*expected, "details", "summary", "p", "ul", "li"])  # of what is left out
    shown = HOSTILE.replace("\udc00", "\\udc00")  # which no file can hold
    assert page.data["layers"][0]["name"] == shown.replace(".", "")
    assert page.data["images"][0]["name"] == f"0: {shown}"
    assert page.text.startswith(" ".join(shown.split()))
    assert "last is left out" in report.reduced[0]
    assert report.reduced[0] in page.text


def test_a_checkup_is_a_panel(path):
    """Its findings stand on the page with evidence and picture, lead to their layers, and bring no style or script."""
    model = nn.Sequential()
    model.add_module("<i>conv", nn.Conv2d(3, 4, 3))
    model.add_module("relu", nn.ReLU())
    model.eval()[0].bias.data[:] = torch.tensor([1.0, -9.0, 1.0, 1.0])
    found = sp.checkup(model, torch.rand(120, 3, 12, 12), rules=["dead_channels", "training_mode"], progress=False)
    images = torch.rand(1, 3, 12, 12)
    sp.write_report(path, model, images)
    assert "Checkup" not in read(path).text
    sp.write_report(path, model, images, checkup=found)
    page, text = read(path), path.read_text(encoding="utf-8")
    panel = re.search(r'<details id="checkup">.*?</details>', text, re.DOTALL)[0]
    assert "1 warning" in page.text
    assert found.findings[0].evidence in page.text
    assert found.passed["training_mode"] in page.text
    assert 'href="#%3Ci%3Econv/1"' in panel
    assert panel.count('<img src="data:image/png;base64,') == 1
    assert "<i>" not in panel
    assert "style=" not in panel
    with pytest.raises(sp.ArgumentError, match="checkup is a dict: pass what sp.checkup"):
        sp.write_report(path, model, images, checkup={})


def test_answers(path):
    """With the classes' names the page says what the model takes each image for, by softmax."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.rand(2, 3, 8, 8)
    sp.write_report(path, model, images, classes=["cat", "dog"])
    chances = model(images).detach().softmax(dim=1)
    for image, chance in zip(read(path).data["images"], chances, strict=True):
        first = int(chance.argmax())
        assert image["answer"].startswith(f"{['cat', 'dog'][first]} {float(chance[first]):.0%}, ")
    with pytest.raises(sp.ArgumentError, match=r"3 classes, but for one image the model returned \(1, 2\)"):
        sp.write_report(path, model, images, classes=["a", "b", "c"])


def test_values_outside_zero_and_one_are_said(path):
    """Images of another range are stretched alike, and gray for other than three channels; the page says both."""
    model = nn.Conv2d(4, 2, 3)
    sp.write_report(path, model, torch.randn(2, 4, 8, 8))
    assert "are stretched from black to white" in read(path).text
    assert "Of the 4 channels of the input the mean is shown" in read(path).text


@pytest.mark.parametrize("name", ["chain", "in-place", "functional"])
def test_model_is_given_back_as_it_was(name, path):
    """Weights, buffers, modes, hooks and random state are those of before, also where the model fails."""
    model = ZOO[name].model().train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    sp.write_report(path, model, images_of(name))
    with pytest.raises(sp.ForwardError, match=r"raised RuntimeError on an input of \(1, 5, 12, 12\)"):
        sp.write_report(path, model, torch.zeros(1, 5, 12, 12))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": torch.rand(3, 12, 12)}, r"not one of \(3, 12, 12\).*image\[None\]"),
        ({"images": torch.rand(0, 3, 12, 12)}, r"not one of \(0, 3, 12, 12\)\.$"),
        ({"images": "cat.png"}, "not a str"),
        ({"sweep": {"conv1": {}}}, "sweep is a dict: pass what sp.sweep"),
        ({"dataset": torch.rand(2, 3, 12, 12)}, "pass the sweep of it too"),
        ({"labels": ["a"]}, "2 images, but 1 label: pass one for each image"),
        ({"labels": "ab"}, "labels must be strings"),
        ({"classes": "ab"}, "classes must be strings"),
        ({"max_bytes": "5 MB"}, "max_bytes must be a number of bytes"),
        ({"path": 5}, "path must be a name"),
        ({"at": "input"}, "at must be one of 'output', 'post_activation'"),
        ({"layers": nn.ReLU, "path": "missing/report.html"}, "the folder 'missing' does not exist"),
        ({"path": "."}, "it is a folder"),
        ({"max_bytes": 1000}, "max_bytes=1000 is too little"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message, path):
    """Each is refused with what is wrong and what to do, and leaves no file."""
    given = {"path": path, "images": torch.rand(2, 3, 12, 12)} | arguments
    with pytest.raises(sp.ArgumentError, match=message):
        sp.write_report(given.pop("path"), ZOO["chain"].model(), given.pop("images"), **given)
    assert not list(path.parent.iterdir())


def test_sweeps_of_something_else(path):
    """A sweep taken elsewhere, of another model, or over images of another size is refused."""
    model, data = ZOO["chain"].model(), torch.rand(4, 3, 16, 16)
    sweep = sp.sweep(model, data, {"top": sp.Exemplars}, progress=False)
    with pytest.raises(sp.ArgumentError, match="the sweep took values at 'output'"):
        sp.write_report(path, model, data, at="post_activation", sweep=sweep)
    with pytest.raises(sp.ArgumentError, match="pass images of the size that was swept"):
        sp.write_report(path, model, data[..., :8, :8], sweep=sweep)
    other = nn.Sequential()
    other.conv1 = nn.Conv2d(3, 7, 3, padding=1)
    with pytest.raises(sp.ArgumentError, match="is of 4 channels, but the layer returned 7"):
        sp.write_report(path, other, data, sweep=sweep)


def test_layers_without_maps(path):
    """A selection without any map is refused with what the layers output."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(27, 2))
    with pytest.raises(sp.ArgumentError, match=r"None of these layers has maps.*returned \(1, 2\)"):
        sp.write_report(path, model, torch.rand(1, 3, 3, 3), layers=nn.Linear)


def test_notebook_shows_the_same_page(path):
    """The report's frame holds the file's text, escaped, and may run scripts but nothing else of this origin."""
    report = sp.write_report(path, ZOO["chain"].model(), images_of("chain"))
    frame = report._repr_html_()
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == path.read_text(encoding="utf-8")
    assert 'sandbox="allow-scripts"' in frame
    assert "2 layers and 2 images" in str(report)
    path.unlink()
    assert "cannot be read" in report._repr_html_()


def test_what_is_no_model(path):
    """It is refused before anything is asked of it."""
    with pytest.raises(sp.ArgumentError, match="model must be an nn.Module, not an int"):
        sp.write_report(path, 3, torch.rand(2, 3, 12, 12))


class Sometimes(nn.Module):
    """Three convolutions: one runs always, one for bright images, and one never."""

    def __init__(self):
        super().__init__()
        self.always, self.bright, self.never = (nn.Conv2d(3, 2, 3) for _ in range(3))

    def forward(self, images):
        return self.always(images) + (self.bright(images) if images.mean() > 0.5 else 0)


def test_layers_that_do_not_run(path):
    """A layer that does not run, or not for every image, is left out, and the page names it."""
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    report = sp.write_report(path, Sometimes(), images)
    assert report.layers == ("always",)
    assert set(report.reduced) == {
        "never is left out: it did not run.",
        "bright is left out: it did not run.",
        "bright is left out: it ran for 1 of 2 images.",
    } - {"bright is left out: it did not run."}
    assert "never is left out: it did not run." in read(path).text
    with pytest.raises(sp.ArgumentError, match="None of these layers has maps .* never is left out: it did not run"):
        sp.write_report(path, Sometimes(), images, layers="never")
    assert sorted(report.left_out) == ["bright", "never"]
    for name in ("never", "bright"):
        with pytest.raises(sp.UnsupportedOutputError, match=f"{name} is left out.* chosen by its name"):
            sp.write_report(path, Sometimes(), images, layers=["always", name])


def test_layers_that_return_no_tensor(path):
    """With `layers="*"` a layer that returns a tuple is left out, and the page and its report name it."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LSTM(72, 3))
    report = sp.write_report(path, model, torch.rand(1, 3, 8, 8), layers="*")
    assert report.layers == ("0",)
    assert "returned no single tensor but a tuple" in report.left_out["2"]
    assert "returned no single tensor but a tuple" in read(path).text


def test_layers_without_a_nonlinearity(path):
    """After the nonlinearity, a layer that none follows is left out, and the page names it."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
    report = sp.write_report(path, model, torch.rand(1, 3, 8, 8), at="post_activation")
    assert (report.layers, report.reduced) == (("0",), ("2 is left out: no single nonlinearity follows it.",))


def test_data_shorter_than_was_swept(path):
    """Data that lacks a sample of the exemplars is not what was swept."""
    model, images = nn.Sequential(nn.Conv2d(3, 2, 3)), torch.rand(6, 3, 8, 8)
    swept = sp.sweep(model, images, {"top": sp.Exemplars}, progress=False)
    with pytest.raises(sp.ArgumentError, match="name sample 5, and the data set has 2"):
        sp.write_report(path, model, images, sweep=swept, dataset=images[:2])


def test_a_sweep_of_another_model(path):
    """One that has no layer of the page is refused, with both models' layers."""
    images = torch.rand(6, 3, 8, 8)
    other = nn.ModuleDict({"stem": nn.Conv2d(3, 2, 3)})
    other.forward = lambda images: other["stem"](images)
    swept = sp.sweep(other, images, {"top": sp.Exemplars}, progress=False)
    with pytest.raises(sp.ArgumentError, match="of a ModuleDict with the layers stem, none of which is on the page: 0"):
        sp.write_report(path, nn.Sequential(nn.Conv2d(3, 2, 3)), images, sweep=swept)


def test_tokens_are_maps(path):
    """Tokens behind a class token are a grid on the page, with its boxes and exemplars, equal to cutting it by hand."""
    model, images, _ = made("tokens")
    swept = sp.sweep(model, images, {"top": sp.Exemplars}, layers="0.norm", progress=False)
    report = sp.write_report(path, model, images, layers=["0.patches", "0.norm"], sweep=swept, dataset=images)
    assert (report.layers, report.reduced, report.doubts) == (("0.patches", "0.norm"), (), ())
    found = passes(PageBatch.of(model, images, None, None, None), "0.norm", "output").maps["0.norm", 0]
    turned = Permuted(model, "0.norm", partial(turn, "tokens"))
    by_hand = passes(PageBatch.of(turned, images, None, None, None), "turned", "output", "channels_first").maps[
        "turned", 0
    ]
    assert all(np.array_equal(one.codes, other.codes) for one, other in zip(found, by_hand, strict=True))
    said = sp.write_report(path, model, images, layers=["0.patches", "0.norm"], layout=sp.Tokens(4, 6, 1))
    assert said.layers == ("0.norm",)
    assert "does not have the layout" in said.reduced[0]
    sp.write_report(path, model, images, layers="0.norm", layout="channels_last")
    assert (read(path).layer("0.norm")["axes"], read(path).layer("0.norm")["units"]) == (1, [1, 25])


def test_channels_last_equal_to_permuting_by_hand(path):
    """A channels-last layer has its own channels and units on the page, with its exemplars; one in doubt is named."""
    model, images, _ = made("mixer")
    swept = sp.sweep(model, images, {"top": sp.Exemplars, "moments": sp.Moments}, layers=["0", "2"], progress=False)
    report = sp.write_report(path, model, images, layers=["0", "2"], sweep=swept, dataset=images)
    assert (report.layers, report.reduced, report.doubts) == (("0", "2"), (), ())
    found = passes(PageBatch.of(model, images, None, None, None), "2", "output").maps["2", 0]
    by_hand = passes(PageBatch.of(Permuted(model, "2"), images, None, None, None), "turned", "output").maps["turned", 0]
    assert all(np.array_equal(one.codes, other.codes) for one, other in zip(found, by_hand, strict=True))
    assert found[0].codes.shape == (6, 8, 10)

    class Doubtful(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mix = nn.Conv2d(3, 5, 4, stride=4), nn.Linear(10, 7)

        def forward(self, x):
            return self.mix(self.conv(x))

    report = sp.write_report(path, Doubtful(), images, layers=["conv", "mix"])
    assert report.layers == ("conv",)
    assert "mix is left out: it is not known which axis of (1, 5, 8, 7) holds the channels." in report.reduced


@pytest.mark.parametrize("name", ["report.pdf", "report", "report.html.png", "report.json"])
def test_names_that_are_not_of_a_page(name, tmp_path):
    """A name that says another format than HTML is refused before the model runs."""
    with pytest.raises(sp.ArgumentError, match="does not end in .html"):
        sp.write_report(tmp_path / name, nn.Conv2d(3, 2, 3), torch.rand(1, 3, 8, 8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["report.htm", "REPORT.HTML"])
def test_names_of_a_page(name, tmp_path):
    """A page may have any name that says HTML."""
    assert sp.write_report(tmp_path / name, nn.Conv2d(3, 2, 3), torch.rand(1, 3, 8, 8)).path.name == name
