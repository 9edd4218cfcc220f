"""The first layer whose values of a sample depend on the other samples of the batch, in evaluation mode."""

from __future__ import annotations

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, Outcome, Rule
from spatialprobe.diagnosis.layer_pictures import draw_change


def find_batch_mixing(evidence: Evidence) -> Outcome:
    """Return the first layer in which a sample depends on its neighbors."""
    found, samples = evidence.mixed, evidence.subject.samples
    count = samples.count
    if found is None:
        return f"The first {count // 2} of {count} samples give the same alone, in all {len(evidence.ran)} layers."
    before = " What it takes differs already: the cause lies before it, in a function." if found.input_differs else ""
    return [
        Finding(
            RULE.name,
            "error",
            found.layer,
            measured=found.change,
            limit=evidence.tolerance,
            evidence=f"The first {count // 2} of {count} samples differ, when they run without the others, here first, "
            f"by {found.change:.2g} of the values' norm, in evaluation mode.{before}",
            advice="Look for statistics over the batch, such as a batch norm with track_running_stats=False, or for a "
            "reshape that exchanges the batch with another axis.",
            source=RULE.reason,
            picture=draw_change(
                evidence.subject,
                found,
                [samples, samples.first(count // 2)],
                f"Without the others, less with them, {found.layer!r}",
            ),
        )
    ]


RULE = Rule(
    "batch_mixing",
    find_batch_mixing,
    "error",
    "the first layer whose sample changes with its neighbors",
    "Other sizes of a batch change the rounding of float32 by less than 1e-4 of the values' norm, that of TF32, which "
    "keeps 10 bits, by some 1e-3, and statistics of 8 samples by some 0.09, as measured in the benchmark: the limit of "
    "0.01 lies between.",
    "the difference of alone and with neighbors, the channels that differ most first",
)
