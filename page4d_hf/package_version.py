"""Versions of page4d and of other packages."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version


def page4d_version() -> str:
    """The version that is installed, or "unknown" in a source tree that is not."""
    return versions_of(["page4d"]).get("page4d", "unknown")


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
