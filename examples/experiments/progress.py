"""The progress of the study, and the remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm


class Progress:
    """A bar with the remaining time if stderr is a terminal; else a line for each thing that is done.

    Work is counted in milliseconds that it takes on one core, roughly; the remaining time follows from how fast it
    went so far.
    """

    def __init__(self, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._done, self._skipped = total, 0.0, 0.0
        self._clock, self._begun = clock, clock()
        self._bar = tqdm(total=round(total), desc="study", disable=None, bar_format=_BAR, smoothing=0)

    def advance(self, work: float) -> None:
        """Add work that is done."""
        self._done += work
        self._bar.update(min(self._done, self._total) - self._bar.n)

    def skip(self, work: float) -> None:
        """Subtract work that need not be done."""
        self._total -= work
        self._bar.total = round(self._total)

    def say(self, words: str) -> None:
        """Report that something is done."""
        if self._bar.disable:
            print(f"{self.words()}  {words}", flush=True)
        else:
            self._bar.write(words)

    def words(self) -> str:
        """Return the progress, the elapsed time and the remaining time in words."""
        gone = self._clock() - self._begun
        share = min(1.0, self._done / self._total) if self._total else 1.0
        left = f"about {duration(gone * (1 - share) / share)} left" if share > 0.01 else "time left unknown yet"
        return f"[{share:4.0%}, {duration(gone)} gone, {left}]"

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


_BAR = "{desc}: {percentage:3.0f}% |{bar:30}| {elapsed} gone, {remaining} left"


def duration(seconds: float) -> str:
    """Return seconds in words.

    >>> duration(8), duration(75), duration(4000)
    ('8 s', '1 min 15 s', '1 h 6 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
