"""What units really see: change one input pixel at a time, and look which outputs change. Knows nothing of geometry."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

NOISE = 1e-11  # what rounding may change, in float64


class Smooth(TorchFunctionMode):
    """Nothing hides behind a maximum or a zero: ReLUs leak, and max-pools average."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.relu, F.relu, torch.Tensor.relu):
            return F.leaky_relu(args[0], 0.3)
        if func in (torch.relu_, torch.Tensor.relu_):
            return F.leaky_relu_(args[0], 0.3)
        if func is F.max_pool2d and not kwargs.get("return_indices"):
            return _averaged(*args, **kwargs)
        if func is F.adaptive_max_pool2d:
            return F.adaptive_avg_pool2d(args[0], args[1])
        return func(*args, **kwargs)


def _averaged(image, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The window of a max-pool."""
    assert dilation == 1
    return F.avg_pool2d(image, kernel_size, stride, padding, ceil_mode)


def outputs_of(model, images):
    """Every module's outputs in order of execution: {name: [tensor, ...]}, single tensors only."""
    found = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: (
                found.setdefault(name, []).append(output.detach().clone()) if isinstance(output, torch.Tensor) else None
            )
        )
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad(), Smooth():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def seen(model, shape, *, bases=2, values=(3.0, -3.0, 0.4)):
    """{name: [bool (C, *units, *pixels), ...]}: which unit changes when all channels of a pixel do.

    The model must treat the images of a batch alike; a copy of it runs in float64.
    """
    model = copy.deepcopy(model).double()
    factors = 1 + 0.3 * torch.arange(shape[1])  # channels change by different amounts, so that nothing cancels
    pixels = list(product(*map(range, shape[2:])))
    changed = {}
    for seed in range(bases):
        base = torch.randn(1, *shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for value in values:
            images = base.repeat(len(pixels) + 1, *[1] * (len(shape) - 1))
            for number, pixel in enumerate(pixels, start=1):
                images[(number, slice(None), *pixel)] += value * factors
            for name, calls in outputs_of(model, images).items():
                for call, output in enumerate(calls):
                    differs = ((output[1:] - output[:1]).abs() > NOISE * (1 + output[:1].abs())).numpy()
                    differs = np.moveaxis(differs, 0, -1).reshape(*output.shape[1:], *shape[2:])
                    entry = changed.setdefault(name, [])
                    if call == len(entry):
                        entry.append(differs)
                    else:
                        entry[call] |= differs
    return changed


def seen_alone(function, shape, *others, bases=2, values=(3.0, -3.0, 0.4), dtype=torch.float64):
    """Bool (C, *units, *pixels): which unit changes when all channels of a pixel do, one forward for each pixel.

    For functions that read values, and so do not treat the images of a batch alike. Where the output changes its shape,
    all of it has changed. In another dtype than float64 any change counts, and what its rounding loses is not seen.
    """
    noise = NOISE if dtype is torch.float64 else 0
    factors = 1 + 0.3 * torch.arange(shape[1])
    changed = None
    for seed, value in product(range(bases), values):
        base = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)
        before = function(base.clone(), *others)
        changed = np.zeros((*before.shape[1:], *shape[2:]), bool) if changed is None else changed
        for pixel in product(*map(range, shape[2:])):
            image = base.clone()
            image[(slice(None), slice(None), *pixel)] += value * factors
            after = function(image, *others)
            if after.shape == before.shape:
                differs = ((after - before).abs() > noise * (1 + before.abs()))[0].numpy()
                changed[(..., *pixel)] |= differs
            else:
                changed[(..., *pixel)] = True
    return changed


def hulls(changed, axes):
    """The boxes (*units, 2 * axes) around what is True in (*units, *pixels); zeros where nothing is."""
    units = changed.shape[: changed.ndim - axes]
    boxes = np.zeros((*units, 2 * axes), np.int64)
    for axis in range(axes):
        others = tuple(len(units) + other for other in range(axes) if other != axis)
        along = changed.any(axis=others)
        boxes[..., axis] = along.argmax(axis=-1)
        boxes[..., axes + axis] = along.shape[-1] - along[..., ::-1].argmax(axis=-1)
    boxes[~changed.reshape(*units, -1).any(axis=-1)] = 0
    return boxes
