"""Find out which axis of a layer's output holds the channels, from modules and sizes, without running the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn.modules import batchnorm, conv, instancenorm, pooling

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.model.tokens import Tokens
from spatialprobe.text import format_count

Layout: TypeAlias = Literal["channels_first", "channels_last"] | Tokens
LayoutChoice: TypeAlias = Literal["auto", "channels_first", "channels_last"] | Tokens

WAYS = "layout='channels_first', layout='channels_last' or layout=sp.Tokens(height, width, leading=0)"

# Modules whose outputs are (N, C, *units) in every model.
_CHANNELS_FIRST: tuple[type[nn.Module], ...] = (
    conv._ConvNd,
    batchnorm._BatchNorm,
    instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    pooling._MaxPoolNd,
    pooling._MaxUnpoolNd,
    pooling._AvgPoolNd,
    pooling._AdaptiveAvgPoolNd,
    pooling._AdaptiveMaxPoolNd,
    pooling._LPPoolNd,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
    nn.Upsample,
)
# Modules that operate on the last axis, and are the reason why models put the channels there.
_LAST_AXIS: tuple[type[nn.Module], ...] = (
    nn.LayerNorm,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.Embedding,
    nn.RNNBase,
    *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()),
)
_COUNTS_CHANNELS = ("in_channels", "out_channels", "num_features", "num_channels")
_COUNTS_FEATURES = ("in_features", "out_features", "embed_dim", "embedding_dim", "hidden_size", "input_size")


@dataclass(frozen=True)
class Signs:
    """The sizes and types of a model's modules that indicate the layouts of its layers."""

    channels: frozenset[tuple[int, int]]  # (number of axes, channels) of inputs and outputs of convolutions and norms
    features: frozenset[int]  # sizes of the last axis of inputs and outputs of other modules
    last_axis: bool  # whether there are modules whose channels usually come last

    @staticmethod
    def of(model: nn.Module) -> Signs:
        """Return the signs of a model."""
        modules = list(model.modules())
        others = [one for one in modules if isinstance(one, (nn.Linear, *_LAST_AXIS))]
        norms = (getattr(one, "normalized_shape", None) for one in others)
        widths = [int(shape[-1]) for shape in norms if isinstance(shape, tuple)]
        return Signs(
            frozenset(
                (ndim, count)
                for one in modules
                if isinstance(one, _CHANNELS_FIRST) or _is_quantized(one)
                for ndim in _axes(one)
                for count in _counts([one], _COUNTS_CHANNELS)
            ),
            frozenset([*_counts(others, _COUNTS_FEATURES), *widths]),
            any(isinstance(one, _LAST_AXIS) for one in others),
        )

    def layout_of(self, module: nn.Module, shape: tuple[int, ...]) -> Layout | None:
        """Return the layout of a module's output of this shape; None if it is in doubt.

        Convolutions, batch, group and instance norms and poolings are channels first by their type. For any other
        module the sizes decide. An output is in doubt if its last axis is as long as the input or output of a linear
        layer of the model, and its second is not as long as the channels of a convolution's output with as many axes.
        In a model with layer norms or attention both must indicate channels first. Outputs (N, C) have no units, so
        that they are never in doubt.
        """
        while type(module) is nn.Sequential and len(module):
            module = module[-1]
        if len(shape) <= 2 or is_channels_first(module):
            return "channels_first"
        if isinstance(module, (nn.Linear, *_LAST_AXIS)) and _has_torch_forward(module):
            return None
        first, last = (len(shape), shape[1]) in self.channels, shape[-1] in self.features
        certain = first and not last if self.last_axis else first or not last
        return "channels_first" if certain else None


def is_channels_first(module: nn.Module) -> bool:
    """Return whether a module's outputs are (N, C, *units) by its type."""
    return isinstance(module, _CHANNELS_FIRST) and _has_torch_forward(module)


def check_layout(layout: object, called: str = "layout") -> None:
    """Check that `layout` is one that users may choose.

    Raises:
        ArgumentError: it is another value; the message names all.

    >>> check_layout("rows")
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: layout must be 'auto', 'channels_first', ... or sp.Tokens(...), not 'rows'.
    """
    words = ("auto", "channels_first", "channels_last")
    if not (isinstance(layout, Tokens) or (isinstance(layout, str) and layout in words)):
        raise ArgumentError(
            f"{called} must be {', '.join(map(repr, words))} or sp.Tokens(height, width, leading=0), not "
            f"{short_repr(layout)}."
        )


def fits(layout: Layout, shape: tuple[int, ...]) -> bool:
    """Return whether an output of this shape can have the layout: tokens must be (N, L, C), and as many.

    >>> fits(Tokens(4, 4, leading=1), (2, 17, 8)), fits(Tokens(4, 4), (2, 17, 8)), fits("channels_last", (2, 17, 8))
    (True, False, True)
    """
    return not isinstance(layout, Tokens) or len(shape) == 2 or (len(shape) == 3 and shape[1] == layout.count)


