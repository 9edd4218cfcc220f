"""A terminal with two commands and what they print."""

import contextlib
import io
import shlex

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from spatialprobe.command.main import main

COMMANDS = (
    "spatialprobe fields spatialprobe.examples:load_network --size 128 --layers 'conv*'",
    "spatialprobe plan spatialprobe.examples:load_network --size 128 --layers 'conv*'",
)
GREEN, PALE, NIGHT = "#9ece6a", "#d5d7e8", "#1d1f33"
LINE, LEFT = 0.165, 0.25  # inches


def draw() -> Figure:
    """Return a dark window; each command is run for it."""
    rows: list[tuple[str, str]] = []
    for command in COMMANDS:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            main(shlex.split(command)[1:])
        rows.append((f"$ {command}", GREEN))
        rows += [(line, PALE) for line in [*printed.getvalue().splitlines(), ""]]
    width, height = 8.4, 0.55 + LINE * (len(rows) - 1)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    style = "round,pad=0,rounding_size=0.1"
    axes.add_patch(FancyBboxPatch((0.03, 0.03), width - 0.06, height - 0.06, boxstyle=style, facecolor=NIGHT))
    for place, color in enumerate(("#e06c75", "#e5c07b", "#98c379")):
        axes.add_patch(Circle((0.22 + 0.2 * place, 0.2), 0.06, facecolor=color))
    for row, (text, color) in enumerate(rows[:-1]):
        axes.text(LEFT, 0.5 + LINE * row, text, fontsize=8, family="monospace", color=color, va="center")
    return figure
