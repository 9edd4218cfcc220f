"""What processes send arrives whole, and all learn of it at once when one fails, is gone, or shows no sign of life."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from sweeps import _free_port

import spatialprobe as sp
from spatialprobe.statistics import wire as module
from spatialprobe.statistics.board import Board, StoreGoneError
from spatialprobe.statistics.door import Door, Knock
from spatialprobe.statistics.link import Link
from spatialprobe.statistics.wire import PeerGoneError, Wire, children, parent

ENDS_AT_ONCE = """
import os, sys
sys.setswitchinterval(100)  # Python gives its lock away only where it waits: others get it late
import torch, spatialprobe as sp
for rank in range(4):
    if not os.fork():
        break
else:
    sys.exit(any(os.wait()[1] for _ in range(4)))
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[1], "RANK": str(rank), "WORLD_SIZE": "4"}
torch.manual_seed(0)
sp.sweep(torch.nn.Conv2d(3, 4, 3), torch.rand(30, 3, 8, 8), {"moments": sp.Moments}, progress=False)
"""
SIZES = [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000]


@pytest.fixture
def pair():
    """Two links with each other."""
    one, other = (Link(end, rank) for rank, end in enumerate(socket.socketpair()))
    yield one, other
    one.close()
    other.close()


def exchange(one, other, done):
    """Let both links send and receive until something is true."""
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        one.flush()
        other.take()


@pytest.mark.parametrize("size", SIZES)
def test_messages(pair, size):
    """Messages of any length arrive as they were, one after the other, with signs of life between them."""
    one, other = pair
    data = os.urandom(size)
    for message in (b"first", data, b"last"):
        one.beat()
        one.put(message)
    exchange(one, other, lambda: len(other.messages) == 3)
    assert list(other.messages) == [b"first", data, b"last"]
    assert not one.unsent
    assert not other.ended


def test_a_failure_in_the_middle_of_a_message(pair):
    """A failure overtakes what is left of a long message, and what was whole before stays."""
    one, other = pair
    one.put(b"whole")
    one.put(bytes(50_000_000))
    one.flush()
    one.put_failure(b"it broke")
    exchange(one, other, lambda: other.failure)
    assert other.failure == b"it broke"
    assert list(other.messages) == [b"whole"]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"e\xff\xff\xff\xff", b"\0\0\0x1234"])
def test_garbage(pair, garbage):
    """Whatever is no frame ends the link, before memory is taken for it."""
    one, other = pair
    one.channel.send(garbage)
    other.take()
    assert other.ended
    assert not other.messages


def test_the_other_end_is_closed(pair):
    """What was sent before the end still arrives."""
    one, other = pair
    one.put(b"last words")
    one.flush()
    one.close()
    other.take()
    assert list(other.messages) == [b"last words"]
    assert other.ended
    other.put(b"too late")
    other.flush()
    assert not other.unsent


def linked(size, timeout=5.0):
    """The wires of so many ranks, in one process."""
    wires = [Wire(rank, size, timeout) for rank in range(size)]
    for rank in range(1, size):
        lower, upper = socket.socketpair()
        wires[rank].add(Link(lower, parent(rank)))
        wires[parent(rank)].add(Link(upper, rank))
    return wires


def in_threads(wires, work, left_out=()):
    """What a function of each wire returns or raises, and after how many seconds, all at the same time."""
    outcomes, began = {}, time.monotonic()

    def run(wire):
        try:
            outcome = work(wire)
        except sp.SpatialProbeError as error:
            outcome = error
            wire.fail(str(error))
        else:
            wire.disconnect()
        finally:
            wire.close()
        outcomes[wire.rank] = outcome, time.monotonic() - began

    threads = [threading.Thread(target=run, args=[wire]) for wire in wires if wire.rank not in left_out]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return outcomes


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_all_hear_all(size):
    """What is gathered comes to the first rank in the order of ranks, what is broadcast comes to all."""

    def work(wire):
        found = wire.gather(bytes([wire.rank]) * wire.rank)
        return wire.broadcast(b"|".join(found) if found is not None else b"")

    outcomes = in_threads(linked(size), work)
    assert {found for found, _ in outcomes.values()} == {b"|".join(bytes([rank]) * rank for rank in range(size))}
    assert len(outcomes) == size


@pytest.mark.parametrize("size", [2, 3, 8, 13])
def test_the_tree(size):
    """Each rank but the first has one parent, of a lower rank, and they agree who is whose child."""
    for rank in range(size):
        assert all(parent(child) == rank for child in children(rank, size))
    assert sorted(child for rank in range(size) for child in children(rank, size)) == list(range(1, size))


@pytest.mark.parametrize("guilty", [0, 1, 4, 7])
def test_a_failure_is_told_to_all(guilty):
    """Wherever in the tree a rank fails, all others raise its words, whatever they wait for."""

    def work(wire):
        if wire.rank == guilty:
            raise sp.StorageError("no room")
        while wire.rank % 2:
            wire.listen()
            time.sleep(0.01)
        wire.gather(b"")
        return wire.broadcast(b"")

    outcomes = in_threads(linked(8), work)
    assert len(outcomes) == 8
    for rank, (outcome, seconds) in outcomes.items():
        assert str(outcome) == (
            "no room" if rank == guilty else f"Rank {guilty} of 8 failed, and with it the sweep: no room"
        )
        assert seconds < 4


@pytest.mark.parametrize("size", [2, 5, 16])
@pytest.mark.parametrize("gone", [0, 1])
def test_a_rank_that_is_gone(size, gone):
    """Its connections close, as the system does it for a process that is killed: all others end, in a constant time."""
    wires = linked(size)

    def work(wire):
        if wire.rank == gone:
            time.sleep(0.2)
            for link in wire._links.values():
                link.channel.shutdown(socket.SHUT_RDWR)
            raise sp.SweepError("dead")
        return wire.receive(next(iter(wire._links)))

    outcomes = in_threads(wires, work)
    for rank in set(range(size)) - {gone}:
        outcome, seconds = outcomes[rank]
        assert isinstance(outcome, PeerGoneError)
        assert str(outcome) == f"A process of the sweep is gone: rank {gone} of {size}: its connection was closed."
        assert seconds < 4


def test_a_rank_without_a_sign_of_life():
    """A rank that is stopped is given up after the timeout; one that takes its time, and lives, is waited for."""

    def work(wire):
        if wire.rank == 3:
            time.sleep(2)
        if wire.rank == 5:
            wire._closing.set()  # no beats any more
            time.sleep(3)
            return None
        wire.gather(b"")
        return wire.broadcast(b"")

    assert all(outcome == b"" for outcome, _ in in_threads(linked(3, timeout=1.0), work).values())
    outcomes = in_threads(linked(7, timeout=1.0), work)
    for rank in (0, 1, 2, 3, 4, 6):
        assert str(outcomes[rank][0]).endswith("rank 5 of 7: there was no sign of life for 1 s.")
    assert outcomes[0][1] < 4


def test_a_process_that_was_stopped_itself(monkeypatch):
    """Time in which this process was stopped is not counted as the others' silence."""
    one, _ = wires = linked(2, timeout=30.0)
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 3600)
    one.listen()
    one.listen()
    monkeypatch.undo()
    for wire in wires:
        wire.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that nobody closed
