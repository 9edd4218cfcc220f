"""The kernels of a convolution as 8-bit codes: of each output channel those over its strongest inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.activations.records import ConvSpec
from spatialprobe.render.kernels import weights_of, why_no_kernels

MOST = 16  # kernels of one channel that a reader can take in
MIDDLE = 127  # the code of zero: code k stands for (k - MIDDLE) / MIDDLE * reach
NONFINITE = 255


@dataclass(frozen=True, eq=False)
class CodedKernels:
    """For each output channel the kernels over some input channels, all that there are or the strongest."""

    codes: npt.NDArray[
        np.uint8
    ]  # (C, k, kh, kw); kh is one over signals, and counts the rows of all slices over volumes
    reach: npt.NDArray[np.float64]  # (C,) the largest finite weight's magnitude
    inputs: npt.NDArray[np.int64]  # (C, k) the numbers of the input channels
    of: int  # input channels that each kernel has
    in_color: bool  # over three input channels, which are drawn as red, green and blue too
    bias: npt.NDArray[np.float64]  # (C,)
    steps: tuple[int, ...]  # stride, padding before, dilation: of each axis in order
    depth: int = 1  # slices that the rows are of, one below the other

    @staticmethod
    def of_module(module: nn.Module) -> CodedKernels | None:
        """Return those of a convolution whose kernels can be drawn, None for another module."""
        spec = ConvSpec.of(module)
        if spec is None or why_no_kernels(module) is not None:
            return None
        weights = weights_of(module, spec)
        axes = len(spec.kernel_size)
        depth = weights.shape[2] if axes == 3 else 1
        weights = weights.reshape(*weights.shape[:2], -1, weights.shape[-1])
        channels, inputs = weights.shape[:2]
        finite = np.isfinite(weights)
        known = np.where(finite, weights, 0)
        chosen = _strongest(known)
        picked = np.arange(channels)[:, None], chosen
        reach = np.abs(known[picked]).reshape(channels, -1).max(axis=1, initial=0).astype(np.float64)
        scaled = known[picked] / np.where(reach > 0, reach, 1)[:, None, None, None]
        codes = np.rint(MIDDLE + MIDDLE * scaled).astype(np.uint8)
        codes[~finite[picked]] = NONFINITE
        first = np.arange(channels) // (channels // spec.groups) * inputs  # the group's first input channel
        in_color = inputs == 3 and spec.groups == 1 and axes == 2
        bias = module.bias
        biases = bias.detach().cpu().double().numpy() if isinstance(bias, torch.Tensor) else np.zeros(channels)
        return CodedKernels(codes, reach, chosen + first[:, None], inputs, in_color, biases, _steps(spec), depth)

    def of_channels(self, chosen: npt.NDArray[np.int64]) -> CodedKernels:
        """The same for some of the output channels."""
        arrays = self.codes[chosen], self.reach[chosen], self.inputs[chosen]
        return CodedKernels(*arrays, self.of, self.in_color, self.bias[chosen], self.steps, self.depth)


def _steps(spec: ConvSpec) -> tuple[int, ...]:
    """Return stride, padding before the first value, and dilation, of both axes each."""
    if spec.padding == "same":
        pads = [dilation * (size - 1) // 2 for dilation, size in zip(spec.dilation, spec.kernel_size, strict=True)]
    else:
        pads = [0, 0] if isinstance(spec.padding, str) else list(spec.padding)
    return (*spec.stride, *pads, *spec.dilation)


def _strongest(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """(C, k) positions of the kernels with the largest norms, the largest first; all in order where they are few."""
    channels, inputs = weights.shape[:2]
    if inputs <= MOST:
        return np.broadcast_to(np.arange(inputs), (channels, inputs))
    norms = np.square(weights, dtype=np.float64).reshape(channels, inputs, -1).sum(axis=2)
    return np.stack([_largest(row) for row in norms])


def _largest(norms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(MOST,) positions of the largest, the largest first, equal ones in order; sorts no more than it must."""
    least = np.partition(norms, -MOST)[-MOST]
    known = np.flatnonzero(norms >= least)
    return known[np.argsort(-norms[known], kind="stable")[:MOST]]
