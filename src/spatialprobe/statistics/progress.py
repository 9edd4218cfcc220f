"""A progress bar of a sweep, with its speed and remaining time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from spatialprobe.arguments import check_switch
from spatialprobe.notebook import is_notebook
from spatialprobe.text import format_count

if TYPE_CHECKING:
    from tqdm import tqdm

Shown = bool | Literal["auto"]


def check_progress(progress: object) -> None:
    """Check a `progress=` of a user: "auto", True or False.

    Raises:
        ArgumentError: it is something else.
    """
    if not (isinstance(progress, str) and progress == "auto"):
        check_switch(progress, "progress")


class Silent:
    """A progress bar that shows nothing."""

    def update(self, samples: int) -> object:
        """Do nothing."""


@contextmanager
def progress_bar(
    shown: Shown, *, done: int, total: int | None, title: str = "sweep", noun: str = "sample"
) -> Iterator[Silent]:
    """Yield a progress bar to update with the number of samples done, or of another noun; it is silent unless shown.

    With "auto" it is shown if stderr is a terminal, or in a notebook. At the end it stays, and shows how many samples
    were swept, and in how many seconds.
    """
    if not (sys.stderr.isatty() or is_notebook() if shown == "auto" else shown):
        yield Silent()
        return
    with _make_bar(desc=title, initial=done, total=total, unit=f" {noun}s", dynamic_ncols=True) as made:
        yield made  # type: ignore[misc]
        _finish(made, done, noun)


def _make_bar(**options: Any) -> tqdm[Any]:
    """Return a bar for a terminal or a notebook; in a notebook it is a widget if ipywidgets is installed, else text.

    Without ipywidgets, `tqdm.auto` would warn.
    """
    if not is_notebook():
        from tqdm import tqdm  # only if it is shown

        return tqdm(**options)
    if find_spec("ipywidgets") is None:
        from tqdm import tqdm

        return tqdm(**options, file=sys.stdout)  # notebooks show stderr in red
    from tqdm.auto import tqdm as automatic

    return automatic(**options)


def _finish(bar: tqdm[Any], done: int, noun: str) -> None:
    """Show the totals in a bar: `sweep: 50,000 samples in 12.3 seconds`."""
    swept = f"{bar.n:,} {noun}{'s' * (bar.n != 1)}"
    before = f", {format_count(done, noun)} before" if done else ""
    bar.bar_format = f"{{desc}}: {swept} in {{elapsed_s:.1f}} seconds{before}"
    bar.refresh()
