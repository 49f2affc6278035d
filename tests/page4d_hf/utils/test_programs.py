"""How programs print commands, show progress and end."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from page4d_hf.errors import Page4DError
from page4d_hf.utils import programs
from page4d_hf.utils.programs import (
    command,
    goes_on_by_itself,
    input_errors_end_the_program,
    install_command,
    not_installed,
    say_next,
)
from page4d_hf.utils.progress import progress_bar


@pytest.mark.parametrize("name", ["scene", "my scene", "it's", "$HOME", "a;b", 'a"b', "*", "", "-n"])
def test_a_shell_takes_a_printed_command_as_it_is_meant(name):
    words = ["ns-train", "page4d-4dgs", "--data", name]
    assert shlex.split(command(*words)) == words
    assert shlex.split(command("page4d", Path("/x") / name, 5)) == ["page4d", str(Path("/x") / name), "5"]


def test_a_plain_command_is_printed_without_quotes():
    assert command("page4d", "pull", "tiny", "--output", Path("page4d")) == "page4d pull tiny --output page4d"


def test_an_extra_is_installed_from_the_checkout_with_its_constraints():
    root = Path(__file__).parents[3]
    said = not_installed("Curves need nothing", "training", "evaluation")
    installing = command("pip", "install", "-c", root / "constraints.txt", "-e", f"{root}[training,evaluation]")
    assert said == f"Curves need nothing, which is not installed; `{installing}` brings it."


@pytest.mark.parametrize(
    ("noted", "wanted"),
    [
        ({"url": "file:///x/page4d.whl", "archive_info": {}}, "page4d[app] @ file:///x/page4d.whl"),
        (
            {"url": "https://x.org/p", "vcs_info": {"vcs": "git", "commit_id": "9f3c"}},
            "page4d[app] @ git+https://x.org/p@9f3c",
        ),
        (None, "page4d[app]"),  # from an index
    ],
)
def test_an_extra_is_installed_from_where_the_package_came(monkeypatch, tmp_path, noted, wanted):
    monkeypatch.setattr(programs, "__file__", str(tmp_path / "page4d_hf/utils/programs.py"))
    came = SimpleNamespace(read_text=lambda name: noted and json.dumps(noted))
    monkeypatch.setattr(programs, "distribution", lambda name: came)
    assert shlex.split(install_command("app")) == ["pip", "install", wanted]


def test_an_error_of_the_input_ends_a_program_with_one_line_on_stderr_and_exit_code_1(capsys):
    with pytest.raises(SystemExit) as ended, input_errors_end_the_program("prog"):
        raise Page4DError("No such\nfolder: x.")
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", "prog: No such folder: x.\n")
    said = []
    with pytest.raises(SystemExit), input_errors_end_the_program("prog", say=said.append):
        raise Page4DError("x")
    assert said == ["x"]


def test_an_interrupt_ends_a_program_with_what_was_kept_and_exit_code_130(capsys):
    with pytest.raises(SystemExit) as ended, input_errors_end_the_program("prog", "nothing was kept."):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "prog: interrupted; nothing was kept.\n"


def test_an_interrupt_that_knows_better_says_what_was_kept(capsys):
    with pytest.raises(SystemExit), input_errors_end_the_program("prog", "nothing was kept."):
        raise KeyboardInterrupt("half is kept.")
    assert capsys.readouterr().err == "prog: interrupted; half is kept.\n"


def test_the_next_command_is_left_out_where_the_program_goes_on_by_itself(capsys):
    with goes_on_by_itself():
        say_next("prog", "a b")
    say_next("prog", "c d")
    assert capsys.readouterr().out == "Next: prog 'c d'\n"


def test_what_all_processes_meet_the_first_says_for_them(capsys, monkeypatch):
    class Everywhere(Page4DError):
        in_all_processes = True

    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        for error in (Everywhere(f"all, says {rank}"), Page4DError(f"alone, says {rank}"), KeyboardInterrupt()):
            with pytest.raises(SystemExit), input_errors_end_the_program("prog", "go on."):
                raise error
    assert capsys.readouterr().err.splitlines() == [
        "prog: all, says 0", "prog: alone, says 0", "prog: interrupted; go on.", "prog: alone, says 1"
    ]  # fmt: skip


def test_the_progress_bar_has_a_line_for_each_stage_with_its_numbers_and_note(capsys):
    with progress_bar() as report:
        report("reading [x]", 1, 4)
        report("writing", 2, 2, "5 clips")
        report("reading [x]", 4, 4)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.strip()][-2:]
    assert out == ""
    assert lines[0].startswith("reading [x]")
    assert "4/4" in lines[0]
    assert lines[1].startswith("writing")
    assert "2/2" in lines[1]
    assert "5 clips" in lines[1]
    with progress_bar(shown=False) as report:
        report("reading", 1, 1)
    assert capsys.readouterr().err == ""
