"""A connection to one other process, for messages in both directions and signs of life between them."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from weakref import WeakSet

_HEAD = struct.Struct("!cI")  # the kind of a frame, and the number of bytes that follow
_BEAT = b"\0"  # a frame of one byte: a sign of life
_KINDS = _PART, _END, _FAILURE, _FAREWELL = b"p", b"e", b"f", b"w"
_CHUNK = 1 << 20  # bytes of a message in one frame, at most
_READ = 1 << 18  # bytes read at once
_AT_ONCE = 1 << 24  # bytes read before other links have their turn


class Link:
    """One end of a connection; no method blocks.

    Long messages are sent in parts, so that a failure can be reported in the middle of one.
    """

    def __init__(self, channel: socket.socket, rank: int) -> None:
        channel.setblocking(False)
        with suppress(OSError):
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channel = channel
        self.rank = rank  # of the process at the other end
        self.messages: deque[bytes] = deque()  # received messages
        self.failure: bytes | None = None  # the failure that the other process reported
        self.left = False  # whether the other process has said that it needs nothing more
        self.ended = False  # whether nothing can be received any more
        self.silence = 0.0  # seconds since something was received, without those in which this process was stopped
        self._received = bytearray()
        self._parts: list[bytes] = []  # of an incomplete message
        self._waiting: deque[tuple[bytes, memoryview]] = deque()
        self._front = memoryview(b"")  # the rest of what is being sent
        self._lock = threading.Lock()  # beats come from a thread of their own
        _open.add(self)

    @property
    def unsent(self) -> bool:
        """True if something is queued and can still be sent."""
        return bool(self._front or self._waiting) and not self.ended

    def put(self, message: bytes) -> None:
        """Queue a message."""
        whole = memoryview(message)
        last = max(0, len(whole) - 1) // _CHUNK * _CHUNK
        with self._lock:
            self._waiting += [(_PART, whole[start : start + _CHUNK]) for start in range(0, last, _CHUNK)]
            self._waiting.append((_END, whole[last:]))

    def put_failure(self, failure: bytes) -> None:
        """Queue a failure in place of everything that is queued."""
        with self._lock:
            self._waiting = deque([(_FAILURE, memoryview(failure)[:_CHUNK])])

    def put_farewell(self) -> None:
        """Queue a message that this process needs nothing more."""
        with self._lock:
            self._waiting.append((_FAREWELL, memoryview(b"")))

    def flush(self) -> None:
        """Send what can be sent without blocking."""
        with self._lock:
            try:
                while self._front or self._waiting:
                    if not self._front:
                        kind, data = self._waiting.popleft()
                        self._front = memoryview(_HEAD.pack(kind, len(data)) + bytes(data))
                    self._front = self._front[self.channel.send(self._front) :]
            except BlockingIOError:
                return
            except OSError:  # nothing can be sent any more, but what the other end has sent can still be read
                self._waiting.clear()
                self._front = memoryview(b"")

    def beat(self) -> None:
        """Send a sign of life, unless something else is being sent."""
        if self.ended or not self._lock.acquire(blocking=False):
            return
        try:
            if not self._front:
                self.channel.send(_BEAT)
        except OSError:  # the send buffer is full, or the next read will report the error
            return
        finally:
            self._lock.release()

    def take(self) -> None:
        """Read what has arrived, without blocking."""
        taken = 0
        try:
            while taken < _AT_ONCE and not self.ended:
                data = self.channel.recv(_READ)
                taken += len(data)
                self._received += data
                self.ended = not self._parse_frames() or not data
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        if taken:
            self.silence = 0.0

    def close(self) -> None:
        """Close the connection; data in the system's send buffer is still sent."""
        self.ended = True
        with suppress(OSError):
            self.channel.close()

    def _parse_frames(self) -> bool:
        """Parse the received frames; return False if they are malformed."""
        while self._received:
            if self._received[:1] == _BEAT:
                del self._received[:1]
                continue
            if len(self._received) < _HEAD.size:
                return True
            kind, length = _HEAD.unpack_from(self._received)
            if kind not in _KINDS or length > _CHUNK:
                return False
            end = _HEAD.size + length
            if len(self._received) < end:
                return True
            data = bytes(self._received[_HEAD.size : end])
            del self._received[:end]
            self._process(kind, data)
        return True

    def _process(self, kind: bytes, data: bytes) -> None:
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
    """Close a forked process's copies of all connections, which would keep them open if this process were killed."""
    for link in list(_open):
        with suppress(OSError):
            link.channel.close()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_close_in_child)
