"""Mappings that print as themselves, and whose keys a notebook completes."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, TypeVar

from spatialprobe.html_fields import wrap_cell
from spatialprobe.html_table import format_html_table

K = TypeVar("K")
V = TypeVar("V", covariant=True)


class CompletedMapping(Mapping[K, V]):
    """A mapping whose keys IPython completes between brackets: `probe["<TAB>`."""

    def _ipython_key_completions_(self) -> list[K]:
        return list(self)


class FrozenMapping(CompletedMapping[K, V]):
    """A mapping that cannot be changed, and looks like a dict where it is printed.

    >>> found = FrozenMapping({"mean": 1.5})
    >>> found, found["mean"], found == {"mean": 1.5}
    ({'mean': 1.5}, 1.5, True)
    """

    def __init__(self, items: Mapping[K, V]) -> None:
        self._items: dict[K, V] = dict(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def keys(self) -> KeysView[K]:
        """Return the keys, which print as those of a dict."""
        return self._items.keys()

    def values(self) -> ValuesView[V]:
        """Return the values."""
        return self._items.values()

    def items(self) -> ItemsView[K, V]:
        """Return the pairs of keys and values."""
        return self._items.items()

    def __repr__(self) -> str:
        return repr(self._items)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print over several lines in IPython, as a dict."""
        printer.pretty({} if cycle else self._items)

    def _repr_html_(self) -> str:
        """A row for each key, for a notebook."""
        shown = [(str(key), value if isinstance(value, str) else repr(value)) for key, value in self._items.items()]
        return format_html_table("", (), [(key or "(model)", wrap_cell(value)) for key, value in shown])

    def __reduce__(self) -> tuple[Callable[..., FrozenMapping[K, V]], tuple[dict[K, V]]]:
        return type(self), (self._items,)
