"""`whole_folder` and `whole_file`: a result is there as a whole, or not at all."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from launching import AS_COMMAND

from page4d_hf.errors import Page4DError
from page4d_hf.utils import folders
from page4d_hf.utils.folders import (
    check_output_file,
    check_output_folder,
    claimed_folder,
    is_unused,
    whole_file,
    whole_folder,
    working_folder,
)


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def write(target: Path, text: str, *, fail: BaseException | None = None, **kwargs) -> None:
    """Write a folder with one file, and fail after it if told to."""
    with whole_folder(target, **kwargs) as folder:
        (folder / "result.txt").write_text(text)
        if fail is not None:
            raise fail


def write_while_another_writes_there(target: Path) -> None:
    with whole_folder(target) as folder:
        (folder / "result.txt").write_text("late")
        write(target, "first")


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt(), SystemExit(3)])
def test_a_block_that_fails_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)):
        write(tmp_path / "a" / "b" / "out", "new", fail=error)
    assert entries(tmp_path) == []


def test_a_failed_block_keeps_the_parents_that_were_there_before(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(RuntimeError):
        write(tmp_path / "a" / "b" / "out", "new", fail=RuntimeError())
    assert entries(tmp_path) == ["a"]
    assert entries(tmp_path / "a") == []


def test_an_empty_folder_may_be_the_target(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "new")
    assert entries(tmp_path / "out") == [folders.MANIFEST, "result.txt"]


def test_a_filled_folder_is_refused_before_the_block_runs(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(Page4DError, match=r"out is not empty.*--overwrite"):
        write(tmp_path / "out", "new", fail=AssertionError("the block ran"))
    assert (tmp_path / "out" / "result.txt").read_text() == "old"


def test_a_file_is_refused_even_to_be_overwritten(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(Page4DError, match="out is a file"):
        write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out").read_text() == "precious"


def test_overwriting_replaces_all_of_the_old_folder(tmp_path):
    with whole_folder(tmp_path / "out") as folder:
        (folder / "only the old one has this").touch()
    write(tmp_path / "out", "new", overwrite=True)
    assert entries(tmp_path / "out") == [folders.MANIFEST, "result.txt"]
    assert (tmp_path / "out" / "result.txt").read_text() == "new"
    assert entries(tmp_path) == ["out"]


def test_a_block_that_fails_while_overwriting_leaves_the_old_folder(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(RuntimeError):
        write(tmp_path / "out", "new", fail=RuntimeError(), overwrite=True)
    assert (tmp_path / "out" / "result.txt").read_text() == "old"
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_the_old_folder_gets_its_name_back_when_the_renaming_is_interrupted(tmp_path, monkeypatch, error):
    write(tmp_path / "out", "old")
    replace = os.replace

    def interrupted(source, target):
        if ".partial-" in str(source):
            raise error
        replace(source, target)

    monkeypatch.setattr(folders.os, "replace", interrupted)
    with pytest.raises(type(error)):
        write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "result.txt").read_text() == "old"
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["notes.md", "outputs/step-000000999.ckpt", ".hidden"])
def test_overwriting_spares_a_folder_in_which_something_else_was_put(tmp_path, name):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / name).write_text("precious")
    with pytest.raises(Page4DError, match=rf"page4d did not write {name}, or not as it is now"):
        write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / name).read_text() == "precious"
    assert (tmp_path / "out" / "result.txt").read_text() == "old"


def test_overwriting_spares_a_file_that_was_changed(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "result.txt").write_text("mine")
    with pytest.raises(Page4DError, match=r"did not write result\.txt"):
        write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "result.txt").read_text() == "mine"


def test_overwriting_spares_a_large_file_of_which_one_byte_was_changed(tmp_path):
    with whole_folder(tmp_path / "out") as folder:
        (folder / "model.safetensors").write_bytes(bytes(3 * 2**20))
    with open(tmp_path / "out" / "model.safetensors", "r+b") as weights:
        weights.seek(2**21 + 5)
        weights.write(b"1")
    with pytest.raises(Page4DError, match=r"did not write model\.safetensors"):
        write(tmp_path / "out", "new", overwrite=True)


@pytest.mark.parametrize(
    "manifest", [None, "", "[]", "null", '{"files": 3}', '{"files": {"config.json": 8}}', "[" * 100_000]
)
def test_overwriting_spares_a_folder_that_is_no_earlier_result(tmp_path, manifest):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.json").write_text("precious")
    if manifest is not None:
        (tmp_path / "home" / folders.MANIFEST).write_text(manifest)
    with pytest.raises(Page4DError, match=r"did not write config\.json"):
        write(tmp_path / "home", "new", overwrite=True)
    assert (tmp_path / "home" / "config.json").read_text() == "precious"


def test_a_folder_that_was_filled_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(Page4DError, match="not empty"):
        write_while_another_writes_there(tmp_path / "out")
    assert (tmp_path / "out" / "result.txt").read_text() == "first"
    assert entries(tmp_path) == ["out"]


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    write(tmp_path / "out", "old")
    write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "out" / "result.txt").read_text() == "new"


def test_a_relative_target_is_that_of_the_start_even_if_the_block_changes_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with whole_folder("out") as folder:
        (folder / "result.txt").write_text("new")
        monkeypatch.chdir(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "out").mkdir()
    assert (tmp_path / "out" / "result.txt").read_text() == "new"


@pytest.mark.parametrize("target", [".", ".."])
def test_the_current_folder_and_those_around_it_are_refused(tmp_path, monkeypatch, target):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(Page4DError, match="the folder that you are in"):
        write(Path(target), "new", overwrite=True)
    assert entries(tmp_path) == ["here"]


def test_a_mount_point_is_refused():
    mount = next((path for path in ("/proc", "/dev", "/sys") if os.path.ismount(path)), None)
    if mount is None:
        pytest.skip("nothing that is surely a mount point is here")
    with pytest.raises(Page4DError, match="mount point"):
        check_output_folder(mount, overwrite=True)


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(code, os.strerror(code)) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)),
        RuntimeError("Error while serializing: I/O error: File too large (os error 27)"),
        OSError("100 requested and 0 written"),
    ],
    ids=str,
)
def test_a_full_disk_is_one_clear_error_whoever_met_it_and_leaves_nothing(tmp_path, error):
    with pytest.raises(Page4DError, match=r"while writing .*out; nothing was kept") as raised:
        write(tmp_path / "out", "half", fail=error)
    assert raised.value.__cause__ is error
    assert entries(tmp_path) == []


def test_a_folder_that_may_not_be_written_to_is_one_clear_error(tmp_path):
    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders.tempfile, "mkdtemp", denied)
        with pytest.raises(Page4DError, match=r"Cannot write .*out: Permission denied"):
            write(tmp_path / "out", "new")
    assert entries(tmp_path) == []


def test_an_input_that_may_not_be_read_is_not_called_a_failure_to_write(tmp_path):
    source = tmp_path / "input.png"
    with pytest.raises(PermissionError, match=r"input\.png"):
        write(tmp_path / "out", "new", fail=PermissionError(errno.EACCES, "Permission denied", str(source)))


def test_the_folder_is_as_readable_as_any_new_one(tmp_path):
    write(tmp_path / "out", "new")
    (tmp_path / "other").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "other").stat().st_mode


HOLDER = f"""
{AS_COMMAND}
import time
from page4d_hf.utils import folders
with getattr(folders, sys.argv[1])(sys.argv[2]) as folder:
    if isinstance(folder, int):  # a working folder's lock
        file = folders.whole_file(sys.argv[2] + "/scores.json")
        file.__enter__()
    else:
        (folder / "result.txt").write_text("half")
    print("written", flush=True)
    time.sleep(600)
