"""The page's script: the modules under `page/`, joined into one that needs no module loader and no request."""

from __future__ import annotations

import base64
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import groupby
from operator import itemgetter

_ENTRY, _LOADER = "start.mjs", "loader.mjs"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_COMMENT = re.compile(r"/\*\*(?:(?!\*/).)*\*/ ?", re.DOTALL)  # no text of the script holds "/**"
_EXPORT = re.compile(r"^export (?=(?:async )?function|const|class)", re.MULTILINE)
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)  # no template holds another one's quote
    |(?P<pattern>(?<=[(=,:!])\s?/(?![*/ ])(?:[^/\\\n\[]|\\.|\[[^\]]*\])+/[gimsuy]*)
    |(?P<comment>//[^\n]*)
    |(?P<space>[ ]+)
    |.""",
    re.VERBOSE | re.DOTALL,
)
_FREE = r"(?<![\w$])(?<!(?<!\.\.)\.)"  # no word and no property begins before it; three dots spread
_NAME = re.compile(r"^(?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)


@cache
def page_script() -> str:
    """Return the whole script, each module behind those that it imports, in one scope of its own."""
    return join_modules({name: read_part(name) for name in _names_of_modules()}, _ENTRY)


@cache
def packed_script() -> str:
    """Return the whole script as the page holds it: compressed, in base64."""
    return base64.b64encode(zlib.compress(page_script().encode("utf-8"), 9)).decode("ascii")


@cache
def loader() -> str:
    """Return the script that unpacks and runs the packed one."""
    return join_modules({_LOADER: read_part(_LOADER)}, _LOADER)


def join_modules(sources: dict[str, str], entry: str) -> str:
    """Return the modules that the entry needs as one script.

    Modules import each other by `import { name } from "./module.mjs";` alone, without renaming, and export by the
    keyword before a declaration, so that leaving out both keeps the meaning as long as no name stands twice.

    Raises:
        ValueError: modules import each other in a circle, two of them declare the same name, or a template holds
            another one.
    """
    parts = [_without_modules(sources[name]) for name in _in_order(sources, entry)]
    names = Counter(name for part in parts for name in _NAME.findall(part))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"The page's modules declare {', '.join(twice)} more than once.")
    return '"use strict";\n(() => {\n' + _with_short_names("\n".join(map(_packed, parts)), names) + "\n})();"


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
    """Return a script without comments, empty lines, and spaces that separate nothing; line breaks stay."""
    lines = "".join(map(_packed_token, _TOKEN.finditer(source))).splitlines()
    return "\n".join(line for line in map(str.strip, lines) if line)


def _with_short_names(script: str, names: Iterable[str]) -> str:
    """Return a packed script with a short name for each function that is never mentioned without being called.

    A name that is a property's, too, stays as it is. None is a local variable's: the lint forbids to shadow one.
    """
    pieces = [(kind, "".join(map(itemgetter(0), found))) for kind, found in groupby(_TOKEN.finditer(script), _quote)]
    code = "\0".join(text for kind, text in pieces if not kind)
    mentions, calls = Counter(re.findall(r"[\w$]+", code)), Counter(re.findall(rf"{_FREE}([\w$]+)\(", code))
    safe = [name for name in names if mentions[name] == calls[name]]
    short = {name: f"${number}" for number, name in enumerate(safe)}
    called = re.compile(rf"{_FREE}({'|'.join(short) or '(?!)'})(?=\()")
    return "".join(
        text if kind in ("'", '"') else called.sub(lambda found: short[found[1]], text) for kind, text in pieces
    )


def _quote(token: re.Match[str]) -> str:
    """Return the quote with which a token begins that is a text, nothing for another."""
    return token[0][0] if token["text"] is not None else ""


def _packed_token(found: re.Match[str]) -> str:
    """Return a piece of a script as it must be: texts whole, no comment, one space where two words would meet.

    Raises:
        ValueError: a template holds another one.
    """
    if found[0].startswith("`") and found[0].count("{") != found[0].count("}"):
        raise ValueError(f"A template stands inside another, which hides where it ends: {found[0]}")
    if found["comment"] is not None:
        return ""
    if found["space"] is None:
        return found[0]
    before, after = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    meets = _is_word(before) and _is_word(after)
    return " " if meets or (before == after and before in "+-") or "/" in (before, after) else ""


def _is_word(character: str) -> bool:
    return character.isalnum() or character in "_$\"'`#"
