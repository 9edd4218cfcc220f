"""Look up the names of layers, and suggest similar ones if there is no such name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice
from typing import TypeGuard

from spatialprobe.arguments import short_repr
from spatialprobe.errors import LayerNotFoundError

_FEW = 8  # names that a message lists
_LONGEST = 200  # characters of a name for which similar ones are looked for


def is_name(value: object) -> TypeGuard[str]:
    """Return whether `value` is a string that can be looked up."""
    return isinstance(value, str) and type(value).__hash__ is not None


def find_name(name: object, known: Collection[str], problem: str) -> str:
    """Return `name` if it is one of the known names; `problem` begins the error message otherwise.

    Raises:
        LayerNotFoundError: it is not known; the message lists similar names, or some of the known ones.

    >>> find_name("covn1", ["conv1", "conv2"], "No layer was swept that is called")
    Traceback (most recent call last):
    spatialprobe.errors.LayerNotFoundError: No layer was swept that is called 'covn1'. Did you mean 'conv1' or 'conv2'?
    """
    if is_name(name) and name in known:
        return name
    raise LayerNotFoundError(
        f"{problem} {short_repr(name)}.{suggest_names(name, known) or f' There are {list_names(known)}.'}"
    )


def suggest_names(name: object, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" with similar names; an empty string if none is similar."""
    if not is_name(name) or len(name) > _LONGEST:
        return ""
    nearest = get_close_matches(name, [one for one in known if one], n=3)
    return f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""


def list_names(names: Collection[str]) -> str:
    """Return the first names as text, with the number of further ones.

    >>> list_names(["conv1", "conv2"]), list_names(())
    ("'conv1', 'conv2'", 'none')
    """
    listed = ", ".join(map(short_repr, islice(names, _FEW)))
    more = len(names) - _FEW
    return (f"{listed} and {more} more" if more > 0 else listed) or "none"
