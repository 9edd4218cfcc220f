"""The first layer whose values differ between two passes on the same samples, in evaluation mode."""

from __future__ import annotations

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, Outcome, Rule
from spatialprobe.diagnosis.layer_pictures import draw_change
from spatialprobe.text import format_count


def find_nondeterminism(evidence: Evidence) -> Outcome:
    """Return the first layer whose values differ between two passes."""
    count = format_count(evidence.subject.samples.count, "sample")
    found = evidence.repeated
    if found is None:
        return f"Two passes on the same {count} agree in all {len(evidence.ran)} layers."
    before = (
        "what it takes differs already, so that the cause lies before it, in a function of the module that calls it"
        if found.input_differs
        else "what it takes is the same"
    )
    return [
        Finding(
            RULE.name,
            "error",
            found.layer,
            measured=found.change,
            limit=evidence.tolerance,
            evidence=f"Two passes on the same {count} in evaluation mode differ here first, by "
            f"{found.change:.2g} of the values' norm; {before}.",
            advice="Look for dropout or noise that does not ask for self.training, such as F.dropout(x) without "
            "training=self.training, or for a state that each pass changes.",
            source=RULE.reason,
            picture=draw_change(
                evidence.subject, found, [evidence.subject.samples] * 2, f"Difference of two passes, {found.layer!r}"
            ),
        )
    ]


RULE = Rule(
    "nondeterministic",
    find_nondeterminism,
    "error",
    "the first layer whose two passes differ",
    "Rounding that depends on the order of sums changes values of float32 by less than 1e-4 of their norm, dropout of "
    "1 % of the values of one layer by some 0.04, as measured in the benchmark: the limit of 0.01 lies between.",
    "the difference of two passes, the channels that differ most first",
)
