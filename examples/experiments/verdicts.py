"""Claims, and how numbers decide them; which claims there are stands in `claims`. Arithmetic on plain numbers only.

Every rule is about differences between what is claimed and its control, one for each seed. A difference counts if, over
the seeds, its mean is larger than twice its spread (the standard deviation over seeds) and, where accuracies are
compared, also larger than twice the sampling error of the test set; with fewer than three seeds nothing counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Difference:
    """The difference of a claimed quantity and its control, over seeds."""

    what: str
    values: tuple[float, ...]  # one for each seed
    sampling: float = 0.0  # the standard error that comes from the number of test images

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return fmean(self.values)

    @property
    def spread(self) -> float:
        """The standard deviation over seeds; 0 for one."""
        return stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def needed(self) -> float:
        """The value that the mean must exceed to count."""
        return 2 * max(self.spread, self.sampling)

    @property
    def counts(self) -> bool:
        """Whether the difference is significant."""
        return len(self.values) >= FEWEST_SEEDS and self.mean > self.needed


@dataclass(frozen=True)
class Verdict:
    """A claim, decided."""

    claim: str
    supported: bool
    rule: str  # what has to hold
    sentences: tuple[str, ...]  # what was measured, from the run's own numbers
    failed: tuple[str, ...] = ()  # what did not hold
    differences: tuple[Difference, ...] = ()
    table: tuple[tuple[str, ...], ...] = field(default=())  # a heading row and rows, already in words

    @property
    def word(self) -> str:
        """The decision."""
        return "Supported" if self.supported else "Not supported"


@dataclass(frozen=True)
class Findings:
    """All measurements of a study."""

    seeds: tuple[int, ...]
    of_seed: Sequence[Mapping[str, Any]]  # `measures.of_seed`, seed by seed
    layers: Sequence[Mapping[str, Mapping[str, Any]]]  # `measures.along_layers` of the SimpleCNN, seed by seed
    test_images: int
    classes: int

    def each(self, *path: str) -> tuple[float, ...]:
        """Return one number of every seed, found along a path of names."""
        return tuple(_follow(found, path) for found in self.of_seed)

    def accuracy(self, kind: str) -> tuple[float, ...]:
        """Return the test accuracy of a kind of network."""
        return self.each("accuracy", kind)

    def between(self, what: str, higher: Sequence[float], lower: Sequence[float]) -> Difference:
        """Return a difference of accuracies measured on the same test images."""
        shares = [*higher, *lower]
        error = (2 * fmean(share * (1 - share) for share in shares) / self.test_images) ** 0.5
        return Difference(what, minus(higher, lower), error)


def minus(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    """Return the differences of two quantities, seed by seed."""
    return tuple(a - b for a, b in zip(one, other, strict=True))


def percent(values: Sequence[float], unit: str = "%") -> str:
    """Return the mean and spread of shares in percent, or of differences of shares in percentage points.

    >>> percent([0.5, 0.52, 0.54]), percent([0.1], "points")
    ('52.0 ± 2.0 %', '10.0 points')
    """
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{spread} {unit}"


def number(values: Sequence[float]) -> str:
    """Return the mean and spread of numbers.

    >>> number([0.25, 0.35, 0.3])
    '0.30 ± 0.05'
    """
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{round(fmean(values), 2) + 0.0:.2f}{spread}"  # no -0.00


def decided(
    claim: str,
    rule: str,
    conditions: Mapping[str, bool],
    sentences: Sequence[str],
    differences: Sequence[Difference] = (),
    table: Sequence[Sequence[str]] = (),
) -> Verdict:
    """Return a verdict: supported if every condition holds and every difference counts; it names those that do not."""
    failed = [words for words, holds in conditions.items() if not holds]
    for one in differences:
        if len(one.values) < FEWEST_SEEDS:
            failed.append(f"{one.what}: {len(one.values)} seeds, and the rule takes {FEWEST_SEEDS}")
        elif not one.counts:
            failed.append(f"{one.what}: {one.mean:.3f}, which does not exceed {one.needed:.3f}")
    return Verdict(
        claim, not failed, rule, tuple(sentences), tuple(failed), tuple(differences), tuple(map(tuple, table))
    )


def _follow(found: Any, path: tuple[str, ...]) -> float:
    """Return the number at the end of a path of names."""
    for name in path:
        found = found[name]
    return float(found)
