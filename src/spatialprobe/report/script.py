"""The page's script: the modules under `page/`, joined into one that needs no module loader and no request."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from importlib.resources import files

_ENTRY = "start.mjs"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_COMMENT = re.compile(r"/\*\*(?:(?!\*/).)*\*/ ?", re.DOTALL)  # no text of the script holds "/**"
_EXPORT = re.compile(r"^export (?=(?:async )?function|const|class)", re.MULTILINE)
_NAME = re.compile(r"^(?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)


@cache
def page_script() -> str:
    """Return the whole script, each module behind those that it imports, in one scope of its own."""
    return join_modules({name: read_part(name) for name in _names_of_modules()}, _ENTRY)


def join_modules(sources: dict[str, str], entry: str) -> str:
    """Return the modules that the entry needs as one script.

    Modules import each other by `import { name } from "./module.mjs";` alone, without renaming, and export by the
    keyword before a declaration, so that leaving out both keeps the meaning as long as no name stands twice.

    Raises:
        ValueError: modules import each other in a circle, or two of them declare the same name.
    """
    parts = [_without_modules(sources[name]) for name in _in_order(sources, entry)]
    names = Counter(name for part in parts for name in _NAME.findall(part))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"The page's modules declare {', '.join(twice)} more than once.")
    return '"use strict";\n(() => {\n' + "\n".join(map(_packed, parts)) + "\n})();"


def read_part(name: str) -> str:
    """Return the text of a file under `page/`."""
    return (files(__package__) / "page" / name).read_text(encoding="utf-8")


def _names_of_modules() -> list[str]:
    return sorted(one.name for one in (files(__package__) / "page").iterdir() if one.name.endswith(".mjs"))


def _in_order(sources: dict[str, str], entry: str) -> list[str]:
    """Return the modules that the entry needs and itself, each behind those that it imports."""
    found: list[str] = []
    open_ones: list[str] = []

    def visit(name: str) -> None:
        if name in found:
            return
        if name in open_ones:
            raise ValueError(f"The page's modules import each other in a circle: {' -> '.join([*open_ones, name])}.")
        open_ones.append(name)
        for imported in _IMPORT.findall(sources[name]):
            visit(imported)
        found.append(open_ones.pop())

    visit(entry)
    return found


def _without_modules(source: str) -> str:
    """Return a module without its imports, the keyword of its exports, and its block comments."""
    return _EXPORT.sub("", _IMPORT.sub("", _COMMENT.sub("", source)))


def _packed(source: str) -> str:
    """Return a script without indentation, empty lines and lines of comment."""
    lines = (line.strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))
