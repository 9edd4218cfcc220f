"""The command line as a user types it: what is printed and written, errors in one line, help on one screen."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp
from spatialprobe.command import main as entry

NET = "{}/net.py:Net"
COMMANDS = ("plan", "fields", "maps", "report", "sweep", "checkup", "compare")


@pytest.fixture
def images(made):
    """Return the images as the model sees them, in the order of their files' names."""
    order = [0, 2, 4, 1, 3, 5]  # those in folder a, then those in b
    return torch.from_numpy(np.load(made / "pixels.npy")[order]).float() / 255


@pytest.mark.parametrize("command", [(), *((one,) for one in COMMANDS)], ids=" ".join)
def test_help_fits_a_screen(command, typed, monkeypatch):
    """Help has at most 31 lines of at most 79 characters with an example, and every command has one."""
    monkeypatch.setenv("COLUMNS", "80")
    found = typed(*command, "--help")
    lines = found.out.splitlines()
    assert found.status == 0
    assert not found.err
    assert len(lines) <= 31
    assert all(len(line) < 80 for line in lines)
    assert "example:" in lines
    if not command:
        assert all(re.search(rf"^    {one} +\w", found.out, re.MULTILINE) for one in COMMANDS)


def test_help_needs_no_torch():
    """Help is there without an import of torch or numpy, which take seconds."""
    code = (
        "import sys\nfrom spatialprobe.command.main import main\n"
        "try: main(['sweep', '--help'])\nexcept SystemExit: "
        "print(*{'torch', 'numpy'} & set(sys.modules), 'end')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1].strip() == "end"


def test_module_runs_from_another_folder(made, tmp_path):
    """`python -m spatialprobe` finds a model by the path of its file, which imports its neighbors, from anywhere."""
    command = [sys.executable, "-m", "spatialprobe", "plan", f"{made}/net.py:Net", "--size", "16"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert not found.stderr
    assert [line.split()[0] for line in found.stdout.splitlines()[2:]] == ["conv1", "conv2"]


def test_script_is_declared():
    """The package installs a command `spatialprobe` that calls the same function."""
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'spatialprobe = "spatialprobe.command.main:main"' in project
    assert callable(entry.main)


def test_plan_and_fields_print_tables(typed):
    """The tables are those of the library, for the size and layers that were typed."""
    model = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 7, 3)))
    plan = typed("plan", NET, "--model-args", '{"channels": 7}', "--size", "20", "24", "--layers", "conv1")
    assert (plan.status, plan.err) == (0, "")
    assert plan.out.splitlines()[1:] == repr(sp.plan(model, torch.zeros(1, 3, 20, 24))).splitlines()[1:]
    fields = typed("fields", NET, "--model-args", "[7]", "--size", "3", "20", "24", "--layers", "conv1")
    assert (
        fields.out.splitlines()[1:] == repr(sp.receptive_fields(model, (1, 3, 20, 24), layers="conv1")).splitlines()[1:]
    )
    ignored = typed("fields", NET, "--size", "16", "--ignore", "SqueezeExcite")
    assert ignored.out.endswith("Nothing to ignore: the model has no module of type SqueezeExcite.\n")


def test_layers_left_out_are_explained(typed):
    """What a pattern left out of a table stands below it with the reason, since there is no result to ask."""
    found = typed("fields", NET, "--size", "16", "--layers", "*", "--at", "post_activation")
    assert (found.status, found.err) == (0, "")
    assert re.search(r"^  head: no single nonlinearity follows 'head'", found.out, re.MULTILINE)


def test_maps_are_drawn_for_each_image(typed, made, images):
    """Each image has a folder with a picture a layer, the one that the library draws; paths are printed one a line."""
    found = typed("maps", NET, "--weights", "{}/w.pt", "--image", "{}/photos", "--limit", "2", "--output", "out")
    assert (found.status, found.err) == (0, "")
    paths = [Path(line) for line in found.out.splitlines()]
    assert [str(path) for path in paths] == [f"out/{name}/{n}_conv{n}.png" for name in "05" for n in (1, 2)]
    model = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), conv2=nn.Conv2d(4, 5, 3)))
    model.load_state_dict({name: one for name, one in torch.load(made / "w.pt").items() if "head" not in name})
    fields = sp.receptive_fields(model, (1, 3, 16, 16), layers=nn.Conv2d)
    drawn = sp.feature_maps(sp.capture(model, images[-1:]), image=images[-1], field=fields)
    assert [path.read_bytes() for path in paths[2:]] == [one.read_bytes() for one in drawn.save(".")]


