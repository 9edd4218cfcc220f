"""Blocks that take back what they change: in order, whatever fails, and whatever interrupts them where."""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
from functools import partial

import pytest
from interrupts import interrupted, points_of

from spatialprobe.model.undo import Block, Leaving, Undo, as_block, undo_block


def test_steps_run_backwards_and_once():
    """The last step runs first, with its arguments; when they have run there is nothing left to do."""
    ran = []
    undo = Undo([(ran.append, ("first",))])
    undo.add(ran.append, "second")
    assert undo.open
    undo.run()
    undo.run()
    assert ran == ["second", "first"]
    assert not undo.open


def test_a_failing_step_keeps_no_other_from_running():
    """All steps run, and what the first failing one raised comes out."""
    ran = []
    undo = Undo([(ran.append, (1,)), (int, ("one",)), (ran.append, (2,)), (int, ("two",))])
    with pytest.raises(ValueError, match="two"):
        undo.run()
    assert ran == [2, 1]


def test_an_interrupted_step_runs_again():
    """A step that an interrupt ends has not run to its end: it runs once more, and the interrupt comes out."""
    calls = []

    def step():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt

    undo = Undo([(step, ())])
    with pytest.raises(KeyboardInterrupt):
        undo.run()
    assert len(calls) == 2


def test_a_failed_beginning_is_undone():
    """What was changed before `__enter__` raised is taken back, and the error is the caller's."""
    held = []

    @as_block
    def holding(undo, value):
        """Hold a value."""
        undo.add(held.clear)
        held.append(value)
        if value == 2:
            raise ValueError("no")
        return value

    with holding(1) as value:
        assert held == [value] == [1]
    assert held == []
    with pytest.raises(ValueError, match="no"), holding(2):
        pass
    assert held == []
    assert list(inspect.signature(holding).parameters) == ["value"]
    assert holding.__doc__ == "Hold a value."


class Held(Block):
    """Puts itself into a set while it is active."""

    def __init__(self, active):
        self.active = active

    def __enter__(self):
        assert not self._is_active
        undo = self._begin()
        undo.add(self.active.discard, id(self))
        self.active.add(id(self))
        return self

    @Leaving
    def __exit__(self, kind, error, traceback):
        self._active.run()


def with_statement(held):
    with held:
        assert held.active


def nested(held):
    with contextlib.suppress(ValueError), held, Held(held.active), undo_block() as undo:
        undo.add(held.active.discard, 3)
        held.active.add(3)
        raise ValueError


def as_decorator(held):
    @as_block
    def holding(undo):
        undo.add(held.active.discard, 3)
        held.active.add(3)

    with holding():
        assert held.active


@pytest.mark.parametrize("opcodes", [False, True], ids=["lines", "opcodes"])
@pytest.mark.parametrize("run", [with_statement, nested, as_decorator])
def test_no_interrupt_leaves_a_block_active(run, opcodes):
    """Wherever an interrupt comes between two steps, even of the interpreter, and though its traceback is kept."""
    held = Held(set())
    points = points_of(partial(run, held), visits=None, opcodes=opcodes)
    left = []
    for point in points:
        interrupt = interrupted(partial(run, held), point)
        assert interrupt is not None, str(point)
        left += [str(point)] if held.active or held._is_active else []
        held.active.clear()
    assert left == []
    assert len(points) > 30


def test_a_plain_context_manager_would_stay_active():
    """The test above can fail: at the first step of a plain `__exit__` an interrupt leaves the block active."""

    class Plain(Held):
        def __exit__(self, kind, error, traceback):
            self._active.run()

    held = Plain(set())
    left = 0
    for point in points_of(partial(with_statement, held), visits=None):
        interrupt = interrupted(partial(with_statement, held), point)
        left += bool(held.active) and interrupt is not None
        held.active.clear()
        held._active = None
    assert left > 0


def test_leaving_by_hand_and_by_exit_stack():
    """`__exit__` can be called like any other; looking at it does nothing."""
    held = Held(set())
    held.__enter__()
    assert hasattr(held, "__exit__")
    assert isinstance(held, contextlib.AbstractContextManager)
    assert held.active
    held.__exit__(None, None, None)
    assert not held.active
    with contextlib.ExitStack() as stack:
        stack.enter_context(held)
        assert held.active
    assert not held.active
    with held, pytest.raises(AssertionError), held:  # a second entry fails, and leaves the first alone
        pass
    assert not held.active


def test_a_block_nobody_holds_ends():
    """One that was entered by hand and is dropped, even in a reference cycle, ends with its last reference."""
    active = set()
    held = Held(active)
    held.__enter__()
    held.cycle = held
    assert active
    del held
    gc.collect()
    assert not active


def test_blocks_can_be_copied():
    """Nothing of the watching is left in a block that has ended."""
    held = Held(set())
    with held:
        pass
    assert copy.deepcopy(held).active == set()