def describe_misfit(layer: str, shape: tuple[int, ...], layout: Layout) -> str:
    """Return the message that a layer's output cannot have a layout, and what to do."""
    count = f" of {layout.count} tokens" if isinstance(layout, Tokens) else ""
    return (
        f"The output {shape} of layer {layer or '(model)'!r} does not have the layout {layout}, which is that of "
        f"(N, tokens, C){count}. Pass the layout that it has, or layout='auto'."
    )


def units_of(layout: Layout, ndim: int) -> tuple[int, ...]:
    """Return the axes of an output of this layout that index units; for tokens one, even if they are a grid.

    >>> units_of("channels_first", 4), units_of("channels_last", 4), units_of("channels_last", 3)
    ((2, 3), (1, 2), (1,))
    """
    return tuple(range(2, ndim)) if layout == "channels_first" or ndim < 3 else tuple(range(1, ndim - 1))


def channels_second(values: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return values of this layout, which they must fit, as (N, C, *units), a view of the same memory.

    Of tokens, those of the grid are returned.

    >>> channels_second(torch.zeros(2, 7, 5, 3), "channels_last").shape
    torch.Size([2, 3, 7, 5])
    >>> channels_second(torch.zeros(2, 13, 6), Tokens(3, 4, leading=1)).shape
    torch.Size([2, 6, 3, 4])
    """
    if layout == "channels_first" or values.ndim < 3:
        return values
    if isinstance(layout, Tokens):
        values = torch.unflatten(values[:, layout.leading :], 1, (layout.height, layout.width))
    return values.movedim(-1, 1)


def leading_tokens(values: torch.Tensor, layout: Layout) -> torch.Tensor | None:
    """Return the tokens (N, leading, C) before the grid of values of this layout, a view; None if there are none."""
    return values[:, : layout.leading] if isinstance(layout, Tokens) and layout.leading and values.ndim > 2 else None


def describe_doubt(layer: str, shape: tuple[int, ...], how: str) -> str:
    """Return the message that it is not known which axis of a layer's output holds the channels, and what to do.

    Args:
        layer: the name of the layer.
        shape: the shape of its output.
        how: what to do, a sentence.
    """
    return (
        f"It is not known which axis of the output {shape} of layer {layer or '(model)'!r} holds the channels: the "
        f"second, as in (N, C, H, W), or the last, as in (N, H, W, C) and tokens (N, tokens, C). {how}"
    )


def describe_rows(shape: tuple[int, ...], count: int) -> str:
    """Return why an output has no row for each of `count` samples along its first axis; an empty string if it has.

    The rule: the first axis of an output counts samples. Where it is a multiple of them, the model has folded windows,
    frames or patches into the batch, or goes on with a detector's proposals, and these are never counted as samples.

    >>> describe_rows((8, 4, 4), 8), describe_rows((8, 4, 4), 2).partition(",")[0]
    ('', 'Its first axis holds 8 rows for 2 samples')
    """
    rows = shape[0] if shape else 0
    if rows == count:
        return ""
    if count and rows and rows % count == 0:
        return (
            f"Its first axis holds {rows} rows for {format_count(count, 'sample')}, such as windows, frames or patches "
            "that the model folds into the batch, or a detector's proposals; they are not counted as samples. Choose a "
            "layer outside of the folding, or capture this one: if all samples have as many rows, and those of one "
            f"follow each other, record.tensor.unflatten(0, ({count}, {rows // count})) has the samples first."
        )
    return "Its first axis is not the batch, so that values cannot be matched to samples. Choose another layer."


def _has_torch_forward(module: nn.Module) -> bool:
    """Return whether a module uses the forward of a class of torch; that of another class may permute axes."""
    return type(module).forward.__module__.startswith("torch.")


def _is_quantized(module: nn.Module) -> bool:
    """Return whether this is a quantized convolution, which torch does not derive from `_ConvNd`."""
    kind = type(module)
    return kind.__module__.startswith("torch.ao.") and "Conv" in kind.__name__


def _axes(module: nn.Module) -> tuple[int, ...]:
    """Return the possible numbers of axes of the outputs of a channels-first module."""
    digits = [int(letter) for letter in type(module).__name__ if letter in "123"]  # Conv2d, BatchNorm1d
    kernel = getattr(module, "kernel_size", None)
    if isinstance(kernel, tuple):
        return (len(kernel) + 2,)
    return (digits[-1] + 2,) if digits else (3, 4, 5)


def _counts(modules: Iterable[nn.Module], names: tuple[str, ...]) -> list[int]:
    """Return the positive integer attributes of modules with these names."""
    values = (getattr(module, name, None) for module in modules for name in names)
    return [value for value in values if isinstance(value, int) and value > 0]
