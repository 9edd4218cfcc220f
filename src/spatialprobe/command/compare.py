"""`compare`: two models side by side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import spatialprobe as sp
from spatialprobe.command.options import add_batches, add_images, add_layers, add_model, add_other, new_command
from spatialprobe.command.reasons import give_reasons

if TYPE_CHECKING:
    from spatialprobe.command.setup import Setup

_PICTURES = [".png", ".pdf", ".svg"]


def add_to(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = new_command(
        commands,
        "compare",
        run,
        "print how similar the layers of two models are",
        "net.py:Net --weights 1.pt --other-weights 9.pt \\\n      --image photos",
        operands="MODEL [OTHER]",
    )
    add_model(parser)
    add_other(parser)
    add_layers(parser)
    add_images(parser, "to run both on")
    add_batches(parser)
    parser.add_argument("--output", metavar="FILE", help="also write .png, .pdf, .svg, or .safetensors")


def run(setup: Setup, arguments: Namespace) -> Iterator[str]:
    """Yield the comparison as a table, and the path of the file that is written."""
    target = None if arguments.output is None else setup.target(arguments.output, [*_PICTURES, ".safetensors"])
    found = sp.compare(
        setup.model,
        setup.other or setup.model,
        setup.images,
        layers=setup.layers,
        at=arguments.at,
        forward=setup.forward,
        batch_size=arguments.batch_size,
        num_workers=arguments.num_workers,
    )
    yield repr(found)
    yield from give_reasons(found.left_out, found.other_left_out, found.unmatched)
    if target is None or not setup.is_first:
        return
    if target.suffix.lower() in _PICTURES:
        from spatialprobe.render.figures import encode_page  # imports torch and matplotlib
        from spatialprobe.storage.files import write_bytes

        write_bytes(target, encode_page(found.figure(), target.suffix.lower()))
        yield str(target)
    else:
        yield str(found.save(target))
