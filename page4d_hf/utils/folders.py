"""Folders and files that are either whole or absent, and folders that one command works in at a time."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Page4DError
from .locks import hold, is_held

if TYPE_CHECKING:
    from accelerate.state import PartialState

MANIFEST = ".page4d-files.json"  # in each folder that `whole_folder` wrote: its files, with sizes and checksums
LOCK = ".page4d.lock"  # in each folder that a `working_folder` is held of


def check_output_folder(target: str | Path, *, overwrite: bool = False) -> Path:
    """Refuse an output folder that `whole_folder` would refuse for what is there.

    Gives the place that the folder will have, absolute and with links followed.
    """
    place = _place(target)
    with _failures_told(target, place, creating=True):
        if place.exists() and not place.is_dir():
            raise Page4DError(f"The output {target} is a file; name a folder that does not exist yet.")
        here = Path(os.path.realpath(os.curdir))
        if place == here or place in here.parents:
            # A rename would leave the shell in a folder that no longer has a name.
            raise Page4DError(
                f"The output {target} is the folder that you are in, or holds it; name a new folder in it."
            )
        if os.path.ismount(place):
            raise Page4DError(
                f"The output {target} is a mount point, which cannot be replaced; name a new folder in it."
            )
        if not _is_filled(place):
            return place
        if not overwrite:
            raise Page4DError(
                f"The output folder {target} is not empty; name another one, or pass --overwrite to replace it."
            )
        foreign = _foreign_files(place)
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise Page4DError(
            f"The output folder {target} will not be overwritten: page4d did not write {foreign[0]}{others}, or not as "
            "it is now; name another folder, or move away what you want to keep and remove the rest."
        )
    return place


@contextmanager
def claimed_folder(
    target: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()
) -> Iterator[None]:
    """Claim an output folder before the work for it begins: it can be written, and by this process alone.

    `whole_folder` within the block writes it.

    Args:
        target, overwrite: as of `whole_folder`.
        inputs: what the work reads, which must not be replaced by what it makes.
    """
    place = _place(target)
    for source, read in _places_of_inputs(inputs):
        if place in (read, *read.parents):
            raise Page4DError(f"The output {target} is or holds what is read, {source}; name another folder.")
    with _beside(target, overwrite):
        yield


@contextmanager
def whole_folder(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a folder under a temporary name beside `target` and rename it when the block ends well.

    A run that fails or is interrupted leaves `target` as it was. What one that is killed outright leaves in hidden
    siblings is removed by the next that writes the same folder, and an old folder that it had moved away comes back.

    Args:
        target: the folder to make. It may exist if it is empty.
        overwrite: replace a non-empty `target`, if all that is in it was written by this function. The old folder is
            moved away before the new one takes its name and is deleted only afterwards.

    Yields:
        The temporary folder to write into.
    """
    with _beside(target, overwrite) as place, ExitStack() as stack:
        with _failures_told(target, place, creating=True):
            partial = _make_partial(place)
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            make_readable(partial)  # mkdtemp makes a folder for its owner only
        with _failures_told(target, place):
            yield partial
            _write_manifest(partial)
            check_output_folder(place, overwrite=overwrite)  # meanwhile something else may have been written there
            _rename_into(partial, place)


@contextmanager
def working_folder(folder: str | Path, mark: str | None = None) -> Iterator[int]:
    """Make or enter the output folder of a command that goes on where it stopped, and keep other processes out.

    Temporary files that a killed run left in it are removed. What the folder holds is for the command to judge;
    `is_unused` tells whether it holds anything.

    Args:
        folder: the folder.
        mark: name of a file that tells the command's folders from others. A folder that holds something, but not this
            file, is refused before anything in it is touched. Without a mark, temporary files are removed only where a
            killed run left its lock.

    Yields:
        The lock's descriptor, for programs that the command starts (`pass_fds`): the folder is theirs too.
    """
    place = _place(folder)
    with ExitStack() as stack:
        with _failures_told(folder, place, creating=True):
            check_working_folder(folder, mark)
            again, was_killed = is_held(place / LOCK), (place / LOCK).exists()
            stack.callback(_remove_empty, _make_parents(place / LOCK))
            descriptor = stack.enter_context(hold(place / LOCK, folder))
            if not again and (was_killed or mark is not None):
                _remove_partials(place)
        yield descriptor


@contextmanager
def folder_of_all_processes(
    state: PartialState, folder: Path, mark: str, *, error: type[Page4DError] = Page4DError
) -> Iterator[None]:
    """A `working_folder` that all processes of a run share: the main one holds its lock. Where it is refused, all of
    them raise the refusal, as `error`.
    """
    from accelerate.utils import broadcast_object_list

    refusal: list[str | None] = [None]
    with ExitStack() as stack:
        if state.is_main_process:
            try:
                stack.enter_context(working_folder(folder, mark))
            except Page4DError as refused:
                refusal = [str(refused)]
        broadcast_object_list(refusal)
        if refusal[0] is not None:
            raise error(refusal[0])
        yield


