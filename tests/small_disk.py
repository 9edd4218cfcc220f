"""A disk so small that it is soon full."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(options):
    """A folder on a disk in memory, where this user may mount one."""
    folder = Path(tempfile.mkdtemp())
    try:
        ran = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "spatialprobe", folder], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if ran.returncode:
        folder.rmdir()
        pytest.skip(f"cannot mount a small disk: {ran.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()
