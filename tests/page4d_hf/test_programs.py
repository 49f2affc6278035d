"""How programs print commands."""

import shlex
from pathlib import Path

import pytest

from page4d_hf.utils.programs import command


@pytest.mark.parametrize("name", ["scene", "my scene", "it's", "$HOME", "a;b", 'a"b', "*", "", "-n"])
def test_a_shell_takes_a_printed_command_as_it_is_meant(name):
    words = ["ns-train", "page4d-4dgs", "--data", name]
    assert shlex.split(command(*words)) == words
    assert shlex.split(command("page4d", Path("/x") / name, 5)) == ["page4d", str(Path("/x") / name), "5"]


def test_a_plain_command_is_printed_without_quotes():
    assert command("page4d", "pull", "tiny", "--output", Path("page4d")) == "page4d pull tiny --output page4d"
