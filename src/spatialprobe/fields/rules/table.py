"""The table of operators' rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tag
from torch._ops import OpOverload, OpOverloadPacket

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.text import kind_of

Rule: TypeAlias = Callable[[Operation], Reach | Sequence[Reach]]

_RULES: dict[str, Rule] = {}


def register(operator: OpOverload | OpOverloadPacket | str, rule: Rule) -> None:
    """Register the rule of an operator: from what its arguments see to what its results see.

    A rule is a function of an `Operation`; it returns the reach of the first result, or one for each. The in-place form
    of an operator (`relu_` of `relu`) has the same rule.

    Args:
        operator: `torch.ops.library.name`, one of its overloads, or "library::name".
        rule: the function; `spatialprobe.testing.check_rule` compares it with gradients.

    Raises:
        ArgumentError: the operator has a rule already, or is not an operator.

    >>> import torch
    >>> from spatialprobe.fields import rules
    >>> rules.register("mine::blur3", lambda operation: operation.reach("image").tapped(
    ...     2, rules.window(kernel=3, padding=1), outputs=operation.shape[2]))
    >>> rules.register("mine::blur3", lambda operation: operation.reach("image"))
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: Operator 'mine::blur3' has a rule already: a second one would hide it.
    """
    name = _name_of(operator)
    if _needs_no_rule(name):
        raise ArgumentError(
            f"Operator {name!r} has a rule already, as all operators have that torch tags as pointwise."
        )
    add_rule(name, rule)


def add_rule(name: str, rule: Rule) -> None:
    """Register a rule of this package, where one for a pointwise operator is allowed, though redundant."""
    if name in _RULES:
        raise ArgumentError(f"Operator {name!r} has a rule already: a second one would hide it.")
    if not callable(rule):
        raise ArgumentError(f"The rule of {name!r} must be a function of an Operation, not {kind_of(rule)}.")
    _RULES[name] = rule
    rule_for.cache_clear()


def count_rules() -> int:
    """Return how many rules are registered: they are only ever added."""
    return len(_RULES)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the function below for these operators of aten."""

    def register_function(function: Rule) -> Rule:
        for name in names:
            add_rule(f"aten::{name}", function)
        return function

    return register_function


@lru_cache(maxsize=4096)
def rule_for(operator: OpOverload) -> Rule | None:
    """Return the rule of an operator; None if it has none.

    Operators that torch tags as pointwise, in place or not, need no entry.

    >>> import torch
    >>> rule_for(torch.ops.aten.relu.default) is elementwise, rule_for(torch.ops.aten._linalg_eigvals.default)
    (True, None)
    """
    name = _name_of(operator)
    found = _RULES.get(name) or _RULES.get(name.removesuffix("_"))
    return found or (elementwise if _is_pointwise(operator) else None)


def elementwise(operation: Operation) -> Reach:
    """Return elements that see what the same elements of all tensor arguments see."""
    return union(operation.reaches(), operation.shape)


def _is_pointwise(operator: OpOverload) -> bool:
    """Return whether torch tags an operator as pointwise; some in-place forms lack the tag that the other form has."""
    library, _, name = operator._schema.name.partition("::")
    other = getattr(getattr(torch.ops, library), name.removesuffix("_"), None)
    forms = [operator, *(getattr(other, overload) for overload in (other.overloads() if other else ()))]
    return any(Tag.pointwise in form.tags for form in forms)


def _needs_no_rule(name: str) -> bool:
    """Return whether torch has a pointwise operator of this name, which needs no rule."""
    library, _, short = name.partition("::")
    packet = getattr(getattr(torch.ops, library), short, None)
    return packet is not None and any(_is_pointwise(getattr(packet, overload)) for overload in packet.overloads())


def _name_of(operator: OpOverload | OpOverloadPacket | str) -> str:
    """Return the name of an operator, "library::name"."""
    if isinstance(operator, str) and operator.count("::") == 1:
        return operator
    if isinstance(operator, OpOverload):
        return operator._schema.name
    if isinstance(operator, OpOverloadPacket):
        return operator._qualified_op_name
    raise ArgumentError(f"{short_repr(operator)} is not an operator. Pass torch.ops.library.name or 'library::name'.")
