"""The first table of the page of benchmarks: one figure a subject, beside the nearest peer's where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.method import Figure, Table


@dataclass(frozen=True)
class Headline:
    """A row of the first table: a figure, and the nearest peer's in the same table of the results."""

    what: str
    section: str
    table: str  # how the table's title begins
    row: str  # how the name of the figure's row begins
    peer: str = ""  # the same of the peer's row, empty where there is none
    peer_name: str = ""


HEADLINES = (
    Headline(
        "Keep the outputs of all convolutions of a ResNet-50",
        "capture",
        "ResNet-50, batch 2, memory as it comes",
        "Probe, made",
        "captum",
        "captum",
    ),
    Headline(
        "The same, of a DenseNet-121",
        "capture",
        "DenseNet-121, batch 2, memory as it comes",
        "Probe, made",
        "TorchLens",
        "TorchLens",
    ),
    Headline("Exact receptive fields of every module, median of models", "fields", "receptive fields", "median"),
    Headline(
        "Attribution to all convolutions of a ResNet-18",
        "attribution",
        "attribution of all",
        "gradient_x_activation, after",
        "captum",
        "captum",
    ),
    Headline(
        "Compare two ResNet-18 over all convolutions",
        "comparison",
        "comparison of",
        "with a copy",
        "hooks",
        "by hand, without channels and errors",
    ),
    Headline("Check up a ResNet-18 by all rules", "checkup", "all rules", "checkup of"),
    Headline("Monitor each step of a training of ResNet-18", "monitor", "A monitor at every step: R", "Moments"),
    Headline("Draw 512 maps", "pictures", "512 maps of 56 x 56 to a PNG, CPU time", "feature_maps().to_png(), after"),
    Headline(
        "Moments and exemplars of all channels of a ResNet-18",
        "sweep",
        "sweep over the 20 convolutions of ResNet-18 of CIFAR",
        "Moments and",
        "hook",
        "means and variances by hand",
    ),
    Headline("Write activations with checksums", "storage", "writing", "save_activations", "torch.save", "torch.save"),
    Headline("Open them again", "storage", "reading", "load_activations", "torch.load", "torch.load"),
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
    table, figure = find(headline, headline.row, tables)
    peer = f"{headline.peer_name} {find(headline, headline.peer, tables)[1].median:.2f}" if headline.peer else ""
    unit = table.unit.removeprefix("times ")
    return f"| {headline.what} | {unit} | **{figure.median:.2f}** ({figure.low:.2f} to {figure.high:.2f}) | {peer} |"


def find(headline: Headline, row: str, tables: Mapping[str, Sequence[Table]]) -> tuple[Table, Figure]:
    """Return a headline's table, and the figure in it whose name begins so.

    Raises:
        LookupError: the results have none there.
    """
    for table in tables.get(headline.section, ()):
        if table.title.startswith(headline.table):
            for figure in table.figures:
                if figure.name.startswith(row):
                    return table, figure
    raise LookupError(f"The results have no figure {row!r} for {headline.what!r}.")
