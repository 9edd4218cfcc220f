"""What holds for every test: no mode of torch is left active, and names are the same in every process."""

from __future__ import annotations

import gc
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one process for each core: threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis  # noqa: F401  (here, since what it looks for among all objects must not be frozen yet)
import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)  # pytest --hypothesis-profile=thorough
settings.load_profile("fast")


@pytest.fixture(autouse=True)
def no_mode_is_left_on():
    """Check that modes of torch that a test activates are inactive again."""
    # Not imported above, since the process that gives tests to others would only wait for torch.
    from torch.overrides import _get_current_function_mode_stack
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    yield
    left = [*_get_current_function_mode_stack(), *_get_current_dispatch_mode_stack()]
    assert not left, f"left on: {left}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process a part of the tests as a whole, so that what a module prepares is prepared once.

    This takes the place of `--dist load`, which `-n` implies; whoever asks for another distribution gets it.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


def pytest_collection_modifyitems(items):
    """Check that the names of tests are equal in every process, so that they can run in parallel."""
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"Pass ids= to parametrize; these names hold an address: {unstable[:3]}")


def pytest_collection_finish():
    """Take torch and the collected tests out of garbage collection, which would go through all of them each time."""
    collect_and_freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """After the last test of a module, the same with what has come to stay: reports, and modules imported by tests."""
    if nextitem is None or nextitem.path != item.path:
        collect_and_freeze()


def collect_and_freeze():
    """Collect garbage, and take what is left out of later collections."""
    gc.collect()
    gc.freeze()
