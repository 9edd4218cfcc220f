"""The cost of this library, as ratios to the usual alternatives, measured in one run.

    python examples/benchmark.py                          every section
    python examples/benchmark.py --section capture        one of them
    python examples/benchmark.py --quick                  small models and few rounds
    python examples/benchmark.py --page docs/benchmarks   into the documentation, section by section

How a figure is made stands in benchmarks/method.py, what is compared in the section's own file beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks import page
from benchmarks.method import Table, as_markdown, as_text

SECTIONS = (
    "capture",
    "selection",
    "fields",
    "attribution",
    "synthesis",
    "concepts",
    "checkup",
    "limits",
    "pictures",
    "report",
    "sweep",
    "scale",
    "monitor",
    "comparison",
    "storage",
    "imports",
    "growth",
    "on_cuda",
)


def main() -> int:
    """Print the tables of the chosen sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", choices=SECTIONS, action="append", help="only this section; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small models and few rounds")
    parser.add_argument(
        "--page", type=Path, metavar="FOLDER", help="write the results, the page and its pictures there"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args()
    collected: dict[str, list[Table]] = {}
    if not options.json:
        print(f"{page.surroundings()}; one thread")
    for section in options.section or SECTIONS:
        tables = collected[section] = []
        for table in import_module(f"benchmarks.{section}").measure(options.quick):  # as they come: some take minutes
            tables.append(table)
            if not options.json:
                print("\n" + (as_markdown if options.markdown else as_text)(table), flush=True)
        if options.page:
            quick = " --quick" if options.quick else ""
            page.add(options.page, section, tables, f"python examples/benchmark.py --section {section}{quick}")
    if options.json:
        found = {section: [asdict(table) for table in tables] for section, tables in collected.items()}
        print(json.dumps({"surroundings": page.surroundings(), "sections": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
