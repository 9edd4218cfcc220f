"""The tree of errors, with the builtin that each can also be caught as."""

from look import DARK, GRAY, ORANGE, VIOLET, add_box, make_canvas
from matplotlib.figure import Figure

from spatialprobe import errors

BUILTIN_ORDER = (ValueError, KeyError, LookupError, TypeError, RuntimeError, MemoryError, FloatingPointError)


def draw() -> Figure:
    """Return the root on the left, its errors in the middle, and the builtins on the right."""
    root = errors.SpatialProbeError
    found = [getattr(errors, name) for name in errors.__all__ if name != root.__name__]
    also = {one: next(base for base in one.__bases__ if base is not root) for one in found}
    found.sort(key=lambda one: (BUILTIN_ORDER.index(also[one]), one.__name__))
    step = 0.36
    height = step * len(found) + 0.65
    figure, axes = make_canvas(8.4, height)
    middle = 0.55 + step * len(found) / 2
    add_box(axes, (0.2, middle - 0.2, 2.0, 0.4), root.__name__, linewidth=2)
    axes.text(3.0, 0.3, "each error of the library", fontsize=9, color=GRAY, va="center")
    axes.text(6.35, 0.3, "is also a", fontsize=9, color=GRAY, va="center")
    for row, one in enumerate(found):
        y = 0.7 + step * row
        axes.plot([2.2, 2.6, 2.6, 3.0], [middle, middle, y, y], color=VIOLET, linewidth=1, zorder=0)
        add_box(axes, (3.0, y - 0.14, 2.45, 0.28), one.__name__)
    for builtin in BUILTIN_ORDER:
        rows = [row for row, one in enumerate(found) if also[one] is builtin]
        center = 0.7 + step * sum(rows) / len(rows)
        for row in rows:
            axes.plot([5.45, 6.35], [0.7 + step * row, center], color=ORANGE, linewidth=1, zorder=0)
        add_box(axes, (6.35, center - 0.14, 1.85, 0.28), builtin.__name__, edgecolor=ORANGE, facecolor="#fdf6ec")
    axes.plot([], [], color=DARK)
    return figure
