"""The page's script: its modules joined into one, and their own tests under node."""

from __future__ import annotations

import base64
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from spatialprobe.report.script import join_modules, packed_script, page_script, read_part

PAGE_TESTS = Path(__file__).parent / "page"
NODE = shutil.which("node")


def test_modules_follow_those_that_they_import():
    """Each module stands once, behind what it needs; imports, the keyword of exports and comments are gone."""
    sources = {
        "start.mjs": 'import { low } from "./low.mjs";\nimport { middle } from "./middle.mjs";\n\nlow(middle());\n',
        "middle.mjs": '/** Text. */\nimport { low } from "./low.mjs";\n\n/** @returns {1} */\n'
        "export function middle() {\n"
        "  // why\n  return low(/** @type {1} */ (1));\n}\n",
        "low.mjs": "export const low = (one) => one;\n",
        "unused.mjs": "export const unused = 1;\n",
    }
    assert join_modules(sources, "start.mjs").splitlines() == [
        '"use strict";',
        "(() => {",
        "const low=(one)=>one;",
        "function $0(){",
        "return low((1));",
        "}",
        "low($0());",
        "})();",
    ]


def test_spaces_go_where_they_separate_nothing():
    """Texts, patterns and words keep theirs; comments behind code go, and addresses in texts are no comments."""
    source = (
        "export const one = (a, b) => `a  ${ a } b` + 'c  d' + \"// e\"; // why\n"
        "function two(text) {\n  return typeof text - -1 + text.split(/ (x y) /).length / 2;\n}\n"
        "const three = [...two(1), { two: 2 }.two, `${two(3)} two(`];\n"
        "const four = five(4);\nfunction five(n) {\n  return [1].map(five) || n;\n}\n"
    )
    assert join_modules({"a.mjs": source}, "a.mjs").splitlines()[2:-1] == [
        "const one=(a,b)=>`a  ${ a } b`+'c  d'+\"// e\";",
        "function two(text){",
        "return typeof text- -1+text.split(/ (x y) /).length / 2;",
        "}",
        "const three=[...two(1),{two:2}.two,`${two(3)} two(`];",
        "const four=five(4);",
        "function five(n){",
        "return[1].map(five)||n;",
        "}",
    ]
    with pytest.raises(ValueError, match="A template stands inside another"):
        join_modules({"a.mjs": "const one = `a ${b ? `c` : d}`;\n"}, "a.mjs")


def test_names_that_stand_twice_are_refused():
    """Two modules that declare one name cannot share a scope; names inside functions may repeat."""
    sources = {
        "a.mjs": 'import { two } from "./b.mjs";\nfunction one() {\n  const two = 1;\n}\n',
        "b.mjs": "export function two() {}\nfunction one() {}\n",
    }
    with pytest.raises(ValueError, match="declare one more than once"):
        join_modules(sources, "a.mjs")


def test_circles_are_refused():
    """Modules that import each other have no order."""
    sources = {"a.mjs": 'import { b } from "./b.mjs";\n', "b.mjs": 'import { a } from "./a.mjs";\n'}
    with pytest.raises(ValueError, match=r"a\.mjs -> b\.mjs -> a\.mjs"):
        join_modules(sources, "a.mjs")


def test_script_has_no_modules_left():
    """The joined script imports and exports nothing, and does not end the element that holds it."""
    script = page_script()
    assert not any(line.startswith(("import ", "export ")) for line in script.splitlines())
    assert "</script" not in script
    assert "/**" not in script
    assert "It sees only padding, nothing of the input." in script


def test_packed_script_is_the_script():
    """The page holds the script compressed, in two fifths of its bytes."""
    assert zlib.decompress(base64.b64decode(packed_script())).decode("utf-8") == page_script()
    assert len(packed_script()) < len(page_script()) / 2


def test_parts_are_there():
    """Template and style come with the package."""
    assert "{{script}}" in read_part("page.html")
    assert "prefers-color-scheme" in read_part("page.css")


@pytest.mark.skipif(NODE is None, reason="node is not installed (Debian: nodejs)")
def test_modules_under_node():
    """The pure parts of the page pass their own tests without a browser."""
    tests = sorted(map(str, PAGE_TESTS.glob("*.test.mjs")))
    assert len(tests) >= 7
    found = subprocess.run([NODE, "--test", *tests], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.skipif(NODE is None, reason="node is not installed (Debian: nodejs)")
def test_joined_script_parses(tmp_path):
    """The joined script is one that node can parse."""
    path = tmp_path / "page.js"
    path.write_text(page_script(), "utf-8")
    found = subprocess.run([NODE, "--check", str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
