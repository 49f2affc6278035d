"""Which version of page4d this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def page4d_version() -> str:
    """The version that is installed, or "unknown" in a source tree that is not."""
    try:
        return version("page4d")
    except PackageNotFoundError:
        return "unknown"


__all__ = ["page4d_version"]
