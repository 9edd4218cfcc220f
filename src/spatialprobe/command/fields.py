"""`fields`: the receptive field of each layer."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import spatialprobe as sp
from spatialprobe.command.options import add_ignored, add_layers, add_model, add_shape, new_command
from spatialprobe.command.reasons import give_reasons

if TYPE_CHECKING:
    from spatialprobe.command.setup import Setup


def add_to(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = new_command(
        commands,
        "fields",
        run,
        "print the receptive field of each layer",
        "net.py:Net --size 32 --layers 'conv*' 'pool*'",
    )
    add_model(parser)
    add_layers(parser)
    add_shape(parser)
    add_ignored(parser)


def run(setup: Setup, arguments: Namespace) -> Iterator[str]:
    """Yield the receptive fields as a table."""
    batch = setup.batch_of(setup.images[0])
    found = sp.receptive_fields(setup.model, batch, layers=setup.layers, at=arguments.at, ignore=arguments.ignore)
    yield repr(found)
    yield from give_reasons(found.left_out)
