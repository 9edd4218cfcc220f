"""Operators on constants: the kind of their results, and how they run on meta tensors that need values."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_map

from spatialprobe.fields.call import Call, tensors_in
from spatialprobe.fields.constant_storage import Kind, covers
from spatialprobe.fields.constants import Constants, are_small
from spatialprobe.fields.deferred import Deferred
from spatialprobe.fields.handling import Passing
from spatialprobe.fields.shortcuts import find_result
from spatialprobe.fields.verdict import judge

_MASKS = (torch.bool, torch.uint8)


def note_constants(call: Call, constants: Constants, result: Any) -> None:
    """Note what is known of the results of an operator on constants alone."""
    if call.traits.makes_empty and isinstance(result, torch.Tensor) and not result.numel():
        return
    if call.traits.written:
        _note_written(call, constants)
    owners = {tensor.untyped_storage()._cdata for tensor in call.tensors}
    results = list(tensors_in((result,)))
    fresh = [n for n, one in enumerate(results) if one.untyped_storage()._cdata not in owners]
    made = [results[n] for n in fresh if not constants.holds(results[n])]
    if not made or len(made) != len(fresh):
        return
    kind = kind_of(call, constants, call.tensors)
    if kind is Kind.KNOWN and made[0].is_meta and are_small(made):
        traits, free = call.traits, _of_any_values(call)
        constants.defer(made, fresh, Deferred(traits.operator, call.args, call.kwargs, free, empty=traits.makes_empty))
    else:
        constants.note_results(made, kind, None)


def _note_written(call: Call, constants: Constants) -> None:
    """Note what is known of constants that an operator has modified in place."""
    replaced, written = call.traits.overwrites, call.written
    kind = kind_of(call, constants, [one for one in call.tensors if not (replaced and _is_among(one, written))])
    if kind is Kind.KNOWN and any(one.is_meta for one in call.tensors):
        if constants.write(call.traits.operator, call.args, call.kwargs, written, replaced=replaced):
            return
        kind = Kind.UNKNOWN
    for tensor in written:
        constants.note_written(tensor, kind, replaced=replaced)


def kind_of(call: Call, constants: Constants, read: list[torch.Tensor]) -> Kind:
    """Return what is known of the values that an operator computes from the arguments that it reads."""
    traits = call.traits
    if traits.random:
        return Kind.WEIGHT if traits.generic else Kind.UNKNOWN
    free = _of_any_values(call)
    kinds = constants.kinds([one for one in read if id(one) not in free] if free else read)
    if Kind.WEIGHT not in kinds:
        return Kind.UNKNOWN if Kind.UNKNOWN in kinds else Kind.KNOWN
    if traits.makes_masks:
        return constants.kind_of_masks
    verdict = judge(traits.handling, call.arguments, constants, lambda one: True)
    layer = traits.handling.passing in (Passing.CONTRACTS, Passing.CLEARS)
    if layer and verdict.solid:  # it has a bias, so its inputs do not matter
        return Kind.WEIGHT
    if Kind.UNKNOWN in kinds:
        return Kind.UNKNOWN
    return constants.kind_of_masks if verdict.masks else Kind.WEIGHT


def note_result_of_any_values(call: Call, constants: Constants, results: list[torch.Tensor]) -> None:
    """Note what is known of results that do not depend on the input, although they are computed from maps."""
    call.of_any_values.update(call.reaches)
    kinds = constants.kinds([one for one in call.tensors if id(one) not in call.of_any_values])
    real = None
    fresh = all(id(one) in call.of_any_values and covers(one) for one in call.written)
    if kinds <= {Kind.KNOWN} and fresh and not call.traits.random and are_small(results):
        computed = constants.compute(call.traits.operator, call.args, call.kwargs, call.of_any_values)
        real = None if computed is None else list(tensors_in((computed,)))
    constants.note_results(results, Kind.UNKNOWN, real)


def _of_any_values(call: Call) -> set[int]:
    """Return the identities of the arguments of which only the shape counts."""
    if call.traits.makes_constants:
        return call.of_any_values | {id(call.arguments.get("self"))}
    return call.of_any_values


def run_on_meta(call: Call, constants: Constants) -> Any:
    """Return an operator's result on the meta device, with the help of constants' values where it needs them.

    Raises:
        UnseenConstant: a pass that also watches Python would know values that it needs.
        Exception: any that the operator raises.
    """
    known = find_result(call.traits.operator, call.args, call.kwargs)
    if known is not None:
        return known
    try:
        return call.run()
    except Exception as error:
        refusal = error
    if not call.reaches:
        constants.kinds(call.tensors)
        if not call.traits.written:
            real = constants.compute(call.traits.operator, call.args, call.kwargs)
            if real is not None:
                return real if call.asks_for_cpu else constants.to_stand_ins(real)
    elsewhere = {id(one): one for one in call.tensors if not one.is_meta}
    moved = {key: constants.to_meta(tensor) for key, tensor in elsewhere.items()}
    args, kwargs = tree_map(lambda leaf: moved.get(id(leaf), leaf), (call.args, call.kwargs))
    if call.traits.base == "index":
        args = (args[0], [place for one in args[1] for place in _positions(call, constants, one)])
    elif not moved:
        raise refusal
    result = call.traits.operator(*args, **kwargs)
    back = {id(moved[key]): tensor for key, tensor in elsewhere.items()}
    return tree_map(lambda leaf: back.get(id(leaf), leaf), result) if call.traits.written else result


def _positions(call: Call, constants: Constants, index: torch.Tensor | None) -> list[torch.Tensor | None]:
    """Return an index unchanged, or the positions that a constant mask selects."""
    if index is None or index.dtype not in _MASKS or not call.is_constant(index):
        return [index]
    values = constants.values(index)
    if values is None:
        constants.kind(index)
        return [index]
    return [places.to("meta") for places in values.nonzero(as_tuple=True)]


def _is_among(tensor: torch.Tensor, others: list[torch.Tensor]) -> bool:
    """Return whether a tensor is one of these very objects."""
    return any(tensor is other for other in others)
