"""The web browser in which a page is shown, if there is one."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

_WITHOUT_DISPLAY = ("win32", "cygwin", "darwin")  # systems whose screens need no variable to be found


def find_browser() -> webbrowser.BaseBrowser | None:
    """Return a browser that opens windows beside this program, None if there is none."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return None
    # One that runs in the terminal, such as lynx, would take it over until it is left.
    return None if type(browser) is webbrowser.GenericBrowser else browser


def has_viewer() -> bool:
    """Return whether this process has a screen to show a page on: not in CI, through ssh, or at ranks but the first."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false") or os.environ.get("RANK", "0") != "0":
        return False
    if sys.platform in _WITHOUT_DISPLAY:
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_page(browser: webbrowser.BaseBrowser, page: Path) -> None:
    """Open a page in a new tab."""
    browser.open_new_tab(page.absolute().as_uri())
