"""Options that are out of range are named, with what they may be."""

from __future__ import annotations

import re
from typing import Any

import pytest

from page4d_hf.errors import ClipError, Page4DError
from page4d_hf.utils.ranges import ENDLESS, check_ranges

RANGES = {"most_frames": (1, 10_000), "share": (0, 0.5), "steps": (0, ENDLESS), "shape": (1, 64)}
FINE = {"most_frames": 1, "share": 0.5, "steps": 10**9, "shape": (1, 64)}


def test_bounds_are_allowed_and_what_is_not_given_is_not_looked_at() -> None:
    check_ranges(FINE, RANGES)
    check_ranges(FINE | {"share": None}, RANGES)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"most_frames": 10_001}, "--most-frames must be from 1 to 10,000, got 10,001."),
        ({"share": float("nan")}, "--share must be from 0 to 0.5, got nan."),
        ({"steps": -1}, "--steps must be at least 0, got -1."),
        ({"shape": (3, 65)}, "--shape must be from 1 to 64, got 65."),
    ],
)
def test_an_option_out_of_range_is_named_as_on_the_command_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(Page4DError, match=f"^{re.escape(message)}$"):
        check_ranges(FINE | wrong, RANGES)


def test_options_of_python_are_named_as_there_and_whole_numbers_are_asked_for() -> None:
    with pytest.raises(ClipError, match=r"^most_frames must be a whole number from 1 to 10,000, got 2\.5\.$"):
        check_ranges({"most_frames": 2.5}, {"most_frames": (1, 10_000)}, prefix="", error=ClipError, whole=True)
