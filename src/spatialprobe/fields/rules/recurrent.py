"""Rules of recurrent layers: each step sees those before it, and of a layer that runs backwards those after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatialprobe.fields.reach import Reach, joined, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import rule


def run_along(seen: Reach, states: Sequence[Reach], time: int, *, backwards: bool) -> Reach:
    """Return what each step of one direction of a layer sees, with one channel for all.

    Args:
        seen: of the sequence, channels last.
        states: of the initial states, in shapes that broadcast against the sequence of one channel.
        time: the dimension of the sequence's steps.
        backwards: whether the layer begins at the last step.
    """
    steps = seen.reduced([-1], keepdim=True)
    order = np.arange(seen.shape[time])[::-1]
    if backwards:
        steps = steps.taken(time, order)
    steps = steps.accumulated(time)
    if backwards:
        steps = steps.taken(time, order)
    return union([steps, *states], steps.shape)


def run_layers(
    seen: Reach, states: Sequence[Reach], sizes: Sequence[int], time: int, *, bidirectional: bool
) -> tuple[Reach, Reach]:
    """Return what the outputs of a stack of recurrent layers see, and what the last states of all of them do.

    Args:
        seen: of the sequence (steps, N, channels), or (N, steps, channels).
        states: of the initial states (layers * directions, N, channels), each of which may be a constant.
        sizes: the number of output channels of each layer and direction.
        time: the dimension of the sequence's steps.
        bidirectional: whether every other one of them runs backwards.
    """
    directions, last = 1 + bidirectional, []
    for layer in range(len(sizes) // directions):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            initial = [_initial(state, place, time) for state in states]
            steps = run_along(seen, initial, time, backwards=direction == 1)
            outputs.append(steps.expanded((*steps.shape[:-1], sizes[place])))
            last.append(steps.selected(time, 0 if direction else steps.shape[time] - 1))
        seen = joined(outputs, 2) if bidirectional else outputs[0]
    return seen, joined([one.reshaped((1, *one.shape)) for one in last], 0)


def _initial(state: Reach, place: int, time: int) -> Reach:
    """Return what the initial state of one layer sees, with one channel and one step."""
    one = state.sliced(0, place, 1, 1).reduced([-1], keepdim=True)  # (1, N, 1)
    return one if time == 0 else one.permuted([1, 0, 2])


@rule("mkldnn_rnn_layer")
def _ran(operation: Operation) -> list[Reach]:
    """One direction of one layer of an LSTM, over (steps, N, channels), as it runs on a CPU."""
    seen = operation.reach("input")
    states = [
        one.reshaped((1, seen.shape[1], one.shape[-1])).reduced([-1], keepdim=True)
        for one in operation.reaches("hx_", "cx_")
    ]
    steps = run_along(seen, states, 0, backwards=operation["reverse"])
    weights = [name for name in operation.arguments if name.startswith("weight")]
    output = operation.with_all_of(steps.expanded(operation.shape), *weights)
    last = output.sliced(0, 0 if operation["reverse"] else output.shape[0] - 1, 1, 1)
    ends = [last.reshaped(tuple(one.shape)) for one in operation.results[1:3]]
    return [output, *ends, *(output.everything(tuple(one.shape)).inexact() for one in operation.results[3:])]
