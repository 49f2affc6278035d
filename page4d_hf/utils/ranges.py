"""Bounds of options, told before anything is read or any memory is taken."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ..errors import Page4DError

ENDLESS = float("inf")
FINITE = sys.float_info.max  # any number, but not infinity


def check_ranges(
    config: Any,
    ranges: Mapping[str, tuple[float, float]],
    prefix: str = "--",
    error: type[Page4DError] = Page4DError,
    *,
    whole: bool = False,
) -> None:
    """Refuse options that are out of range, NaN among them.

    Args:
        config: has the options as attributes or keys. None is one that is not given, and of a tuple each number counts.
        ranges: least and most of each, both allowed.
        prefix: what stands before the option's name: "--" as on the command line, or without dashes as in Python.
        error: what to raise.
        whole: refuse all but integers.
    """
    for name, (least, most) in ranges.items():
        given = config[name] if isinstance(config, Mapping) else getattr(config, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and not (least <= value <= most and (not whole or isinstance(value, int))):
                words = (
                    f"at least {_said(least)}" if most in (ENDLESS, FINITE) else f"from {_said(least)} to {_said(most)}"
                )
                words = f"a whole number {words}" if whole else words
                option = name.replace("_", "-") if prefix.startswith("--") else name
                raise error(f"{prefix}{option} must be {words}, got {_said(value)}.")


def _said(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
