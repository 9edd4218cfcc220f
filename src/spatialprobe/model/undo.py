"""Undo changes when a `with` block ends, also if the block is interrupted at any point.

Python raises an interrupt (Ctrl-C, the alarm of a time limit) between any two instructions of a program: between a
change and its registration, before the first line of `__exit__`, in the middle of a `finally`. Therefore

- the step that undoes a change is registered before the change is made, and may run twice;
- it is run again until it has completed;
- the `with` statement's reference to `__exit__` is watched: if the statement releases it while steps are left, they
  run at that moment, before the interrupt propagates any further.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
import weakref
from collections.abc import Callable, Iterable
from functools import partial, wraps
from inspect import CO_GENERATOR, signature
from pathlib import Path
from threading import get_ident
from types import FrameType, TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import torch

T = TypeVar("T")
P = ParamSpec("P")
Exit = Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], None]


class Undo:
    """The steps that undo changes.

    Add each step before its change is made. A step may run twice, and also if its change was never made: it must have
    no effect then.
    """

    __slots__ = ("__weakref__", "_steps", "_watch", "open")

    def __init__(self, steps: Iterable[tuple[Callable[..., object], tuple[Any, ...]]] = ()) -> None:
        self.open = True  # until the steps have run
        self._steps = list(steps)
        self._watch: object = None  # a weak reference that runs the steps when its object is freed

    def add(self, step: Callable[..., object], *arguments: Any) -> None:
        """Call `step(*arguments)` when the steps run, before those that were added earlier."""
        self._steps.append((step, arguments))

    def run(self) -> None:
        """Run and remove every step, the last first; then raise the first error or the last interrupt.

        A step that raises an error does not keep the others from running. One that is interrupted runs again.
        """
        _close_interrupted()
        raised: BaseException | None = None
        steps = self._steps
        while steps:
            try:
                step, arguments = steps[-1]
                step(*arguments)
                del steps[-1]
            except Exception as error:
                raised = raised or error
                del steps[-1]
            except BaseException as interrupt:
                raised = interrupt
                _close_interrupted()
        self.open = False
        self._watch = None
        if raised is not None:
            try:
                raise raised
            finally:
                del raised  # its traceback holds this frame

    def run_after_statement(self, leave: object) -> None:
        """Run at the latest when a `with` statement releases the function that it calls to leave its block."""
        self._watch = weakref.ref(leave, self._on_released)

    def run_after_block(self, block: Block) -> None:
        """Run at the latest when the block is freed, even if it is part of a reference cycle."""
        self._watch = finalizer = weakref.finalize(block, self.run)
        finalizer.atexit = False

    def _on_released(self, leave: object) -> None:
        self.run()


class Leaving:
    """A decorator for the `__exit__` of a `Block`, which returns a new object for each `with` statement."""

    def __init__(self, method: Callable[..., None]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, block: Any, kind: type | None = None) -> Exit:
        if block is None:
            return self._method
        # The partial holds the block for the statement, but no frame in an interrupt's traceback holds the partial:
        # so it is freed when the statement has ended, even if the traceback is kept.
        leave = partial(self._method, block)
        block._prepare(leave)
        return leave


class Block:
    """A base class of context managers: `__enter__` calls `_begin` for the `Undo` to which it adds its steps.

    `__exit__` must be decorated with `Leaving`. A `with` statement fetches it before it calls `__enter__`, and holds
    it until the block has ended. If `__enter__` is called directly, or by an `ExitStack`, the block ends at the latest
    when the object is freed.
    """

    _active: Undo | None = None
    _coming: tuple[int, Undo] | None = None  # of a thread that has fetched `__exit__`, but not called `__enter__` yet

    def _prepare(self, leave: object) -> None:
        undo = Undo()
        undo.run_after_statement(leave)
        self._coming = get_ident(), undo

    def _begin(self) -> Undo:
        """Return the `Undo` of the block that begins."""
        thread, undo = self._coming or (None, None)
        self._coming = None
        if undo is None or not undo.open or thread != get_ident():
            undo = Undo()
            undo.run_after_block(self)
        self._active = undo
        return undo

    @property
    def _is_active(self) -> bool:
        return self._active is not None and self._active.open


class UndoneBlock(Block, Generic[T]):
    """A block that makes changes when it is entered, and undoes them when it is left."""

    def __init__(self, change: Callable[[Undo], T]) -> None:
        self._change = change

    def __enter__(self) -> T:
        undo = self._begin()
        try:
            return self._change(undo)
        except BaseException:
            undo.run()
            raise

    @Leaving
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._active is not None:
            self._active.run()


def undo_block() -> UndoneBlock[Undo]:
    """Return a block that runs the steps that its body adds to the returned `Undo`."""
    return UndoneBlock(_itself)


def as_block(change: Callable[Concatenate[Undo, P], T]) -> Callable[P, UndoneBlock[T]]:
    """Turn a function that adds undo steps to its first argument into one that returns a context manager."""

    @wraps(change)
    def block(*args: P.args, **kwargs: P.kwargs) -> UndoneBlock[T]:
        return UndoneBlock(lambda undo: change(undo, *args, **kwargs))

    given = signature(change)
    block.__signature__ = given.replace(parameters=list(given.parameters.values())[1:])  # type: ignore[attr-defined]
    return block


def _close_interrupted() -> None:
    """Close torch's context managers that the exception being handled has interrupted while entering or leaving.

    They hold guards that restore torch's settings when they are freed. Their frames are freed with the traceback: too
    late, after the steps of an `Undo`. So they are cleared here.
    """
    error = sys.exc_info()[1]
    frames = [] if error is None else [frame for frame, _ in traceback.walk_tb(error.__traceback__)][1:]
    for frame in reversed(frames):  # the first is still running
        if _is_of_manager(frame):
            _clear(frame)
        else:
            for held in frame.f_locals.values():  # a debugger holds the frame that it inspects
                if isinstance(held, FrameType) and _is_of_manager(held):
                    _clear(held)


def _is_of_manager(frame: FrameType) -> bool:
    """Return whether a frame belongs to a context manager of torch, a class or a generator."""
    code = frame.f_code
    if not code.co_filename.startswith(_TORCH):
        return code.co_filename == contextlib.__file__
    return code.co_name in ("__enter__", "__exit__") or bool(code.co_flags & CO_GENERATOR)


def _clear(frame: FrameType) -> None:
    with contextlib.suppress(RuntimeError):  # the frame is running: an `Undo` inside of such a manager
        frame.clear()


_TORCH = str(Path(torch.__file__).parent)


def _itself(undo: Undo) -> Undo:
    return undo
