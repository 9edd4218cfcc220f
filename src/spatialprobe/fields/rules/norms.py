"""Rules of normalizations: statistics over some dimensions, then a scale and a shift."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import add_rule, rule


@rule(
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "batch_norm",
)
def _batch_norm(operation: Operation) -> list[Reach]:
    """Return values normalized by running statistics, or by those over batch and positions [Ioffe and Szegedy 2015].

    Modules run in evaluation mode; a functional call, or an instance norm, may compute statistics itself.
    """
    values = operation.reach("input")
    of_channel = ["weight", "bias"]
    if operation.arguments.get("statistics_count") or operation.name.endswith("_with_update"):
        seen = _mix(values, [0, *range(2, len(values.shape))])
        statistics = seen
    else:
        seen, of_channel = values, [*of_channel, "running_mean", "running_var"]
        statistics = union(_present_reaches(operation, ["running_mean", "running_var"]), values.shape[1:2])
    normed = union([seen, *_channel_reaches(operation, of_channel)], operation.shape)
    return [normed, *_statistics_reaches(operation, statistics)]


@rule("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_norm(operation: Operation) -> list[Reach]:
    """Return values normalized by mean and variance over the last dimensions [Ba et al. 2016]."""
    seen = operation.reach("input")
    mixed = _mix(seen, range(len(seen.shape) - len(operation["normalized_shape"]), len(seen.shape)))
    normed = union([mixed, *_present_reaches(operation, ["weight", "bias"])], operation.shape)
    return [normed, *_statistics_reaches(operation, mixed)]


@rule("native_group_norm", "group_norm")
def _group_norm(operation: Operation) -> list[Reach]:
    """Return values normalized over all positions and the channels of a group [Wu and He 2018]."""
    seen = operation.reach("input")
    groups = operation.arguments.get("group") or operation["num_groups"]
    mixed = seen.mixed(range(2, len(seen.shape))).regrouped(1, groups, seen.shape[1])
    if prod(seen.shape[1:]) == groups:
        mixed = mixed.inexact()
    normed = union([mixed, *_channel_reaches(operation, ["weight", "bias"])], operation.shape)
    return [normed, *_statistics_reaches(operation, mixed)]


add_rule("quantized::layer_norm", _layer_norm)
add_rule("quantized::group_norm", _group_norm)


@rule("renorm")
def _renorm(operation: Operation) -> Reach:
    """Return slices along one dimension, each scaled by its own norm."""
    seen = operation.reach("self")
    kept = operation["dim"] % len(seen.shape)
    return seen.mixed([dim for dim in range(len(seen.shape)) if dim != kept])


def _mix(seen: Reach, dims: Sequence[int]) -> Reach:
    """Return all along these dimensions; a single number is its own mean, and normalization cancels it."""
    mixed = seen.mixed(dims)
    return mixed.inexact() if prod(seen.shape[dim] for dim in dims) == 1 else mixed


def _present_reaches(operation: Operation, names: Sequence[str]) -> list[Reach]:
    """Return what those of these arguments see that are not None."""
    return [operation.reach(name) for name in names if name in operation]


def _channel_reaches(operation: Operation, names: Sequence[str]) -> list[Reach]:
    """Return what arguments with a number for each channel see, broadcast to (N, C, ...)."""
    ones = (1,) * max(0, len(operation.shape) - 2)
    return [one.reshaped((*one.shape, *ones)) for one in _present_reaches(operation, names)]


def _statistics_reaches(operation: Operation, seen: Reach) -> list[Reach]:
    """Return an upper bound of what the statistics see that are returned beside the result.

    Args:
        operation: a normalization.
        seen: of its values after they were mixed along the normalized dimensions.
    """
    shapes = [tuple(one.shape) for one in operation.results[1:]]
    return [_statistic_reach(seen, shape).inexact() for shape in shapes]


def _statistic_reach(seen: Reach, shape: tuple[int, ...]) -> Reach:
    """Return what statistics of a shape see: those of each sample and position, or of all together."""
    if seen.is_constant or 0 in shape:
        return constant(shape)
    mixed = [dim for dim, size in enumerate(shape) if size == 1]
    if len(shape) == len(seen.shape) and all(size in (1, seen.shape[dim]) for dim, size in enumerate(shape)):
        return seen.reduced(mixed, keepdim=True)
    return seen.everything(shape)
