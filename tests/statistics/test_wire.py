"""What processes send arrives whole, and nothing of it is left in torch's hands."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch.distributed as dist

from spatialprobe.statistics import wire as module
from spatialprobe.statistics.wire import PeerGoneError, Wire, answered

ENDS_AT_ONCE = """
import sys
sys.setswitchinterval(100)  # Python gives its lock away only where it waits: others get it late
import torch, spatialprobe as sp
torch.manual_seed(0)
sp.sweep(torch.nn.Conv2d(3, 4, 3), torch.rand(30, 3, 8, 8), {"moments": sp.Moments}, progress=False)
"""


@pytest.fixture
def wire(tmp_path):
    """A line to nobody: a group of one process."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    group = dist.new_group(backend="gloo")
    made = Wire(group)
    yield made
    made.close()
    dist.destroy_process_group(group)
    dist.destroy_process_group()


@pytest.mark.parametrize("data", [b"x", bytes(range(256)) * 5000, b"\0\0"])
def test_bytes_arrive(wire, data):
    """All bytes, however many, zeros at the end too."""
    assert wire.broadcast(data) == data
    assert wire.gather(data) == [data]


def test_sums(wire):
    """A sum is begun at once and there when its work is done."""
    words, work = wire.begin_sum([3, 4])
    work.wait()
    assert words.tolist() == [3, 4]


def test_nothing_is_left_behind(wire):
    """After the end no thread of torch's holds a tensor that was lent to it."""
    for _ in range(20):
        wire.broadcast(b"word")
        words, work = wire.begin_sum([1])
        work.wait()
    del words, work
    wire.close()
    assert not any(lent() is not None for lent in wire._lent)


def test_patience_ends(wire, monkeypatch):
    """What somebody else keeps is waited for, but not for ever."""
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    kept = wire.begin_sum([1])
    began = time.monotonic()
    wire.close()
    assert time.monotonic() - began >= 0.05
    assert kept[0].tolist() == [1]


def test_a_process_that_is_gone():
    """Whatever torch raises where it waits in vain is told as that."""
    with pytest.raises(PeerGoneError, match="A process of the sweep is gone: connection closed"):
        with answered():
            raise RuntimeError("connection closed")


def test_the_interpreter_ends_right_after_a_sweep(tmp_path):
    """No process is aborted because a thread of torch's still wants Python's lock, however late it gets it."""
    script = tmp_path / "script.py"
    script.write_text(ENDS_AT_ONCE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", str(script)]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=100, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ran.returncode == 0, ran.stderr
