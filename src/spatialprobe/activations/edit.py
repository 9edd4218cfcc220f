"""Replace the outputs of layers inside a `with` block: ablate channels, patch in a tensor, or apply any function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.recompute import Replay
from spatialprobe.arguments import as_int, as_ints, as_numbers, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.model.hooks import CopiedInert, ForwardHook, attach_edits
from spatialprobe.model.layout import Signs, describe_doubt
from spatialprobe.model.select import check_model, select
from spatialprobe.model.undo import Undo, as_block
from spatialprobe.tensors import holds_own_memory
from spatialprobe.text import format_count, kind_of

Edit = Callable[[Any], Any]


@as_block
def edited(undo: Undo, model: nn.Module, edits: Mapping[Any, Edit]) -> nn.Module:
    """Return a block in which the outputs of the chosen layers are replaced; entering it returns the model.

    Edits run after the user's own hooks and before every probe, whichever was entered first, so that a probe records
    the edited output. They apply in all threads. Several edits of one layer run in the order of the mapping; an edit
    of a layer that does not run has no effect.

    Args:
        model: any module; it is restored when the block is left.
        edits: from a selector of layers, as for `Probe`, to a function of their output that returns the new output;
            for a tensor it must return one of the same shape and dtype.

    Raises:
        LayerNotFoundError: a selector matches nothing.
        ArgumentError: `edits` is not a mapping, or an edit is not callable; in the forward pass: the edit returned
            None, or does not fit the output.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    >>> with sp.edited(model, {"0": sp.ablate([1], value=-1.0)}), sp.Probe(model) as probe:
    ...     output = model(torch.ones(1, 1, 2, 2))
    >>> probe["0"].tensor[0, 1].tolist()
    [[-1.0, -1.0], [-1.0, -1.0]]
    """
    check_model(model)
    if not isinstance(edits, Mapping):
        raise ArgumentError(
            f"edits is {kind_of(edits)}: pass a mapping from layers to edits, such as {{'conv1': sp.ablate([0])}}."
        )
    replay, signs = Replay("was edited"), None
    hooks: list[tuple[nn.Module, ForwardHook]] = []
    for selector, edit in edits.items():
        if not callable(edit):
            raise ArgumentError(f"The edit of {selector!r} is {kind_of(edit)}, not a function of the output.")
        if isinstance(edit, _ChannelsSecond):
            signs = signs or Signs.of(model)
        doubts = signs if isinstance(edit, _ChannelsSecond) else None
        hooks += [(layer.module, _EditHook(layer.name, edit, replay, doubts)) for layer in select(model, selector)]
    undo.add(replay.close)
    replay.open(hooks)
    attach_edits(undo, hooks)
    return model


def ablate(
    channels: int | Sequence[int], value: float | Sequence[float] | torch.Tensor = 0.0, *, axis: int | None = None
) -> Edit:
    """Return an edit that sets channels to one number, or each channel to a number of its own.

    Args:
        channels: one or several channel numbers.
        value: a number, or one per channel, in their order.
        axis: the channel axis of the output: 1 for (N, C, H, W), -1 for channels last and tokens. If None it is 1, and
            an error is raised when a layer runs whose channel axis cannot be derived from the model's modules.

    >>> import torch, spatialprobe as sp
    >>> sp.ablate([0, 2], value=[5.0, 7.0])(torch.zeros(1, 3))
    tensor([[5., 0., 7.]])
    """
    chosen = list(as_ints(channels if isinstance(channels, Iterable) else (channels,), "channels"))
    along = 1 if axis is None else as_int(axis, "axis")
    values = value if isinstance(value, torch.Tensor) else as_numbers(value, "value")
    if values.layout != torch.strided or values.ndim > 1 or (values.ndim == 1 and len(values) != len(chosen)):
        raise ArgumentError(
            f"value must be one number or one for each of the {format_count(len(chosen), 'channel')}, "
            f"not {tuple(values.shape)}."
        )

    def edit(output: torch.Tensor) -> torch.Tensor:
        _check_channels(output, chosen, along)
        shape = [1] * output.ndim
        shape[along] = output.shape[along]
        replaced, filling = torch.zeros(shape[along], dtype=torch.bool, device="cpu"), values.new_zeros(shape[along])
        replaced[chosen], filling[chosen] = True, values
        # Not by index assignment, so that receptive fields behind an edit stay exact.
        return torch.where(
            replaced.to(output.device).reshape(shape), filling.to(output.device, output.dtype).reshape(shape), output
        )

    return _ChannelsSecond(edit) if axis is None else edit


class _ChannelsSecond:
    """An edit of outputs whose second axis must hold the channels."""

    def __init__(self, edit: Edit) -> None:
        self._edit = edit

    def __call__(self, output: Any) -> Any:
        return self._edit(output)


def replace(tensor: torch.Tensor) -> Edit:
    """Return an edit that returns this tensor in place of the output, on its device and in its dtype.

    >>> import torch, spatialprobe as sp
    >>> sp.replace(torch.ones(2))(torch.zeros(2))
    tensor([1., 1.])
    """
    if not isinstance(tensor, torch.Tensor):
        raise ArgumentError(f"replace() takes a tensor, not {kind_of(tensor)}.")

    def edit(output: torch.Tensor) -> torch.Tensor:
        if not isinstance(output, torch.Tensor) or output.shape != tensor.shape:
            shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise ArgumentError(
                f"replace() got a tensor {tuple(tensor.shape)}, but the output is {shape}: pass one of its shape."
            )
        return tensor.to(output.device, output.dtype, copy=True).contiguous()  # the model may modify it in place

    return edit


class _EditHook(CopiedInert):
    """A forward hook that applies one edit to one layer."""

    def __init__(self, layer: str, edit: Edit, replay: Replay, signs: Signs | None) -> None:
        self.content = (layer, edit)
        self._signs = signs  # for an edit whose channels must be the second axis
        self._layer = layer
        self._edit = edit
        self._replay = replay

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not self._replay.is_active:  # the recomputation of what was computed without the edit
            return None
        self._replay.join(self._layer)
        if self._signs is not None and isinstance(output, torch.Tensor) and not output.is_nested:
            shape = tuple(output.shape)
            if self._signs.layout_of(module, shape) is None:
                raise ArgumentError(describe_doubt(self._layer, shape, "Pass axis=1 or axis=-1 to ablate()."))
        try:
            changed = self._edit(output)
        except ArgumentError as error:
            raise ArgumentError(f"The edit of layer {self._layer!r} does not fit: {error}") from error
        if changed is None:
            raise ArgumentError(f"The edit of layer {self._layer!r} returned None: it must return the new output.")
        if isinstance(output, torch.Tensor):
            self._check_compatible(output, changed)
        return changed

    def _check_compatible(self, output: torch.Tensor, changed: Any) -> None:
        """Check that the new output has the shape and dtype of the layer's own."""
        if not isinstance(changed, torch.Tensor):
            kind = kind_of(changed)
            raise ArgumentError(f"The edit of layer {self._layer!r} returned {kind}: it must return a tensor.")
        if changed.shape != output.shape or changed.dtype != output.dtype:
            given, made = (f"{str(one.dtype)[6:]} {tuple(one.shape)}" for one in (output, changed))
            raise ArgumentError(
                f"The edit of layer {self._layer!r} returned {made}, but the layer returns {given}: it must return a "
                "tensor of that shape and dtype."
            )


def _check_channels(output: Any, channels: list[int], axis: int) -> None:
    if not isinstance(output, torch.Tensor):
        raise ArgumentError(f"ablate() works on a tensor, and the output is {kind_of(output)}.")
    if not holds_own_memory(output):
        kind = f"{output.layout} {type(output).__name__} of {output.dtype}"
        raise ArgumentError(f"ablate() works on plain dense tensors, and the output is a {kind}.")
    if not -output.ndim <= axis < output.ndim:
        raise ArgumentError(f"axis {axis} is out of range for an output {tuple(output.shape)}.")
    wrong = [channel for channel in channels if not 0 <= channel < output.shape[axis]]
    if wrong:
        raise ArgumentError(
            f"an output {tuple(output.shape)} has channels 0 to {output.shape[axis] - 1}, not {short_repr(wrong[0])}."
        )
