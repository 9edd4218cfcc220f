"""Recurrent layers as one operator: on tensors without values torch runs them step by step, thousands of operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from spatialprobe.fields.constant_storage import Kind
from spatialprobe.fields.reach import Reach
from spatialprobe.fields.rules.recurrent import run_layers
from spatialprobe.fields.sizes import ORDINARY, SATURATES
from spatialprobe.fields.verdict import find_extremes

if TYPE_CHECKING:
    from spatialprobe.fields.dispatch import IntervalMode

_LAYERS = frozenset({torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu})


class RecurrentLayers(TorchFunctionMode):
    """A mode that follows a whole recurrent layer at once, in a pass on the meta device.

    Packed sequences run step by step, and so does a layer whose weights are none of the model's, or whose input has
    places that see nothing or values out of the ordinary, which a step may hide.
    """

    def __init__(self, follower: IntervalMode) -> None:
        super().__init__()
        self._follower = follower

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function unchanged, unless it is a layer that can be followed as one."""
        if func in _LAYERS and not kwargs and len(args) == 9 and isinstance(args[3], bool) and not args[6]:
            sequence, states, weights = args[0], args[1] if func is torch.lstm else [args[1]], args[2]
            if sequence.is_meta and self._is_ordinary(sequence, states, weights):
                return self._follow(sequence, list(states), args)
        return func(*args, **(kwargs or {}))

    def _is_ordinary(self, sequence: torch.Tensor, states: Any, weights: Any) -> bool:
        """Return whether a layer mixes all that its input and its states see, and hides nothing."""
        follower = self._follower
        reaches = [follower.reach_of(one) for one in (sequence, *states)]
        seeing = [one for one in reaches if not one.is_constant]
        return (
            bool(seeing)
            and all(one.sizes == ORDINARY and not one.gaps for one in seeing)
            and all(follower.constants.kind(one) in (Kind.WEIGHT, Kind.FROZEN) for one in weights)
            and all(self._is_small(one) for one in states if follower.reach_of(one).is_constant)
        )

    def _is_small(self, state: torch.Tensor) -> bool:
        """Return whether a constant initial state saturates no gate."""
        low, high = find_extremes(self._follower.constants.values(state))
        return max(-low, high) < SATURATES

    def _follow(self, sequence: torch.Tensor, states: list[torch.Tensor], args: Any) -> Any:
        """Return results of the shapes that the layer returns, after noting what they see."""
        layers, bidirectional, batch_first = args[4], args[7], args[8]
        places, size = layers * (1 + bidirectional), states[0].shape[-1]
        made = [sequence.new_zeros((*sequence.shape[:2], size * (1 + bidirectional)))]
        made += [sequence.new_zeros((places, *one.shape[1:])) for one in states]

        def run(reaches: Sequence[Reach]) -> list[Reach]:
            outputs, last = run_layers(
                reaches[0], reaches[1:], [size] * places, int(batch_first), bidirectional=bidirectional
            )
            return [outputs, *(last.expanded(tuple(one.shape)) for one in made[1:])]

        self._follower.overwrite([sequence, *states], made, run)
        return tuple(made)
