"""A bar that says how far a sweep is, how fast it goes, and how long it still takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Shown = bool | Literal["auto"]


class Silent:
    """No bar."""

    def update(self, samples: int) -> object:
        """Nothing."""


@contextmanager
def progress_bar(shown: Shown, *, done: int, total: int | None) -> Iterator[Silent]:
    """Something to tell of samples that are done: a bar, or nothing where nobody looks."""
    if not (sys.stderr.isatty() if shown == "auto" else shown):
        yield Silent()
        return
    from tqdm import tqdm  # only where it is seen

    with tqdm(desc="sweep", initial=done, total=total, unit=" samples", dynamic_ncols=True, leave=False) as made:
        yield made  # type: ignore[misc]