def check_working_folder(folder: str | Path, mark: str | None = None) -> None:
    """Refuse an output folder that `working_folder` would refuse for what is there."""
    place = _place(folder)
    if place.exists() and not place.is_dir():
        raise Page4DError(f"The output {folder} is a file; name a folder.")
    if mark is not None and not is_unused(place) and not (place / mark).is_file():
        raise Page4DError(f"The output folder {folder} holds something else (it has no {mark}); name another one.")


def is_unused(folder: Path) -> bool:
    """Whether a folder is absent or holds nothing but the lock of a `working_folder` and temporary files."""
    if not folder.is_dir():
        return not folder.exists()
    return all(path.name == LOCK or _PARTIAL.fullmatch(path.name) for path in folder.iterdir())


def check_output_file(target: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> Path:
    """Refuse an output file that `whole_file` would refuse, before any work is done for it, and one that is there and
    is, or lies in, one of the `inputs`: what the work reads.

    Gives the place that the file will have, absolute and with links followed.
    """
    place = _place(target)
    for source, read in _places_of_inputs(inputs):
        if place.is_file() and (read in (place, *place.parents) or fnmatchcase(str(place), str(read))):
            raise Page4DError(f"The output {target} is a file of what is read, {source}; name another one.")
    if place.is_dir():
        raise Page4DError(f"The output {target} is a folder; name a file that does not exist yet.")
    if place.exists() and not overwrite:
        raise Page4DError(f"The output {target} exists; name another one, or pass --overwrite to replace it.")
    with _temporary_file(target, place):
        return place


@contextmanager
def whole_file(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a file under a temporary name beside `target`, empty at first, and rename it when the block ends well.

    A run that fails or is interrupted leaves `target` as it was; one that is killed outright leaves what it had written
    in a hidden sibling `.<name>.partial-*`, which `working_folder` removes. A `target` that is there is replaced only
    with `overwrite`.
    """
    place = check_output_file(target, overwrite=overwrite)
    with _temporary_file(target, place) as partial, _failures_told(target, place):
        yield partial
        check_output_file(place, overwrite=overwrite)  # meanwhile another program may have written there
        os.replace(partial, place)


def make_durable(path: Path, *, deep: bool = False) -> None:
    """Have a file's bytes or a folder's names, and with `deep` all within it, on the disk and not only in memory."""
    for one in [*path.rglob("*"), path] if deep else [path]:
        handle = os.open(one, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_readable(path: Path) -> None:
    """Give a file or folder that was made for its owner only the permissions that any other new one has."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


_PARTIAL = re.compile(r"\.(.+)\.partial-.+")


def _place(target: str | Path) -> Path:
    """The absolute place of an output, with links followed."""
    try:
        str(target).encode()
        place = Path(os.path.realpath(target))
        place.exists()
        if place.is_symlink():  # where links lead in a circle, realpath gives one of them
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return place
    except (ValueError, OSError) as error:  # not UTF-8, a null byte, a loop of links, too long
        reason = error.strerror if isinstance(error, OSError) else error
        raise Page4DError(
            f"The output {os.fspath(target)!r:.200} cannot be a name: {reason}; choose another."
        ) from error


def _places_of_inputs(inputs: Iterable[str | Path | None]) -> Iterator[tuple[str | Path, Path]]:
    """What is read, as it was named and with links followed."""
    for source in inputs:
        if source is not None and "\0" not in str(source):  # a name that no file has
            yield source, Path(os.path.realpath(source))


@contextmanager
def _beside(target: str | Path, overwrite: bool) -> Iterator[Path]:
    """Hold the lock of an output folder, in a file beside it, with what killed runs left removed; gives its place."""
    place = check_output_folder(target, overwrite=overwrite)
    with ExitStack() as stack:
        with _failures_told(target, place, creating=True):
            stack.callback(_remove_empty, _make_parents(place))
            lock = place.parent / f".{place.name}.lock"
            again = is_held(lock)
            stack.enter_context(hold(lock, target))
            if not again:
                _recover(place)
                os.rmdir(_make_partial(place))  # its name is the longest of those that writing needs
        yield place


def _make_partial(place: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{place.name}.partial-", dir=place.parent))


@contextmanager
def _temporary_file(target: str | Path, place: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        with _failures_told(target, place, creating=True):
            stack.callback(_remove_empty, _make_parents(place))
            handle, name = tempfile.mkstemp(prefix=f".{place.name}.partial-", dir=place.parent)
            os.close(handle)
            partial = Path(name)
            stack.callback(partial.unlink, missing_ok=True)
            make_readable(partial)
        yield partial


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _make_parents(place: Path) -> list[Path]:
    """Make the folders that `place` is to lie in; gives those that were not there before, the outermost first."""
    missing = [parent for parent in place.parents if not parent.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _remove_empty(folders: list[Path]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()


def _remove_partials(folder: Path) -> None:
    """Remove what killed runs left in a folder, but nothing under a lock of its own that is held."""
    for root, folders, names in os.walk(folder):
        if Path(root) != folder and not _is_free(Path(root, LOCK)):
            folders.clear()
            continue
        for name in (*folders, *names):
            partial = _PARTIAL.fullmatch(name)
            if partial is None or not _is_free(Path(root, f".{partial[1]}.lock")):
                continue
            path = Path(root, name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_free(lock: Path) -> bool:
    """Whether nobody holds a lock; the file of one that is free is removed."""
    if not lock.exists() or is_held(lock):
        return not lock.exists()
    try:
        with hold(lock, lock):
            return True
    except Page4DError:
        return False


def _recover(place: Path) -> None:
    """Undo what a killed run of `whole_folder` left beside `place`; to be called by the holder of its lock."""
    for name in os.listdir(place.parent):
        path = place.parent / name
        if name.startswith(f".{place.name}.old-"):
            if not _is_filled(place) and (path / place.name).is_dir():
                os.replace(path / place.name, place)
            shutil.rmtree(path, ignore_errors=True)
        elif name.startswith(f".{place.name}.partial-") and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _files(folder: Path) -> list[str]:
    """The files in a folder, at any depth, by their relative names; links count as files."""
    found = []
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        found += [os.path.relpath(os.path.join(root, name), folder) for name in (*names, *links)]
    return sorted(name for name in found if name != MANIFEST)


def _checksum(path: Path) -> int:
    """Of all bytes of a file: 5 GB take 3 s. It tells what somebody changed, not what somebody forged."""
    checksum = 0
    with open(path, "rb") as stream:
        while block := stream.read(2**20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _write_manifest(folder: Path) -> None:
    states = {name: [(folder / name).stat().st_size, _checksum(folder / name)] for name in _files(folder)}
    (folder / MANIFEST).write_text(json.dumps({"files": states}, indent=1) + "\n", encoding="utf-8")


def _foreign_files(folder: Path) -> list[str]:
    """Files in a folder that `whole_folder` did not write, or not as they are now."""
    try:
        states = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
        written = {name: (int(size), checksum) for name, (size, checksum) in states.items()}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        written = {}

    def is_as_written(name: str, path: Path) -> bool:
        if path.is_symlink() or not path.is_file() or name not in written:
            return False
        size, checksum = written[name]
        return path.stat().st_size == size and _checksum(path) == checksum

    return [name for name in _files(folder) if not is_as_written(name, folder / name)]


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


@contextmanager
def _failures_told(target: str | Path, place: Path, *, creating: bool = False) -> Iterator[None]:
    """Raise a clear sentence where the block fails to write an output; its other errors pass. `creating` is a block
    that does nothing but write.
    """
    try:
        yield
    except Page4DError:
        raise
    except Exception as error:
        number = failed_write(error)
        if number in FULL:
            told = f"{FULL[number].format(target)}; nothing was kept. Make room and run the command again."
            raise Page4DError(told) from error
        if not isinstance(error, OSError):
            raise
        # The block also reads: what fails elsewhere than in the folder itself is not about writing it.
        about_target = False
        if isinstance(error.filename, (str, os.PathLike)):
            concerned = Path(os.path.realpath(error.filename))
            temporary = (f".{place.name}.partial-", f".{place.name}.old-")
            about_target = concerned in (place, place.parent) or any(
                path.parent == place.parent and path.name.startswith(temporary)
                for path in (concerned, *concerned.parents)
            )
        if creating or (about_target and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM)):
            raise Page4DError(
                f"Cannot write {target}: {error.strerror}; choose an output that you may write to."
            ) from error
        raise


# Of a disk that is full, a quota or a limit on the size of files that is reached.
FULL = {
    errno.ENOSPC: "The disk filled up while writing {}",
    errno.EDQUOT: "The disk quota was used up while writing {}",
    errno.EFBIG: "A file grew past the limit of its size (see ulimit -f) while writing {}",
}


def failed_write(error: BaseException) -> int | None:
    """The number of a failed write, also where a library puts it into words (safetensors, TensorBoard) or leaves it out
    (NumPy)."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if told := re.search(r"os error (\d+)", str(error)):
        return int(told[1])
    for number in FULL:
        if os.strerror(number).lower() in str(error).lower():
            return number
    if re.search(r"\d+ requested and \d+ written", str(error)):
        limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
        return errno.EFBIG if limited else errno.ENOSPC
    return None
