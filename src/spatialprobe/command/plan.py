"""`plan`: the size of each layer's output."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import spatialprobe as sp
from spatialprobe.command.options import add_layers, add_model, add_shape, new_command
from spatialprobe.command.reasons import give_reasons

if TYPE_CHECKING:
    from spatialprobe.command.setup import Setup


def add_to(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = new_command(
        commands,
        "plan",
        run,
        "print the shape and size of each layer's output",
        "torchvision.models:resnet18 --layers '*'",
    )
    add_model(parser)
    add_layers(parser, at=False)
    add_shape(parser)


def run(setup: Setup, arguments: Namespace) -> Iterator[str]:
    """Yield the plan as a table."""
    found = sp.plan(setup.model, setup.batch_of(setup.images[0]), layers=setup.layers)
    yield repr(found)
    yield from give_reasons(found.left_out)
