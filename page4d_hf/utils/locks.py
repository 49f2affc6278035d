"""One lock for each output folder, held by the kernel for as long as a process of its holder lives.

A lock is `flock` on an open file, not the file's existence: a killed process leaves none behind. A program hands
the file's descriptor to the programs that it starts (`subprocess.run(..., pass_fds=(descriptor,))`), so that the lock
outlives it while they still write. Forked processes (the workers of a `DataLoader`) do not keep it.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Page4DError

_held: dict[str, int] = {}  # descriptors by the lock file's place: a process may take its own lock again


@contextmanager
def hold(lock: Path, guarded: str | Path, *, wait: bool = False) -> Iterator[int]:
    """Hold a lock while the block runs. Its file is removed afterwards.

    Args:
        lock: the lock's file. Its folder must be there.
        guarded: what the lock keeps others from, for the message.
        wait: wait until whoever holds the lock lets go, instead of refusing.

    Yields:
        The descriptor of the open file.

    Raises:
        Page4DError: another process holds the lock; the message names it.
        OSError: the file cannot be written.
    """
    key = os.path.realpath(lock)
    if key in _held:
        yield _held[key]
        return
    descriptor = _take(lock, guarded, wait)
    _held[key] = descriptor
    try:
        yield descriptor
    finally:
        if _held.pop(key, None) is not None:  # else this is a fork of the holder
            try:
                lock.unlink(missing_ok=True)  # before it is released: afterwards the name may be another process's
            finally:
                os.close(descriptor)


def is_held(lock: Path) -> bool:
    """Whether this process holds a lock."""
    return os.path.realpath(lock) in _held


def _let_go() -> None:
    """A forked process shares the lock's open file, and would hold it beyond the end of its holder."""
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_let_go)


def _take(lock: Path, guarded: str | Path, wait: bool) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise Page4DError(
                    f"{guarded} is being written by {_holder(descriptor)}; wait until that has ended, or end it."
                ) from error
            except OSError:
                pass  # a file system without locks: better unguarded than unusable
            if _has_name(descriptor, lock):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {' '.join(sys.argv)}\n".encode(errors="replace"), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed the file in the meantime; lock the one that has the name now


def _has_name(descriptor: int, lock: Path) -> bool:
    try:
        named = os.stat(lock)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), named)


def _holder(descriptor: int) -> str:
    process, _, command = os.pread(descriptor, 500, 0).decode(errors="replace").strip().partition(" ")
    if not process.isdigit():
        return "another process"
    if not Path(f"/proc/{process}").exists():
        return f"programs that process {process} ({command}) started and left running"
    return f"process {process} ({command})"
