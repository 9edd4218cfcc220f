"""Connecting one process to another: a door that listens at an address, and a knock from a process that has read it.

Each side proves that it knows a secret from the address before the other reads anything else from it.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

from spatialprobe.statistics.link import Link

_SECRET = 16  # bytes
_HELLO = struct.Struct(f"!{_SECRET}sI")  # the secret of the address, and the visitor's rank
_THANKS = b"here"
_CONNECTING = 1.0  # seconds
_GREETING = 5.0  # seconds, for an answer to a knock
_ANYWHERE = "192.0.2.1"  # reserved for documentation: nothing is sent there, it only selects the outgoing interface


class Door:
    """A listening socket for processes that have read this process's address."""

    def __init__(self) -> None:
        self._listener = _create_listener()
        self._listener.setblocking(False)
        self._secret, self._answer = secrets.token_bytes(_SECRET), secrets.token_bytes(_SECRET)
        self._guests: list[Link] = []  # links that have not identified themselves
        self._greeted: list[Link] = []  # links that have not answered the greeting

    def address(self) -> str:
        """Return the address, which other processes need to connect, as JSON."""
        return json.dumps(
            {
                "port": self._listener.getsockname()[1],
                "hosts": _own_hosts(),
                "machine": _machine(),
                "secret": self._secret.hex(),
                "answer": self._answer.hex(),
            }
        )

    def accept(self) -> list[Link]:
        """Return the links that have been established since the last call."""
        with suppress(OSError):
            while True:
                self._guests.append(Link(self._listener.accept()[0], rank=-1))
        for guest in self._guests:
            guest.take()
            if guest.messages and self._greet(guest, guest.messages.popleft()):
                self._greeted.append(guest)
        for guest in self._greeted:
            guest.flush()
            guest.take()
        found = [guest for guest in self._greeted if guest.messages and guest.messages.popleft() == _THANKS]
        self._guests = _remaining(self._guests, self._greeted)
        self._greeted = _remaining(self._greeted, found)
        return found

    def close(self, failure: bytes | None = None) -> None:
        """Close the door permanently, and send a failure, if there is one, to processes that are connecting."""
        self._listener.close()
        for guest in self._greeted if failure is not None else ():
            guest.put_failure(failure or b"")
            guest.flush()
        for guest in (*self._guests, *self._greeted):
            guest.close()

    def _greet(self, guest: Link, hello: bytes) -> bool:
        """Answer a guest that knows the secret, and return true; close the link of any other."""
        if len(hello) == _HELLO.size:
            secret, rank = _HELLO.unpack(hello)
            if hmac.compare_digest(secret, self._secret):
                guest.rank = rank
                guest.put(self._answer)
                return True
        guest.close()
        return False


class Knock:
    """An attempt to connect to the process at an address, trying its hosts in order."""

    def __init__(self, address: str, own: int, rank: int) -> None:
        self.address = address
        found = json.loads(address)
        local = ["127.0.0.1"] if found["machine"] == _machine() else []
        self._hosts = iter([*local, *found["hosts"]])
        self._port = found["port"]
        self._hello = _HELLO.pack(bytes.fromhex(found["secret"]), own)
        self._answer = bytes.fromhex(found["answer"])
        self._rank = rank
        self._link: Link | None = None
        self._end = 0.0
        self.failed = False  # whether no host is left

    def poll(self) -> Link | None:
        """Return the link once the other process has answered, None before that."""
        link = self._link
        if link is None:
            self._try_next()
            return None
        link.flush()
        link.take()
        if link.messages and hmac.compare_digest(link.messages.popleft(), self._answer):
            self._link = None
            link.put(_THANKS)
            link.flush()
            return link
        if link.ended or time.monotonic() > self._end:
            self.close()
        return None

    def close(self) -> None:
        """Abandon the present attempt."""
        if self._link is not None:
            self._link.close()
        self._link = None

    def _try_next(self) -> None:
        host = next(self._hosts, None)
        self.failed = host is None
        if host is not None:
            with suppress(OSError):
                channel = socket.create_connection((host, self._port), timeout=_CONNECTING)
                self._link = Link(channel, self._rank)
                self._link.put(self._hello)
                self._end = time.monotonic() + _GREETING


def _remaining(guests: list[Link], moved: list[Link]) -> list[Link]:
    """Return the guests that have not moved on and are still connected; close the links of those that are not."""
    staying = [guest for guest in guests if guest not in moved]
    for guest in staying:
        if guest.ended:
            guest.close()
    return [guest for guest in staying if not guest.ended]


def _create_listener() -> socket.socket:
    """Return a socket that listens at all addresses of this machine, on a free port."""
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _own_hosts() -> list[str]:
    """Return the names and addresses at which other machines may reach this one, the likeliest first."""
    ways = [os.environ.get("MASTER_ADDR", ""), _ANYWHERE]
    found = [address for host in ways if host for address in _own_side_towards(host)]
    return list(dict.fromkeys([*found, socket.gethostname()]))


def _own_side_towards(host: str) -> list[str]:
    """Return the address from which this machine would send to a host, in a list; an empty list if there is none."""
    with suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM):
            with suppress(OSError), socket.socket(family, kind, protocol) as way:
                way.connect(address)
                return [str(way.getsockname()[0])]
    return []


def _machine() -> str:
    """Return an identifier of this machine, unique until it reboots."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()
