"""Bounds of options, told before anything is read or any memory is taken."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from page4d_hf.errors import Page4DError

ENDLESS = float("inf")
FINITE = sys.float_info.max  # any number, but not infinity


def check_ranges(
    config: Any,
    ranges: Mapping[str, tuple[float, float]],
    prefix: str = "--",
    error: type[Page4DError] = Page4DError,
) -> None:
    """Refuse options that are out of range, NaN among them.

    Args:
        config: has the options as attributes; None is one that is not given, and of a tuple each number counts.
        ranges: least and most of each, both allowed.
        prefix: what stands before the option's name on the command line.
        error: what to raise.

    Raises:
        Page4DError: of the kind `error`.
    """
    for name, (least, most) in ranges.items():
        given = getattr(config, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and not least <= value <= most:
                words = (
                    f"at least {_said(least)}" if most in (ENDLESS, FINITE) else f"from {_said(least)} to {_said(most)}"
                )
                raise error(f"{prefix}{name.replace('_', '-')} must be {words}, got {_said(value)}.")


def _said(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
