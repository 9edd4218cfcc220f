"""`checkup`: what is wrong with a model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING, Any

import spatialprobe as sp
from spatialprobe.command.options import add_batches, add_images, add_layers, add_model, new_command

if TYPE_CHECKING:
    from spatialprobe.command.setup import Setup

_WIDTH = 100  # characters of a line


def add_to(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = new_command(
        commands,
        "checkup",
        run,
        "name what is wrong with a model",
        "net.py:Net --weights net.pt --image photos --size 32",
    )
    add_model(parser)
    add_layers(parser, at=False)
    add_images(parser, "some hundred images")
    add_batches(parser)
    parser.add_argument("--rules", metavar="NAME", nargs="+", help="rules to try (default: all)")
    parser.add_argument("--output", metavar="FILE", help="also write it as .html, with pictures, .md or .json")


def run(setup: Setup, arguments: Namespace) -> Iterator[str]:
    """Yield what is found, and the path of the file that is written."""
    target = None if arguments.output is None else setup.target(arguments.output, [".html", ".md", ".json"])
    found = sp.checkup(
        setup.model,
        setup.images,
        layers=setup.layers,
        rules=arguments.rules,
        forward=setup.forward,
        batch_size=arguments.batch_size,
        num_workers=arguments.num_workers,
    )
    yield from _describe(found)
    if target is not None and setup.is_first:
        yield str(found.save(target))


def _describe(found: sp.Checkup) -> Iterator[str]:
    """Yield a checkup as text for a terminal: each finding with its evidence and advice, then the rest."""
    yield found.title
    for one in found:
        yield f"\n{one.severity}: {one.rule} in {one.where}"
        for sentence in filter(None, (one.evidence, one.advice)):
            yield _indent(sentence)
    if found.passed:
        yield "\n" + fill(f"Passed: {', '.join(found.passed)}.", _WIDTH, break_on_hyphens=False)
    for title, reasons in (("Skipped", found.skipped), ("Layers left out", found.left_out)):
        if reasons:
            yield f"\n{title}:"
        for name, why in reasons.items():
            yield _indent(f"{name}: {why}")


def _indent(text: str) -> str:
    return fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
