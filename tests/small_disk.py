"""A small disk in memory, to test a full disk."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(options):
    """Yield a folder on a new disk in memory; skip the test if the user may not mount one."""
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
