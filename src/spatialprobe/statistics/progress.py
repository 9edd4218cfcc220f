"""A bar that says how far a sweep is, how fast it goes, and how long it still takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from spatialprobe.notebook import is_notebook
from spatialprobe.text import format_count

if TYPE_CHECKING:
    from tqdm import tqdm

Shown = bool | Literal["auto"]


class Silent:
    """No bar."""

    def update(self, samples: int) -> object:
        """Nothing."""


@contextmanager
def progress_bar(shown: Shown, *, done: int, total: int | None) -> Iterator[Silent]:
    """Yield what is told how many samples are done: a bar, or nothing where neither a terminal nor a notebook is.

    A bar stays where it is: at the end it says how many samples were swept, and in how many seconds.
    """
    if not (sys.stderr.isatty() or is_notebook() if shown == "auto" else shown):
        yield Silent()
        return
    with _make_bar(desc="sweep", initial=done, total=total, unit=" samples", dynamic_ncols=True) as made:
        yield made  # type: ignore[misc]
        _finish(made, done)


def _make_bar(**options: Any) -> tqdm[Any]:
    """Return a bar for a terminal, or for a notebook: of widgets where these are installed, or as text.

    Without ipywidgets, `tqdm.auto` would warn.
    """
    if not is_notebook():
        from tqdm import tqdm  # only where it is seen

        return tqdm(**options)
    if find_spec("ipywidgets") is None:
        from tqdm import tqdm

        return tqdm(**options, file=sys.stdout)  # what goes to stderr is red there
    from tqdm.auto import tqdm as automatic

    return automatic(**options)


def _finish(bar: tqdm[Any], done: int) -> None:
    """Let a bar say what was done: `sweep: 50,000 samples in 12.3 seconds`."""
    swept = f"{bar.n:,} sample{'s' * (bar.n != 1)}"
    before = f", {format_count(done, 'sample')} before" if done else ""
    bar.bar_format = f"{{desc}}: {swept} in {{elapsed_s:.1f}} seconds{before}"
    bar.refresh()
