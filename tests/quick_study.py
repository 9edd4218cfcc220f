"""The study's measurements of a seed on few images, in the process that runs a test and in those that it starts."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

from experiments import jobs, measures

import spatialprobe as sp

FEW = {"FEW": 4, "MANY": 24, "MASKED": 160}


class OfSeed(jobs.OfSeed):
    """The same job, with fewer images and shorter searches."""

    def run(self, *arguments):
        """Return the measured numbers."""
        short = partial(sp.maximize_activation, steps=8)
        with patch.multiple(measures, **FEW), patch.object(sp, "maximize_activation", short):
            return super().run(*arguments)
