"""The cost of a picture of many feature maps in CPU time, and in memory.

The floor is zlib at level 1 on the maps' 8-bit codes: what compressing them would cost if there were nothing to
quantize, lay out, number and explain. The peers draw the same maps to a PNG in memory.
"""

from __future__ import annotations

import io
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from benchmarks.method import Figure, Table, paired
from matplotlib.figure import Figure as Page
from torch import nn

import spatialprobe as sp
from spatialprobe.render.maps import maps_of
from spatialprobe.render.scale import choose_scale, quantize

ROUNDS = 40
SLOW_ROUNDS = 5  # of what takes seconds
FLOOR = "times zlib level 1 of the same codes"
ENLARGED = (
    "Few maps are enlarged: a picture of 64 has 4.8 times as many pixels as they have values, and more than half of "
    "the time goes to zlib at its fastest level; no other strategy of zlib takes less than nine tenths of that time."
)


def measure(quick: bool) -> Iterator[Table]:
    """Yield time relative to the floor, time of the peers relative to ours, memory relative to the picture."""
    torch.set_num_threads(1)
    maps, rounds = (64, 10) if quick else (512, ROUNDS)
    title = f"{maps} maps of 56 x 56 to a PNG, CPU time"
    records = {"after ReLU": record_of(maps, relu=True), "before it": record_of(maps, relu=False)}
    floors = [
        paired(floor_of(record), {f"feature_maps().to_png(), {name}": ours(record)}, rounds, clock=time.process_time)[0]
        for name, record in records.items()
    ]
    yield Table(title, FLOOR, tuple(floors))
    yield few(64, rounds)
    record = records["after ReLU"]
    figures = paired(ours(record), peers(record), rounds, clock=time.process_time)
    axes = {"one axes a map": lambda: one_axes_a_map(record)}
    figures += paired(ours(record), axes, SLOW_ROUNDS, clock=time.process_time)
    yield Table(title, "times feature_maps().to_png()", tuple(figures))
    yield memory(4 * maps)


def few(maps: int, rounds: int) -> Table:
    """Return the time of a picture that is enlarged, of the page with it, and of the peers, relative to the floor."""
    record = record_of(maps, relu=True)
    figures = paired(
        floor_of(record),
        {
            "feature_maps().to_png()": ours(record),
            "feature_maps().save(), a page with title, caption and color bar": saved(record),
            **peers(record),
            "one axes a map": lambda: one_axes_a_map(record),
        },
        rounds,
        clock=time.process_time,
    )
    return Table(f"{maps} maps of 56 x 56 to a PNG, CPU time", FLOOR, tuple(figures), bound=ENLARGED)


def record_of(maps: int, *, relu: bool) -> sp.Activation:
    """Return the outputs of a second convolution for a smooth image, as they come from a network."""
    torch.manual_seed(0)
    second = nn.Sequential(nn.Conv2d(64, maps, 3, padding=1), *([nn.ReLU()] if relu else []))
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), second)
    image = nn.functional.interpolate(torch.rand(1, 3, 14, 14), (56, 56), mode="bilinear")
    return sp.capture(model, image, layers="2")["2"]


def ours(record: sp.Activation) -> Callable[[], bytes]:
    """Return a contestant: from the record to the bytes of the file."""
    return lambda: sp.feature_maps(record).to_png()


def saved(record: sp.Activation) -> Callable[[], object]:
    """Return a contestant: from the record to a file that explains itself."""
    folder = tempfile.TemporaryDirectory()  # goes when the function has gone
    return lambda: sp.feature_maps(record).save(Path(folder.name, "maps.png"))


def floor_of(record: sp.Activation) -> Callable[[], bytes]:
    """Return a contestant that only compresses the codes, which are made beforehand."""
    maps = maps_of(record, 0)
    codes = np.ascontiguousarray(quantize(maps, choose_scale(maps, "robust")))
    return lambda: zlib.compress(codes.data, 1)


def peers(record: sp.Activation) -> dict[str, Callable[[], object]]:
    """Return other ways to one PNG of all maps."""
    from torchvision.utils import save_image

    maps = record.tensor[0][:, None]

    def torchvision() -> None:
        save_image(maps, io.BytesIO(), nrow=32, normalize=True, format="png")  # makes the grid itself

    def one_imshow() -> None:
        mosaic = sp.feature_maps(record)
        height, width = mosaic.array.shape[:2]
        page = Page(figsize=(width / 100, height / 100), dpi=100)
        page.add_axes((0, 0, 1, 1)).imshow(mosaic.array, interpolation="nearest")
        page.savefig(io.BytesIO())

    return {"torchvision make_grid and save_image": torchvision, "the same mosaic through one imshow": one_imshow}


def one_axes_a_map(record: sp.Activation) -> None:
    """Draw one axes for each map, as most tutorials do."""
    maps = record.numpy()[0]
    columns = 32
    page = Page(figsize=(columns * 0.6, -(-len(maps) // columns) * 0.74), dpi=100)
    for axes, one in zip(page.subplots(-(-len(maps) // columns), columns).flat, maps, strict=False):
        axes.imshow(one)
        axes.set_axis_off()
    page.savefig(io.BytesIO())


def memory(maps: int) -> Table:
    """Return the peak memory on the way to the file, the record and the file itself included."""
    record = sp.capture(nn.Identity(), torch.rand(1, maps, 56, 56), layers="")[""]
    sp.feature_maps(record, limit=1).to_png()  # imports, fonts
    tracemalloc.start()
    mosaic = sp.feature_maps(record)
    mosaic.to_png()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    ratio = (peak + record.nbytes) / mosaic.pixels.nbytes
    return Table(
        f"{maps} maps of 56 x 56 to a PNG, memory at its peak",
        "times the picture's bytes",
        (Figure("feature_maps().to_png()", ratio, ratio, ratio, f"of which the record {_share(record, mosaic)}"),),
    )


def _share(record: sp.Activation, mosaic: sp.Mosaic) -> str:
    return f"{record.nbytes / mosaic.pixels.nbytes:.2f}"
