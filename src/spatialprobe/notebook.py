"""Detect a notebook, and show objects in it."""

from __future__ import annotations

import sys
from importlib import import_module


def is_notebook() -> bool:
    """Return whether code runs in the kernel of a notebook; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def display(shown: object) -> None:
    """Show an object below the cell that runs."""
    import_module("IPython.display").display(shown)