def test_maps_of_one_image_on_a_page(typed):
    """A name with the suffix of a picture is one page; several images do not fit there."""
    page = typed("maps", NET, "--npy", "{}/pixels.npy", "--limit", "1", "--output", "all.png")
    assert page.out == "all.png\n"
    assert Path("all.png").stat().st_size > 1000
    several = typed("maps", NET, "--npy", "{}/pixels.npy", "--output", "two.png")
    assert several.status == 2
    assert "there are 6 images" in several.err
    assert not Path("two.png").exists()


def test_sweep_writes_the_result(typed, made, images):
    """The moments in the file are those of a convolution written out, on images normalized by hand."""
    options = ("--weights", "{}/w.safetensors", "--image", "{}/photos", "--mean", "0.5", "--std", "0.2", "0.3", "0.4")
    found = typed("sweep", NET, *options, "--batch-size", "4", "--reducers", "moments", "exemplars")
    assert found == (0, "sweep.safetensors\n", "")
    swept = sp.SweepResult.load("sweep.safetensors")
    weights = torch.load(made / "w.pt")
    normal = (images - 0.5) / torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    maps = F.conv2d(normal, weights["conv1.weight"], weights["conv1.bias"])
    torch.testing.assert_close(swept["conv1"]["moments"].mean, maps.double().mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    assert swept["conv1"]["exemplars"].samples[0, 0] == maps.amax((2, 3))[:, 0].argmax()


def test_report_writes_a_page(typed):
    """The page holds the images that were chosen, the patches of the data, and no request."""
    options = (
        "--image",
        "{}/photos/a",
        "--limit",
        "2",
        "--data",
        "{}/photos",
        "--target",
        "predicted",
        "--mean",
        "0.5",
        "--ignore",
        "SqueezeExcite",
    )
    found = typed("report", NET, "--weights", "{}/w.pt", *options, "--output", "page.html")
    assert found == (0, "page.html\n", "")
    text = Path("page.html").read_text()
    assert "a/0.png" in text
    assert "Nothing to ignore: the model has no module of type SqueezeExcite." in text
    assert "a/4.png" in text
    assert typed("report", NET, "--image", "{}/photos", "--output", "page.txt").status == 2


def test_checkup_names_what_is_wrong(typed):
    """The planted dead channel is named with evidence and advice; findings are no failure; the file is written."""
    options = (
        "--weights",
        "{}/w.pt",
        "--npy",
        "{}/pixels.npy",
        "--rules",
        "dead_channels",
        "training_mode",
        "gridding",
    )
    found = typed("checkup", NET, *options, "--output", "found.md")
    assert (found.status, found.err) == (0, "")
    assert "note: dead_channels in conv1\n  1 of 4 channels" in found.out
    assert "Passed: training_mode." in found.out
    assert "Skipped:\n  gridding: " in found.out
    assert found.out.splitlines()[-1] == "found.md"
    assert "1 of 4 channels" in Path("found.md").read_text()


def test_compare_prints_and_writes(typed):
    """A model is like itself, and unlike one of other weights; the figure or the values are written."""
    options = ("--weights", "{}/w.pt", "--npy", "{}/pixels.npy", "--layers", "conv1")
    same = typed("compare", NET, *options, "--other-weights", "{}/w.safetensors", "--output", "c.safetensors")
    assert (same.status, same.err) == (0, "")
    assert sp.Comparison.load("c.safetensors").cka[0, 0] == pytest.approx(1)
    other = typed("compare", NET, "{}/net.py:net", *options, "--output", "c.png")
    assert other.out.splitlines()[-1] == "c.png"
    assert re.search(r"^  conv1  0\.", other.out, re.MULTILINE)
    assert Path("c.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("plam", NET), "invalid choice: 'plam'"),
        (("compare", NET, "--npy", "{}/pixels.npy"), "Two models are compared: pass OTHER"),
        (("plan",), "spatialprobe plan: the following arguments are required: MODEL"),
        (("plan", NET, "--size", "0"), "'0' is not an integer above zero"),
        (("plan", NET, "--model-args", "{"), "is not JSON"),
        (("maps", NET), "one of the arguments --image --npy is required"),
        (("plan", NET, "--layers", "covn1"), "No layer named 'covn1'. Did you mean 'conv1'"),
        (("fields", NET, "--ignore", "Convd2d"), "no module of type 'Convd2d'. Did you mean 'Conv2d'?\n"),
        (("plan", NET, "--device", "gpu"), "device must be a torch.device"),
        (("plan", NET, "--size", "1", "16", "16"), "; --size is that of the input."),
        (("maps", NET, "--npy", "{}/pixels.npy", "--mean", "1", "2"), "--mean has 2 numbers, and the images have 3"),
        (("maps", NET, "--npy", "{}/pixels.npy", "--std", "0"), "--std must be above zero"),
        (("sweep", NET, "--npy", "{}/pixels.npy", "--output", "none/a.safetensors"), "'none' does not exist"),
        (("sweep", NET, "--npy", "{}/pixels.npy", "--output", "a.txt"), "--output must end in .safetensors"),
        (("sweep", NET, "--npy", "{}/pixels.npy", "--num-workers", "-1"), "num_workers must be at least 0"),
        (("checkup", NET, "--npy", "{}/pixels.npy", "--rules", "dead"), "There is no rule 'dead'."),
    ],
)
def test_errors_are_one_line(argv, said, typed):
    """What is wrong is one line on stderr with the command's name, without a log of torch's; the status is 2."""
    found = typed(*argv)
    assert found.status == 2
    assert not found.out
    assert len(found.err.splitlines()) == 1
    assert said in found.err
    assert found.err.startswith("spatialprobe")


