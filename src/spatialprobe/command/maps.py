"""`maps`: pictures of the feature maps of each layer."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spatialprobe as sp
from spatialprobe.command.options import add_images, add_layers, add_model, new_command
from spatialprobe.errors import ArgumentError
from spatialprobe.text import format_count

if TYPE_CHECKING:
    from spatialprobe.command.setup import Setup

_PAGES = (".png", ".pdf", ".svg")


def add_to(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = new_command(
        commands,
        "maps",
        run,
        "draw the feature maps of each layer",
        "net.py:Net --weights net.pt --image cat.jpg --size 224",
    )
    add_model(parser)
    add_layers(parser)
    add_images(parser, "to draw the maps of")
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="folder, in which each image has a folder with a PNG a layer (default: the working folder); or .png, .pdf "
        "or .svg, for one image",
    )


def run(setup: Setup, arguments: Namespace) -> Iterator[str]:
    """Draw the maps of each image, and yield the paths of the pictures."""
    output, images = Path(arguments.output or "."), setup.images
    on_page = output.suffix.lower() in _PAGES and not output.is_dir()
    if on_page and len(images) > 1:
        raise ArgumentError(
            f"--output {output} is one page, and there are {format_count(len(images), 'image')}: pass a folder, or "
            "--limit 1."
        )
    for index, folder in enumerate(_name_folders(images.names)):
        maps = _draw(setup, images[index], arguments.at)
        target = output
        if not on_page:
            target = output / folder
            target.mkdir(parents=True, exist_ok=True)
        yield from map(str, maps.save(target))


def _name_folders(names: Sequence[str]) -> list[str]:
    """Return the folders of images: file names, those of their folders before them where needed, or else numbered."""
    stems = [Path(name).stem for name in names]
    long = [str(Path(name).with_suffix("")).replace("/", "_") for name in names]
    for found in (stems, long):
        if len(set(found)) == len(names):
            return found
    return [f"{number:0{len(str(len(names)))}}_{one}" for number, one in enumerate(long, start=1)]


def _draw(setup: Setup, image: Any, at: Any) -> sp.Gallery:
    """Return the maps of all layers, beside the image where it can be shown."""
    batch = setup.batch_of(image)
    if image.ndim != 3 or len(image) not in (1, 3):
        return sp.feature_maps(sp.capture(setup.model, batch, layers=setup.layers, at=at))
    # The fields first, whose error says on which input a model raised one.
    fields = sp.receptive_fields(setup.model, batch, layers=setup.layers, at=at)
    records = sp.capture(setup.model, batch, layers=setup.layers, at=at)
    return sp.feature_maps(records, image=image, field=fields)
