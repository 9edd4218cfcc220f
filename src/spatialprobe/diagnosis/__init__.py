"""Checkup: what is wrong with a model's spatial machinery, measured; one rule a file."""

from __future__ import annotations

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Rule
from spatialprobe.diagnosis.measured import Difference, Measured, Nonfinite
from spatialprobe.diagnosis.outflow import Outflow
from spatialprobe.diagnosis.result import Checkup
from spatialprobe.diagnosis.rules import TABLE

__all__ = [
    "TABLE",
    "Checkup",
    "Difference",
    "Evidence",
    "Finding",
    "Measured",
    "Nonfinite",
    "NotApplicable",
    "Outflow",
    "Rule",
]
