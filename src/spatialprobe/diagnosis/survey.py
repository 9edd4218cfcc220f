"""One forward pass that is looked at from all modules: what ran in which order, and a fingerprint of each value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from spatialprobe.errors import UnsupportedOutputError
from spatialprobe.model.batch import tensors_of
from spatialprobe.model.forward import run_model
from spatialprobe.model.hooks import ProbeHook, attach
from spatialprobe.model.select import Layer, takes_hooks
from spatialprobe.model.undo import undo_block
from spatialprobe.tensors import computable_values

_TURN = 1.6180339887  # radians from one weight to the next: no multiple of it comes close to a full turn


@dataclass(frozen=True, eq=False)
class Print:
    """A fingerprint of a value: a weighted sum and the norm of each sample, by which two values are compared."""

    sums: torch.Tensor  # float64 (N,): with fixed weights that no exchange of elements leaves as they are
    norms: torch.Tensor  # float64 (N,)
    spread: float  # the standard deviation around the mean of each channel, over all channels (N, C, *units)

    @property
    def is_finite(self) -> bool:
        """Whether the value has neither NaN nor infinity."""
        return bool(self.norms.isfinite().all())

    def change(self, other: Print) -> torch.Tensor:
        """Return the estimated relative change of each sample both have, (N,); 0 where both are equally not finite.

        >>> one, other = (fingerprint(torch.full((3, 8), value), 3, {}) for value in (1.0, 1.5))
        >>> one.change(other).max().item() < 0.4, one.change(one).max().item()
        (True, 0.0)
        """
        count = min(len(self.sums), len(other.sums))
        size = torch.maximum(self.norms[:count], other.norms[:count])
        change = (self.sums[:count] - other.sums[:count]).abs() / size.clamp(min=torch.finfo(torch.float64).tiny)
        alike = self.norms[:count].isfinite() == other.norms[:count].isfinite()
        return torch.where(size.isfinite() & alike, change, torch.where(alike, 0.0, torch.inf))


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a module in the pass."""

    layer: str
    call: int  # the module's runs, counted from 0
    shape: tuple[int, ...]  # of its output; () if that is no single tensor
    before: Print | None  # of the tensors that it took
    after: Print | None  # of the tensors that it returned
    graph: bool  # whether gradients were recorded when it ended


@dataclass
class Survey:
    """What ran in a pass, in the order in which it ended."""

    count: int  # samples
    runs: list[Run] = field(default_factory=list)
    output: Any = None
    _begun: list[tuple[nn.Module, Print | None]] = field(default_factory=list)
    _weights: dict[tuple[int, torch.device], torch.Tensor] = field(default_factory=dict)

    @property
    def ran(self) -> list[str]:
        """The names of the layers that ran, in the order in which they first ended."""
        return list(dict.fromkeys(run.layer for run in self.runs))

    def of(self, layer: str) -> list[Run]:
        """Return the runs of a layer."""
        return [run for run in self.runs if run.layer == layer]

    def begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Note what a module takes (a forward pre-hook)."""
        self._begun.append((module, self._fingerprint((args, kwargs))))

    def ends(self, layer: Layer, module: nn.Module, args: Any, output: Any) -> None:
        """Note what a module returns (a forward hook)."""
        if module is not layer.module:
            return
        before = None
        while self._begun:
            begun, before = self._begun.pop()
            if begun is module:
                break
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) and not output.is_nested else ()
        call = sum(run.layer == layer.name for run in self.runs)
        self.runs.append(Run(layer.name, call, shape, before, self._fingerprint(output), torch.is_grad_enabled()))

    def _fingerprint(self, value: Any) -> Print | None:
        with torch.no_grad():
            found = [one for one in map(_readable, tensors_of(value)) if one is not None and one.numel()]
            prints = [fingerprint(one, self.count, self._weights) for one in found]
        prints = [one for one in prints if one is not None]
        if not prints or len({len(one.sums) for one in prints}) > 1:
            return prints[0] if prints else None
        return Print(
            sum((one.sums for one in prints[1:]), prints[0].sums),
            torch.stack([one.norms for one in prints]).square().sum(dim=0).sqrt(),
            max(one.spread for one in prints),
        )


def survey(model: nn.Module, layers: Sequence[Layer], inputs: Any, count: int, device: torch.device) -> Survey:
    """Return what ran in one forward pass on some samples; what the model raises passes through."""
    found = Survey(count)
    watched = [layer for layer in layers if takes_hooks(layer.module)]
    ends = [(layer.module, ProbeHook(partial(_ends, found), layer)) for layer in watched]
    begins = [(layer.module, ProbeHook(partial(_begins, found))) for layer in watched]
    with undo_block() as undo:
        attach(undo, ends, model, ProbeHook(_nothing), ProbeHook(_nothing), before=begins)
        found.output = run_model(model, inputs, device=device)
    return found


def fingerprint(value: torch.Tensor, count: int, weights: dict[tuple[int, torch.device], torch.Tensor]) -> Print:
    """Return the fingerprint of a value, of each of its `count` samples if they lie along its first axis.

    Args:
        value: of real numbers.
        count: the samples of the pass.
        weights: those that are known already, to be used again.
    """
    rows = value.detach().reshape(count, -1) if value.ndim and len(value) == count else value.detach().reshape(1, -1)
    rows = rows.float()
    key = rows.shape[1], rows.device
    if key not in weights:
        weights[key] = torch.cos(torch.arange(rows.shape[1], device=rows.device, dtype=torch.float32) * _TURN)
    sums, norms = (rows @ weights[key]).double().cpu(), torch.linalg.vector_norm(rows, dim=1).double().cpu()
    return Print(sums, norms, spread_of(value.detach()))


def spread_of(value: torch.Tensor) -> float:
    """Return the standard deviation around the mean of each channel, over all channels."""
    if value.ndim < 3:
        return float(value.float().std(correction=0)) if value.numel() else 0.0
    return float(value.float().transpose(0, 1).flatten(1).var(dim=1, correction=0).mean().sqrt())


def first_change(one: Survey, other: Survey, limit: float) -> tuple[Run, float, bool] | None:
    """Return the first run that two passes differ in by more than a limit, by how much, and whether its input does.

    Runs are compared as long as both passes make the same ones.
    """
    for mine, its in zip(one.runs, other.runs, strict=False):
        if mine.layer != its.layer:
            return mine, float("inf"), False
        change = _change(mine.after, its.after)
        if change > limit:
            return mine, change, _change(mine.before, its.before) > limit
    return None


def _change(one: Print | None, other: Print | None) -> float:
    if one is None or other is None:
        return 0.0
    change = one.change(other)
    return float(change.max()) if len(change) else 0.0


def _readable(value: torch.Tensor) -> torch.Tensor | None:
    """Return a tensor of real numbers, None if it cannot be read as one."""
    try:
        plain = computable_values(None, value)
    except UnsupportedOutputError:
        return None
    return torch.view_as_real(plain.resolve_conj()) if plain.is_complex() else plain


def _begins(found: Survey, module: nn.Module, args: Any, kwargs: Any) -> None:
    found.begins(module, args, kwargs)


def _ends(found: Survey, layer: Layer, module: nn.Module, args: Any, output: Any) -> None:
    found.ends(layer, module, args, output)


def _nothing(*_: Any) -> None:
    """Do nothing."""
