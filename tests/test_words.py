"""Words: what the field has a word for is called by it, in American spelling."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The words that were once used in place of the field's, each with the field's.
WORSE = {
    r"hand(s|ed|ing)? on": "output, return, pass",
    r"written over": "modified in place",
    r"no number": "NaN",
    r"number formats?": "dtype",
    r"truth values?": "booleans",
    r"drawn anew": "re-initialized",
    r"nobody|somebody": "the user, the caller, or a passive",
    r"excites?|excited": "activate",
    r"on loan|borrowed|given back": "temporarily, restored",
    r"scraps": "temporary files",
    r"for the eye": "contrast-stretched",
    r"one fate": "fail together",
    r"came round": "wrapped around",
    r"ways out": "how to fix it",
    r"colou?rs? of the eye": "colors",
    r"(colour|grey|centre|neighbour|normalis|initialis|behaviour|analys[ei]d?\b|artefact)\w*": "American spelling",
}


def texts():
    """Yield the path and the text of everything that is read: code, documentation, examples, README."""
    suffixes = (".py", ".mjs", ".css", ".html", ".md", ".ipynb")
    for folder in ("src", "docs", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and not {"_build", "gallery", "generated"} & set(path.parts):
                yield path, path.read_text(encoding="utf-8")
    yield ROOT / "README.md", (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("worse", WORSE)
def test_words_of_the_field(worse):
    """No text says it in a word of its own where the field has one."""
    pattern = re.compile(rf"(?<![\w-]){worse}(?!\w)", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}: {match.group()} -> {WORSE[worse]}"
        for path, text in texts()
        for match in pattern.finditer(text.replace('`"centre"`', ""))  # its name in 0.1
    ]
    assert found == []


def test_the_pattern_can_be_found():
    """The test above sees a word in a sentence, and not inside another."""
    pattern = re.compile(r"(?<![\w-])hand(s|ed|ing)? on(?!\w)", re.IGNORECASE)
    assert pattern.search("What it handed on, twice.")
    assert not pattern.search("shorthand once")
