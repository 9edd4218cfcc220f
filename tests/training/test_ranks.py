"""Several processes that train one model: each reduces its share, and all get the merged history."""

from __future__ import annotations

import numpy as np
import torch
from sweeps import together
from torch import nn

import spatialprobe as sp

STEPS, SHARE = 3, 4


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))


def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2 * SHARE, 1, 8, 8, generator=generator) for _ in range(STEPS)]


def train(folder, *, watched=True):
    """Return the weights after training, and what the monitor saw, as plain values."""
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(make_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    monitor = sp.Monitor(model, [sp.Moments, sp.Dead, sp.Exemplars], every=2, gradients=True, images=batches()[0][:1])
    with monitor if watched else torch.enable_grad():
        for images in batches():
            optimizer.zero_grad()
            model(images[dist.get_rank() :: 2]).square().mean().backward()
            optimizer.step()
    weights = [parameter.detach().numpy() for parameter in model.parameters()]
    return weights, [] if not watched else plain(monitor)


def plain(monitor):
    return [
        (row.step, row.layer, row.reducer, {name: getattr(row.result, name).numpy() for name in names})
        for row in monitor.history
        for names in [[name for name in ("mean", "count", "fired", "values", "samples") if hasattr(row.result, name)]]
    ]


def both(folder):
    return train(folder), train(folder, watched=False)[0]


def whole():
    """Return the history of one process that takes whole batches."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with sp.Monitor(model, [sp.Moments, sp.Dead, sp.Exemplars], every=2) as monitor:
        for images in batches():
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    return plain(monitor)


def test_shares_are_merged_and_weights_are_bit_identical(tmp_path):
    """Both processes have the history of whole batches, and train as without a monitor."""
    ((weights, rows), bare), ((others, rows_there), _) = together(both, tmp_path, 2, seconds=100)
    for one, other, without in zip(weights, others, bare, strict=True):
        np.testing.assert_array_equal(one, without)
        np.testing.assert_array_equal(one, other)
    np.testing.assert_equal(rows, rows_there)
    values = [row for row in rows if ".gradient" not in row[2]]
    for (*place, result), (*expected_place, expected) in zip(values, whole(), strict=True):
        assert place == expected_place
        for name in expected:
            np.testing.assert_allclose(result[name], expected[name], rtol=1e-5, atol=1e-7)
    assert {row[0] for row in rows if row[2] == "moments.gradient"} == {0, 2}
    assert all((result["count"] == 2 * SHARE * 36).all() for *_, name, result in rows if name.startswith("moments"))
