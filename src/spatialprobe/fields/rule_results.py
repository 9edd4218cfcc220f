"""The application of an operator's rule to a call: what each result sees."""

from __future__ import annotations

import torch

from spatialprobe.errors import ArgumentError, describe_error
from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.rules import Operation
from spatialprobe.fields.traits import Traits


def apply_rule(traits: Traits, operation: Operation) -> list[Reach]:
    """Return what each result sees by the operator's rule; without a rule, all that the arguments see.

    A rule that returns the reach of the first result alone holds for others of the same shape too.

    Raises:
        ArgumentError: a user's rule raises an error, or returns a reach of another shape than the result's.
    """
    results = operation.results
    if not any(one.numel() for one in results):
        return [constant(one.shape) for one in results]
    if traits.rule is None:
        return [see_all(operation, one.shape) if one.numel() else constant(one.shape) for one in results]
    try:
        made = traits.rule(operation)
        if not isinstance(made, Reach):
            return [reach if one.numel() else constant(one.shape) for one, reach in zip(results, made, strict=True)]
    except Exception as error:
        if operation.name.startswith("aten::"):
            raise
        raise ArgumentError(f"The rule of {operation.name!r} raised {describe_error(error)}.") from error
    if made.shape != operation.shape:
        raise ArgumentError(
            f"The rule of {operation.name!r} returned a reach of shape {made.shape} for a result of shape "
            f"{operation.shape}: they must be the same."
        )
    return [made if tuple(t.shape) == made.shape else made.everything(t.shape) for t in results]


def see_all(operation: Operation, shape: torch.Size) -> Reach:
    """Return all that the arguments see, for an operator without a rule: it is never too small."""
    seeing = [reach.everything(shape) for reach in operation.reaches() if not reach.is_constant]
    return union(seeing, shape).inexact(operation.name) if seeing else constant(shape)
