"""The inputs of convolutions: the image itself, or the very values of a layer that is captured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from spatialprobe.model.hooks import Hooks, ProbeHook
from spatialprobe.model.undo import Undo, UndoneBlock
from spatialprobe.tensors import holds_own_memory

Run = tuple[str, int]  # a layer's name, and which of its runs
IMAGE: Run = ("", -1)  # stands for the image among the runs


def watched_inputs(layers: Mapping[str, nn.Module]) -> UndoneBlock[dict[Run, bytes]]:
    """Return a block in which a digest of what each run of the convolutions over two axes took is noted."""
    return UndoneBlock(partial(_watch, layers))


def _watch(layers: Mapping[str, nn.Module], undo: Undo) -> dict[Run, bytes]:
    taken: dict[Run, bytes] = {}
    hooks = Hooks(undo)
    for name, module in layers.items():
        if type(module) is nn.Conv2d and module.padding_mode == "zeros":
            hooks.add_before(module, ProbeHook(_note, taken, name))
    return taken


def sources_of(
    taken: Mapping[Run, bytes], image: torch.Tensor | None, records: Iterable[tuple[Run, torch.Tensor]]
) -> dict[Run, Run]:
    """Return for each run whose input is known where it comes from; equal values are one as good as the other."""
    known = {digest: run for run, tensor in records if (digest := _digest(tensor)) is not None}
    image_digest = _digest(image)
    if image_digest is not None:
        known[image_digest] = IMAGE
    return {run: known[digest] for run, digest in taken.items() if digest in known}


def _note(taken: dict[Run, bytes], name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    run = (name, sum(known == name for known, _ in taken))
    digest = _digest(inputs[0]) if inputs else None
    taken[run] = digest if digest is not None else b""


def _digest(tensor: object) -> bytes | None:
    """Return what tells a tensor from others, None for what is no plain tensor of floating-point values."""
    if type(tensor) is not torch.Tensor or not tensor.is_floating_point() or tensor.is_meta:
        return None
    if not holds_own_memory(tensor):
        return None
    with torch.no_grad():
        values = tensor.detach().resolve_neg().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.blake2b(values.tobytes() + repr(values.shape).encode(), digest_size=16).digest()
