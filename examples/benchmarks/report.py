"""The size of the interactive page, the time to write it, and the time until it shows another layer.

The bounds stand in the tables' titles: they hold on one core of a common machine. Redrawing is measured by the page
itself in headless Chromium, from the choice of the layer until all its pictures are drawn; without a browser that
table says so.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.method import Figure, Table
from simple_cnn import SimpleCNN
from torch import nn

import spatialprobe as sp

ROUNDS = 9
LARGE = "large.1"  # the ReLU of the large layer


class WithLargeLayer(SimpleCNN):
    """A SimpleCNN on images of 56 x 56, with one more layer of 512 maps of that size, and a ReLU after it."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.Sequential(nn.Conv2d(6, 512, 3, padding=1), nn.ReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(images))
        self.large(x)
        return torch.relu(self.conv2(nn.functional.max_pool2d(x, 2)))


def measure(quick: bool) -> Iterator[Table]:
    """Yield size, time to write, time to redraw."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    small, large = SimpleCNN().eval(), WithLargeLayer().eval()
    images = torch.rand(4, 3, 8, 8)
    few = nn.functional.interpolate(images, (32, 32), mode="bilinear")
    one = nn.functional.interpolate(images[:1], (56, 56), mode="bilinear")
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder, "small.html"), Path(folder, "large.html")
        sweep = sp.sweep(small, few, {"moments": sp.Moments, "exemplars": sp.Exemplars}, progress=False)
        writers = {
            "SimpleCNN, one image": lambda: sp.write_report(pages[0], small, few[:1]),
            "SimpleCNN, four images and a sweep": lambda: sp.write_report(
                pages[0], small, few, sweep=sweep, dataset=few
            ),
            "with 512 x 56 x 56 after its ReLU": lambda: sp.write_report(
                pages[1], large, one, layers=["conv1", "conv2", LARGE]
            ),
        }
        sizes, times = [], []
        for name, write in writers.items():
            report = write()
            sizes.append(Figure.of(name, [report.nbytes / 1000], "; ".join(report.reduced)))
            times.append(Figure.of(name, [seconds(write) for _ in range(3 if quick else ROUNDS)]))
        yield Table("a page's size: at most 150 for the SimpleCNN, 1,500 with the large layer", "kB", tuple(sizes))
        yield Table("time to write it, forward passes and fields included: at most 1", "seconds", tuple(times))
        yield redraw(pages[1], 3 if quick else ROUNDS)


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def redraw(page: Path, rounds: int) -> Table:
    """Return the time to draw the large layer, each time in a page just opened, and when chosen again."""
    title = "time until the layer of 512 x 56 x 56 is drawn: at most 100"
    driver = browser()
    if driver is None:
        return Table(title, "milliseconds", (), ("a browser (Debian: chromium, chromium-driver; pip: selenium)",))
    first, again = [], []
    try:
        for _ in range(rounds):
            driver.get("about:blank")
            driver.get(f"{page.as_uri()}#conv1/0/0/0")
            switched(driver, "conv2")
            first.append(switched(driver, LARGE))
            switched(driver, "conv1")
            again.append(switched(driver, LARGE))
    finally:
        driver.quit()
    return Table(title, "milliseconds", (Figure.of("first time", first), Figure.of("from then on", again)))


def browser() -> Any:
    """Return headless Chromium, or None if it, its driver or selenium is missing."""
    paths = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if paths[0] is None or paths[1] is None:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))


def switched(driver: Any, layer: str) -> float:
    """Choose a layer, wait until it is drawn, and return the milliseconds that the page measured."""
    script = """
    const [name, done] = arguments, choice = document.getElementById("layer");
    const begin = () => {
      if (document.documentElement.dataset.ready !== "yes") return setTimeout(begin, 10);
      performance.clearMeasures();
      choice.value = [...choice.options].find((one) => one.textContent === name).value;
      choice.dispatchEvent(new Event("change"));
      const look = () => {
        const found = performance.getEntriesByType("measure")[0];
        if (found) done(found.duration); else setTimeout(look, 5);
      };
      look();
    };
    begin();
    """
    return driver.execute_async_script(script, layer)
