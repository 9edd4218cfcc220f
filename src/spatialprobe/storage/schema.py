"""Schemas of descriptions that are read from files, checked before anything is built from them."""

from __future__ import annotations

from typing import Any, TypeAlias

from spatialprobe.arguments import short_repr

# A type: a value of exactly that type (True is not an int). A set: one of its members. [x]: a list of x. (x, y): a list
# of exactly these. {"a": x}: a mapping with exactly these keys. {str: x}: a mapping from any strings to x. Or(x, y):
# either.
Schema: TypeAlias = Any


class MalformedError(ValueError):
    """A description does not match its schema; the message says where."""


class Or:
    """Alternatives: `Or(None, int)` describes a value that is None or an int."""

    def __init__(self, *schemas: Schema) -> None:
        self.schemas = schemas


def check(value: object, schema: Schema, where: str) -> None:
    """Check that a value matches a schema.

    Raises:
        MalformedError: it does not.

    >>> check({"layer": "conv1", "shape": [2, 3]}, {"layer": str, "shape": [int]}, "record 0")
    >>> check({"layer": "conv1", "shape": [2, "3"]}, {"layer": str, "shape": [int]}, "record 0")
    Traceback (most recent call last):
    spatialprobe.storage.schema.MalformedError: record 0, 'shape', 1: '3' should be an int
    """
    problem = _problem(value, schema, where)
    if problem:
        raise MalformedError(problem)


def _problem(value: object, schema: Schema, where: str) -> str:
    """Return a description of what is wrong with a value, empty if nothing is."""
    if isinstance(schema, Or):
        problems = [_problem(value, one, where) for one in schema.schemas]
        return "" if "" in problems else problems[-1]
    if schema is None:
        return "" if value is None else f"{where}: {short_repr(value)} should be null"
    if isinstance(schema, type):
        return "" if type(value) is schema else f"{where}: {short_repr(value)} should be {_article(schema.__name__)}"
    if isinstance(schema, (set, frozenset)):
        known = type(value) is str and value in schema
        return "" if known else f"{where}: {short_repr(value)} should be one of {', '.join(sorted(map(repr, schema)))}"
    if isinstance(schema, (list, tuple)):
        return _problem_of_list(value, schema, where)
    return _problem_of_mapping(value, schema, where)


def _problem_of_list(value: object, schema: list[Schema] | tuple[Schema, ...], where: str) -> str:
    if not isinstance(value, list):
        return f"{where}: {short_repr(value)} should be a list"
    if isinstance(schema, tuple) and len(value) != len(schema):
        return f"{where}: a list of {len(value)} should have {len(schema)} entries"
    expected = schema if isinstance(schema, tuple) else schema * len(value)
    problems = (_problem(one, of, f"{where}, {i}") for i, (one, of) in enumerate(zip(value, expected, strict=True)))
    return next(filter(None, problems), "")


def _problem_of_mapping(value: object, schema: dict[Any, Schema], where: str) -> str:
    if not isinstance(value, dict):
        return f"{where}: {short_repr(value)} should be a mapping"
    if str in schema:
        schema = dict.fromkeys((key for key in value if isinstance(key, str)), schema[str])
    if value.keys() != schema.keys():
        wrong = sorted(map(str, value.keys() ^ schema.keys()))
        return f"{where}: the entries {short_repr(wrong)} are missing, or should not be there"
    problems = (_problem(value[key], of, f"{where}, {short_repr(key)}") for key, of in schema.items())
    return next(filter(None, problems), "")


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
