"""A checkup written out: as Markdown, as a page, and as plain data."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from spatialprobe.diagnosis.finding import SEVERITIES, Finding
from spatialprobe.text import as_html, escape_surrogates, format_count

if TYPE_CHECKING:
    from spatialprobe.diagnosis.result import Checkup

_MOST_PICTURES = 12  # in the panel of a page
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#fff, #16171b); color: light-dark(#1f2328, #e6e6ea) }
h1 { font-size: 1.4rem; margin: 0 0 .2rem } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
article { border-left: 4px solid var(--color); padding: .1rem 0 .1rem .9rem; margin: 1.3rem 0 }
article h3 { font-size: 1rem; margin: 0 } article h3 span { color: var(--color); font-weight: 600 }
.error { --color: light-dark(#b3261e, #ff8a80) } .warning { --color: light-dark(#9a6700, #e3b341) }
.note { --color: light-dark(#57606a, #9da3ae) }
p { margin: .35rem 0 } .quiet { opacity: .75; font-size: .9rem } code { font-size: .95em }
img { max-width: min(100%, 45rem); height: auto; margin: .6rem 0; border-radius: 4px; background: #fff }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem } dd { margin: 0 }
@media (max-width: 600px) { dl { grid-template-columns: 1fr } dd { margin-bottom: .6rem } }
"""


def as_markdown(found: Checkup) -> str:
    """Return a checkup as Markdown: all findings, what passed, and what was skipped."""
    lines = [f"# {_escape(found.title)}", ""]
    for one in found.findings:
        lines += [f"## {one.severity}: {_escape(one.rule)} in {_code(one.where)}", "", _escape(one.evidence)]
        lines += ["", _escape(one.advice)] if one.advice else []
        lines += ["", f"*{_escape(one.source)}*"] if one.source else []
        lines.append("")
    for title, rules in (("Passed", found.passed), ("Skipped", found.skipped), ("Layers left out", found.left_out)):
        lines += _markdown_table(title, rules)
    return escape_surrogates("\n".join(lines).rstrip() + "\n")


def as_html_page(found: Checkup) -> str:
    """Return a checkup as a page that needs no network, with the picture of each finding that has one."""
    body = "".join(map(_article, found.findings)) or "<p>Nothing was found.</p>"
    for title, rules in (("Passed", found.passed), ("Skipped", found.skipped), ("Layers left out", found.left_out)):
        body += _html_list(title, rules)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{as_html(found.title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>Checkup of {as_html(found.model)}</h1>"
        f'<p class="quiet">{as_html(found.title.partition(": ")[2])}</p>{body}</body></html>\n'
    )


def as_json(found: Checkup) -> dict[str, Any]:
    """Return a checkup as plain data."""
    return {
        "model": found.model,
        "samples": found.samples,
        "findings": [finding_as_json(one) for one in found.findings],
        "passed": dict(found.passed),
        "skipped": dict(found.skipped),
        "left_out": dict(found.left_out),
    }


def finding_as_json(one: Finding) -> dict[str, Any]:
    """Return a finding as plain data, without its picture."""
    names = ("rule", "severity", "layer", "channels", "measured", "limit", "evidence", "advice", "source")
    values = {name: getattr(one, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def picture_of(one: Finding) -> bytes | None:
    """Return the picture of a finding as a PNG, None if it has none."""
    if one.picture is None:
        return None
    written = BytesIO()
    one.plot().savefig(written, format="png", dpi=150)
    return written.getvalue()


def as_html_panel(found: Checkup, link: Callable[[Finding], str | None]) -> str:
    """Return a checkup as a part of another page, folded: one line, and all findings when it is opened.

    Args:
        found: the checkup.
        link: the address of a finding's layer on that page; None if it is not there.
    """
    counts = Counter(one.severity for one in found.findings)
    told = [
        f'<span class="{severity}">{format_count(counts[severity], severity)}</span>'
        for severity in SEVERITIES
        if counts[severity]
    ]
    passed = f"{format_count(len(found.passed), 'rule')} passed on {format_count(found.samples, 'sample')}"
    summary = f"<summary><b>Checkup</b> {', '.join(told) or 'no findings'}; {passed}</summary>"
    drawn = [one for one in found.findings if one.picture is not None][:_MOST_PICTURES]
    body = "".join(_article(one, link(one), drawn=one in drawn) for one in found.findings)
    return f'<details id="checkup">{summary}{body}{_html_list("Passed", found.passed)}</details>\n'


def _article(one: Finding, address: str | None = None, *, drawn: bool = True) -> str:
    data = picture_of(one) if drawn else None
    source = "" if data is None else f"data:image/png;base64,{base64.b64encode(data).decode()}"
    picture = f'<img src="{source}" alt="{as_html(f"{one.rule} in {one.where}")}">' if source else ""
    where = f"<code>{as_html(one.where)}</code>"
    where = where if address is None else f'<a href="{as_html(address)}">{where}</a>'
    return (
        f'<article class="{one.severity}"><h3><span>{one.severity}</span> {as_html(one.rule)} in '
        f"{where}</h3><p>{as_html(one.evidence)}</p><p>{as_html(one.advice)}</p>"
        f'{picture}<p class="quiet">{as_html(one.source)}</p></article>'
    )


def _html_list(title: str, rules: Mapping[str, str]) -> str:
    if not rules:
        return ""
    entry = "<dt><code>{}</code></dt><dd>{}</dd>"
    rows = "".join(entry.format(as_html(name or "(model)"), as_html(why)) for name, why in rules.items())
    return f"<h2>{title}</h2><dl>{rows}</dl>"


def _markdown_table(title: str, rules: Mapping[str, str]) -> list[str]:
    if not rules:
        return []
    rows = [f"- {_code(name or '(model)')}: {_escape(why)}" for name, why in rules.items()]
    return [f"## {title}", "", *rows, ""]


def _escape(text: str) -> str:
    """Return a text on one line, with the characters escaped that Markdown or HTML would take for markup."""
    flat = " ".join(text.split())
    for mark in ("\\", "`", "*", "_", "[", "]", "|"):
        flat = flat.replace(mark, f"\\{mark}")
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(name: str) -> str:
    """Return a name as code, with a fence longer than any run of backticks in it."""
    flat = " ".join(name.split())
    fence = "`" * (1 + max((len(run) for run in flat.split("`") if not run), default=0) + flat.count("`"))
    space = " " if "`" in flat else ""
    return f"{fence}{space}{flat}{space}{fence}"