"""


def start_holder(kind: str, target: Path) -> subprocess.Popen:
    """A process that is in the middle of writing a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, kind, str(target)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    return process


@pytest.mark.slow
def test_a_killed_run_leaves_no_folder_and_the_next_one_clears_up_after_it(tmp_path):
    run = start_holder("whole_folder", tmp_path / "out")
    run.kill()
    run.wait()
    assert not (tmp_path / "out").exists()
    assert len(entries(tmp_path)) == 2  # its lock's file and half a folder
    write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "result.txt").read_text() == "new"
    assert entries(tmp_path) == ["out"]


def test_a_folder_moved_away_by_a_run_that_was_killed_comes_back(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / ".out.old-x").mkdir()
    os.replace(tmp_path / "out", tmp_path / ".out.old-x" / "out")
    with claimed_folder(tmp_path / "out"):
        assert (tmp_path / "out" / "result.txt").read_text() == "old"
    assert entries(tmp_path) == ["out"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "second"),
    [("whole_folder", claimed_folder), ("whole_folder", whole_folder), ("working_folder", working_folder)],
)
def test_a_second_process_in_one_folder_is_refused_and_told_who_the_first_is(tmp_path, kind, second):
    run = start_holder(kind, tmp_path / "out")
    try:
        with pytest.raises(Page4DError, match=rf"out is being written by process {run.pid} "), second(tmp_path / "out"):
            pass
    finally:
        run.kill()
        run.wait()
    with second(tmp_path / "out"):
        pass


