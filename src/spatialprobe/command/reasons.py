"""Why layers are left out, for a reader who has no result to ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def give_reasons(*left_out: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each layer that is left out of a result, with the reason.

    >>> list(give_reasons({"head": "It did not run."}, {}))
    ['  head: It did not run.']
    """
    for reasons in left_out:
        for name, why in reasons.items():
            yield f"  {name or '(model)'}: {why}"
