"""The first table of the page of benchmarks: one figure a subject, beside the nearest peer's where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.method import Figure, Table


@dataclass(frozen=True)
class Place:
    """Where a figure stands among the results."""

    section: str
    table: str  # how the table's title begins
    row: str  # how the row's name begins


@dataclass(frozen=True)
class Headline:
    """A row of the first table."""

    what: str
    here: Place
    peer: Place | None = None
    peer_name: str = ""


RESNET_50, DENSENET = "ResNet-50, batch 2, memory as it comes", "DenseNet-121, batch 2, memory as it comes"
TO_PNG = "512 maps of 56 x 56 to a PNG, CPU time"
HEADLINES = (
    Headline(
        "Keep the outputs of all convolutions of a ResNet-50",
        Place("capture", RESNET_50, "Probe, made"),
        Place("capture", RESNET_50, "captum"),
        "captum",
    ),
    Headline(
        "The same, of a DenseNet-121",
        Place("capture", DENSENET, "Probe, made"),
        Place("capture", DENSENET, "TorchLens"),
        "TorchLens",
    ),
    Headline("Exact receptive fields of every module, median of models", Place("fields", "receptive fields", "median")),
    Headline(
        "Attribution to all convolutions of a ResNet-18",
        Place("attribution", "attribution of all", "gradient_x_activation, after"),
        Place("attribution", "attribution of all", "captum"),
        "captum",
    ),
    Headline(
        "Compare two ResNet-18 over all convolutions",
        Place("comparison", "comparison of", "with a copy"),
        Place("comparison", "comparison of", "hooks"),
        "by hand, without channels and errors",
    ),
    Headline("Check up a ResNet-18 by all rules", Place("checkup", "all rules", "checkup of")),
    Headline("Monitor each step of a training of ResNet-18", Place("monitor", "A monitor at every step: R", "Moments")),
    Headline("Draw 512 maps", Place("pictures", TO_PNG, "feature_maps().to_png(), after")),
    Headline(
        "Moments and exemplars of all channels of a ResNet-18",
        Place("sweep", "sweep over the 20 convolutions of ResNet-18 of CIFAR", "Moments and"),
        Place("sweep", "sweep over the 20 convolutions of ResNet-18 of CIFAR", "hook"),
        "means and variances by hand",
    ),
    Headline(
        "Write activations with checksums",
        Place("storage", "writing", "save_activations"),
        Place("storage", "writing", "torch.save"),
        "torch.save",
    ),
    Headline(
        "Open them again",
        Place("storage", "reading", "load_activations"),
        Place("storage", "reading", "torch.load"),
        "torch.load",
    ),
)


def list_rows(tables: Mapping[str, Sequence[Table]]) -> list[str]:
    """Return the rows of the first table in Markdown, of what has been measured."""
    rows = []
    for headline in HEADLINES:
        try:
            rows.append(describe(headline, tables))
        except LookupError:
            continue
    return rows


def describe(headline: Headline, tables: Mapping[str, Sequence[Table]]) -> str:
    """Return a row of the first table in Markdown.

    Raises:
        LookupError: it has not been measured.
    """
    table, figure = find(headline.here, tables)
    peer = f"{headline.peer_name} {find(headline.peer, tables)[1].median:.2f}" if headline.peer else ""
    unit = table.unit.removeprefix("times ")
    return f"| {headline.what} | {unit} | **{figure.median:.2f}** ({figure.low:.2f} to {figure.high:.2f}) | {peer} |"


def find(place: Place, tables: Mapping[str, Sequence[Table]]) -> tuple[Table, Figure]:
    """Return the table and the figure at a place.

    Raises:
        LookupError: the results have none there.
    """
    for table in tables.get(place.section, ()):
        if table.title.startswith(place.table):
            for figure in table.figures:
                if figure.name.startswith(place.row):
                    return table, figure
    raise LookupError(f"The results have no figure {place}.")
