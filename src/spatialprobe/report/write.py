"""Write the interactive page of a model's layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_texts, check_bytes, check_function, check_text
from spatialprobe.attribution.target import TargetChoice
from spatialprobe.diagnosis.finding import Finding
from spatialprobe.diagnosis.result import Checkup
from spatialprobe.diagnosis.written import as_html_panel
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.alignment import ConceptAlignment
from spatialprobe.fields.question import Ignored, types_and_names
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice, check_layout
from spatialprobe.model.samples import ImageOf, Images
from spatialprobe.model.select import Selector, check_model
from spatialprobe.report.agreement import doubts
from spatialprobe.report.concepts import Alignment
from spatialprobe.report.contributions import explain
from spatialprobe.report.exemplar_images import ExemplarImages
from spatialprobe.report.html import Page
from spatialprobe.report.inputs import inputs_of
from spatialprobe.report.layer_results import LayerResults, add_results
from spatialprobe.report.layers import PageLayer, page_fields, page_layers, remarks_on
from spatialprobe.report.over_input import read_overlays
from spatialprobe.report.page_batch import PageBatch
from spatialprobe.report.page_budget import fitted
from spatialprobe.report.page_sweeps import add_sweep, check_shared, check_sweeps, choose_point, sweeps_of
from spatialprobe.report.passes import check_left_out, passes
from spatialprobe.report.result import Report
from spatialprobe.report.seen import Seen, join_answers, join_names, join_remarks
from spatialprobe.report.synthesized import Synthesis
from spatialprobe.report.versions import Version, check_models, join_versions, names_of_versions
from spatialprobe.statistics.progress import Shown
from spatialprobe.statistics.result import SweepResult
from spatialprobe.storage.files import target_of, write_bytes
from spatialprobe.synthesis.result import MaximizedActivation
from spatialprobe.text import escape_surrogates, kind_of

_SUFFIXES = (".html", ".htm")
_WITHOUT_BOXES = (
    "Top-activating samples are listed by number and unit: patches are drawn of layers that run once, where all "
    "images, those of the page and those that were swept, have one size."
)


def write_report(
    path: str | os.PathLike[str],
    model: nn.Module | Mapping[str, nn.Module],
    images: Any,
    *,
    layers: Selector = nn.Conv2d,
    at: At | None = None,
    sweep: SweepResult | Mapping[str, SweepResult] | None = None,
    dataset: Images | None = None,
    labels: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    targets: TargetChoice | None = None,
    overlays: Mapping[str, object] | None = None,
    synthesized: Synthesis | Mapping[str, Synthesis] | None = None,
    concepts: Alignment | Mapping[str, Alignment] | None = None,
    checkup: Checkup | None = None,
    title: str | None = None,
    max_bytes: int = 20_000_000,
    forward: Forward | None = None,
    image: ImageOf | None = None,
    layout: LayoutChoice = "auto",
    ignore: Ignored = (),
    progress: Shown = "auto",
) -> Report:
    """One HTML file that shows every channel of the layers, what each unit sees of the input, kernels and exemplars.

    The page needs no network and makes no request: its own content security policy forbids it. The model runs once for
    each image, in evaluation mode, and is restored afterwards. In a notebook the report that is returned shows
    the same page.

    Args:
        path: of the file, `.html`, which is written whole or not at all.
        model: any module; or two by name, `{"before": one, "after": other}`: the page then shows the maps of both side
            by side, and their difference, for layers of one name and size, with the channels in the order of change.
        images: a batch as the model takes it: images (N, C, H, W), signals (N, C, L), volumes (N, C, D, H, W), a list
            of images, of different sizes too, or a mapping or tuple with them, as `sweep` reads them. Each sample runs
            alone, with its part of the other inputs, so that its maps and fields are those of its own size. Values
            outside [0, 1] are contrast-stretched, and the page says so. Signals are drawn as lines, volumes slice by
            slice.
        layers: as for `Probe`; those with maps of one to three axes are shown, the others, and any that do not run,
            are named. For signals pass `layers=nn.Conv1d`, for volumes `nn.Conv3d`.
        at: "output", or "post_activation", as for `Probe`; if left out, that of the sweep, or "output".
        sweep: of the same model: results of `Moments`, `Dead` and `Exemplars` are shown for its layers; of two models a
            mapping with the sweeps of one or both by the same names.
        dataset: what was swept, for the patches of the exemplars: `dataset[i]` is an image or a tuple that begins with
            one; a text or a class number that comes second is its label. Of signals patches are lines, of
            volumes the slice through the middle of what a unit sees. Where the model does not reach on it what was
            swept, because of other weights or other images, `doubts` and the page say so.
        labels: what each image is called.
        classes: names of the model's outputs (N, classes): the page then says what the model takes each image for.
        targets: which score of each image is explained, as the target of `attribute`: "predicted", a class index, one
            for each image, or a function of the model's output. The page then orders channels by their contribution
            to it (gradient times activation), shows the contributions over the input, and says how the score fell when
            a channel was ablated alone, and when the top ones were, beside random ones.
        overlays: signed maps of other origin (captum, pytorch-grad-cam), by name: a tensor (N, h, w), of signals
            (N, w), of volumes (N, d, h, w), or a list of one map an image, which is stretched over the input. The page
            shows them in its place.
        synthesized: what `sp.maximize_activation` found for a layer, or a list or mapping of several layers: the page
            shows the image of each channel beside its exemplars, and all of a layer in place of the maps. Of two models
            a mapping of their names to these.
        concepts: what `sp.evidence.concept_alignment` found: the page lists the concepts that each channel aligns with
            best, beside the control. Of two models a mapping of their names to these.
        checkup: of the same model, what `sp.checkup` returned: a panel that opens shows its findings with their
            pictures, each of which leads to its layer.
        title: of the page.
        max_bytes: of the file, in bytes. To fit, exemplars' patches and images go first, then synthesized images, then
            every second row and column of the largest maps, then images, channels and kernels. What is left out stands
            on the page, in `reduced`, and in one line in `missing` and `str(report)`.
        layout: of the layers' outputs: "channels_first", (N, C, H, W); "channels_last", (N, H, W, C);
            `sp.Tokens(height, width, leading)`, (N, tokens, C) as a grid; or "auto", as `receptive_fields` finds it.
        ignore: module types, or their class names, whose output counts as a constant gate (squeeze-and-excite) for what
            units see, as of `receptive_fields`; the page says so.
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
    ignore = types_and_names(ignore)
    check_checkup(checkup)
    check_function(image, "image", "lambda sample: sample['image']")
    models = check_models(model) if isinstance(model, Mapping) else [("", model)]
    names = [name for name, _ in models]
    sweeps = sweeps_of(sweep, names)
    made = LayerResults(synthesized, "synthesized", MaximizedActivation, "sp.maximize_activation(...)", names)
    aligned = LayerResults(concepts, "concepts", ConceptAlignment, "sp.evidence.concept_alignment(...)", names)
    if len(models) > 1 and targets is not None:
        raise ArgumentError("targets= explains the answers of one model: pass model= alone, and a page for each.")
    batches = {}
    for name, one in models:
        called_by(one, forward)
        target, batches[name] = check_page(
            one, images, forward, image, path=path, labels=labels, title=title, max_bytes=max_bytes
        )
    first = batches[models[0][0]]
    maps = read_overlays(overlays, first.pictures)
    check_sweeps(sweeps, dataset)
    where = choose_point(at, sweeps)
    seen = []
    for name, batch in batches.items():
        found = passes(batch, layers, where, layout, keeps_values=len(models) > 1)
        check_left_out(batch.model, layers, found)
        fields = page_fields(batch, layers, where, found, layout, ignore)
        shown = page_layers(batch, layers, found, fields)
        doubtful: tuple[str, ...] = ()
        if (swept := sweeps.get(name)) is not None:
            check_shared(swept, shown)
            shown = [add_sweep(layer, swept, dataset) for layer in shown]
            doubtful = tuple(doubts(batch, [each.layer for each in shown], swept, dataset, where, image, layout))
        shown = add_results(shown, made.of(name, shown), aligned.of(name, shown))
        seen.append(Seen(name, batch.model, found, shown, doubtful, remarks_on(fields)))
    answers = [join_answers(seen, index, classes) for index in range(len(first))]
    inputs = inputs_of(first.pictures, labels, answers)
    for remark in join_remarks(seen):
        inputs = inputs.with_remark(remark)
    drawn = dataset is not None and _has_boxes(seen)
    if dataset is not None and not drawn:
        inputs = inputs.with_remark(_WITHOUT_BOXES)
    shown, left_out = seen[0].layers, [*seen[0].found.left_out.values()]
    if len(seen) > 1:
        shown, left_out = join_versions(*(Version(each.name, each.layers, each.found.values) for each in seen))
    score = None
    if targets is not None:
        shown, score = explain(shown, first, targets, where, layout, progress)
    page = Page(
        title=title or (f"What {join_names(seen)} sees" if len(seen) == 1 else join_names(seen)),
        model=join_names(seen),
        at=where,
        inputs=inputs,
        layers=(),
        stills=(),
        left_out=tuple(left_out),
        doubts=tuple(doubt for each in seen for doubt in each.doubts),
        max_bytes=max_bytes,
        score=score,
        overlays=maps,
        classes=tuple(classes or ()),
        versions=names_of_versions([each.name for each in seen]) if len(seen) > 1 else (),
        checkup="" if checkup is None else as_html_panel(checkup, partial(_address, shown)),
    )
    source = None
    if dataset is not None and drawn:
        source = ExemplarImages(dataset, shown[0].field, inputs.stretch, classes, image)
    page, written = fitted(page, shown, source, max_bytes)
    write_bytes(target, written)
    shown_layers = {one.layer.layer for one in page.layers}
    reasons = FrozenMapping(
        {run[0]: why for each in seen for run, why in each.found.left_out.items() if run[0] not in shown_layers}
    )
    return Report(
        target,
        len(written),
        tuple(one.layer.name for one in page.layers),
        len(page.inputs.images),
        page.reduced,
        page.doubts,
        page.missing,
        reasons,
    )


def _has_boxes(seen: Sequence[Seen]) -> bool:
    """Return whether the page knows what the units of some exemplars see, or whether it has none."""
    swept = [layer.swept for each in seen for layer in each.layers if layer.swept and layer.swept.places is not None]
    return not swept or any(one.has_boxes for one in swept)


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


def check_checkup(checkup: object) -> None:
    """Check that a value is the result of a checkup, or None.

    Raises:
        ArgumentError: it is not.
    """
    if checkup is not None and not isinstance(checkup, Checkup):
        raise ArgumentError(f"checkup is {kind_of(checkup)}: pass what sp.checkup(...) returned.")


def _address(layers: Sequence[PageLayer], found: Finding) -> str | None:
    """Return the address of a finding's layer and first channel on the page; None if the layer is not there."""
    for one in layers:
        if one.layer == found.layer:
            channel = found.channels[0] if found.channels else int(one.channels[0])
            return f"#{quote(escape_surrogates(one.name), safe='')}/{channel}"
    return None
