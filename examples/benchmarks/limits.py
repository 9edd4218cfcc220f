"""How far healthy networks stay from the limits of a checkup's rules, and what a few changes do to their values.

The networks of `healthy.py` are trained from several seeds; border effects are compared with those of the same networks
trained with images that are reflected at their borders, where padding leaves no edge. The second table measures what
counts as no difference between two passes, and what as one; the third what initializations do to the spread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from benchmarks.checkup import make_model
from benchmarks.healthy import LAYERS, NETWORKS, initialize_by_he, train
from benchmarks.method import Figure, Table
from torch import nn

import spatialprobe as sp
from spatialprobe.diagnosis.rules import batch_norm_mismatch, border, dead_channels, duplicate_channels, low_rank
from spatialprobe.diagnosis.rules.saturated import share_at_bound
from spatialprobe.diagnosis.rules.scale_growth import measure_growth

Values = dict[str, list[float]]
Padding = Literal["zeros", "reflect"]


class _Row(NamedTuple):
    """What is measured, and from which value on it is a finding."""

    name: str
    limit: str


_ROWS = {
    "dead": _Row(
        "dead channels, share of a layer",
        f"a warning above {dead_channels.FEW:g}, of small layers above {dead_channels.PART:g}",
    ),
    "bound": _Row("share of values at a bound", "a warning from 0.99 on"),
    "growth": _Row("growth of the spread over a layer", "a warning below 0.1 and above 10"),
    "alike": _Row("largest correlation of two channels", f"a note above {duplicate_channels.LIMIT:g}"),
    "dimension": _Row("effective dimension, over the channels", f"a warning below {low_rank.LIMIT:g}"),
    "norm": _Row("share of a batch norm's channels that are off", f"a warning above {batch_norm_mismatch.MOST:g}"),
    "zeros": _Row("border over inside, padded with zeros", f"a note above {border.LIMIT:g}"),
    "reflect": _Row("border over inside, reflected", "no edge, so what chance brings"),
    "shift": _Row("error at half a stride", "a note above 0.5"),
}


def measure(quick: bool) -> Iterator[Table]:
    """What healthy networks measure; then how far values move; then what initializations do."""
    torch.set_num_threads(1)
    values: Values = defaultdict(list)
    names = list(NETWORKS)[:3] if quick else list(NETWORKS)
    for name in names:
        for seed in range(1 if quick else 3):
            _measure_network(name, seed, values)
    figures = [_figure(row, values[key]) for key, row in _ROWS.items() if values[key]]
    title, unit = f"layers of {len(names)} healthy networks", "each statistic in its own unit"
    yield Table(title, unit, tuple(figures), bound="No times, but what the rules of a checkup measure in each layer.")
    yield changes()
    yield initializations(2 if quick else 10)


def _figure(row: _Row, values: list[float]) -> Figure:
    ends = f"{min(values):.3g} to {max(values):.3g} in {len(values)} layers; {row.limit}"
    return Figure.of(row.name, values, ends)


def _measure_network(name: str, seed: int, values: Values) -> None:
    """Add what the layers of a network measure, and the border effects of its twin that reflects images."""
    evidence, twin = (_examine(name, seed, padding) for padding in ("zeros", "reflect"))
    for layer, one in evidence.layers.items():
        if one.at == "post_activation":
            values["dead"].append(len(dead_channels.dead_channels(one)) / len(one.moments.mean))
        growth = measure_growth(evidence, layer)
        if growth is not None:
            values["growth"].append(growth)
        values["alike"].append(float(duplicate_channels.correlations(one).triu(1).max()))
        values["dimension"].append(low_rank.effective_dimension(low_rank.spectrum_of(one)) / len(one.moments.mean))
        widths = evidence.padding_units(layer)
        if widths and border.has_inside(evidence.mean_maps[layer], widths):
            for padding, which in (("zeros", evidence), ("reflect", twin)):
                strength = which.mean_maps[layer].mean(dim=0).numpy()
                values[padding].append(border.border_ratio(strength, widths))
    values["norm"] += [batch_norm_mismatch.share_off(one) for one in evidence.norms.values()]
    values["bound"] += [share_at_bound(one) for one in evidence.bounded.values() if one.units > 1]
    values["shift"] += [error for error, _ in evidence.shift_errors.values()]


def _examine(name: str, seed: int, padding: Padding) -> sp.diagnosis.Evidence:
    """Return the evidence of a checkup of a network."""
    model, images = train(name, seed=seed, padding_mode=padding)
    found: list[sp.diagnosis.Evidence] = []

    def keep(evidence: sp.diagnosis.Evidence) -> str:
        found.append(evidence)
        return "Kept."

    sp.checkup(model, images, layers=LAYERS, rules=[keep], progress=False)
    return found[0]


@torch.no_grad()
def changes() -> Table:
    """How far the output of ResNet-18 moves, over its norm: by rounding, dropout, and statistics of the batch."""
    model, images = make_model(), torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole, half = model(images), model(images[:8])
    torch.manual_seed(0)
    rounding = (whole[:8] - half).norm(dim=1) / half.norm(dim=1)
    hook = model.get_submodule("layer3").register_forward_hook(lambda *call: torch.dropout(call[2], 0.01, True))
    dropped = (model(images) - whole).norm(dim=1) / whole.norm(dim=1)
    hook.remove()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = norm.running_var = None
    mixed, fewer = model(images)[:8], model(images[:8])
    figures = {
        "half of the batch alone": rounding,
        "dropout of 1 % of the values of one layer": dropped,
        "half of the batch alone, by statistics of the batch": (mixed - fewer).norm(dim=1) / fewer.norm(dim=1),
    }
    rows = tuple(
        Figure.of(name, moved.tolist(), f"at most {float(moved.max()):.2g}") for name, moved in figures.items()
    )
    said = "The limit of `nondeterministic` and `batch_mixing` is 0.01."
    return Table("how far the output of ResNet-18 moves", "of its norm, by sample", rows, bound=said)


@torch.no_grad()
def initializations(seeds: int) -> Table:
    """What an initialization does to the spread over a convolution and ReLU, and how many channels it leaves dead."""
    images = torch.randn(16, 32, 24, 24, generator=torch.Generator().manual_seed(0)).relu()
    growth: Values = defaultdict(list)
    for seed in range(seeds):
        for name in ("torch's own", "He's"):
            torch.manual_seed(seed)
            layer = nn.Conv2d(32, 32, 3, padding=1)
            after = (layer if name == "torch's own" else initialize_by_he(nn.Sequential(layer)))(images).relu()
            growth[name].append(_spread(after) / _spread(images))
    rows = tuple(Figure.of(f"{name} initialization", ratios) for name, ratios in growth.items())
    return Table("spread over a convolution and ReLU, untrained", "times the spread of what it takes", rows)


def _spread(values: torch.Tensor) -> float:
    return float(values.transpose(0, 1).flatten(1).var(dim=1).mean().sqrt())