def test_traceback_on_demand(typed):
    """`--traceback` shows where in the user's code an error arose."""
    found = typed("--traceback", "plan", "{}/net.py:raises")
    assert "in raises" in found.err
    assert found.err.splitlines()[-1].startswith("spatialprobe plan: ")


def test_output_of_the_model_is_no_result(typed):
    """What the user's code prints goes to stderr; stdout has results alone."""
    found = typed("plan", "{}/net.py:says", "--size", "16")
    assert found.err == "a word of the model's\n"
    assert found.out.startswith("Plan for Net")


def test_interrupt(typed):
    """Ctrl-C ends a command quietly, with the status that shells expect."""
    assert typed("plan", "{}/net.py:interrupted") == (130, "", "")


def test_reader_that_leaves(typed, tmp_path, monkeypatch):
    """A reader that closes the pipe early, as head does, is no error."""
    with open(tmp_path / "pipe", "w") as pipe:
        monkeypatch.setattr(sys, "stdout", _Closed(pipe))
        found = typed("plan", NET, "--size", "16")
    assert (found.status, found.err) == (0, "")


class _Closed:
    def __init__(self, file):
        self.fileno = file.fileno

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        """Do nothing."""


def test_other_ranks_are_silent(typed, monkeypatch):
    """Under torchrun only the first process prints."""
    monkeypatch.setenv("RANK", "1")
    assert typed("plan", NET, "--size", "16") == (0, "", "")


def test_the_how_to_is_true(typed, made):
    """Every command of the how-to runs, and prints what stands below it."""
    page = (Path(__file__).parents[2] / "docs" / "how_to" / "command_line.md").read_text()
    for name, source in (("net.py", "net.py"), ("parts.py", "parts.py"), ("net.pt", "w.pt"), ("old.pt", "w.pt")):
        shutil.copy(made / source, name)
    shutil.copytree(made / "photos", "photos")
    shutil.copy(made / "photos" / "a" / "0.png", "cat.jpg")  # Pillow goes by what is in a file
    shown = re.findall(r"^\$ spatialprobe (.+)\n((?:[^$`].*\n)*)", page.replace("\\\n   ", ""), re.MULTILINE)
    assert len(shown) == 7
    for line, output in shown:
        found = typed(*shlex.split(line))
        assert (found.status, found.err) == (0, ""), line
        assert found.out == output or not output, line
