"""viser's web server, which hands out any file that its process may read, kept to the files of its own page."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class _Inside:
    """A folder of which nothing outside can be named: viser serves `folder / name` for whatever name it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def __truediv__(self, name: str) -> Path:
        path = (self.folder / name).resolve()
        return path if path.is_relative_to(self.folder) else self.folder / "not-there"


def guard_servers() -> None:
    """Have all of viser's servers that this process starts from now on hand out their page and nothing else."""
    from viser import infra

    class GuardedServer(infra.WebsockServer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "http_server_root": _Inside(options["http_server_root"])})

    if infra.WebsockServer.__name__ != GuardedServer.__name__:
        infra.WebsockServer = GuardedServer  # type: ignore[assignment,misc]
