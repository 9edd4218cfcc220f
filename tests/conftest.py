"""What must hold after every test: nothing of this library is left on in the thread."""

from __future__ import annotations

import pytest
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


@pytest.fixture(autouse=True)
def no_mode_is_left_on():
    """Modes of torch that a test, or what it calls, puts on are off again."""
    yield
    left = [*_get_current_function_mode_stack(), *_get_current_dispatch_mode_stack()]
    assert not left, f"left on: {left}"


def pytest_collection_modifyitems(items):
    """Names of tests are the same in every process, so that they can run in parallel."""
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"Pass ids= to parametrize; these names hold an address: {unstable[:3]}")
