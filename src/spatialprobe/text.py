"""Format text: tables, counts, byte sizes, articles, lone surrogates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_UNSEEN = re.compile(r"(\\*)([\ud800-\udfff])|(\\+)(?=ud[89a-f][0-9a-f]{2})")  # lone surrogates and escapes of them
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # but tabs and line breaks
_FEW = 6  # layers left out that a table names
_SHOWN = re.compile(r"(\\+)u(d[89a-f][0-9a-f]{2})")
_LIKE_YOU = re.compile("uni|use|uint|utf", re.IGNORECASE)  # words that begin with a vowel but sound like "you"


def format_table(heading: str, lines: Sequence[tuple[str, ...]], flush_right: Sequence[int] = ()) -> str:
    """Return a heading and lines of cells in columns; those in `flush_right` are right-aligned."""
    lines = [tuple(map(escape_surrogates, line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join([escape_surrogates(heading), *("  " + _align(line, widths, flush_right) for line in lines)])


def escape_surrogates(text: str) -> str:
    r"""Return a text with lone surrogates escaped, since files, pages and terminals cannot encode them.

    Different texts stay different: backslashes are doubled, but only those before an escape, or text like one.

    >>> print(escape_surrogates("conv\udc80"), escape_surrogates(r"conv\udc80"), escape_surrogates(r"a\b"))
    conv\udc80 conv\\udc80 a\b
    """
    return _UNSEEN.sub(_escape, text)


def escape_controls(text: str) -> str:
    r"""Return a text as pictures hold it: control characters, which neither SVG nor PNG may hold, are escaped as well.

    >>> print(escape_controls("conv\x1b"), escape_controls("conv\udc80"))
    conv\x1b conv\udc80
    """
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", escape_surrogates(text))


def unescape_surrogates(escaped: str) -> str:
    """Return the text of which `escape_surrogates` returns this."""
    return _SHOWN.sub(_unescape, escaped)


def map_texts(function: Callable[[str], str], data: Any) -> Any:
    """Return JSON data with a function applied to every string in it, keys too."""
    if isinstance(data, str):
        return function(data)
    if isinstance(data, Mapping):
        return {map_texts(function, key): map_texts(function, value) for key, value in data.items()}
    return [map_texts(function, one) for one in data] if isinstance(data, (list, tuple)) else data


def as_html(text: str) -> str:
    """Return a text escaped for HTML.

    >>> as_html("a < b")
    'a &lt; b'
    """
    from html import escape  # here, as it takes a millisecond to import

    return escape(escape_surrogates(text))


def format_bytes(count: int) -> str:
    """Return a number of bytes in a suitable binary unit."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> format_count(1, "layer"), format_count(2, "layer"), format_count(0, "class"), format_count(2, "axis")
    ('1 layer', '2 layers', '0 classes', '2 axes')
    """
    return f"{count} {noun if count == 1 else _pluralize(noun)}"


def quote_names(names: Sequence[str], most: int = 4) -> str:
    """Return the first names in quotes, and how many more there are.

    >>> quote_names(["a", "b", "c"], 2)
    "'a', 'b' and 1 more"
    """
    shown = ", ".join(repr(name) if name else "the model itself" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def describe_left_out(left_out: Mapping[str, str]) -> str:
    """Return a sentence that names the layers that are left out; empty if none are.

    >>> describe_left_out({"head": "It did not run."})
    'Left out: head; .left_out says why.'
    """
    names = [name or "(model)" for name in left_out]
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"Left out: {', '.join(names[:_FEW])}{more}; .left_out says why." if names else ""


def with_article(word: str) -> str:
    """Return a word with its indefinite article, chosen by pronunciation.

    >>> with_article("int"), with_article("Tensor"), with_article("LSTM"), with_article("UNet"), with_article("ReLU")
    ('an int', 'a Tensor', 'an LSTM', 'a UNet', 'a ReLU')
    """
    bare = word.lstrip("_")
    spelled = bare[:2].isupper() or bare == "ndarray"  # abbreviations are pronounced letter by letter
    vowel = bare[:1].upper() in "AEFHILMNORSX" if spelled else bare[:1].lower() in "aeiou" and not _LIKE_YOU.match(bare)
    return f"{'an' if bare and vowel else 'a'} {word}"


def kind_of(value: object) -> str:
    """Return the type of a value with its article, for an error message.

    >>> kind_of(3), kind_of("text"), kind_of(None)
    ('an int', 'a str', 'a NoneType')
    """
    return with_article(type(value).__name__)


def _escape(found: re.Match[str]) -> str:
    before, surrogate, backslashes = found.groups()
    return 2 * backslashes if surrogate is None else f"{2 * before}\\u{ord(surrogate):04x}"


def _unescape(found: re.Match[str]) -> str:
    backslashes, code = len(found[1]), found[2]
    return "\\" * (backslashes // 2) + (chr(int(code, 16)) if backslashes % 2 else f"u{code}")


def _pluralize(noun: str) -> str:
    if noun.endswith("axis"):
        return f"{noun[:-2]}es"
    return f"{noun}es" if noun.endswith(("s", "x", "sh", "ch")) else f"{noun}s"


def _align(row: Sequence[str], widths: list[int], flush_right: Sequence[int]) -> str:
    cells = (
        cell.rjust(width) if column in flush_right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()
