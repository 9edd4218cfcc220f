"""What an example of the gallery shows: every picture or animation that it has bound to a name, in order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gallery_table import SECTIONS
from matplotlib.figure import Figure
from sphinx.errors import ExtensionError
from sphinx_gallery.scrapers import figure_rst

_shown: set[int] = set()


def scraper(block: Any, variables: dict[str, Any], configuration: dict[str, Any]) -> str:
    """Save the new pictures of a block of code, and return the text that shows them."""
    shown = []
    if variables["example_globals"].get("__shown__") is None:  # a new example
        variables["example_globals"]["__shown__"] = True
        _shown.clear()
    for name, value in list(variables["example_globals"].items()):
        if name.startswith("_") or id(value) in _shown or not _is_picture(value):
            continue
        _shown.add(id(value))
        path = Path(next(variables["image_path_iterator"]))
        if isinstance(value, Path):
            path = path.with_suffix(value.suffix)
            shutil.copyfile(value, path)
        else:
            figure = value if isinstance(value, Figure) else value.figure()
            figure.savefig(path)
        shown.append(figure_rst([str(path)], configuration["src_dir"], alternative_of(path)))
    return "".join(shown)


def alternative_of(path: Path) -> str:
    """Return the alternative text of a picture, such as look/images/sphx_glr_plot_kernels_001.png."""
    name, _, number = path.stem.removeprefix("sphx_glr_plot_").rpartition("_")
    texts = SECTIONS[path.parent.parent.name][2][name].alternatives
    if int(number) > len(texts):
        raise ExtensionError(f"gallery_table.py has no alternative text for picture {int(number)} of plot_{name}.py.")
    return texts[int(number) - 1]


def _is_picture(value: Any) -> bool:
    """A figure, one of the library's objects that makes one, or the path of an animation."""
    if isinstance(value, Path):
        return value.suffix == ".gif"
    ours = type(value).__module__.startswith("spatialprobe.render")
    return isinstance(value, Figure) or (ours and hasattr(value, "figure"))
