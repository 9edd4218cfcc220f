"""Sweep, write the page and show it, in one call."""

from __future__ import annotations

import os
import shutil
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_texts, check_function, check_one_of, check_switch
from spatialprobe.attribution.target import TargetChoice
from spatialprobe.diagnosis.result import Checkup
from spatialprobe.errors import ArgumentError, StorageError
from spatialprobe.fields.question import Ignored, types_and_names
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.samples import ImageOf
from spatialprobe.model.select import Selector
from spatialprobe.notebook import display, is_notebook
from spatialprobe.report.browser import find_browser, has_viewer, open_page
from spatialprobe.report.concepts import Alignment
from spatialprobe.report.layers import page_fields, page_layers
from spatialprobe.report.page_batch import PageBatch
from spatialprobe.report.passes import passes
from spatialprobe.report.result import Report
from spatialprobe.report.synthesized import Synthesis
from spatialprobe.report.write import check_checkup, check_page, write_report
from spatialprobe.statistics.batches import Data
from spatialprobe.statistics.dead import Dead
from spatialprobe.statistics.exemplars import Exemplars
from spatialprobe.statistics.loading import is_plain_loader
from spatialprobe.statistics.moments import Moments
from spatialprobe.statistics.progress import Shown
from spatialprobe.statistics.reducer import Factories
from spatialprobe.statistics.result import SweepResult
from spatialprobe.statistics.sweep import sweep
from spatialprobe.storage.files import describe_os_error

_REDUCERS: Factories = {"moments": Moments, "dead": Dead, "top": Exemplars}  # whose results the page shows
_MAX_BYTES, _MAX_BYTES_IN_NOTEBOOK = 20_000_000, 5_000_000


def explore(
    model: nn.Module,
    images: Any,
    data: Data | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    open: bool | None = None,
    layers: Selector = nn.Conv2d,
    at: At = "output",
    labels: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    targets: TargetChoice | None = None,
    overlays: Mapping[str, object] | None = None,
    synthesized: Synthesis | None = None,
    concepts: Alignment | None = None,
    checkup: Checkup | None = None,
    title: str | None = None,
    max_bytes: int | None = None,
    forward: Forward | None = None,
    image: ImageOf | None = None,
    layout: LayoutChoice = "auto",
    ignore: Ignored = (),
    batch_size: int = 64,
    device: torch.device | str | None = None,
    num_workers: int = 0,
    progress: Shown = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
) -> Report:
    """Return the interactive page of a model's layers, swept over the data if there is some, and show it.

    With `data`, a sweep finds statistics of every channel and the patches that activate it most. The page is written,
    and opened in the web browser where there is one. In a notebook the report shows itself at the end of a cell.

    Args:
        model: any module.
        images: a batch as the model takes it, of the images, signals or volumes to be looked at; where
            that is more than images (N, C, H, W), one of the same form as those of `data`.
        data: what the page's statistics and patches are of, as for `sweep`: a data set or tensor of samples, a
            `DataLoader`, or another iterable of batches, of which there are statistics and no patches.
        path: of the page, `.html`; by default `report.html` in a new temporary folder, which is kept.
        open: whether the page is opened in the browser, and in a notebook shown below the cell at once. None: in the
            browser, unless code runs in a notebook, in CI, through ssh or without a display.
        layers, at: as for `write_report`. Only layers that are on the page are swept.
        labels, classes, targets, overlays, synthesized, concepts, checkup, title, image, ignore: as for `write_report`.
        max_bytes: of the page; by default 20 MB, and 5 MB in a notebook, which holds a copy of it.
        forward, layout: as for `write_report` and `sweep`, whose batches the function is called on, too.
        batch_size, device, num_workers, progress, checkpoint: as for `sweep`.

    Raises:
        ArgumentError: an argument cannot be used, or `open=True` and there is no browser.
        StorageError: the page cannot be written.
        SpatialProbeError: as of `sweep` and `write_report`.

    >>> import tempfile, torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = f"{folder}/page.html"
    ...     report = sp.explore(model, torch.rand(2, 3, 32, 32), torch.rand(50, 3, 32, 32), path=page, open=False)
    >>> report.layers, report.images, report.path.name
    (('0', '2'), 2, 'page.html')
    """
    browser = _choose_browser(open)
    check_one_of(at, "at", At)
    if max_bytes is None:
        max_bytes = _MAX_BYTES_IN_NOTEBOOK if is_notebook() else _MAX_BYTES
    classes = None if classes is None else as_texts(classes, "classes")
    page: Any = {"labels": None if labels is None else as_texts(labels, "labels")}
    page |= {"title": title, "max_bytes": max_bytes}
    ignore = types_and_names(ignore)
    check_checkup(checkup)
    check_function(image, "image", "lambda sample: sample['image']")
    called_by(model, forward)
    _, batch = check_page(model, images, forward, image, path="report.html" if path is None else path, **page)
    if data is not None:
        options = {"batch_size": batch_size, "device": device, "num_workers": num_workers, "progress": progress}
        found = _sweep(batch, data, layers, at, layout, ignore, {**options, "checkpoint": checkpoint})
        page |= {"sweep": found, "dataset": _samples_of(data)}
    explained: Any = {"targets": targets, "overlays": overlays, "checkup": checkup, "progress": progress}
    explained |= {"synthesized": synthesized, "concepts": concepts}
    explained |= {"forward": forward, "image": image, "layout": layout, "ignore": ignore}
    target = _new_path() if path is None else path
    try:
        report = write_report(target, model, images, layers=layers, at=at, classes=classes, **page, **explained)
    except BaseException:
        if path is None:
            shutil.rmtree(Path(target).parent, ignore_errors=True)
        raise
    if browser is not None:
        open_page(browser, report.path)
    if open and is_notebook():
        display(report)
    return report


def _choose_browser(open: bool | None) -> webbrowser.BaseBrowser | None:
    """Return the browser that the page is to be opened in, None for a notebook, or where none is wanted.

    Raises:
        ArgumentError: one is wanted, and there is none.
    """
    if open is not None:
        check_switch(open, "open")
    if is_notebook() or open is False or not (open or has_viewer()):
        return None
    browser = find_browser()
    if open and browser is None:
        raise ArgumentError("open=True, but no web browser was found: leave it out, and open the file of the report.")
    return browser


def _sweep(
    batch: PageBatch,
    data: Data,
    layers: Selector,
    at: At,
    layout: LayoutChoice,
    ignore: Ignored,
    options: dict[str, Any],
) -> SweepResult:
    """Return the statistics and exemplars of the layers that the page will show."""
    first = batch.first()
    found = passes(first, layers, at, layout)
    fields = page_fields(first, layers, at, found, layout, ignore)
    shown = {one.layer for one in page_layers(first, layers, found, fields)}
    options |= {"forward": batch.forward, "layout": layout, "at": at}
    return sweep(batch.model, data, _REDUCERS, layers=lambda name, _: name in shown, **options)


def _samples_of(data: Data) -> Any:
    """Return what the patches of a sweep's exemplars are cut from; None of data that has no samples by number."""
    if isinstance(data, DataLoader):
        return data.dataset if is_plain_loader(data) else None
    indexed = isinstance(data, torch.Tensor) or (isinstance(data, Dataset) and not isinstance(data, IterableDataset))
    return data if indexed else None


def _new_path() -> Path:
    """Return the path of a page in a temporary folder of its own.

    Raises:
        StorageError: there is no room for one.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="spatialprobe-")) / "report.html"
    except OSError as error:
        raise StorageError(
            f"No temporary folder can be made for the page: {describe_os_error(error)}. Pass path='report.html'."
        ) from error
