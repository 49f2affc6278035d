"""A real browser without a window, in which pages are opened as their readers open them."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, PROGRAMS)), None)
# WebGL in software, and nothing that a browser asks the network for by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",
    "--disable-gpu-rasterization",
    "--hide-scrollbars",
]


@contextmanager
def chromium() -> Iterator[Any]:
    """Playwright's handle of a browser with a profile of its own; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives browsers, is missing")
    if PROGRAM is None:
        pytest.skip(f"there is no browser (none of {', '.join(PROGRAMS)})")
    with playwright.sync_playwright() as driver, driver.chromium.launch(executable_path=PROGRAM, args=FLAGS) as browser:
        yield browser


def another(browser: Any, *flags: str) -> Any:
    """A second browser beside one, with flags of its own: a context manager."""
    return browser.browser_type.launch(executable_path=PROGRAM, args=[*FLAGS, *flags])


def screenshot(page: Any) -> np.ndarray:
    """What a page shows, [H, W, 3] uint8."""
    return np.array(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def header_of(page: str) -> dict[str, Any]:
    """What a page's script knows of its scene, without opening it."""
    found = re.search(r'<script type="application/json" id="header">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    header: dict[str, Any] = json.loads(found[1])
    return header
