"""Write the interactive page of a model's layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_texts, check_bytes, check_function, check_one_of, check_text
from spatialprobe.attribution.target import TargetChoice
from spatialprobe.errors import ArgumentError
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.batch import tensors_of
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice, check_layout
from spatialprobe.model.samples import ImageOf, Images
from spatialprobe.model.select import Selector, check_model, model_name
from spatialprobe.report.agreement import doubts
from spatialprobe.report.contributions import explain, read_overlays
from spatialprobe.report.exemplar_images import ExemplarImages
from spatialprobe.report.html import Page
from spatialprobe.report.inputs import inputs_of
from spatialprobe.report.layers import PageLayer, check_left_out, page_layers, passes
from spatialprobe.report.page_batch import PageBatch
from spatialprobe.report.page_budget import fitted
from spatialprobe.report.result import Report
from spatialprobe.report.swept import Swept
from spatialprobe.statistics.progress import Shown
from spatialprobe.statistics.result import SweepResult
from spatialprobe.storage.files import target_of, write_bytes
from spatialprobe.text import format_count, kind_of

_SUFFIXES = (".html", ".htm")
_ANSWERS = 3  # classes that are named


def write_report(
    path: str | os.PathLike[str],
    model: nn.Module,
    images: Any,
    *,
    layers: Selector = nn.Conv2d,
    at: At | None = None,
    sweep: SweepResult | None = None,
    dataset: Images | None = None,
    labels: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    targets: TargetChoice | None = None,
    overlays: Mapping[str, object] | None = None,
    title: str | None = None,
    max_bytes: int = 20_000_000,
    forward: Forward | None = None,
    image: ImageOf | None = None,
    layout: LayoutChoice = "auto",
    progress: Shown = "auto",
) -> Report:
    """One HTML file that shows every channel of the layers, what each unit sees of the input, kernels and exemplars.

    The page needs no network and makes no request: its own content security policy forbids it. The model runs once for
    each image, in evaluation mode, and is restored afterwards. In a notebook the report that is returned shows
    the same page.

    Args:
        path: of the file, `.html`, which is written whole or not at all.
        model: any module.
        images: a batch as the model takes it: images (N, C, H, W), a list of images of one size, or a mapping or tuple
            with them, as `sweep` reads them. Each sample runs alone, with its part of the other inputs. Values outside
            [0, 1] are contrast-stretched, and the page says so.
        layers: as for `Probe`; those with maps of two axes are shown, the others, and any that do not run, are named.
        at: "output", or "post_activation", as for `Probe`; if left out, that of the sweep, or "output".
        sweep: of the same model: results of `Moments`, `Dead` and `Exemplars` are shown for its layers.
        dataset: what was swept, for the patches of the exemplars: `dataset[i]` is an image or a tuple that begins with
            one; a text or a class number that comes second is its label. Where the model does not reach on it what was
            swept, because of other weights or other images, `doubts` and the page say so.
        labels: what each image is called.
        classes: names of the model's outputs (N, classes): the page then says what the model takes each image for.
        targets: which score of each image is explained, as the target of `attribute`: "predicted", a class index, one
            for each image, or a function of the model's output. The page then orders channels by their contribution
            to it (gradient times activation), shows the contributions over the input, and says how the score fell when
            a channel was ablated alone, and when the top ones were, beside random ones.
        overlays: signed maps of other origin (captum, pytorch-grad-cam), by name: a tensor (N, h, w) with one map an
            image, which is stretched over the input. The page shows them in its place.
        title: of the page.
        max_bytes: of the file, in bytes. To fit, exemplars' patches and images go first, then every second row and
            column of the largest maps, then images, channels and kernels. What is left out stands on the page, in
            `reduced`, and in one line in `missing` and `str(report)`.
        layout: of the layers' outputs: "channels_first", (N, C, H, W); "channels_last", (N, H, W, C);
            `sp.Tokens(height, width, leading)`, (N, tokens, C) as a grid; or "auto", as `receptive_fields` finds it.

        forward: a function `(model, images) -> output` that calls the model on a batch of one sample, with further
            inputs or by another method; by default the model is called on it as by `sweep`.
        image: a function `sample -> image`, for samples of `dataset`, and of `images` if that is no tensor, which are
            neither images nor tuples that begin with one, nor mappings with one tensor (C, H, W) that is no label.
        progress: whether a bar is shown while channels are ablated; "auto": if stderr is a terminal.

    Raises:
        ArgumentError: an argument cannot be used, no layer has maps, or max_bytes is too little for any page.
        ForwardError: the model raises an error on the images.
        LayerNotFoundError, UnsupportedOutputError: as of a probe.
        StorageError: the file cannot be written.

    >>> import tempfile, torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = sp.write_report(f"{folder}/report.html", model, torch.rand(2, 3, 32, 32))
    >>> report.layers, report.images, report.nbytes < 150_000, report.reduced
    (('0', '2'), 2, True, ())
    """
    labels = None if labels is None else as_texts(labels, "labels")
    classes = None if classes is None else as_texts(classes, "classes")
    check_layout(layout)
    check_function(image, "image", "lambda sample: sample['image']")
    called_by(model, forward)
    target, batch = check_page(
        model, images, forward, image, path=path, labels=labels, title=title, max_bytes=max_bytes
    )
    maps = read_overlays(overlays, batch.pictures)
    _check_sweep(sweep, dataset)
    where = _checked_at(at, sweep)
    found = passes(batch, layers, where, layout)
    check_left_out(model, layers, found)
    inputs = inputs_of(batch.pictures, labels, [_answer(output, classes) for output in found.outputs])
    shown = page_layers(batch, layers, where, found, layout)
    if sweep is not None:
        _check_shared(sweep, shown)
        shown = [_with_sweep(layer, sweep, dataset) for layer in shown]
    doubtful = (
        () if sweep is None else doubts(batch, [one.layer for one in shown], sweep, dataset, where, image, layout)
    )
    score = None
    if targets is not None:
        shown, score = explain(shown, batch, targets, where, layout, progress)
    page = Page(
        title=title or f"What {model_name(model)} sees",
        model=model_name(model),
        at=where,
        inputs=inputs,
        layers=(),
        stills=(),
        left_out=tuple(found.left_out.values()),
        doubts=tuple(doubtful),
        max_bytes=max_bytes,
        score=score,
        overlays=maps,
        classes=tuple(classes or ()),
    )
    source = None if dataset is None else ExemplarImages(dataset, shown[0].field, inputs.stretch, classes, image)
    page, written = fitted(page, shown, source, max_bytes)
    write_bytes(target, written)
    names = tuple(one.layer.name for one in page.layers)
    shown_layers = {one.layer.layer for one in page.layers}
    reasons = FrozenMapping({run[0]: why for run, why in found.left_out.items() if run[0] not in shown_layers})
    return Report(
        target, len(written), names, len(page.inputs.images), page.reduced, page.doubts, page.missing, reasons
    )


def check_page(
    model: nn.Module,
    images: object,
    forward: Forward | None,
    image: ImageOf | None,
    *,
    path: str | os.PathLike[str],
    labels: Sequence[str] | None,
    title: str | None,
    max_bytes: int,
) -> tuple[Path, PageBatch]:
    """Check what is said about a page before any work is done, and return the path of its file and what it shows.

    Raises:
        ArgumentError: an argument cannot be used.
    """
    check_model(model)
    target = _page_path(path)
    check_bytes(max_bytes, "max_bytes")
    check_text(title, "title")
    return target, PageBatch.of(model, images, forward, image, labels)


def _page_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a page to be, in a folder that exists.

    Raises:
        ArgumentError: its name does not say that it is HTML.
    """
    target = target_of(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise ArgumentError(
            f"The page is an HTML file, and path={target.name!r} does not end in .html: a browser opens it, and prints "
            "it as a PDF."
        )
    return target


def _check_sweep(sweep: object, dataset: object) -> None:
    if sweep is not None and not isinstance(sweep, SweepResult):
        raise ArgumentError(f"sweep is {kind_of(sweep)}: pass what sp.sweep(...) returned.")
    if sweep is None and dataset is not None:
        raise ArgumentError(
            "dataset= is where the patches of a sweep's exemplars come from: pass the sweep of it too, "
            "sweep=sp.sweep(model, dataset, {'top': sp.Exemplars})."
        )


def _check_shared(sweep: SweepResult, shown: Sequence[PageLayer]) -> None:
    if not any(layer.layer in sweep.layers for layer in shown):
        raise ArgumentError(
            f"The sweep is of a {sweep.model} with the layers {', '.join(sweep.layers)}, none of which is on the page: "
            f"{', '.join(layer.name for layer in shown)}. Give the sweep of this model, or leave it out."
        )


def _checked_at(at: At | None, sweep: SweepResult | None) -> At:
    """Return the point at which values are taken: as requested, as swept, or at the layers' outputs."""
    if at is not None:
        check_one_of(at, "at", At)
    if sweep is None:
        return at or "output"
    if at is not None and at != sweep.at:
        raise ArgumentError(f"at={at!r}, but the sweep took values at {sweep.at!r}: leave at out, or sweep again.")
    return "post_activation" if sweep.at == "post_activation" else "output"


def _with_sweep(layer: PageLayer, sweep: SweepResult, dataset: Images | None) -> PageLayer:
    """The layer with what the sweep says about it; as it is where it was not swept."""
    results: Mapping[str, Any] | None = sweep.layers.get(layer.layer)
    if results is None:
        return layer
    return replace(layer, swept=Swept.of(results, sweep.samples, layer.of, layer.field, dataset))


def _answer(output: object, classes: Sequence[str] | None) -> str:
    """The classes that the model finds most likely, in words; empty where classes have no names.

    Raises:
        ArgumentError: the output is not one value for each class.
    """
    if classes is None:
        return ""
    scores = [one for one in tensors_of(output) if tuple(one.shape) == (1, len(classes))]
    if len(scores) != 1:
        given = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ArgumentError(f"{format_count(len(classes), 'class')}, but for one image the model returned {given}.")
    chances = scores[0][0].detach().double().softmax(dim=0).cpu()
    best = chances.argsort(descending=True)[:_ANSWERS].tolist()
    return ", ".join(f"{classes[index]} {float(chances[index]):.0%}" for index in best)
