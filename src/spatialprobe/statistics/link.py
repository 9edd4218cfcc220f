"""A connection to one other process: whole messages both ways, and signs of life between them."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from weakref import WeakSet

_HEAD = struct.Struct("!cI")  # what a frame is, and the bytes that follow
_BEAT = b"\0"  # a frame of one byte: there is somebody
_KINDS = _PART, _END, _FAILURE, _FAREWELL = b"p", b"e", b"f", b"w"
_CHUNK = 1 << 20  # bytes of a message in one frame, at most
_READ = 1 << 18  # bytes read at once
_AT_ONCE = 1 << 24  # bytes read before other links have their turn


class Link:
    """One end of a connection; nothing here waits.

    Long messages go in parts, so that a failure can be told in the middle of one.
    """

    def __init__(self, channel: socket.socket, rank: int) -> None:
        channel.setblocking(False)
        with suppress(OSError):
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channel = channel
        self.rank = rank  # of the process at the other end
        self.messages: deque[bytes] = deque()  # that came
        self.failure: bytes | None = None  # that was told here
        self.left = False  # whether the other process said that it needs no more
        self.ended = False  # whether nothing can come any more
        self.silence = 0.0  # seconds, since something came, in which this process was awake
        self._came = bytearray()
        self._parts: list[bytes] = []  # of a message that is not whole yet
        self._waiting: deque[tuple[bytes, memoryview]] = deque()
        self._front = memoryview(b"")  # the rest of what is being sent
        self._lock = threading.Lock()  # beats come from a thread of their own
        _open.add(self)

    @property
    def unsent(self) -> bool:
        """Whether something has not gone out yet, and still can."""
        return bool(self._front or self._waiting) and not self.ended

    def put(self, message: bytes) -> None:
        """Add a message to what is to go out."""
        whole = memoryview(message)
        last = max(0, len(whole) - 1) // _CHUNK * _CHUNK
        with self._lock:
            self._waiting += [(_PART, whole[start : start + _CHUNK]) for start in range(0, last, _CHUNK)]
            self._waiting.append((_END, whole[last:]))

    def put_failure(self, told: bytes) -> None:
        """Put a failure in the place of all that is to go out."""
        with self._lock:
            self._waiting = deque([(_FAILURE, memoryview(told)[:_CHUNK])])

    def put_farewell(self) -> None:
        """Add to what is to go out that this process needs no more."""
        with self._lock:
            self._waiting.append((_FAREWELL, memoryview(b"")))

    def flush(self) -> None:
        """Send what can be sent without waiting."""
        with self._lock:
            try:
                while self._front or self._waiting:
                    if not self._front:
                        kind, data = self._waiting.popleft()
                        self._front = memoryview(_HEAD.pack(kind, len(data)) + bytes(data))
                    self._front = self._front[self.channel.send(self._front) :]
            except BlockingIOError:
                return
            except OSError:  # nothing goes out any more; what the other end has sent before can still be read
                self._waiting.clear()
                self._front = memoryview(b"")

    def beat(self) -> None:
        """Send a sign of life, unless something else is on its way."""
        if self.ended or not self._lock.acquire(blocking=False):
            return
        try:
            if not self._front:
                self.channel.send(_BEAT)
        except OSError:  # the other end has enough to read, or reading from it will tell
            return
        finally:
            self._lock.release()

    def take(self) -> None:
        """Read what has come, without waiting."""
        taken = 0
        try:
            while taken < _AT_ONCE and not self.ended:
                data = self.channel.recv(_READ)
                taken += len(data)
                self._came += data
                self.ended = not self._understood() or not data
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        if taken:
            self.silence = 0.0

    def close(self) -> None:
        """Close the connection; what the system has taken to send still goes out."""
        self.ended = True
        with suppress(OSError):
            self.channel.close()

    def _understood(self) -> bool:
        """Take what came apart; return False where it makes no sense."""
        while self._came:
            if self._came[:1] == _BEAT:
                del self._came[:1]
                continue
            if len(self._came) < _HEAD.size:
                return True
            kind, length = _HEAD.unpack_from(self._came)
            if kind not in _KINDS or length > _CHUNK:
                return False
            end = _HEAD.size + length
            if len(self._came) < end:
                return True
            data = bytes(self._came[_HEAD.size : end])
            del self._came[:end]
            self._hear(kind, data)
        return True

    def _hear(self, kind: bytes, data: bytes) -> None:
        if kind == _FAILURE:
            self.failure = self.failure or data
        elif kind == _FAREWELL:
            self.left = True
        else:
            self._parts.append(data)
            if kind == _END:
                self.messages.append(b"".join(self._parts))
                self._parts = []


_open: WeakSet[Link] = WeakSet()


def _close_in_child() -> None:
    """Close a forked process's copies of all connections, which would outlive this process if it is killed."""
    for link in list(_open):
        with suppress(OSError):
            link.channel.close()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_close_in_child)
