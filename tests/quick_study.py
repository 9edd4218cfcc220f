"""The study's measurements of a seed on few images, in the process that runs a test and in those that it starts."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

from experiments import jobs, measures

import spatialprobe as sp

FEW = {"FEW": 4, "MANY": 24, "MASKED": 160}


@contextmanager
def short_searches():
    """Synthesize in few steps, and show few gratings."""
    few = partial(sp.evidence.orientation_tuning, angles=12, phases=4)
    with (
        patch.object(sp, "maximize_activation", partial(sp.maximize_activation, steps=8)),
        patch.object(sp.evidence, "orientation_tuning", few),
    ):
        yield


class OfSeed(jobs.OfSeed):
    """The same job, with fewer images and shorter searches."""

    def run(self, *arguments):
        """Return the measured numbers."""
        with patch.multiple(measures, **FEW), short_searches():
            return super().run(*arguments)
