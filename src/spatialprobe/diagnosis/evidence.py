"""What the rules of a checkup look at: what was measured, and extra passes that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.diagnosis.finding import NotApplicable
from spatialprobe.diagnosis.measured import Difference, Measured, Nonfinite
from spatialprobe.diagnosis.outflow import Outflows, follow_outputs
from spatialprobe.diagnosis.pictures import BarsPicture, MapsPicture, bars
from spatialprobe.diagnosis.shifts import Errors, measure_shifts
from spatialprobe.diagnosis.subject import Subject
from spatialprobe.diagnosis.survey import Print, Run, Survey, first_change
from spatialprobe.diagnosis.taps import keep_lines, keep_pixel
from spatialprobe.diagnosis.unreached import find_unreached
from spatialprobe.errors import SpatialProbeError
from spatialprobe.fields.collection import ReceptiveFields
from spatialprobe.fields.gates import gates_in
from spatialprobe.fields.receptive_fields import receptive_fields
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.forward import called_by, with_one_tensor
from spatialprobe.model.select import Layer


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a checkup has measured of a model, for its rules.

    A rule is a function of this. What needs another pass of the model is measured when it is first asked for; the
    model is as it was before and after each.
    """

    model: nn.Module
    name: str  # of its class
    samples: int  # in the data
    layers: Mapping[str, Measured]  # the chosen layers, in the order in which they ran
    norms: Mapping[str, Measured]  # batch norms with statistics from training: moments of their outputs
    bounded: Mapping[str, Measured]  # nonlinearities with bounds
    ran: tuple[str, ...]  # all layers that ran, in the order in which they ended
    training: tuple[str, ...]  # modules in training mode
    nonfinite: Nonfinite | None
    left_out: Mapping[str, str]  # chosen layers that could not be measured, and why
    subject: Subject
    seen: Survey  # the pass on the first samples

    @cached_property
    def modules(self) -> Mapping[str, nn.Module]:
        """All modules of the model by name."""
        return {layer.name: layer.module for layer in self.subject.known}

    @cached_property
    def repeated(self) -> Difference | None:
        """The first layer whose values differ between two passes on the same samples; None if all are equal."""
        with self.subject.running():  # both in one block, so that the second does not draw the same random numbers
            one, other = (self.subject.survey(self.subject.samples) for _ in range(2))
        return _describe(first_change(one, other, self.tolerance))

    @cached_property
    def mixed(self) -> Difference | None:
        """The first layer whose values of a sample depend on the other samples of the batch; None if there is none.

        Raises:
            NotApplicable: the samples cannot be taken apart, or the model draws random numbers.
        """
        samples = self.subject.samples
        half = samples.first(samples.count // 2)
        if samples.count < 2 or half is samples:
            raise NotApplicable("The first samples cannot be split, so that none runs with other neighbors.")
        if samples.of_several_sizes:
            raise NotApplicable("Images of several sizes are padded to the largest, and so depend on their neighbors.")
        if self.repeated is not None:
            raise NotApplicable("Two passes on the same samples differ already.")
        with self.subject.running():
            fewer = self.subject.survey(half)
        return _describe(first_change(self.seen, fewer, self.tolerance))

    @property
    def tolerance(self) -> float:
        """The relative change up to which two passes count as equal: rounding is far below it, chance far above."""
        dtypes = {one.dtype for one in self.model.parameters() if one.is_floating_point()}
        return max([1e-2, *(16 * torch.finfo(dtype).eps for dtype in dtypes)])

    @cached_property
    def image_size(self) -> tuple[int, ...]:
        """The pixels of the images along each axis.

        Raises:
            NotApplicable: the model takes no images.
        """
        images = self.subject.samples.images
        if images is None:
            raise NotApplicable("The model takes no images (N, C, *axes).")
        return tuple(images.shape[2:])

    @cached_property
    def fields(self) -> ReceptiveFields:
        """The receptive fields of all layers; norms over space and gates do not count.

        Raises:
            NotApplicable: they cannot be found.
        """
        self.image_size  # noqa: B018  # raises
        return self._trace()

    def trace_pixel(self, pixel: tuple[int, ...]) -> ReceptiveFields:
        """Return the fields of all layers if all pixels of the image but one are replaced by constants.

        Raises:
            NotApplicable: they cannot be found.
        """
        return self._trace(lambda images: keep_pixel(images, pixel))

    def trace_lines(self, kept: Sequence[npt.NDArray[np.bool_]]) -> ReceptiveFields:
        """Return the fields of all layers if all pixels but those on some lines along each axis are constant.

        Raises:
            NotApplicable: they cannot be found.
        """
        return self._trace(lambda images: keep_lines(images, kept))

    def _trace(self, change: Callable[[torch.Tensor], torch.Tensor] | None = None) -> ReceptiveFields:
        """Return the fields of the model, whose images are changed by a function.

        Raises:
            NotApplicable: they cannot be found.
        """
        try:
            with self.subject.running():
                model, images = with_one_tensor(self.subject.called, self.subject.samples.first(1).inputs)
                if change is not None:
                    model = called_by(model, lambda inner, images: inner(change(images)))
                return receptive_fields(model, images, ignore=gates_in(self.model), layout=self.subject.layout)
        except SpatialProbeError as error:
            raise NotApplicable(f"The receptive fields cannot be found: {error}") from error

    @cached_property
    def unreached(self) -> Mapping[str, int]:
        """The outermost modules of which no parameter reaches the output, and how many parameters each has.

        Raises:
            NotApplicable: the model has no parameters, or no gradient can be taken of its output.
        """
        return find_unreached(self.subject)

    @cached_property
    def shift_errors(self) -> Errors:
        """The error of equivariance of measured layers at a shift of half their stride, and this shift in pixels.

        Raises:
            NotApplicable: the receptive fields cannot be found.
        """
        known = {name: self.exact_field(name) for name, one in self.layers.items() if _is_convolution(one.module)}
        return measure_shifts(self.subject, {name: one for name, one in known.items() if one is not None})

    @cached_property
    def mean_maps(self) -> Mapping[str, torch.Tensor]:
        """The mean magnitude of the activations of measured convolutions over the first samples, (C, *units)."""
        found: dict[str, torch.Tensor] = {}
        for layers, at in self._points():
            convolutions = [layer for layer in layers if _is_convolution(layer.module)]
            if convolutions:
                with self.subject.running():
                    probe = self.subject.record(convolutions, at, self.subject.samples, transform=_mean_magnitude)
                found |= {name: probe.calls(name)[0].tensor[0].cpu() for name in probe}
        return {name: found[name] for name in self.layers if name in found}

    @cached_property
    def outflows(self) -> Outflows:
        """What measured layers that no single nonlinearity follows become, before they meet others or are taken."""
        names = {name for name, one in self.layers.items() if one.at == "output"}
        return follow_outputs(self.subject, [layer for layer in self.subject.known if layer.name in names])

    def padding_units(self, layer: str) -> tuple[int, ...] | None:
        """Return how many units at each border a convolution's own padding reaches; None if it has none."""
        module = self.modules.get(layer)
        if not isinstance(module, nn.modules.conv._ConvNd) or module.transposed:
            return None
        axes = list(zip(module.kernel_size, module.dilation, module.stride, strict=True))
        if module.padding == "same":
            padding = [(kernel - 1) * dilation // 2 for kernel, dilation, _ in axes]
        else:
            padding = [int(pixels) for pixels in module.padding] if not isinstance(module.padding, str) else []
        if not any(padding) or module.padding_mode != "zeros":
            return None
        return tuple(-(-pixels // stride) for pixels, (_, _, stride) in zip(padding, axes, strict=True))

    def takes_images(self, layer: str) -> bool:
        """Return whether a layer is the first of the measured ones, or takes what the model takes."""
        runs, whole = self.seen.of(layer), self.seen.of("")
        taken, given = (one[0].before if one else None for one in (runs, whole))
        return layer == next(iter(self.layers), None) or _is_same(taken, given)

    def is_output(self, layer: str) -> bool:
        """Return whether what a layer returns is what the model returns."""
        runs, whole = self.seen.of(layer), self.seen.of("")
        return _is_same(*(one[-1].after if one else None for one in (runs, whole)))

    def _points(self) -> list[tuple[list[Layer], At]]:
        """Return the measured layers by where they are measured."""
        points: tuple[At, ...] = ("post_activation", "output")
        names = {at: {name for name, one in self.layers.items() if one.at == at} for at in points}
        return [([layer for layer in self.subject.known if layer.name in names[at]], at) for at in points if names[at]]

    @cached_property
    def _first_maps(self) -> Mapping[str, torch.Tensor]:
        """The activations of the measured layers for the first sample, (C, *units)."""
        found: dict[str, torch.Tensor] = {}
        one = self.subject.samples.first(1)
        for layers, at in self._points():
            with self.subject.running():
                probe = self.subject.record(layers, at, one)
            found |= {name: probe.calls(name)[0].maps(self.subject.layout).values[0] for name in probe}
        return found

    def picture_maps(self, one: Measured, channels: Sequence[int], called: str) -> MapsPicture | BarsPicture:
        """Return a picture of a layer's maps for the first sample, the `called` channels first.

        Of a layer without maps it shows how much each channel varies.
        """
        maps = self._first_maps.get(one.layer)
        where = f"layer {one.layer!r}" if one.layer else "the model"
        if maps is None or maps.ndim < 2 or not maps[0].numel():
            names = [str(channel) for channel in range(len(one.moments.std))]
            spread = one.moments.std.nan_to_num().tolist()
            title, unit = f"{called} of {where}, beside the others", "standard deviation, by channel"
            return bars(names, spread, channels, (), title, unit)
        return MapsPicture(maps.detach().cpu(), tuple(channels), f"{called} of {where}, then the others")

    def exact_field(self, layer: str) -> ReceptiveField | None:
        """Return the field of a layer's first run if it is exact and has the axes of the image, else None."""
        runs = self.fields.calls(layer) if layer in self.fields else ()
        if not runs or not runs[0].exact or len(runs[0].output_size) != len(runs[0].input_size):
            return None
        return runs[0]


def _describe(found: tuple[Run, float, bool] | None) -> Difference | None:
    return None if found is None else Difference(found[0].layer, found[1], found[2], found[0].call)


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd)


def _is_same(one: Print | None, other: Print | None) -> bool:
    """Return whether two values are equal as far as their fingerprints tell."""
    if one is None or other is None or len(one.sums) != len(other.sums):
        return False
    return torch.equal(one.sums, other.sums) and torch.equal(one.norms, other.norms)


def _mean_magnitude(value: torch.Tensor) -> torch.Tensor:
    """Return the mean magnitude over samples, (1, C, *units), float64."""
    return value.detach().double().abs().mean(dim=0, keepdim=True)
