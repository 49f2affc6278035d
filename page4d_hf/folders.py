"""Folders that are either whole or absent."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import Page4DError


@contextmanager
def whole_folder(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a folder under a temporary name beside `target` and rename it when the block ends well.

    A run that fails, is interrupted or is killed leaves `target` as it was; what was written of the temporary
    folder is removed unless the process was killed outright, in which case a hidden sibling
    `.<name>.partial-*` remains that nothing reads.

    Args:
        target: the folder to make. It may exist if it is empty.
        overwrite: replace a non-empty `target`. The old folder is moved away before the new one takes its name and
            is deleted only afterwards.

    Yields:
        The temporary folder to write into.

    Raises:
        Page4DError: `target` is a file, is a non-empty folder and `overwrite` is false, or the disk is full.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise Page4DError(f"The output {target} is a file; name a folder that does not exist yet.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise Page4DError(f"The output folder {target} is not empty; name another one, or pass --overwrite to replace it.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    except OSError as error:
        raise _as_page4d_error(error, target) from error
    try:
        # mkdtemp makes a folder for its owner only; a result is as readable as any other new folder.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o777 & ~umask)
        yield partial
        if target.is_dir():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
            os.replace(target, old / target.name)
            try:
                os.replace(partial, target)
            except OSError:
                os.replace(old / target.name, target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(partial, target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise _as_page4d_error(error, target) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _as_page4d_error(error: OSError, target: Path) -> Exception:
    """The error to raise for a failed write: a clear sentence where the disk is the reason, else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Page4DError(
            f"The disk filled up while writing {target}; nothing was kept. Free some space and run the command again."
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return Page4DError(f"Cannot write {target}: {error.strerror}; choose an output folder that you may write to.")
    return error
