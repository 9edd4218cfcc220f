"""The result of a checkup: what was found, what was in order, and what could not be examined."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spatialprobe.arguments import short_repr
from spatialprobe.diagnosis.finding import SEVERITIES, Finding
from spatialprobe.diagnosis.written import as_html_page, as_json, as_markdown
from spatialprobe.errors import ArgumentError
from spatialprobe.html_fields import wrap_cell
from spatialprobe.html_table import Cell, format_html_table
from spatialprobe.model.names import is_name
from spatialprobe.storage.files import target_of, write_bytes
from spatialprobe.text import describe_left_out, format_count, format_table

_MOST = 6  # findings of one rule that a table shows
_HEADINGS = ("severity", "rule", "layer", "measured", "limit")
_SUFFIXES = (".html", ".md", ".json")


@dataclass(frozen=True, eq=False, repr=False)
class Checkup:
    """What is wrong with a model, what is in order, and what could not be examined.

    Each rule is in exactly one of `findings`, `passed` and `skipped`. The repr is a table.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.Sigmoid(), torch.nn.Dropout())
    >>> found = sp.checkup(model, torch.rand(200, 3, 16, 16), rules=["training_mode", "dead_channels"])
    >>> found
    Checkup of Sequential: 200 samples, 1 error; 1 rule passed
      severity  rule           layer    measured  limit
      error     training_mode  (model)         1      0
    >>> print(found.findings[0].evidence[:81])
    The model is in training mode, in which 1 of 4 modules computes something else: '
    >>> dict(found.passed)
    {'dead_channels': 'Each of 6 channels of 1 layer is above zero somewhere in 200 samples.'}
    """

    findings: tuple[Finding, ...]  # the worst first, then in the order of rules, then of execution
    passed: Mapping[str, str]  # rule -> what it measured and found in order, a sentence
    skipped: Mapping[str, str]  # rule -> why it does not apply, or what it raised
    model: str  # the class of the model
    samples: int  # the samples that were measured
    left_out: Mapping[str, str] = field(default_factory=dict)  # chosen layers that were not measured, and why

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def of(self, rule: str) -> tuple[Finding, ...]:
        """Return the findings of one rule; none if it passed or was skipped.

        Raises:
            ArgumentError: the checkup had no such rule.
        """
        found = tuple(one for one in self.findings if one.rule == rule)
        known = dict.fromkeys([*(one.rule for one in self.findings), *self.passed, *self.skipped])
        if not is_name(rule) or rule not in known:
            raise ArgumentError(f"The checkup had no rule {short_repr(rule)}, but {', '.join(known)}.")
        return found

    def to_markdown(self) -> str:
        """Return all findings with their evidence and advice, what passed and what was skipped, as Markdown."""
        return as_markdown(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the checkup, whole or not at all, and return the path; the suffix of the name says how.

        A `.html` is a page that needs no network, with the pictures of the findings in it; a `.md` is what
        `to_markdown` returns; a `.json` holds the fields as plain data.

        Raises:
            ArgumentError: the name has another suffix, or no file can be written there.
            StorageError: writing failed, since the disk is full, say.
        """
        target = target_of(path)
        suffix = target.suffix.lower()
        if suffix not in _SUFFIXES:
            raise ArgumentError(f"A checkup is saved as {', '.join(_SUFFIXES)}, not as {short_repr(target.name)}.")
        if suffix == ".html":
            text = as_html_page(self)
        elif suffix == ".md":
            text = as_markdown(self)
        else:
            text = json.dumps(as_json(self), indent=1)
        write_bytes(target, text.encode())
        return target

    def __repr__(self) -> str:
        rows = [_row(one) for one in _shown(self.findings)]
        lines = [format_table(self.title, [_HEADINGS, *rows], (3, 4)) if rows else self.title]
        return "\n".join([*lines, *self.remarks()])

    def _repr_html_(self) -> str:
        """The findings with their evidence and advice for a notebook."""
        rows: list[tuple[Cell, ...]] = [
            (one.severity, one.rule, one.where, wrap_cell(one.evidence), wrap_cell(one.advice))
            for one in _shown(self.findings)
        ]
        headings = ("severity", "rule", "layer", "evidence", "advice")
        return format_html_table(self.title, headings if rows else (), rows, remarks=self.remarks())

    @property
    def title(self) -> str:
        """The numbers of samples, findings and rules that passed, as one line."""
        counts = Counter(one.severity for one in self.findings)
        found = [format_count(counts[severity], severity) for severity in SEVERITIES if counts[severity]]
        rules = f"{format_count(len(self.passed), 'rule')} passed"
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        samples = format_count(self.samples, "sample")
        return f"Checkup of {self.model}: {samples}, {', '.join(found) or 'no findings'}; {rules}{skipped}"

    def remarks(self) -> list[str]:
        """Return the lines of text below a table."""
        remarks = [f"{more} more of {rule}; .findings has all." for rule, more in _hidden(self.findings).items()]
        if self.skipped:
            remarks.append(f"Skipped: {', '.join(self.skipped)}; .skipped says why.")
        return [*remarks, *filter(None, [describe_left_out(self.left_out)])]


def rank(findings: Sequence[Finding], order: Mapping[str, int]) -> tuple[Finding, ...]:
    """Return findings by severity, then by rule as they come, then in the order in which layers ran."""
    rules = {rule: place for place, rule in enumerate(dict.fromkeys(one.rule for one in findings))}

    def key(one: Finding) -> tuple[int, int, int]:
        return SEVERITIES.index(one.severity), rules[one.rule], order.get(one.layer or "", -1)

    return tuple(sorted(findings, key=key))


def _shown(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that a table shows: the first few of each rule."""
    seen: Counter[str] = Counter()
    shown = []
    for one in findings:
        seen[one.rule] += 1
        if seen[one.rule] <= _MOST:
            shown.append(one)
    return shown


def _hidden(findings: Sequence[Finding]) -> dict[str, int]:
    """Return how many findings of each rule a table does not show."""
    counts = Counter(one.rule for one in findings)
    return {rule: count - _MOST for rule, count in counts.items() if count > _MOST}


def _row(one: Finding) -> tuple[str, ...]:
    numbers = ("" if value is None else f"{value:.4g}" for value in (one.measured, one.limit))
    return (one.severity, one.rule, one.where, *numbers)
