"""The options that several commands share, and a parser that says in one line what is wrong with them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

if TYPE_CHECKING:
    from spatialprobe.command.setup import Setup

Run: TypeAlias = "Callable[[Setup, argparse.Namespace], Iterator[str]]"  # yields the lines to print

_HELP_COLUMN = 24
_POINTS = ("output", "post_activation")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help is narrow enough for any terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Write what is wrong to stderr and exit with 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; {self.prog} --help lists what it takes.\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_HELP_COLUMN)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        """Return `NAME ...` in place of `NAME [NAME ...]`, so that the option and its help share a line."""
        return f"{action.metavar} ..." if action.nargs == "+" else super()._format_args(action, default_metavar)


def new_command(commands: Any, name: str, run: Run, summary: str, example: str, operands: str = "MODEL") -> Parser:
    """Return the parser of a new command, which takes a model."""
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        usage=f"spatialprobe {name} {operands} [options]",
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  spatialprobe {name} {example}",
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_model(parser: Parser) -> None:
    """Add the model, the arguments that make it, its weights and its device."""
    parser.add_argument("model", metavar="MODEL", help="package.module:callable or file.py:callable")
    parser.add_argument("--model-args", metavar="JSON", type=_json, help="""arguments of it: '{"depth": 3}' or '[3]'""")
    parser.add_argument("--weights", metavar="FILE", help="of MODEL: safetensors or a state dict, never unpickled")
    parser.add_argument("--device", help="to run on, such as cuda")


def add_other(parser: Parser) -> None:
    """Add a second model."""
    parser.add_argument("other", metavar="OTHER", nargs="?", help="a model to compare it with (default: MODEL)")
    parser.add_argument("--other-args", metavar="JSON", type=_json, help="arguments of OTHER")
    parser.add_argument("--other-weights", metavar="FILE", help="of OTHER")


def add_layers(parser: Parser, *, at: bool = True) -> None:
    """Add the choice of layers, and of the point at which their values are taken."""
    parser.add_argument(
        "--layers", metavar="NAME", nargs="+", action="extend", help="names or globs (default: nn.Conv2d)"
    )
    if at:
        parser.add_argument(
            "--at", metavar="POINT", choices=_POINTS, default=_POINTS[0], help="output (default) or post_activation"
        )


def add_shape(parser: Parser) -> None:
    """Add the size of the input of a command that needs no image."""
    parser.add_argument(
        "--size",
        metavar="N",
        nargs="+",
        type=_positive,
        default=[224],
        help="of the input: side, H W or C H W (default: 224)",
    )


def add_ignored(parser: Parser) -> None:
    """Add the modules whose output counts as a constant gate."""
    parser.add_argument(
        "--ignore", metavar="TYPE", nargs="+", action="extend", default=[], help="gates to leave out: SqueezeExcitation"
    )


def add_images(parser: Parser, what: str, limit: int | None = None) -> None:
    """Add the images, how they are read, and how many of them are taken."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--image", metavar="PATH", nargs="+", action="extend", help=f"files or folders, {what}")
    source.add_argument("--npy", metavar="FILE", help="or an array (N, C, H, W), where 255 in uint8 is 1")
    most = "all" if limit is None else str(limit)
    parser.add_argument(
        "--limit", metavar="K", type=_positive, default=limit, help=f"take K of them, evenly spread (default: {most})"
    )
    parser.add_argument(
        "--size", metavar="N", nargs="+", type=_positive, help="crop and resize to: side, H W or C H W (C = 1: gray)"
    )
    parser.add_argument("--mean", metavar="X", nargs="+", type=float, help="to subtract from images in [0, 1]")
    parser.add_argument("--std", metavar="X", nargs="+", type=float, help="to divide by after that")


def add_batches(parser: Parser) -> None:
    """Add how a data set is read."""
    parser.add_argument("--batch-size", metavar="N", type=_positive, default=64, help="images that run at once (64)")
    parser.add_argument("--num-workers", metavar="N", type=int, default=0, help="processes that read images (0)")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from error


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer above zero")
    return int(text)
