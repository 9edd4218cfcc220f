"""The options of a study, checked before anything is loaded or trained."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from simple_cnn import DeepCNN

PRESETS: dict[str, tuple[str, int, int | None, tuple[int, ...]]] = {  # data, epochs, images of each split, depths
    "quick": ("patterns", 4, 8000, (2, 3)),
    "full": ("cifar10", 10, None, (2, 3, 4, 6)),
}


@dataclass(frozen=True)
class Options:
    """The options of a whole study."""

    preset: str
    data: str
    root: Path  # where CIFAR-10 is kept
    out: Path
    epochs: int
    batches: int | None  # of each epoch; None for all
    limit: int | None  # images of each split; None for all
    image: int | None  # the test image that is shown; None for the one that a rule finds
    layer: str  # the layer whose channels' exemplars are compared and drawn
    seeds: tuple[int, ...]
    depths: tuple[int, ...]
    resume: bool
    processes: int
    device: str
    name: str | None  # what pictures and report call the data; None for the source's own name
    docs: Path | None  # where a page without any image of the data is written, too

    @property
    def command(self) -> str:
        """The command that runs this study again, with PATH instead of a folder's own path."""
        data, epochs, limit, depths = PRESETS[self.preset]
        source = "folder:PATH" if self.data.startswith("folder:") else self.data
        given = {
            "--preset": (self.preset, "quick"),
            "--data": (source, data),
            "--limit": (self.limit, limit),
            "--epochs": (self.epochs, 1 if self.batches else epochs),
            "--batches": (self.batches, None),
            "--seeds": (_listed(self.seeds), "0,1,2"),
            "--depths": (_listed(self.depths), _listed(depths)),
            "--image": (self.image, None),
            "--layer": (self.layer, "conv2"),
            "--name": (self.name, None),
            "--docs": (self.docs, None),
        }
        words = [f"{option} {shlex.quote(str(value))}" for option, (value, usual) in given.items() if value != usual]
        return " ".join(["python examples/cifar10_study.py", *words])


def parse(arguments: list[str] | None, about: str) -> Options:
    """Return the options, or end the program with a message if one is wrong."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="quick", help=_PRESET_HELP)
    parser.add_argument("--data", help="patterns, cifar10, or folder:PATH (default: the preset's)")
    parser.add_argument("--root", type=Path, default=Path("data"), help="where CIFAR-10 is kept (default: data)")
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder for the results (default: study)")
    parser.add_argument(
        "--epochs", type=_positive, help="passes over the data (default: the preset's; 1 with --batches)"
    )
    parser.add_argument("--batches", type=_positive, help="end each epoch after so many; 1 is one batch of four")
    parser.add_argument(
        "--limit", type=_positive, help="use at most so many training and so many test images (default: the preset's)"
    )
    parser.add_argument("--image", type=int, help="which test image is shown (default: where the maps vary most)")
    parser.add_argument("--layer", help="whose exemplars are drawn (default: conv2)", default="conv2")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seeds", type=_numbers, default=(3,), help="how many, or which: 3 (default), or 0,1,2")
    parser.add_argument("--depths", type=_numbers, help="convolutions (default: 2,3; full: 2,3,4,6)")
    parser.add_argument("--resume", action="store_true", help="take what an earlier run with these options left")
    parser.add_argument(
        "--jobs", type=_positive, help="networks trained side by side (default: one for each core, up to 4)"
    )
    parser.add_argument("--name", help="what pictures and report call the data (default: the source's name)")
    parser.add_argument(
        "--docs", type=Path, help="write a page for others there, too: results.md and pictures, none of a data's image"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return _checked(parser, parser.parse_args(arguments))


_PRESET_HELP = "quick: 8,000 drawn patterns, 4 epochs, minutes (default); full: CIFAR-10, 10 epochs, hours"


def _checked(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Options:
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this machine has no CUDA device that torch can use; take cpu or auto.")
    if given.device == "auto":
        given.device = "cuda" if torch.cuda.is_available() else "cpu"
    if given.out.exists() and not given.out.is_dir():
        parser.error(f"--out {given.out}: a file of that name is in the way.")
    if given.depths and min(given.depths) < 1:
        parser.error(f"--depths {_listed(given.depths)}: a depth is a number of convolutions, at least 1.")
    known = [name for name, _ in DeepCNN(2).named_children() if name.startswith("conv")]
    if given.layer not in known:
        parser.error(f"--layer {given.layer}: the SimpleCNN has no such convolution. It has {', '.join(known)}.")
    data, epochs, limit, depths = PRESETS[given.preset]
    one = len(given.seeds) == 1
    return Options(
        preset=given.preset,
        data=given.data or data,
        root=given.root,
        out=given.out,
        epochs=given.epochs or (1 if given.batches else epochs),
        batches=given.batches,
        limit=given.limit or limit,
        image=given.image,
        layer=given.layer,
        seeds=tuple(range(given.seed, given.seed + given.seeds[0])) if one else tuple(dict.fromkeys(given.seeds)),
        depths=tuple(sorted(set(given.depths or depths))),
        resume=given.resume,
        processes=1 if given.device == "cuda" else given.jobs or min(4, _cores()),
        device=given.device,
        name=given.name,
        docs=given.docs,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be whole numbers separated by commas, not {text!r}") from None
    if numbers == (0,):
        raise argparse.ArgumentTypeError("must be at least 1, not 0")
    return numbers


def _listed(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
