"""The time that `import spatialprobe` adds to the start of a program that imports torch anyway."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.method import Figure, Table

CASES = {
    "import spatialprobe": "import spatialprobe",
    "and a Probe": "from spatialprobe import Probe",
    "and everything that it shows": "import spatialprobe; [getattr(spatialprobe, n) for n in spatialprobe.__all__]",
}
CODE = "import time, torch; start = time.perf_counter(); {}; print(1000 * (time.perf_counter() - start))"


def measure(quick: bool) -> Iterator[Table]:
    """Yield the times of fresh interpreters in turn, each after one that is not counted."""
    rounds = 3 if quick else 11
    found: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, code in CASES.items():
            found[name].append(milliseconds(code))
    figures = tuple(Figure.of(name, times) for name, times in found.items())
    yield Table("import time, torch imported before", "milliseconds", figures)


def milliseconds(code: str) -> float:
    """Return the time that some code takes in a new interpreter in which torch is imported already."""
    child = subprocess.run([sys.executable, "-c", CODE.format(code)], stdout=subprocess.PIPE, check=True)
    return float(child.stdout)
