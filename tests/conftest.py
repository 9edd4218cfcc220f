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
