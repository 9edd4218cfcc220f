"""The command line, as `python -m spatialprobe`."""

from __future__ import annotations

import sys

from spatialprobe.command.main import main

if __name__ == "__main__":
    sys.exit(main())
