"""Rules of quantized operators, whose weights are packed: what they see is what the operators on floats do.

Rounding to a few bits hides small changes only. Where a scale is found from the values that it is used for, it sees all
of them.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.rules.mixing import multiply
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.recurrent import run_layers
from spatialprobe.fields.rules.table import add_rule, elementwise, rule
from spatialprobe.fields.taps import transposed_window, window

_ELEMENTWISE = (
    "add add_relu add_scalar add_scalar_relu add_out add_relu_out add_scalar_out add_scalar_relu_out mul mul_relu "
    "mul_scalar mul_scalar_relu mul_out mul_relu_out mul_scalar_out mul_scalar_relu_out relu6 sigmoid hardswish "
    "leaky_relu elu celu clamp threshold dropout batch_norm batch_norm_relu batch_norm1d batch_norm1d_relu "
    "batch_norm2d batch_norm2d_relu batch_norm3d batch_norm3d_relu"
)
_CONVOLUTIONS = "conv1d conv2d conv3d conv1d_relu conv2d_relu conv3d_relu conv2d_add conv2d_add_relu"
_TRANSPOSED = "conv_transpose1d conv_transpose2d conv_transpose3d"
_LINEAR = (
    "linear linear_relu linear_leaky_relu linear_tanh linear_dynamic_fp16 linear_relu_dynamic_fp16 "
    "linear_with_input_q_dq_qweight_dq_output_fp32 linear_with_input_q_dq_qweight_dq_relu_output_fp32"
)
_DYNAMIC = (
    "linear_dynamic linear_relu_dynamic conv1d_dynamic conv2d_dynamic conv3d_dynamic conv_transpose1d_dynamic "
    "conv_transpose2d_dynamic conv_transpose3d_dynamic quantized_lstm_cell_dynamic quantized_gru_cell_dynamic "
    "quantized_rnn_relu_cell_dynamic quantized_rnn_tanh_cell_dynamic"
)


def _convolve(operation: Operation) -> Reach:
    """A convolution of packed weights, to which a second image may be added."""
    outputs, axes = operation.shape, len(operation.shape) - 2
    packed = operation["packed_weight" if "packed_weight" in operation else "weight"]
    transposed = "transpose" in operation.name
    kernel = packed.unpack()[0].shape[-axes:]
    geometry = [packed.stride(), packed.padding(), packed.dilation()]
    slide = transposed_window if transposed else window
    seen = operation.reach("qx").regrouped(1, packed.groups(), outputs[1])
    for axis in range(axes):
        taps = slide(kernel[axis], *(_of_axis(one, axis, axes) for one in geometry))
        seen = seen.tapped(2 + axis, taps, outputs[2 + axis])
    added = operation.reaches("qaccum") if "qaccum" in operation else []
    return union([seen, *added], outputs)


def _of_axis(numbers: Any, axis: int, axes: int) -> int:
    """Return the number of one spatial axis; one-dimensional layers are packed as images of one row."""
    return int(list(numbers)[-axes:][axis])


def _multiply(operation: Operation) -> Reach:
    """A linear layer of packed weights."""
    return operation.reach("X").reduced([-1], keepdim=True).expanded(operation.shape)


def _bend(operation: Operation) -> Reach:
    """A PReLU with a slope for each channel, or for all."""
    return operation.with_all_of(operation.reach("qx"), "weight")


def _mix_channel(operation: Operation) -> Reach:
    """An instance norm: all positions of a channel; a single one is its own mean, and cancels."""
    seen = operation.reach("input")
    mixed = seen.mixed(range(2, len(seen.shape)))
    return mixed.inexact() if prod(seen.shape[2:]) == 1 else mixed


def _weigh(operation: Operation) -> Reach:
    """A softmax along one dimension; that of a single number is always one."""
    seen, dim = operation.reach("qx"), operation["dim"]
    mixed = seen.mixed([dim])
    return mixed.inexact() if seen.shape[dim] == 1 else mixed


def _scale_by_values(operation: Operation) -> list[Reach]:
    """What is rounded on a scale that the largest and the least of all values set."""
    seen = [one for one in operation.reaches() if not one.is_constant]
    return [
        union([one.everything(tuple(result.shape)) for one in seen], tuple(result.shape)).inexact()
        for result in operation.results
    ]


for _names, _rule in (
    (_ELEMENTWISE, elementwise),
    (_CONVOLUTIONS, _convolve),
    (_TRANSPOSED, _convolve),
    (_LINEAR, _multiply),
    (_DYNAMIC, _scale_by_values),
    ("prelu", _bend),
    ("instance_norm", _mix_channel),
    ("softmax", _weigh),
    ("matmul", multiply),
):
    for _name in _names.split():
        add_rule(f"quantized::{_name}", _rule)

for _name in ("int_repr", "_make_per_tensor_quantized_tensor", "quantized_batch_norm"):
    add_rule(f"aten::{_name}", elementwise)
add_rule("aten::quantize_per_tensor_dynamic", _scale_by_values)


@rule("quantized_lstm", "quantized_gru")
def _run(operation: Operation) -> list[Reach]:
    """A stack of recurrent layers, whose steps are rounded on scales that all samples set together."""
    if "batch_sizes" in operation:
        return _scale_by_values(operation)
    time = int(operation["batch_first"])
    places, _, size = operation.results[1].shape
    outputs, last = run_layers(
        operation.reach("input").mixed([1 - time]),
        [one.mixed([1]) for one in operation.reaches("hx")],
        [size] * places,
        time,
        bidirectional=operation["bidirectional"],
    )
    return [outputs.inexact(), *(last.expanded(tuple(one.shape)).inexact() for one in operation.results[1:])]


@rule("_fused_moving_avg_obs_fq_helper")
def _observe(operation: Operation) -> Reach:
    """Numbers on a scale, which follows the largest and the least of them unless the observer is switched off."""
    seen = operation.reach("self")
    switch = operation.values("observer_on")
    if switch is not None and not np.any(switch):
        return operation.with_all_of(seen, "scale", "zero_point")
    return union([seen, seen.everything(operation.shape)], operation.shape).inexact()