def test_a_wire_that_is_left_behind():
    """A process that lives on, but lost its wire to an interrupt at the wrong moment, holds nobody up."""
    one, other = linked(2)
    del other
    gc.collect()
    with pytest.raises(PeerGoneError, match="rank 1 of 2: its connection was closed"):
        one.receive(1)
    one.close()


def test_an_interrupt_is_told(monkeypatch):
    """Whatever ends the block on one rank, a KeyboardInterrupt say, is told to the others."""
    from spatialprobe.statistics.distributed import Peers

    wires = linked(2)

    def work(wire):
        if wire.rank == 0:
            with pytest.raises(KeyboardInterrupt), Peers(wire).failing_together():
                raise KeyboardInterrupt
            raise sp.SweepError("interrupted")
        return wire.receive(0)

    assert str(in_threads(wires, work)[1][0]) == "Rank 0 of 2 failed, and with it the sweep: KeyboardInterrupt"


def test_doors():
    """Who knows the secret comes in, under its rank; strangers do not, whatever they send, and hold nobody up."""
    door = Door()
    try:
        port = door._listener.getsockname()[1]
        strangers = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        strangers[0].send(b"GET / HTTP/1.1\r\n\r\n")
        strangers[1].send(b"e\0\0\0\x14" + bytes(20))  # the secret is not zero
        strangers[2].send(b"e\0\0\0\x03abc")
        knock, link = Knock(door.address(), own=5, rank=2), None
        came = []
        end = time.monotonic() + 5
        while (link is None or not came) and time.monotonic() < end:
            link = link or knock.poll()
            came += door.accept()
        assert [one.rank for one in came] == [5]
        link.put(b"hello")
        exchange(link, came[0], lambda: came[0].messages)
        assert link.rank == 2
    finally:
        door.close()
        for one in (*strangers, link.channel, came[0].channel):
            one.close()


def test_an_address_at_which_nobody_listens():
    """It is found out at once, so that a newer one can be tried."""
    door = Door()
    address = door.address()
    door.close()
    knock, began = Knock(address, own=1, rank=0), time.monotonic()
    while not knock.failed:
        assert knock.poll() is None
    assert time.monotonic() - began < 10


class Store:
    """A store that answers late, or never well."""

    def __init__(self, *, seconds=0.0, broken=False):
        self.seconds, self.broken = seconds, broken

    def check(self, keys):
        time.sleep(self.seconds)
        if self.broken:
            raise RuntimeError("Connection reset by peer\nframe #0: a trace of C++")
        return False


def test_a_store_that_is_gone():
    """It is not waited for longer than it may take, and what it raises is told in a line."""
    assert Board(Store(), "sweep", 5).read("at/0") is None
    with pytest.raises(StoreGoneError, match=r"did not answer within 0\.1 s"):
        Board(Store(seconds=1), "sweep", 0.1).read("at/0")
    with pytest.raises(StoreGoneError, match=r"cannot be reached: RuntimeError: Connection reset by peer$"):
        Board(Store(broken=True), "sweep", 5).read("at/0")


@pytest.mark.long
def test_the_interpreter_ends_right_after_a_sweep(tmp_path):
    """No process is aborted because a thread still wants Python's lock, however late it gets it."""
    script = tmp_path / "script.py"
    script.write_text(ENDS_AT_ONCE)
    command = [sys.executable, str(script), str(_free_port())]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=100, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ran.returncode == 0, ran.stderr


def test_no_thread_is_left():
    """The thread of signs of life ends with its wire."""
    before = threading.active_count()
    for wire in linked(3):
        wire.close()
    assert threading.active_count() == before
