"""What this library costs, as ratios to what one would otherwise do, measured in one run.

    python examples/benchmark.py                       every section
    python examples/benchmark.py --section capture     one of them
    python examples/benchmark.py --quick               small models and few rounds

How a figure is made stands in benchmarks/method.py, what is compared in the section's own file beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from importlib import import_module

import torch
from benchmarks.method import as_markdown, as_text

SECTIONS = ("capture", "fields", "pictures", "report", "sweep")


def main() -> int:
    """Print the tables of the chosen sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", choices=SECTIONS, action="append", help="only this section; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small models and few rounds")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args()
    machine = f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, one thread"
    collected = {}
    if not options.json:
        print(machine)
    for section in options.section or SECTIONS:
        collected[section] = []
        for table in import_module(f"benchmarks.{section}").measure(options.quick):  # as they come: some take minutes
            collected[section].append(asdict(table))
            if not options.json:
                print("\n" + (as_markdown if options.markdown else as_text)(table), flush=True)
    if options.json:
        print(json.dumps({"machine": machine, "sections": collected}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
