"""`report`: one interactive page."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import spatialprobe as sp
from spatialprobe.command.options import add_batches, add_ignored, add_images, add_layers, add_model, new_command

if TYPE_CHECKING:
    from spatialprobe.command.setup import Setup

_IMAGES = 16  # more than this make a page slow to look through


def add_to(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = new_command(
        commands,
        "report",
        run,
        "write one interactive HTML page",
        "net.py:Net --weights net.pt --image cat.jpg --data photos",
    )
    add_model(parser)
    add_layers(parser)
    add_ignored(parser)
    add_images(parser, "to show", limit=_IMAGES)
    parser.add_argument(
        "--data",
        metavar="PATH",
        nargs="+",
        action="extend",
        help="files or folders to sweep, for exemplar patches",
    )
    add_batches(parser)
    parser.add_argument(
        "--target", metavar="CLASS", type=_target, help="explain the score of 'predicted' or of a class number"
    )
    parser.add_argument("--output", metavar="FILE", default="report.html", help="(default: report.html)")


def run(setup: Setup, arguments: Namespace) -> Iterator[str]:
    """Write the page, and yield its path."""
    target = setup.target(arguments.output, [".html", ".htm"])
    images = setup.images.stack()
    report = sp.explore(
        setup.model,
        images,
        setup.data,
        path=target,
        open=False,
        layers=setup.layers,
        at=arguments.at,
        labels=list(setup.images.names),
        targets=arguments.target,
        forward=setup.forward,
        ignore=arguments.ignore,
        batch_size=arguments.batch_size,
        num_workers=arguments.num_workers,
    )
    yield str(report.path)


def _target(text: str) -> str | int:
    return int(text) if text.isascii() and text.isdigit() else text
