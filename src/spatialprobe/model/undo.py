"""Changes that are taken back when a `with` block ends, whatever interrupts it.

Python raises an interrupt (Ctrl-C, the alarm of a time limit) between any two steps of a program: after a change and
before it is noted, before the first line of `__exit__`, in the middle of a `finally`. Therefore

- what takes a change back is noted before the change is made, and may run twice;
- it is run until it has come to its end;
- the `with` statement's hold on `__exit__` is watched: where the statement lets go of it with work left to do, the work
  is done at that moment, before the interrupt goes any further.
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
    """Steps that take changes back.

    Add each step before the change that it takes back is made. A step may run twice, and also where its change was
    never made: it must do no harm then.
    """

    __slots__ = ("__weakref__", "_steps", "_watch", "open")

    def __init__(self, steps: Iterable[tuple[Callable[..., object], tuple[Any, ...]]] = ()) -> None:
        self.open = True  # until the steps have run
        self._steps = list(steps)
        self._watch: object = None  # for the end of what must not outlive the changes

    def add(self, step: Callable[..., object], *arguments: Any) -> None:
        """Call `step(*arguments)` when the steps run, before those that were added earlier."""
        self._steps.append((step, arguments))

    def run(self) -> None:
        """Run every step, the last first, and forget it; then raise what was raised.

        A step that raises an error does not keep the others from running. One that an interrupt ends runs again.
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
        """Run at the latest when a `with` statement lets go of what it calls to leave its block."""
        self._watch = weakref.ref(leave, self._on_released)

    def run_after_block(self, block: Block) -> None:
        """Run at the latest when nobody holds the block any more, even if it is part of a reference cycle."""
        self._watch = finalizer = weakref.finalize(block, self.run)
        finalizer.atexit = False

    def _on_released(self, leave: object) -> None:
        self.run()


class Leaving:
    """Makes a method the `__exit__` of a `Block`, of which the `with` statement gets an object of its own."""

    def __init__(self, method: Callable[..., None]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, block: Any, kind: type | None = None) -> Exit:
        if block is None:
            return self._method
        # A partial holds the block for the statement, but no frame that an interrupt's traceback shows holds the
        # partial: so it goes when the statement has done with it, even if the traceback is kept.
        leave = partial(self._method, block)
        block._prepare(leave)
        return leave


class Block:
    """A base for what a `with` statement enters: `_begin` in `__enter__` gives the `Undo` to note changes in.

    `__exit__` is to be decorated with `Leaving`. A `with` statement fetches it before it calls `__enter__`, and holds
    it until the block has ended. Entered by hand, or through an `ExitStack`, the block ends when the object is gone.
    """

    _active: Undo | None = None
    _coming: tuple[int, Undo] | None = None  # of a thread that has fetched `__exit__`, and not called `__enter__` yet

    def _prepare(self, leave: object) -> None:
        undo = Undo()
        undo.run_after_statement(leave)
        self._coming = get_ident(), undo

    def _begin(self) -> Undo:
        """What the block that begins notes its changes in."""
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
    """Makes changes when it is entered, and takes them back when it is left."""

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
    """A block that takes back what its body notes."""
    return UndoneBlock(_itself)


def as_block(change: Callable[Concatenate[Undo, P], T]) -> Callable[P, UndoneBlock[T]]:
    """Make of a function that notes in its first argument what it changes a context manager that takes it back."""

    @wraps(change)
    def block(*args: P.args, **kwargs: P.kwargs) -> UndoneBlock[T]:
        return UndoneBlock(lambda undo: change(undo, *args, **kwargs))

    given = signature(change)
    block.__signature__ = given.replace(parameters=list(given.parameters.values())[1:])  # type: ignore[attr-defined]
    return block


def _close_interrupted() -> None:
    """End torch's context managers that the exception being handled has cut off in their first or last step.

    They hold guards that set back, when they are freed, what torch has switched for the time of a call. Their frames
    are freed with the traceback: too late, and after the steps of an `Undo`. So they are cleared here.
    """
    error = sys.exc_info()[1]
    frames = [] if error is None else [frame for frame, _ in traceback.walk_tb(error.__traceback__)][1:]
    for frame in reversed(frames):  # the first is still running
        if _is_of_manager(frame):
            _clear(frame)
        else:
            for held in frame.f_locals.values():  # a debugger holds the frame that it looks at
                if isinstance(held, FrameType) and _is_of_manager(held):
                    _clear(held)


def _is_of_manager(frame: FrameType) -> bool:
    """Whether a frame is that of a context manager of torch, be it a class or a generator."""
    code = frame.f_code
    if not code.co_filename.startswith(_TORCH):
        return code.co_filename == contextlib.__file__
    return code.co_name in ("__enter__", "__exit__") or bool(code.co_flags & CO_GENERATOR)


def _clear(frame: FrameType) -> None:
    with contextlib.suppress(RuntimeError):  # it runs: an `Undo` inside of such a manager
        frame.clear()


_TORCH = str(Path(torch.__file__).parent)


def _itself(undo: Undo) -> Undo:
    return undo
