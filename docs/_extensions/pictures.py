"""What an example of the gallery shows: every picture or animation that it has bound to a name, in order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

_shown: set[int] = set()


def scraper(block: Any, variables: dict[str, Any], configuration: dict[str, Any]) -> str:
    """Save the new pictures of a block of code, and return the text that shows them."""
    paths = []
    if variables["example_globals"].get("__shown__") is None:  # a new example
        variables["example_globals"]["__shown__"] = True
        _shown.clear()
    for name, value in list(variables["example_globals"].items()):
        if name.startswith("_") or id(value) in _shown or not _is_picture(value):
            continue
        _shown.add(id(value))
        path = next(variables["image_path_iterator"])
        if isinstance(value, Path):
            paths.append(str(Path(path).with_suffix(value.suffix)))
            shutil.copyfile(value, paths[-1])
            continue
        figure = value if isinstance(value, Figure) else value.figure()
        figure.savefig(path)
        paths.append(path)
    return figure_rst(paths, configuration["src_dir"])


def _is_picture(value: Any) -> bool:
    """A figure, one of the library's objects that makes one, or the path of an animation."""
    if isinstance(value, Path):
        return value.suffix == ".gif"
    ours = type(value).__module__.startswith("spatialprobe.render")
    return isinstance(value, Figure) or (ours and hasattr(value, "figure"))
