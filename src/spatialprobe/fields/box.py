"""A rectangle of input pixels."""

from __future__ import annotations

from spatialprobe.errors import ArgumentError
from spatialprobe.text import format_count


class Box(tuple[int, ...]):
    """A half-open box of integer bounds, all starts first: (y0, x0, y1, x1) for two axes.

    In one dimension (x0, x1), in three (z0, y0, x0, z1, y1, x1).

    >>> box = Box(2, 3, 7, 9)
    >>> box
    Box(y0=2, x0=3, y1=7, x1=9)
    >>> box.start, box.stop, box.shape
    ((2, 3), (7, 9), (5, 6))
    >>> y0, x0, y1, x1 = box
    """

    __slots__ = ()

    def __new__(cls, *bounds: int) -> Box:
        """Return a box of these bounds: all starts, then all stops."""
        if not bounds or len(bounds) % 2:
            raise ArgumentError(
                f"A box takes as many stops as starts, not {bounds!r}. Pass bounds such as Box(y0, x0, y1, x1)."
            )
        return super().__new__(cls, (int(bound) for bound in bounds))

    @property
    def start(self) -> tuple[int, ...]:
        """The first position along each axis."""
        return tuple(self[: len(self) // 2])

    @property
    def stop(self) -> tuple[int, ...]:
        """The first position beyond the box along each axis."""
        return tuple(self[len(self) // 2 :])

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent along each axis, in pixels."""
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The slices that cut the box out of an array whose last axes are these: `image[(..., *box.slices)]`."""
        return tuple(map(slice, self.start, self.stop))

    def __getattr__(self, name: str) -> int:
        """Return the bound along an axis by its name, `y0` or `x1`; the axes are, from the last backwards, x, y, z."""
        axes = _axis_names(len(self) // 2)
        if len(name) == 2 and name[0] in axes and name[1] in "01":
            return self[axes.index(name[0]) + (len(axes) if name[1] == "1" else 0)]
        raise AttributeError(f"A box of {format_count(len(axes), 'axis')} has no {name!r}.")

    def __getnewargs__(self) -> tuple[int, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        axes = _axis_names(len(self) // 2)
        names = [axis + end for end in "01" for axis in axes]
        return f"Box({', '.join(f'{name}={bound}' for name, bound in zip(names, self, strict=True))})"


def _axis_names(count: int) -> list[str]:
    """Return the names of the axes: the last is x, the one before it y, then z; further axes have no name."""
    return [*("?" * (count - 3)), *"zyx"[-min(count, 3) :]]
