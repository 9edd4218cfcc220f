"""The rules: one fault in each file, with how it is measured and why its limit is what it is."""

from __future__ import annotations

from spatialprobe.diagnosis.finding import Rule
from spatialprobe.diagnosis.rules.dead_channels import RULE as DEAD_CHANNELS
from spatialprobe.diagnosis.rules.nonfinite import RULE as NONFINITE
from spatialprobe.diagnosis.rules.training_mode import RULE as TRAINING_MODE

_RULES = (NONFINITE, TRAINING_MODE, DEAD_CHANNELS)

TABLE: dict[str, Rule] = {rule.name: rule for rule in _RULES}
