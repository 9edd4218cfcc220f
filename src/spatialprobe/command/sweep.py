"""`sweep`: statistics and exemplars of every channel over many images."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import spatialprobe as sp
from spatialprobe.command.options import add_batches, add_images, add_layers, add_model, new_command

if TYPE_CHECKING:
    from spatialprobe.command.setup import Setup

_REDUCERS = {
    "moments": "Moments",
    "dead": "Dead",
    "exemplars": "Exemplars",
    "histogram": "Histogram",
    "covariance": "ChannelCovariance",
}
_DEFAULT = ("moments", "dead", "exemplars")


def add_to(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = new_command(
        commands,
        "sweep",
        run,
        "write statistics and exemplars of every channel",
        "net.py:Net --weights net.pt --image photos",
    )
    add_model(parser)
    add_layers(parser)
    add_images(parser, "to sweep")
    add_batches(parser)
    parser.add_argument(
        "--reducers", nargs="+", choices=_REDUCERS, default=_DEFAULT, metavar="NAME", help=f"of {', '.join(_REDUCERS)}"
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="continue from here if the sweep was interrupted")
    parser.add_argument("--store", metavar="FOLDER", help="also keep all activations, as Zarr arrays")
    parser.add_argument("--output", metavar="FILE", default="sweep.safetensors", help="(default: sweep.safetensors)")


def run(setup: Setup, arguments: Namespace) -> Iterator[str]:
    """Sweep the images, and yield the path of the result that `SweepResult.load` reads."""
    target = setup.target(arguments.output, [".safetensors"])
    found = sp.sweep(
        setup.model,
        setup.images,
        {name: getattr(sp, _REDUCERS[name]) for name in arguments.reducers},
        layers=setup.layers,
        at=arguments.at,
        forward=setup.forward,
        batch_size=arguments.batch_size,
        num_workers=arguments.num_workers,
        checkpoint=arguments.checkpoint,
        store=arguments.store,
    )
    if setup.is_first:
        yield str(found.save(target))
