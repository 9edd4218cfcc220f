"""Each function of the library on a model, held against plain hooks, axes that are permuted by hand, and gradients.

A check returns what a table says of it, or raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from library_models import LibraryModel
from torch import nn
from torch.utils.data import DataLoader

import spatialprobe as sp

Check = Callable[[LibraryModel, nn.Module, Path], str]


def hooked(one: LibraryModel, model: nn.Module, images: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """Return clones of what each layer returned, by plain hooks: of each run that returned one tensor."""
    taken: dict[str, list[torch.Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                taken.setdefault(name, []).append(output.clone())

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.named_modules()]
    try:
        one.call(model, images)
    finally:
        for handle in handles:
            handle.remove()
    return taken


def batches(one: LibraryModel, count: int = 4) -> DataLoader:
    """Return a loader of samples as users of the library have it."""
    return DataLoader(one.samples(count), batch_size=2, collate_fn=one.collate)


def capture(one: LibraryModel, model: nn.Module, folder: Path) -> str:
    """Every layer's record is bit-identical to a clone that a plain hook takes."""
    images = one.images()
    with torch.no_grad():
        truth = hooked(one, model, images)
    records = sp.capture(model, *one.inputs(images), layers="*")
    assert set(records) | set(records.left_out) == {name for name, module in model.named_modules()}
    assert set(one.layers) <= set(records), records.left_out
    for name in records:
        runs = records.calls(name)
        assert len(runs) == len(truth[name]), name
        for run, expected in zip(runs, truth[name], strict=True):
            assert torch.equal(run.tensor, expected), name
    return f"{len(records)}"


def plan(one: LibraryModel, model: nn.Module, folder: Path) -> str:
    """The plan has the shape of each layer, and how often it runs."""
    images = one.images()
    with torch.no_grad():
        truth = hooked(one, model, images)
    found = sp.plan(model, *one.inputs(images), layers="*")
    for name in found:
        assert (tuple(found[name].shape), found[name].calls) == (tuple(truth[name][0].shape), len(truth[name])), name
    assert set(one.layers) <= set(found)
    return f"{len(found)}"


