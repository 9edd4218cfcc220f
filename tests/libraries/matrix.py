"""Run every function on every model of the libraries, and write the table in the documentation.

    python tests/libraries/matrix.py                 # all of them, some minutes; writes docs/libraries.md
    python tests/libraries/matrix.py timm monai-UNet  # those whose name holds one of these; writes nothing

Libraries that are not installed are an error: `pip install -e ".[libraries,examples]"`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import torch
from library_checks import CHECKS, outcome
from library_models import SMP, LibraryModel, all_models
from tqdm.auto import tqdm

PAGE = Path(__file__).parents[2] / "docs" / "libraries.md"
BEGIN, END = "<!-- written by tests/libraries/matrix.py -->\n", "<!-- end -->\n"
Row = dict[str, str]  # what each function said, by its name


def outcomes(one: LibraryModel) -> Row:
    """Return what each function says of a model, an error in place of a result."""
    model = one.built()
    row = {}
    for name in CHECKS:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries
            try:
                row[name] = outcome(one, model, name, Path(folder))
            except Exception as error:
                row[name] = "fails"
                print(f"{one}, {name}: {type(error).__name__}: {error}", file=sys.stderr)
    return row


def cell(text: str) -> str:
    """Return a cell of the table: a mark where there is nothing to count."""
    return {"yes": "✓", "refused": "–", "fails": "**fails**"}.get(text, text)


def tables(found: Iterable[tuple[LibraryModel, Row]]) -> str:
    """Return one table for each library, under its name and version."""
    lines: list[str] = []
    library = None
    for one, row in found:
        if one.library != library:
            library = one.library
            name = library.replace("_", "-")
            lines += ["", f"## {name}", "", f"Version {version(name)}.", ""]
            lines += [f"| model | {' | '.join(CHECKS)} |", f"|---{'|---' * len(CHECKS)}|"]
        lines.append(f"| {one.name} | {' | '.join(cell(row[check]) for check in CHECKS)} |")
    return "\n".join([*lines[1:], ""])


def main() -> int:
    """Return 1 if anything failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of the models' names; all if left out")
    names = parser.parse_args().names
    torch.set_num_threads(1)
    chosen = [one for one in all_models() if not names or any(name in str(one).replace(SMP, "smp") for name in names)]
    found = [(one, outcomes(one)) for one in tqdm(chosen)]
    text = tables(found)
    print(text)
    if not names:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.partition(END)[2], encoding="utf-8")
    return int(any("fails" in row.values() for _, row in found))


if __name__ == "__main__":
    raise SystemExit(main())
