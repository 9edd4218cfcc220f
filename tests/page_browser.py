"""The page in headless Chromium, for tests that use it as a user does."""

from __future__ import annotations

import shutil
import time

import torch
from torch import nn

HOSTILE = "</script><img src=x onerror=name='taken'> / ? # % 100"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


class Example(nn.Module):
    """Two convolutions; channel 2 of the first is dead, channel 3 constant; one layer's name is hostile."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 12, 3, padding=1)
        self.add_module(HOSTILE, nn.Conv2d(12, 300, 1))
        with torch.no_grad():
            self.conv1.weight[2:4] = 0
            self.conv1.bias[2:4] = torch.tensor([0.0, 1.5])

    def forward(self, images):
        x = torch.relu(self.conv1(images))
        x = torch.relu(self.conv2(nn.functional.max_pool2d(x, 2)))
        return torch.relu(self._modules[HOSTILE](x))


class Opened:
    """A page that is open in the browser, with a viewport size, a color scheme and a URL hash."""

    def __init__(self, driver, path):
        self.driver = driver
        self.path = path
        self.open()

    def open(self, hash="", *, width=1280, height=900, dark=False):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.driver.get("about:blank")
        self.driver.get(self.path.as_uri() + hash)
        self.wait("document.documentElement.dataset.ready === 'yes'")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition):
        """Wait until a condition holds, for ten seconds at most."""
        end = time.monotonic() + 10
        while not self.run(f"return {condition}"):
            assert time.monotonic() < end, f"{condition} did not come true; the status is {self.status!r}"
            time.sleep(0.01)

    def says(self, words):
        """Wait until the status contains these words."""
        self.wait(f"document.getElementById('status').textContent.includes({words!r})")

    def text(self, name):
        return self.run("return document.getElementById(arguments[0]).textContent", name)

    @property
    def status(self):
        return self.text("status")

    def choose(self, name, text):
        from selenium.webdriver.support.select import Select

        Select(self.driver.find_element("id", name)).select_by_visible_text(text)

    def press(self, name, *keys):
        """Give an element the focus and press keys, by their names in selenium."""
        from selenium.webdriver import ActionChains, Keys

        self.run("document.getElementById(arguments[0]).focus()", name)
        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(getattr(Keys, key)).perform()

    def press_on(self, *keys):
        """Press keys, by their names in selenium, where the focus is."""
        from selenium.webdriver import ActionChains, Keys

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(getattr(Keys, key)).perform()

    def tap(self, name, y, x):
        """Touch a share of an element's height and width."""
        self.run("document.getElementById(arguments[0]).scrollIntoView({block: 'center'})", name)
        left, top, width, height = self.run(
            "const r = document.getElementById(arguments[0]).getBoundingClientRect();"
            "return [r.left, r.top, r.width, r.height]",
            name,
        )
        point = {"x": left + width * x, "y": top + height * y}
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def point(self, name, y, x, *, click=False):
        """Move the mouse to a fraction of an element's height and width, and click if requested."""
        from selenium.webdriver import ActionChains

        element = self.driver.find_element("id", name)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        size = element.rect
        across, down = int(size["width"] * (x - 0.5)), int(size["height"] * (y - 0.5))
        actions = ActionChains(self.driver, duration=0).move_to_element_with_offset(element, across, down)
        (actions.click() if click else actions).perform()

    def colors(self, name):
        """Return the number of colors of an element's canvas."""
        return self.run(
            "const c = document.getElementById(arguments[0]);"
            "const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);"
            "return new Set(d).size",
            name,
        )

    def pixels(self, name):
        """Return the content of an element's canvas as a data URI."""
        return self.run("return document.getElementById(arguments[0]).toDataURL()", name)
