"""An interrupt leaves nothing behind: wherever it comes, model and process are bit by bit as they were."""

from __future__ import annotations

import pytest
from interrupt_everywhere import CONTEXTS, SLOW, Case, interrupt_at_points, interrupt_by_signals
from interrupts import points_of

# An interrupt that arrives in a `__del__` or in a generator that is being freed is dropped by Python.
pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# How many points of a context are taken, evenly among all; the script takes every one.
MOST = {"probe": 250, "post_activation": 250, "gradients": 150, "nested": 150, "capture": 250, "sweep": 150}
OTHERS = 40


@pytest.mark.parametrize("name", [name for name in CONTEXTS if name not in SLOW])
def test_interrupts_leave_nothing_behind(name):
    """After an interrupt at a call, line or return, everything is as it was, and the model runs as before."""
    case = Case.small()
    CONTEXTS[name](case)
    points = points_of(lambda: CONTEXTS[name](case))
    step = -(-len(points) // MOST.get(name, OTHERS))
    assert interrupt_at_points(case, name, points[::step]) == {}
    assert len(points) > 400


def test_interrupts_of_a_model_that_reads_values():
    """The same where a receptive field has to be followed on the real device."""
    case = Case.small(reads=True)
    CONTEXTS["fields"](case)
    assert interrupt_at_points(case, "fields", points_of(lambda: CONTEXTS["fields"](case))[::50]) == {}


@pytest.mark.parametrize("name", [name for name in CONTEXTS if name not in SLOW])
def test_signals_leave_nothing_behind(name):
    """The same after an alarm's signal at some moment of a run."""
    assert interrupt_by_signals(Case.small(), name, 8) == {}
