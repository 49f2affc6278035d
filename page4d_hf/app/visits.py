"""The folders of visits: each is removed some time after the last work on it, however the visit ended."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from accelerate.utils import patch_environment

from ..errors import Page4DError

SWEEP = 60.0  # seconds between two looks for folders whose time is over


class Visits:
    """All visits to the app, each with a folder `visit-*` in one place.

    Args:
        place: the folder that holds theirs.
        minutes: how long the files of a visit are kept after the last work on them.
    """

    def __init__(self, place: Path, minutes: float) -> None:
        self.place, self.minutes = place, minutes
        self._lock = threading.Lock()
        self._at_work: set[Path] = set()

    def begin(self) -> str:
        """A new folder."""
        return tempfile.mkdtemp(prefix="visit-", dir=self.place)

    def end(self, visit: str | None) -> None:
        """Remove the files of a visit."""
        if visit:
            shutil.rmtree(visit, ignore_errors=True)

    @contextmanager
    def work_on(self, visit: str | None) -> Iterator[Path]:
        """Keep a visit's files during the block, from whose end their time counts.

        Raises:
            Page4DError: they are gone.
        """
        with self._lock:
            if not visit or not (folder := Path(visit)).is_dir():
                raise Page4DError("Reconstruct a video first; the last one's files are gone.")
            self._at_work.add(folder)
        try:
            yield folder
        finally:
            with self._lock:
                self._at_work.discard(folder)
                with suppress(OSError):
                    os.utime(folder)

    def sweep(self) -> None:
        """Remove the files of visits whose time is over."""
        with self._lock:
            for folder in set(self.place.glob("visit-*")) - self._at_work:
                with suppress(OSError):
                    if time.time() - folder.stat().st_mtime > 60 * self.minutes:
                        self.end(str(folder))

    @contextmanager
    def swept(self) -> Iterator[Visits]:
        """Sweep every minute during the block: gradio tells of a browser that was closed after an hour."""
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(SWEEP):
                self.sweep()

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for all visits, which ends with the app; gradio's own copies are in it too."""
    with (
        tempfile.TemporaryDirectory(prefix="page4d-app-") as name,
        patch_environment(GRADIO_TEMP_DIR=os.path.join(name, "served")),
    ):
        yield Path(name)
