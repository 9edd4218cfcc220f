"""The records that a probe collects: one frozen dataclass for each run of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.activations.gradient import Gradient
from spatialprobe.activations.guard import KeptValue
from spatialprobe.activations.maps import Maps
from spatialprobe.errors import ArgumentError, SpatialProbeError, UnsupportedOutputError
from spatialprobe.model.layout import (
    WAYS,
    Layout,
    LayoutChoice,
    channels_second,
    check_layout,
    describe_doubt,
    describe_misfit,
    fits,
    leading_tokens,
)
from spatialprobe.storage.stored import StoredTensor
from spatialprobe.tensors import count_bytes, dense_values, numpy_values, shape_text, why_unreadable
from spatialprobe.text import as_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

At = Literal["output", "post_activation"]

_READ = (KeptValue, StoredTensor)  # what a record may hold in place of a tensor, checked at each read


@dataclass(frozen=True)
class ConvSpec:
    """The geometry of a convolution, one value per spatial axis.

    >>> from torch import nn
    >>> ConvSpec.of(nn.Conv2d(3, 6, 3, padding=1))
    ConvSpec(kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, transposed=False)
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str  # as passed to the layer: numbers, or "same" or "valid"
    dilation: tuple[int, ...]
    groups: int
    transposed: bool

    @staticmethod
    def of(module: nn.Module) -> ConvSpec | None:
        """Return the geometry of a convolution of any kind; None for another module."""
        if not isinstance(module, nn.modules.conv._ConvNd):
            return None
        return ConvSpec(
            kernel_size=tuple(module.kernel_size),
            stride=tuple(module.stride),
            padding=module.padding if isinstance(module.padding, str) else tuple(module.padding),
            dilation=tuple(module.dilation),
            groups=module.groups,
            transposed=module.transposed,
        )


