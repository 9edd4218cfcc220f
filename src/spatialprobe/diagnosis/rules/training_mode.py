"""Modules in training mode, which compute something else than in evaluation mode."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import takewhile
from types import CodeType

from torch import nn

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, Outcome, Rule
from spatialprobe.text import format_count, quote_names


def find_training_mode(evidence: Evidence) -> Outcome:
    """Return a finding for each module in training mode whose parent is not, if it or a module in it depends on it."""
    training = set(evidence.training)
    found = []
    for name in evidence.training:
        parent = name.rpartition(".")[0]
        if name and parent in training:
            continue
        inside = [other for other in evidence.training if _is_in(other, name)]
        dependent = [other for other in inside if depends_on_mode(evidence.modules[other])]
        if dependent:
            found.append(_describe(name, dependent, len(inside)))
    if found:
        return found
    if training:
        return "The modules in training mode compute the same in it."
    return f"All {len(evidence.modules)} modules are in evaluation mode."


def depends_on_mode(module: nn.Module) -> bool:
    """Return whether a module computes something else in training mode: whether its code reads `training`.

    The code is its forward, the methods that this calls, and those that they extend.

    >>> depends_on_mode(nn.BatchNorm2d(3)), depends_on_mode(nn.Dropout(0.0)), depends_on_mode(nn.Conv2d(3, 6, 3))
    (True, False, False)
    """
    for name in ("p", "dropout"):  # dropout with a probability of 0
        if name in vars(module) and vars(module)[name] == 0 and type(module).__module__.startswith("torch.nn"):
            return False
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats:
        return False
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and not module.track_running_stats:
        return False
    return _reads_mode(type(module))


def _reads_mode(kind: type) -> bool:
    """Return whether the forward of a class, or a method of it that this names, reads `training`."""
    waiting, seen = ["forward"], {"forward"}
    while waiting:
        for code in _codes(kind, waiting.pop()):
            names = _names(code)
            if "training" in names:
                return True
            waiting += names - seen
            seen |= names
    return False


def _codes(kind: type, name: str) -> Iterator[CodeType]:
    """Yield the code of a method, and of those of its name that it extends."""
    for one in takewhile(lambda one: one is not nn.Module, kind.__mro__):
        method = vars(one).get(name)
        code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
        if code is not None:
            yield code
            if "super" not in code.co_names:
                return


def _names(code: CodeType) -> set[str]:
    """Return the names that code uses, with the functions inside of it."""
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _is_in(name: str, outer: str) -> bool:
    return not outer or name == outer or name.startswith(f"{outer}.")


def _describe(name: str, dependent: list[str], inside: int) -> Finding:
    what = "The model is" if not name else "It is"
    of_them = f"{len(dependent)} of {format_count(inside, 'module')} {'computes' if len(dependent) == 1 else 'compute'}"
    return Finding(
        RULE.name,
        "error",
        name,
        measured=len(dependent),
        limit=0,
        evidence=f"{what} in training mode, in which {of_them} something else: {quote_names(dependent)}. Everything "
        "else here was measured in evaluation mode.",
        advice="Call model.eval() before it is used, and model.train() before it is trained again.",
    )


RULE = Rule(
    "training_mode",
    find_training_mode,
    "error",
    "modules that are in training mode",
    "Dropout and batch statistics make predictions depend on chance and on the batch; a module whose code does not "
    "read `training` is the same in both modes, and not reported.",
    "none: a mode has no place in an image, and the evidence names the modules",
)
