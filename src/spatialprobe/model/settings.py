"""Change settings of torch and Python temporarily: gradients, inference mode, random state, garbage collection."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import torch

from spatialprobe.model.undo import Undo, as_block


def set_gradients(undo: Undo, enabled: bool) -> None:
    """Enable or disable gradients until `undo` runs."""
    undo.add(torch.set_grad_enabled, torch.is_grad_enabled())
    torch.set_grad_enabled(enabled)


@as_block
def disable_gradients(undo: Undo) -> None:
    """Return a block in which gradients are disabled."""
    set_gradients(undo, False)


@as_block
def enable_gradients(undo: Undo) -> None:
    """Return a block in which gradients are enabled, also inside `no_grad` and `inference_mode`."""
    leave_inference_mode(undo)
    set_gradients(undo, True)


@as_block
def disable_autocast(undo: Undo, device_type: str) -> None:
    """Return a block in which autocast is disabled."""
    if torch.is_autocast_enabled(device_type):
        undo.add(torch.set_autocast_enabled, device_type, True)
        torch.set_autocast_enabled(device_type, False)


@as_block
def disable_autocast_cache(undo: Undo) -> None:
    """Return a block in which autocast neither keeps nor uses converted weights.

    It keeps them as they were first converted; those of a forward pass without gradients would keep a later one with
    gradients from reaching the weights.
    """
    undo.add(torch.set_autocast_cache_enabled, torch.is_autocast_cache_enabled())
    torch.set_autocast_cache_enabled(False)


@as_block
def pause_collection(undo: Undo) -> None:
    """Return a block in which Python does not look for garbage in reference cycles.

    To look through all objects of torch takes a few tenths of a second, and a block that creates many small objects
    starts it each time.
    """
    if gc.isenabled():
        undo.add(gc.enable)
        gc.disable()


@as_block
def compute_units_apart(undo: Undo) -> None:
    """Return a block in which convolutions compute each unit from its own receptive field alone.

    Winograd and FFT algorithms compute neighbors together, so that rounding errors of one unit depend on pixels
    outside of its receptive field.
    """
    undo.add(torch._C._set_cudnn_enabled, torch._C._get_cudnn_enabled())
    undo.add(torch._C._set_nnpack_enabled, torch._C._get_nnpack_enabled())
    torch._C._set_cudnn_enabled(False)
    torch._C._set_nnpack_enabled(False)


def leave_inference_mode(undo: Undo) -> None:
    """Leave inference mode, if this thread is in it, until `undo` runs."""
    if torch.is_inference_mode_enabled():
        outside = torch.inference_mode(False)
        undo.add(_reenter_inference_mode, outside)
        outside.__enter__()


class RandomState:
    """The states of the random generators that a forward pass may use: Python's, numpy's, and torch's on some devices.

    >>> state = RandomState([torch.device("cpu")])
    >>> first = torch.rand(1), random.random()
    >>> state.restore()
    >>> first == (torch.rand(1), random.random())
    True
    """

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._python = random.getstate()
        self._numpy = np.random.get_state()
        self._torch = torch.get_rng_state()
        self._cuda = {device: torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"}

    def restore(self) -> None:
        """Restore the state of every generator."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)


def seed_generators(undo: Undo, seed: int, devices: Iterable[torch.device]) -> None:
    """Seed torch's generators on the CPU and on these devices; restore their states when `undo` runs."""
    cuda = [device for device in devices if device.type == "cuda"]
    undo.add(RandomState(cuda).restore)
    torch.default_generator.manual_seed(seed)
    for device in cuda:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _reenter_inference_mode(outside: torch.inference_mode) -> None:
    with suppress(AttributeError):  # it was never entered
        outside.__exit__(None, None, None)