STARTS = """
import subprocess
with working_folder(sys.argv[1]) as lock:
    child = subprocess.Popen(["sleep", "600"], pass_fds=(lock,), stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    child.wait()
"""
FORKS = """
import os, time
with working_folder(sys.argv[1]):
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(600)
"""


@contextmanager
def child_of_a_killed(program: str, target: Path) -> Iterator[int]:
    """The process that a program in a working folder started before it was killed, itself killed afterwards; gives the
    first one's id."""
    program = f"{AS_COMMAND}from page4d_hf.utils.folders import working_folder\n{program}"
    run = subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE)
    assert run.stdout is not None
    child = int(run.stdout.readline())
    run.kill()
    run.wait()
    try:
        yield run.pid
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_a_lock_outlives_its_process_in_the_programs_that_it_started(tmp_path):
    with (
        child_of_a_killed(STARTS, tmp_path / "out") as killed,
        pytest.raises(Page4DError, match=rf"process {killed} .*started and left running"),
        working_folder(tmp_path / "out"),
    ):
        pass


@pytest.mark.slow
def test_a_forked_process_does_not_keep_the_lock_of_its_parent(tmp_path):
    """As the workers of a `DataLoader`, which live on for seconds when a training is killed."""
    with child_of_a_killed(FORKS, tmp_path / "out"), working_folder(tmp_path / "out"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole_folder", "working_folder"])
def test_what_another_process_is_writing_in_a_working_folder_is_left_to_it(tmp_path, kind):
    run = start_holder(kind, tmp_path / "out" / "inner")
    before = sorted(tmp_path.rglob("*"))
    with working_folder(tmp_path / "out"):
        pass
    assert sorted(tmp_path.rglob("*")) == before
    run.kill()
    run.wait()
    (tmp_path / "out" / "run.json").touch()
    with working_folder(tmp_path / "out", mark="run.json"):
        pass
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.slow
def test_a_working_folder_is_cleared_of_what_a_killed_run_left(tmp_path):
    run = start_holder("working_folder", tmp_path / "out")
    run.kill()
    run.wait()
    assert len(entries(tmp_path / "out")) == 2
    assert is_unused(tmp_path / "out")
    with working_folder(tmp_path / "out"):
        assert entries(tmp_path / "out") == [folders.LOCK]
    assert not entries(tmp_path / "out")


def test_temporary_files_of_others_stay_in_a_folder_that_is_not_the_command_s(tmp_path):
    place = tmp_path / "runs" / "other" / ".result.json.partial-1"
    place.parent.mkdir(parents=True)
    place.touch()
    with pytest.raises(Page4DError, match=r"holds something else \(it has no run\.json\)"):
        working_folder(tmp_path, "run.json").__enter__()
    with working_folder(tmp_path):
        pass
    assert place.exists()
    assert entries(tmp_path) == ["runs"]


def test_a_folder_that_is_entered_again_by_its_own_process_is_not_cleared(tmp_path):
    (tmp_path / "run.json").touch()
    with working_folder(tmp_path, "run.json"):
        (tmp_path / ".x.partial-1").touch()
        with working_folder(tmp_path, "run.json"):
            pass
        assert (tmp_path / ".x.partial-1").exists()


def test_a_folder_with_anything_in_it_is_used(tmp_path):
    assert is_unused(tmp_path / "absent")
    (tmp_path / "file").touch()
    assert not is_unused(tmp_path)
    assert not is_unused(tmp_path / "file")


BAD_NAMES = [
    "/proc/x/out",
    "{}/file/out",
    "{}/" + "x" * 250,
    "{}/" + "x" * 240,
    "{}/a\0b",
    "{}/loop/out",
    "{}/loop",
    "{}/\udcff",
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("check", [claimed_folder, whole_folder, working_folder, whole_file])
def test_an_output_that_cannot_be_written_is_refused_before_the_block_runs(tmp_path, name, check):
    if check is working_folder and "xxx" in name:
        pytest.skip("a long name is no obstacle where nothing is written beside it")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(Page4DError, match=r"Cannot write|cannot be a name|is a file"), check(name.format(tmp_path)):
        raise AssertionError("the block ran")
    assert entries(tmp_path) == ["file", "loop"]


# --------------------------------------------------------------------------------------------------------------------
# Files


def write_file(target: Path, text: str, *, fail: BaseException | None = None, **kwargs) -> None:
    with whole_file(target, **kwargs) as file:
        file.write_text(text)
        assert not target.exists() or target.read_text() != text
        if fail is not None:
            raise fail


def test_a_file_gets_its_name_when_the_block_ends(tmp_path):
    write_file(tmp_path / "a" / "out.ply", "new")
    assert (tmp_path / "a" / "out.ply").read_text() == "new"
    assert entries(tmp_path / "a") == ["out.ply"]


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_no_file_and_no_folder_for_it(tmp_path, error):
    with pytest.raises(type(error)):
        write_file(tmp_path / "a" / "out.ply", "new", fail=error)
    assert entries(tmp_path) == []


def test_a_file_that_is_there_is_replaced_on_request_alone(tmp_path):
    write_file(tmp_path / "out.ply", "old")
    with pytest.raises(Page4DError, match="exists; name another one, or pass --overwrite"):
        write_file(tmp_path / "out.ply", "new")
    with pytest.raises(RuntimeError):
        write_file(tmp_path / "out.ply", "new", fail=RuntimeError("bug"), overwrite=True)
    assert (tmp_path / "out.ply").read_text() == "old"
    write_file(tmp_path / "out.ply", "new", overwrite=True)
    assert (tmp_path / "out.ply").read_text() == "new"
    assert entries(tmp_path) == ["out.ply"]


def test_a_folder_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "out.ply").mkdir()
    with pytest.raises(Page4DError, match="is a folder"):
        write_file(tmp_path / "out.ply", "new", overwrite=True)


def test_a_new_file_may_be_read_by_whom_other_new_files_may(tmp_path):
    write_file(tmp_path / "out.ply", "new")
    (tmp_path / "other").write_text("")
    assert (tmp_path / "out.ply").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_full_disk_is_told_of_and_leaves_no_file(tmp_path):
    with pytest.raises(Page4DError, match="The disk filled up"), whole_file(tmp_path / "out.ply"):
        Path("/dev/full").write_text("does not fit")
    assert entries(tmp_path) == []


@pytest.mark.parametrize("source", ["out", "out/images", "out/images/*.png", "link"])
def test_an_output_that_is_or_holds_what_is_read_is_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with whole_folder("out") as folder:
        (folder / "images").mkdir()
        (folder / "images" / "a.png").touch()
    (tmp_path / "link").symlink_to(tmp_path / "out" / "images")
    with (
        pytest.raises(Page4DError, match=rf"The output out is or holds what is read, {re.escape(source)}; name"),
        claimed_folder("out", overwrite=True, inputs=(None, source)),
    ):
        pytest.fail("the folder was claimed")
    with claimed_folder("out", overwrite=True, inputs=("outside", "a\0b", "x" * 5000)):
        pass


@pytest.mark.parametrize("source", ["scene", "scene/points.ply", "scene/*.ply", "link"])
def test_an_output_file_that_is_one_of_those_that_are_read_is_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "points.ply").write_text("points")
    (tmp_path / "link").symlink_to(tmp_path / "scene")
    with pytest.raises(Page4DError, match=rf"points\.ply is a file of what is read, {re.escape(source)}; name"):
        check_output_file("scene/points.ply", overwrite=True, inputs=(None, source))
    check_output_file("scene/new.ply", inputs=(source,))
    (tmp_path / "old.ply").touch()
    check_output_file("old.ply", overwrite=True, inputs=(source,))
