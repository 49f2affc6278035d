"""Folders and files that are either whole or absent."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import Page4DError


def check_output_folder(target: str | Path, *, overwrite: bool = False, replaces: str | None = None) -> Path:
    """Refuse an output folder that `whole_folder` would refuse, before any work is done for it.

    Args:
        target: the folder to make. It may exist if it is empty.
        overwrite: allow a non-empty `target`.
        replaces: a file that a non-empty `target` must hold to be overwritten, so that only an earlier result is ever
            deleted and not, by a slip, somebody's home.

    Returns:
        The place that the folder will have, absolute and with links followed.

    Raises:
        Page4DError: `target` is a file; is not empty and may not be overwritten; is a mount point; or is, or holds,
            the current folder.
    """
    target = Path(target)
    place = Path(os.path.realpath(target))
    if place.exists() and not place.is_dir():
        raise Page4DError(f"The output {target} is a file; name a folder that does not exist yet.")
    here = Path(os.path.realpath(os.curdir))
    if place == here or place in here.parents:
        # A rename would leave the shell in a folder that no longer has a name.
        raise Page4DError(f"The output {target} is the folder that you are in, or holds it; name a new folder in it.")
    if os.path.ismount(place):
        raise Page4DError(f"The output {target} is a mount point, which cannot be replaced; name a new folder in it.")
    try:
        if not _is_filled(place):
            return place
    except OSError as error:
        raise _as_page4d_error(error, target, place) from error
    if not overwrite:
        raise Page4DError(
            f"The output folder {target} is not empty; name another one, or pass --overwrite to replace it."
        )
    if replaces is not None and not (place / replaces).exists():
        raise Page4DError(
            f"The output folder {target} will not be overwritten: it holds something else (it has no {replaces}); "
            "name another one, or remove it yourself."
        )
    return place


@contextmanager
def whole_folder(target: str | Path, *, overwrite: bool = False, replaces: str | None = None) -> Iterator[Path]:
    """Write a folder under a temporary name beside `target` and rename it when the block ends well.

    A run that fails or is interrupted leaves `target` as it was. One that is killed outright leaves behind what it
    had written, in a hidden sibling `.<name>.partial-*` that nothing reads; killed in the moment between the two
    renames of an overwriting, it leaves the old folder in `.<name>.old-*`.

    Args:
        target: the folder to make. It may exist if it is empty.
        overwrite: replace a non-empty `target`. The old folder is moved away before the new one takes its name and
            is deleted only afterwards.
        replaces: a file that a non-empty `target` must hold to be overwritten, see `check_output_folder`.

    Yields:
        The temporary folder to write into.

    Raises:
        Page4DError: as `check_output_folder`; or the folder cannot be written, be it that the disk is full.
    """
    place = check_output_folder(target, overwrite=overwrite, replaces=replaces)
    target = Path(target)
    parents: list[Path] = []
    partial: Path | None = None
    try:
        try:
            parents = _make_parents(place)
            partial = Path(tempfile.mkdtemp(prefix=f".{place.name}.partial-", dir=place.parent))
            make_readable(partial)  # mkdtemp makes a folder for its owner only
        except OSError as error:
            raise _as_page4d_error(error, target, place, creating=True) from error
        try:
            yield partial
            # Meanwhile another program may have written there.
            check_output_folder(target, overwrite=overwrite, replaces=replaces)
            _rename_into(partial, place)
        except OSError as error:
            raise _as_page4d_error(error, target, place) from error
    except BaseException:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        for parent in reversed(parents):
            with suppress(OSError):
                parent.rmdir()
        raise


def check_output_file(target: str | Path, *, overwrite: bool = False) -> Path:
    """Refuse an output file that `whole_file` would refuse, before any work is done for it.

    Args:
        target: the file to make.
        overwrite: allow a `target` that is there.

    Returns:
        The place that the file will have, absolute and with links followed.

    Raises:
        Page4DError: `target` is a folder, or is there and may not be overwritten.
    """
    place = Path(os.path.realpath(target))
    if place.is_dir():
        raise Page4DError(f"The output {target} is a folder; name a file that does not exist yet.")
    if place.exists() and not overwrite:
        raise Page4DError(f"The output {target} exists; name another one, or pass --overwrite to replace it.")
    return place


@contextmanager
def whole_file(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a file under a temporary name beside `target` and rename it when the block ends well.

    A run that fails or is interrupted leaves `target` as it was; one that is killed outright leaves what it had written
    in a hidden sibling `.<name>.partial-*`.

    Args:
        target: the file to make.
        overwrite: replace a `target` that is there.

    Yields:
        The temporary file to write to. It is empty.

    Raises:
        Page4DError: as `check_output_file`; or the file cannot be written, be it that the disk is full.
    """
    place = check_output_file(target, overwrite=overwrite)
    target = Path(target)
    parents: list[Path] = []
    partial: Path | None = None
    try:
        try:
            parents = _make_parents(place)
            handle, name = tempfile.mkstemp(prefix=f".{place.name}.partial-", dir=place.parent)
            os.close(handle)
            partial = Path(name)
            make_readable(partial)
        except OSError as error:
            raise _as_page4d_error(error, target, place, creating=True) from error
        try:
            yield partial
            check_output_file(target, overwrite=overwrite)  # meanwhile another program may have written there
            os.replace(partial, place)
        except OSError as error:
            raise _as_page4d_error(error, target, place) from error
    except BaseException:
        if partial is not None:
            partial.unlink(missing_ok=True)
        for parent in reversed(parents):
            with suppress(OSError):
                parent.rmdir()
        raise


def make_readable(path: Path) -> None:
    """Give a file or folder that was made for its owner only the permissions that any other new one has."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _make_parents(place: Path) -> list[Path]:
    """Make the folders that `place` is to lie in; gives those that were not there before, the outermost first."""
    missing = [parent for parent in place.parents if not parent.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _rename_into(partial: Path, place: Path) -> None:
    """Give the finished folder its name; whatever goes wrong, the old folder keeps its own."""
    if not _is_filled(place):
        os.replace(partial, place)  # an empty folder is replaced in one step
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.old-", dir=place.parent))
    old = aside / place.name
    try:
        os.replace(place, old)
        os.replace(partial, place)
    except BaseException:
        if old.exists() and not place.exists():
            os.replace(old, place)
        with suppress(OSError):
            aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _as_page4d_error(error: OSError, target: Path, place: Path, *, creating: bool = False) -> Exception:
    """The error to raise for a failed write: a clear sentence where writing is at fault, else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Page4DError(
            f"The disk filled up while writing {target}; nothing was kept. Free some space and run the command again."
        )
    # The block also reads: what fails elsewhere than in the folder itself is not about writing it.
    about_target = False
    if isinstance(error.filename, (str, os.PathLike)):
        concerned = Path(os.path.realpath(error.filename))
        temporary = (f".{place.name}.partial-", f".{place.name}.old-")
        about_target = concerned in (place, place.parent) or any(
            path.parent == place.parent and path.name.startswith(temporary) for path in (concerned, *concerned.parents)
        )
    if creating or (about_target and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM)):
        return Page4DError(f"Cannot write {target}: {error.strerror}; choose an output folder that you may write to.")
    return error