def units_of(maps: torch.Tensor) -> list[tuple[int, ...]]:
    """Return the first, middle and last unit of maps."""
    sizes = maps.shape[2:]
    return [tuple(0 for _ in sizes), tuple(size // 2 for size in sizes), tuple(size - 1 for size in sizes)]


def influence(one: LibraryModel, model: nn.Module, name: str, unit: tuple[int, ...]) -> torch.Tensor:
    """Return the size of a unit's gradients with respect to each pixel, summed over channels and some images."""
    images = one.images(2).requires_grad_()
    weights = torch.Generator().manual_seed(4)
    maps = one.layers[name](hooked(one, model, images)[name][0])
    values = maps[(slice(None), slice(None), *unit)]
    total = (values * torch.randn(values.shape, generator=weights)).sum()
    (gradient,) = torch.autograd.grad(total, images)
    return gradient.abs().sum((0, 1))


def fields(one: LibraryModel, model: nn.Module, folder: Path) -> str:
    """No gradient lies outside a unit's box."""
    found = sp.receptive_fields(model, one.inputs(one.images(1)))
    for name, maps in one.layers.items():
        (shape,) = {tuple(maps(output).shape[2:]) for output in hooked(one, model, one.images(1))[name]}
        assert found[name].output_size == shape, (name, found[name].output_size, shape)
        for unit in units_of(torch.empty(1, 1, *shape)):
            moved = influence(one, model, name, unit)
            box = found[name].box(*unit)
            inside = torch.zeros_like(moved, dtype=torch.bool)
            inside[tuple(slice(start, stop) for start, stop in zip(box.start, box.stop, strict=True))] = True
            assert not moved[~inside].any(), (name, unit, box)
            assert moved[inside].any(), (name, unit, box)
    every = [field for name in found for field in found.calls(name)]
    exact = sum(field.exact for field in every) / len(every)
    return f"{len(found)}, all exact" if exact == 1 else f"{len(found)}, {exact:.0%} exact"


def sweep(one: LibraryModel, model: nn.Module, folder: Path) -> str:
    """Means, deviations and exemplars are those of outputs whose axes are permuted by hand."""
    count = 4
    result = sp.sweep(
        model,
        batches(one, count),
        [sp.Moments, sp.Exemplars],
        layers=list(one.layers),
        forward=one.forward,
        progress=False,
    )
    assert result.samples == count
    with torch.no_grad():
        truth = [hooked(one, model, part) for part in one.images(count).split(2)]
    for name, maps in one.layers.items():
        values = maps(torch.cat([part[name][0] for part in truth])).double()  # (N, C, *units)
        rows = values.transpose(0, 1).flatten(1)
        moments, top = result[name]["moments"], result[name]["exemplars"]
        torch.testing.assert_close(moments.mean, rows.mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moments.std, rows.std(1, correction=0), rtol=1e-4, atol=1e-5)
        ordered = values.flatten(2).amax(2).sort(0, descending=True).values  # (N, C)
        torch.testing.assert_close(top.values.double(), ordered.T, rtol=1e-4, atol=1e-5)
        at = torch.gather(values, 0, top.samples.T.reshape(count, -1, *[1] * (values.ndim - 2)).expand_as(values))
        places = top.positions.unbind(-1)  # (C, k) each
        channels = torch.arange(values.shape[1])[:, None]
        found = at.transpose(0, 1)[(channels, torch.arange(count), *places)]
        torch.testing.assert_close(found, ordered.T, rtol=1e-4, atol=1e-5)
    return "yes"


def page(one: LibraryModel, model: nn.Module, folder: Path) -> str:
    """The page holds the layers."""
    with torch.random.fork_rng(devices=[]):  # a loader draws a number for its workers
        batch = next(iter(batches(one, 2)))
    report = sp.write_report(
        folder / "page.html", model, batch, layers=list(one.layers), forward=one.forward, progress=False
    )
    assert set(report.layers) == set(one.layers), report.left_out
    assert report.path.stat().st_size > 10_000
    return "yes"


def patches(one: LibraryModel, model: nn.Module, folder: Path) -> str:
    """Patches of the exemplars are cut from the samples."""
    name = next(iter(one.layers))
    result = sp.sweep(model, batches(one), [sp.Exemplars], layers=name, forward=one.forward, progress=False)
    field = sp.receptive_fields(model, one.inputs(one.images(1)), layers=name)[name]
    mosaic = sp.exemplar_patches(result[name]["exemplars"], one.samples(), field, channels=[0, 1])
    assert mosaic.array.std() > 0
    return "yes"


def effective(one: LibraryModel, model: nn.Module, folder: Path) -> str:
    """The effective field is the mean over images of the gradients' shares."""
    name = next(iter(one.layers))
    images = one.images(2)
    channels = range(4)
    found = sp.effective_receptive_field(model, images, name, channels=channels, forward=one.call)
    images.requires_grad_()
    maps = one.layers[name](hooked(one, model, images)[name][0])
    unit = tuple(size // 2 for size in maps.shape[2:])
    assert found.unit == unit
    values = [maps[(slice(None), channel, *unit)].sum() for channel in channels]
    gradients = [torch.autograd.grad(value, images, retain_graph=True)[0] for value in values]
    expected = torch.stack(gradients).abs().sum((0, 1, 2)).double()
    torch.testing.assert_close(torch.as_tensor(found.map).double(), expected / expected.sum(), rtol=1e-3, atol=1e-6)
    return "yes"


def attribute(one: LibraryModel, model: nn.Module, folder: Path) -> str:
    """The channels' contributions are their gradients times activations, by hand."""
    images = one.images(2)
    names = list(one.layers)
    found = sp.attribute(model, images, one.score, layers=names, at="output", forward=one.call)
    assert list(found), found.left_out
    kept: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: kept.update({name: output}))
        for name, module in model.named_modules()
        if name in names
    ]
    scores = one.score(one.call(model, images.requires_grad_()))
    for handle in handles:
        handle.remove()
    for name in names:
        (gradient,) = torch.autograd.grad(scores.sum(), kept[name], retain_graph=True)
        product = gradient * kept[name]
        expected = one.layers[name](product).detach()
        torch.testing.assert_close(found[name].values, expected, rtol=1e-3, atol=1e-6)
    return "yes"


CHECKS: dict[str, Check] = {
    "capture": capture,
    "plan": plan,
    "fields": fields,
    "sweep": sweep,
    "page": page,
    "patches": patches,
    "effective field": effective,
    "attribute": attribute,
}


def outcome(one: LibraryModel, model: nn.Module, name: str, folder: Path) -> str:
    """Return what a check says; where the function refuses the model, "refused", if the error says what is expected."""
    if name not in one.refused:
        return CHECKS[name](one, model, folder)
    try:
        CHECKS[name](one, model, folder)
    except sp.SpatialProbeError as error:
        if re.search(one.refused[name], str(error)):
            return "refused"
        raise
    raise AssertionError(f"{name} works with {one} by now: it is listed as refused.")
