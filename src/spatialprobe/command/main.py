"""The entry of the command line: what the user typed, what is printed, and the exit status."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from spatialprobe import __version__
from spatialprobe.command import checkup, compare, fields, maps, plan, report, sweep
from spatialprobe.command.options import Parser
from spatialprobe.errors import ForwardError, SpatialProbeError, describe_error
from spatialprobe.text import escape_surrogates

_COMMANDS = (plan, fields, maps, report, sweep, checkup, compare)
_FAILED, _INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, by default those of the process, and return the exit status.

    >>> main(["plan", "torch.nn:Identity", "--layers", "conv1"])
    2
    """
    arguments = make_parser().parse_args(argv)
    out = sys.stdout
    try:
        with _quiet():
            from spatialprobe.command.setup import Setup  # imports torch, which takes seconds that help does not need

            setup = Setup.of(arguments)
            for line in arguments.run(setup, arguments):
                if setup.is_first:
                    print(escape_surrogates(line), file=out, flush=True)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of the output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 0
    except Exception as error:
        if arguments.traceback:
            traceback.print_exc()
        print(f"{arguments.parser.prog}: {_describe(error)}", file=sys.stderr)
        return _FAILED
    return 0


def make_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="spatialprobe",
        usage="spatialprobe COMMAND MODEL [options]",
        description="See what convolutional networks see.",
        epilog="example:\n  spatialprobe fields torchvision.models:resnet18 --layers 'layer4.*'\n\n"
        "spatialprobe COMMAND --help lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"spatialprobe {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error arose; stands before COMMAND")
    commands = parser.add_subparsers(
        prog="spatialprobe", title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    for command in _COMMANDS:
        command.add_to(commands)
    return parser


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep stdout for results: what the user's code prints goes to stderr; warnings and logs are not shown."""
    disabled = logging.root.manager.disable
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable()  # torch logs an error of its own beside the one that it raises
        try:
            yield
        finally:
            logging.disable(disabled)


def _describe(error: Exception) -> str:
    """Return what went wrong in one line."""
    own = isinstance(error, SpatialProbeError) or (isinstance(error, OSError) and error.errno is None)
    text = str(error) if own else describe_error(error)
    hint = "; --size is that of the input" if isinstance(error, ForwardError) else ""
    line = " ".join(text.split()).rstrip(".") + hint
    return escape_surrogates(line if line.endswith("?") else f"{line}.")
