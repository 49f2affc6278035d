"""Work in a process of its own: whatever an upload does to it, the app lives on, and time has a limit."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import Page4DError
from ..utils.programs import one_line
from ..utils.progress import Progress

POLL = 0.2  # seconds between two looks at the clock

_running = threading.Lock()  # held by the one job that runs
_ended = threading.Event()  # the job does not go on


class JobError(Page4DError):
    """A job was refused, died or took too long. The message is for the visitor."""


@contextmanager
def jobs_end_with_the_app() -> Iterator[None]:
    """At the end of the block, a job that still runs is killed, and waited for."""
    try:
        yield
    finally:
        _ended.set()
        with _running:
            _ended.clear()


def _check(end: float, seconds: float) -> None:
    if _ended.is_set():
        raise JobError("The app was ended.")
    if time.monotonic() > end:
        raise JobError(
            f"It took longer than the {seconds:.0f} seconds that are allowed; take fewer frames or a shorter video."
        )


def run_apart(job: Callable[..., Any], *arguments: Any, seconds: float, progress: Progress) -> Any:
    """The result of `job(*arguments, progress=...)` in a new process, which is killed after some seconds.

    The job is a function of a module, whose arguments and result can be pickled.

    Raises:
        JobError: the job raised a `Page4DError`, whose sentence this one has; it failed otherwise, was killed (by a
            machine out of memory, say), or took too long.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share the app's threads
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, job, arguments), daemon=True)
    end = time.monotonic() + seconds
    with _running:
        process.start()
        theirs.close()
        try:
            while True:
                _check(end, seconds)
                if not ours.poll(POLL):
                    continue
                kind, told = ours.recv()
                if kind == "progress":
                    progress(*told)
                elif kind == "done":
                    return told
                else:
                    raise JobError(told)
        except EOFError:
            process.join(1)
            raise JobError(
                f"The work ended with code {process.exitcode} before it was done, probably as memory ran out; take "
                "fewer frames or a smaller video."
            ) from None
        finally:
            process.kill()
            process.join()
            ours.close()


def _work(told: Connection, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        result = job(*arguments, progress=lambda *stage: told.send(("progress", stage[:3])))
    except Page4DError as error:
        told.send(("refused", one_line(error)))
    except Exception as error:
        told.send(("failed", f"The work failed ({type(error).__name__}); try another video."))
        raise  # to the server's log
    else:
        told.send(("done", result))


def run_command(words: Sequence[object], folder: Path, log: Path, *, seconds: float) -> None:
    """Run a program in a folder; after some seconds it is ended with all that it started."""
    end = time.monotonic() + seconds
    with _running, log.open("ab") as output:
        process = subprocess.Popen(
            list(map(str, words)), cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        try:
            while (code := process.poll()) is None:
                _check(end, seconds)
                time.sleep(POLL)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
    if code != 0:
        lines = log.read_text("utf8", errors="replace").strip().splitlines()
        said = lines[-1] if lines else ""
        raise JobError(f"`{shlex.join(map(str, words[:2]))}` ended with exit code {code}: {said:.300}")
