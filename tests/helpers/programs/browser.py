"""A real browser without a window, in which pages are opened as their readers open them."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import zlib
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


def unpacked(page: str) -> tuple[dict[str, Any], dict[tuple[str, str], np.ndarray]]:
    """A page's header, and by group and name the whole numbers of its arrays, [keyframes, channels, Gaussians]."""
    header = header_of(page)
    found = re.search(r'id="scene">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = np.frombuffer(zlib.decompress(base64.b64decode(found[1])), np.uint8)
    arrays, at = {}, 0
    for entry in header["arrays"]:
        shape = entry["frames"], entry["channels"], header[entry["group"]]
        wide, size = entry["most"] > 255, int(np.prod(shape))
        numbers = data[at : at + size].astype(np.uint16 if wide else np.uint8)
        if wide:
            numbers |= data[at + size : at + 2 * size].astype(np.uint16) << 8
        at += (1 + wide) * size
        differences = numbers.reshape(shape)
        arrays[entry["group"], entry["name"]] = np.cumsum(differences, axis=0, dtype=differences.dtype)
    return header, arrays
