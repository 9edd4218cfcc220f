"""Parameters that do not reach the output."""

from __future__ import annotations

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, Outcome, Rule
from spatialprobe.diagnosis.pictures import BarsPicture, bars
from spatialprobe.text import format_count


def find_never_run(evidence: Evidence) -> Outcome:
    """Return a finding for each outermost module of which no parameter reaches the output, or for single parameters."""
    found = [_describe(evidence, name, count) for name, count in evidence.unreached.items()]
    total = sum(one.numel() for one in evidence.model.parameters())
    return found or f"All {total:,} parameters reach the output."


def _describe(evidence: Evidence, name: str, count: int) -> Finding:
    kind = type(evidence.modules[name]).__name__
    ran = "ran, but " if name in set(evidence.ran) else "did not run: "
    return Finding(
        RULE.name,
        "warning",
        name,
        measured=count,
        limit=0,
        evidence=f"This {kind} {ran}{count:,} of its parameters do not reach the output, neither in evaluation nor in "
        f"training mode: no gradient arrives, and other values change nothing on "
        f"{format_count(evidence.subject.samples.first(2).count, 'sample')}.",
        advice="Call it in forward, or remove it: such parameters are saved, moved and decayed, but never trained.",
        source=RULE.reason,
        picture=_draw(evidence),
    )


def _draw(evidence: Evidence) -> BarsPicture:
    """Return the numbers of parameters of the outermost modules, those apart that do not reach the output."""
    unreached, counts = evidence.unreached, {}
    for name, module in evidence.model.named_children():
        inside = sum(count for other, count in unreached.items() if other == name or other.startswith(f"{name}."))
        counts[name] = sum(one.numel() for one in module.parameters()) - inside
    counts = {name: count for name, count in counts.items() if count} | {
        name or "the model's own": count for name, count in unreached.items()
    }
    marked = range(len(counts) - len(unreached), len(counts))
    title = "Parameters of the model: those in crimson do not reach the output"
    return bars(list(counts), list(counts.values()), marked, (), title, "parameters", log=True)


RULE = Rule(
    "never_run",
    find_never_run,
    "warning",
    "parameters that do not reach the output",
    "A parameter without a gradient that changes nothing either is of no use, so the limit is none. Auxiliary heads "
    "that only run in training mode are not reported.",
    "the parameters of each part of the model, those that do not reach the output in crimson",
)
