"""What a forward pass writes into a model's own attributes, undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_Contents = tuple[dict[str, Any], dict[str, Any], list[tuple[Any, Any]]]


@contextmanager
def attributes_restored(model: nn.Module) -> Iterator[None]:
    """Every module's plain attributes as they were when the block began, caches and counters too.

    For passes on stand-ins of the real tensors, which must leave nothing of them behind. Lists, dictionaries and sets
    get back their contents; deeper containers are taken as they are.
    """
    before = [_contents(module.__dict__) for module in model.modules()]
    try:
        yield
    finally:
        for attributes, values, contents in before:
            for name in attributes.keys() - values.keys():
                del attributes[name]
            for name, value in values.items():
                if name not in attributes or attributes[name] is not value:
                    attributes[name] = value
            for container, content in contents:
                _refill(container, content)


def _contents(attributes: dict[str, Any]) -> _Contents:
    """A module's attributes, their values, and a copy of what each container among them holds."""
    containers = [value for value in attributes.values() if type(value) in (list, dict, set)]
    return attributes, dict(attributes), [(container, container.copy()) for container in containers]


def _refill(container: Any, content: Any) -> None:
    """Give a container its content back, in its order."""
    same = len(container) == len(content) and (
        container == content
        if isinstance(container, set)
        else all(a is b for a, b in zip(_items(container), _items(content), strict=True))
    )
    if not same:
        container.clear()
        (container.extend if isinstance(container, list) else container.update)(content)


def _items(container: Any) -> Iterator[Any]:
    """What a list or a dictionary holds, one by one."""
    if isinstance(container, dict):
        for key, value in container.items():
            yield key
            yield value
    else:
        yield from container
