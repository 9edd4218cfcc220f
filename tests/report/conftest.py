"""A model, its page, and a browser that shows it."""

from __future__ import annotations

import json

import pytest
import torch
from page_browser import BROWSER, DRIVER, HOSTILE, Example, Opened

import spatialprobe as sp


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(4)
    return Example().eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def path(model, images, tmp_path_factory):
    target = tmp_path_factory.mktemp("page") / "report.html"
    data = torch.rand(30, 3, 32, 32, generator=torch.Generator().manual_seed(6))
    reducers = {"moments": sp.Moments, "top": sp.Exemplars, "dead": sp.Dead}
    sweep = sp.sweep(model, data, reducers, layers=["conv1", "conv2"], at="post_activation", progress=False)
    sp.write_report(target, model, images, sweep=sweep, dataset=data, labels=["cat", "dog", HOSTILE])
    return target


@pytest.fixture(scope="session")
def driver():
    """One browser for all; the tests are skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (BROWSER and DRIVER):
        pytest.skip("no chromium with its chromedriver on this machine (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture
def page(driver, path):
    """The page as it opens on a desk, with nothing pressed yet; afterwards no error and no request may be on record."""
    return Opened(driver, path)


@pytest.fixture
def nothing_went_wrong(driver):
    """Every test leaves the console empty, and asked for nothing but the page itself."""
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    yield
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert [one for one in requests if not one.startswith(("file:", "data:", "about:"))] == []