class _CheckedField:
    """A field whose value is checked each time it is read (a data descriptor of `Activation`).

    It holds a tensor, a `KeptValue` that may have been modified in place or may still be copied from the accelerator,
    a `StoredTensor` of a file, whose checksum is compared once, or a `Gradient` that a backward pass has yet to
    compute.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: Activation | None, owner: type) -> Any:
        if record is None:
            raise AttributeError(self._name)  # so that `dataclass` sees a field without a default
        held = record.__dict__[self._name]
        if isinstance(held, _READ):
            return held.read()
        return held.value if isinstance(held, Gradient) else held

    def __set__(self, record: Activation, held: Any) -> None:
        record.__dict__[self._name] = held


@dataclass(frozen=True, eq=False)
class Activation:
    """The output of one layer in one of its runs.

    `tensor` holds exactly the layer's output, or reading it raises `MutatedActivationError`: a record may share its
    memory with the model, and is checked at each read. Treat it as read-only; clone it to modify it.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
    >>> with sp.Probe(model) as probe:
    ...     output = model(torch.zeros(4, 3, 8, 8))
    >>> record = probe["0"]
    >>> record
    Activation('0', shape=(4, 6, 6, 6), dtype=float32, device='cpu')
    >>> record.conv.kernel_size, record.nbytes
    ((3, 3), 3456)
    """

    layer: str  # dotted name, as in `named_modules()`
    aliases: tuple[str, ...]  # the other names of the same module
    call: int  # the layer's runs within one forward of the probed model, counted from 0
    forward: int  # the probed model's forwards inside the block, counted from 0
    order: int  # the position in `probe.records`
    at: At  # "output", or "post_activation": the value of the nonlinearity that follows
    module_type: str  # the layer's class, such as "Conv2d"
    conv: ConvSpec | None  # the geometry, if the layer is a convolution
    tensor: torch.Tensor = _CheckedField()  # type: ignore[assignment]  # (N, C, *spatial) for a convolution
    gradient: torch.Tensor | None = _CheckedField()  # type: ignore[assignment]  # of the value, summed over backward passes
    layout: Layout | None = None  # None if the channel axis cannot be derived from the model's modules

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape, (N, C, *spatial) for a convolution.

        Raises:
            UnsupportedOutputError: it is a nested tensor, which has no single shape.
        """
        tensor = self._unchecked
        if tensor.is_nested:
            raise UnsupportedOutputError(why_unreadable(self.layer, tensor))
        return tuple(tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The tensor's dtype."""
        return self._unchecked.dtype

    @property
    def device(self) -> torch.device:
        """The device on which the tensor is kept."""
        return self._unchecked.device

    @property
    def nbytes(self) -> int:
        """The size of the values in bytes, including the indices of a sparse or nested tensor."""
        return count_bytes(self._unchecked)

    @property
    def _unchecked(self) -> torch.Tensor:
        held = self.__dict__["tensor"]
        return held.value if isinstance(held, _READ) else held

    def numpy(self) -> npt.NDArray[Any]:
        """Return the values as a numpy array on the CPU.

        bfloat16 and float8, which numpy lacks, become float32 without loss. Quantized values are dequantized, sparse
        ones become dense.

        Raises:
            UnsupportedOutputError: the tensor has no values that can be read as one array.
            MutatedActivationError: the record has lost its values.
        """
        return numpy_values(self.layer, self.tensor)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        values = self.numpy()
        return np.array(values, dtype=dtype) if copy else np.asarray(values, dtype=dtype)

    def maps(self, layout: LayoutChoice = "auto") -> Maps:
        """Return the values as maps (N, C, *units), whatever the layout of the layer, and leading tokens apart.

        Args:
            layout: "channels_first", (N, C, *units); "channels_last", (N, *units, C); `sp.Tokens(height, width,
                leading)`, (N, tokens, C) as a grid; or "auto", the record's own `layout`.

        Raises:
            ArgumentError: the record's layout is not known, or the values do not have the layout.
            UnsupportedOutputError: the tensor cannot be read as one array.
            MutatedActivationError: the record has lost its values.

        >>> import torch, spatialprobe as sp
        >>> record = sp.capture(torch.nn.Conv2d(3, 6, 3), torch.rand(1, 3, 8, 8))[""]
        >>> record.maps()
        Maps((1, 6, 6, 6), layout='channels_first')
        """
        record = with_layout(self, layout)
        doubt = why_in_doubt(record)
        if doubt is not None:
            raise ArgumentError(doubt)
        values, known = dense_values(self.layer, self.tensor), record.layout or "channels_first"
        return Maps(channels_second(values, known), leading_tokens(values, known), known)

    def plot(
        self,
        *,
        sample: int = 0,
        channels: Sequence[int] | None = None,
        order: Literal["index", "max", "mean"] = "index",
        limit: int | None = None,
        scale: Literal["robust", "layer", "map"] | tuple[float, float] = "robust",
        image: object = None,
        columns: int | None = None,
        title: str | None = None,
        width: float | None = None,
        dpi: float | None = None,
        layout: LayoutChoice = "auto",
    ) -> Figure:
        """Return a figure of one sample's feature maps; arguments as for `feature_maps` and `Mosaic.figure`."""
        from spatialprobe.render.feature_maps import feature_maps  # so that reading records imports no drawing

        mosaic = feature_maps(
            self,
            sample=sample,
            channels=channels,
            order=order,
            limit=limit,
            scale=scale,
            image=image,
            columns=columns,
            layout=layout,
        )
        return mosaic.figure(title=title, width=width, dpi=dpi)

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"Activation({self.layer!r}, shape={shape_of(self)}, dtype={dtype}, device={str(self.device)!r})"

    def _repr_html_(self) -> str:
        """Return the maps of the first sample for a notebook; only text where they cannot be drawn."""
        from spatialprobe.render.feature_maps import feature_maps

        words = f"<code>{as_html(repr(self))}</code>"
        try:
            mosaic = feature_maps(self)
        except SpatialProbeError as error:
            return f"{words}<p>{as_html(str(error))}</p>"
        return f"{words}{mosaic._repr_html_()}"


def with_layout(record: Activation, layout: LayoutChoice) -> Activation:
    """Return the record with the layout that a user chose; as it is for "auto".

    Raises:
        ArgumentError: this is no layout.
    """
    check_layout(layout)
    return record if layout == "auto" else replace(record, layout=layout)


def channels_of(record: Activation) -> torch.Tensor:
    """Return a record's values as `values_of` does, with the channels as the second axis.

    Raises:
        ArgumentError: the layout is not known.
    """
    doubt = why_in_doubt(record)
    if doubt is not None:
        raise ArgumentError(doubt)
    return channels_second(values_of(record), record.layout or "channels_first")


def why_in_doubt(record: Activation) -> str | None:
    """Return why the channel axis of a record is not known, and what to do; None if it is known."""
    if record.layout in ("channels_first", "channels_last") or len(record.shape) <= 2:
        return None
    if record.layout is not None:
        return None if fits(record.layout, record.shape) else describe_misfit(record.layer, record.shape, record.layout)
    return describe_doubt(
        record.layer,
        record.shape,
        f"Pass {WAYS}; or set it with dataclasses.replace(record, layout='channels_last'); or record the layer with "
        "sp.capture(), which finds the layout.",
    )


def values_of(record: Activation) -> torch.Tensor:
    """Return a record's values as a plain dense tensor on the CPU, without a graph.

    A quantized tensor is dequantized to float32, a sparse one becomes dense.

    Raises:
        UnsupportedOutputError: the tensor has no values that can be read as one array.
        MutatedActivationError: the record has lost its values.
    """
    return dense_values(record.layer, record.tensor.detach()).cpu()


def why_no_values(record: Activation) -> str | None:
    """Return why a record's values cannot be read as one array, and what to do; None if they can."""
    return why_unreadable(record.layer, record._unchecked)


def shape_of(record: Activation) -> str:
    """Return a record's shape as text, also of a nested tensor, which has no single shape."""
    return shape_text(record._unchecked)
