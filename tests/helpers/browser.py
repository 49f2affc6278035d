"""A real browser without a window, in which pages are opened as their readers open them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# WebGL in software, and nothing that a browser asks the network for by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
]


@contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """Playwright's handle of a browser with a profile of its own; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives browsers, is missing")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no browser (none of {', '.join(PROGRAMS)})")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            browser.close()


def screenshot(page: Any) -> np.ndarray:
    """What a page shows, [H, W, 3] uint8."""
    return np.array(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
