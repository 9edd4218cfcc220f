"""Docstrings as the reference shows them: a dataclass with its fields' comments, and shapes such as (N, *spatial)."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import is_dataclass
from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", add_fields, priority=400)  # before napoleon reads the sections
    app.connect("autodoc-process-docstring", keep_stars, priority=450)
    app.connect("autodoc-process-signature", name_aliases)
    return {"parallel_read_safe": True}


def add_fields(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Append an Attributes section before the first example."""
    if what != "class" or not is_dataclass(obj):
        return
    rows = [f"    {field}: {comment}" for field, comment in fields_of(obj)]
    if rows:
        place = next((i for i, line in enumerate(lines) if line.startswith(">>>")), len(lines))
        lines[place:place] = ["", "Attributes:", *rows, ""]


def name_aliases(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """An alias inside a union by its name alone, where Sphinx shows how it is written in Python."""
    short = [text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text) for text in (signature, returns)]
    return short[0], short[1]


def keep_stars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A star before a word is one, and begins no emphasis; examples are left alone."""
    example = False
    for number, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            lines[number] = re.sub(r"(?<![\w*\\`])\*(?=\w)", r"\*", line)


def fields_of(kind: type) -> list[tuple[str, str]]:
    """Each public field with its comment."""
    source = textwrap.dedent(inspect.getsource(kind))
    rows = source.splitlines()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = []
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            field = statement.target.id
            tail = rows[(statement.end_lineno or 1) - 1][statement.end_col_offset :]
            if not field.startswith("_"):
                found.append((field, tail.partition("#")[2].strip() or "see above"))
    return found
