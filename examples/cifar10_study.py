"""Train a network of two convolutions, and look at what each of them makes of an image.

    python examples/cifar10_study.py                                   drawn patterns, no download
    python examples/cifar10_study.py --data cifar10 --root data        CIFAR-10, downloaded once
    python examples/cifar10_study.py --data folder:PATH                your own images, PATH/train and PATH/test

The training procedure is the reference one: batches of 4, shuffled, Adam 1e-3, cross-entropy, inputs in [0, 1].
Afterwards the feature maps of both layers after their ReLU are taken from outside, with one `sp.Probe`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

import matplotlib
import numpy as np
import torch
from data import DataError, ImageData, load
from matplotlib.figure import Figure
from simple_cnn import SimpleCNN
from training import Score, as_input, evaluate, train

import spatialprobe as sp

PAGE_IMAGES = 4  # test images on the page
SWEPT = 1000  # test images, at most, among which the page's exemplars are found
EPOCHS = {"patterns": 4}  # where --epochs is left out; one for every other source


def main(arguments: list[str] | None = None) -> int:
    """Run the study; the exit status is 0, or 2 where the data cannot be had."""
    options = parse(arguments)
    torch.set_num_threads(1)  # for batches of four a second thread costs more than it brings
    try:
        data = load(options.data, root=options.root, seed=options.seed, limit=options.limit)
    except DataError as error:
        print(f"{error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"Data: {data.name}, {len(data.train_images)} training and {len(data.test_images)} test images")
    torch.manual_seed(options.seed)
    model = SimpleCNN(len(data.classes)).to(options.device)
    training = train(
        model,
        data.train_images,
        data.train_labels,
        epochs=options.epochs,
        seed=options.seed,
        batches=options.batches,
    )
    test = evaluate(model, data.test_images, data.test_labels)
    print(f"Training: loss {training[-1].loss:.3f}, accuracy {training[-1].accuracy:.1%} in the last epoch")
    print(f"Test:     loss {test.loss:.3f}, accuracy {test.accuracy:.1%}")
    paths = [
        *draw(model, data, options.image, options.out),
        write_page(model, data, options.image, options.out),
        write_metrics(options, data, training, test),
    ]
    print("Written:", *paths, sep="\n  ")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options, checked before anything is loaded or trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="patterns", help="patterns (default), cifar10, or folder:PATH")
    parser.add_argument("--root", type=Path, default=Path("data"), help="where CIFAR-10 is kept (default: data)")
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder for the results (default: study)")
    parser.add_argument("--epochs", type=_positive, help="default: 4 for patterns, 1 for other data or with --batches")
    parser.add_argument("--batches", type=_positive, help="end each epoch after so many; 1 is one batch of four")
    parser.add_argument("--limit", type=_positive, help="use at most so many training and so many test images")
    parser.add_argument("--image", type=int, default=0, help="which test image is shown (default: 0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this machine has no CUDA device that torch can use; take cpu or auto.")
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out}: a file of that name is in the way.")
    options.epochs = options.epochs or (1 if options.batches else EPOCHS.get(options.data, 1))
    return options


def draw(model: SimpleCNN, data: ImageData, index: int, out: Path) -> list[Path]:
    """Pictures of one test image, its maps after each convolution's ReLU, and the first kernels."""
    device = next(model.parameters()).device
    image = data.test_images[index % len(data.test_images)]
    label = data.classes[int(data.test_labels[index % len(data.test_images)])]
    with torch.no_grad(), sp.Probe(model, at="post_activation") as probe:
        model(as_input(image[None], device))
    about = f"one test image ({label}) of {data.name}"
    figures = {
        "overview.png": overview_figure(image, probe, about),
        "input.png": image_figure(image, f"The input: {about}"),
        "conv1_maps.png": probe["conv1"].plot(scale="robust", title=f"conv1 after its ReLU: {about}"),
        "conv2_maps.png": probe["conv2"].plot(scale="robust", title=f"conv2 after its ReLU: {about}"),
        "conv1_kernels.png": sp.kernels(model.conv1).figure(title=f"conv1's kernels, trained on {data.name}"),
    }
    for name, figure in figures.items():
        figure.savefig(out / name, metadata={"Source": data.name})
    return [out / name for name in figures]


def write_page(model: SimpleCNN, data: ImageData, index: int, out: Path) -> Path:
    """`report.html`: the same layers to point at, for the chosen test image and some others, with what excites them."""
    device = next(model.parameters()).device
    chosen = [number % len(data.test_images) for number in (index, *range(index + 1, index + PAGE_IMAGES))]
    chosen = list(dict.fromkeys(chosen))
    swept = as_input(data.test_images[:SWEPT], torch.device("cpu"))
    reducers = {"moments": sp.Moments, "dead": sp.Dead, "exemplars": sp.Exemplars}
    report = sp.write_report(
        out / "report.html",
        model,
        as_input(data.test_images[chosen], device),
        sweep=sp.sweep(model, swept, reducers, at="post_activation", batch_size=100, progress=False),
        dataset=swept,
        labels=[data.classes[int(data.test_labels[number])] for number in chosen],
        classes=data.classes,
        title=f"SimpleCNN, trained on {data.name}",
    )
    return report.path


def overview_figure(image: torch.Tensor, probe: sp.Probe, about: str) -> Figure:
    """The image and the maps of every layer side by side, each layer on a robust scale of its own."""
    mosaics = {name: sp.feature_maps(record, scale="robust") for name, record in probe.items()}
    panels = {"input": image.permute(1, 2, 0).numpy(), **{name: mosaic.array for name, mosaic in mosaics.items()}}
    shapes = [panel.shape[1] / panel.shape[0] for panel in panels.values()]
    figure = Figure(figsize=(3.3 * sum(shapes), 3.9), layout="constrained", facecolor="white")
    for axes, (name, panel) in zip(figure.subplots(1, len(panels), width_ratios=shapes), panels.items(), strict=True):
        axes.imshow(panel, interpolation="nearest" if name == "input" else "auto")
        axes.set_title(
            fontsize=10,
            label=name if name == "input" else f"{name} after its ReLU, {len(probe[name].tensor[0])} channels",
        )
        axes.set_axis_off()
    figure.suptitle(f"What each layer makes of {about}", fontsize=11, weight="bold", parse_math=False)
    words = " ".join(f"{name}: {mosaic.caption}" for name, mosaic in mosaics.items())
    figure.supxlabel("\n".join(textwrap.wrap(words, 170)), fontsize=7, parse_math=False)
    return figure


def image_figure(image: torch.Tensor, title: str) -> Figure:
    """One uint8 image (3, H, W), enlarged without smoothing."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_title(title, fontsize=9, wrap=True)
    axes.set_axis_off()
    return figure


def write_metrics(options: argparse.Namespace, data: ImageData, training: list[Score], test: Score) -> Path:
    """`metrics.json`: what was measured, on what, with what."""
    metrics = {
        "data": data.name,
        "classes": list(data.classes),
        "seed": options.seed,
        "epochs": options.epochs,
        "batches": options.batches,
        "device": options.device,
        "train": [asdict(score) for score in training],
        "test": asdict(test),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "matplotlib": matplotlib.__version__,
            "spatialprobe": sp.__version__,
        },
    }
    path = options.out / "metrics.json"
    path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return path


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
