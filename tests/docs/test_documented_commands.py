"""What README and the docs tell people to type is what the programs take."""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import tyro
from documented import PROGRAMS, ROOT, command_lines, fences


class Parsed(Exception):
    """The program has understood its command line, and would begin."""


def without_a_body(function: Any) -> Any:
    """Something that takes what a function takes and does nothing; classes as they are, tyro only makes objects."""
    if not inspect.isfunction(function):
        return function
    return functools.wraps(function)(lambda *args, **options: None)


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[list[str]], None]:
    """Has a program parse its command line and stop there."""
    cli, subcommands = tyro.cli, tyro.extras.subcommand_cli_from_dict

    def stop_after_parsing(wanted: Any, *args: Any, **options: Any) -> Any:
        made = cli(without_a_body(wanted), *args, **options)
        if options.get("return_unknown_args"):
            return made
        raise Parsed

    def stop_after_subcommands(commands: dict[str, Any], *args: Any, **options: Any) -> None:
        subcommands({name: without_a_body(command) for name, command in commands.items()}, *args, **options)
        raise Parsed

    def stop_after_arguments(parser: argparse.ArgumentParser, *args: Any, **options: Any) -> None:
        known(parser, *args, **options)
        raise Parsed

    known = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop_after_arguments)
    monkeypatch.setattr(tyro, "cli", stop_after_parsing)
    monkeypatch.setattr(tyro.extras, "subcommand_cli_from_dict", stop_after_subcommands)
    for folder in ("benchmarks", "evaluation", "training"):  # programs and their files of options
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "monst3r").mkdir()  # predictions, which are looked for at once
    monkeypatch.chdir(tmp_path)
    programs = {point.name: point for point in entry_points(group="console_scripts")}

    def run(words: list[str]) -> None:
        if words[0] in ("python", "python3", "accelerate"):
            start = next(i for i, word in enumerate(words) if word.endswith(".py"))
            monkeypatch.setattr(sys, "argv", words[start:])
            with pytest.raises(Parsed):
                runpy.run_path(words[start], run_name="__main__")
        else:
            monkeypatch.setattr(sys, "argv", words)
            with pytest.raises(Parsed):
                programs[words[0]].load()()

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("page", "words"), [pytest.param(*line, id=shlex.join(line[1])) for line in command_lines()])
def test_a_documented_command_is_taken_by_its_program(parse, page, words):
    if words[0].startswith("ns-"):
        pytest.importorskip("nerfstudio", reason="nerfstudio is not installed")
    if words[1:3] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[3:] if not word.startswith("-")), page
    elif "--help" not in words:
        parse(words)


@pytest.mark.parametrize("page", sorted({page for page, _ in fences("python")}))
def test_what_documented_python_imports_is_there(page, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "evaluation"))  # as the page says
    for _, block in [fence for fence in fences("python") if fence[0] == page]:
        for node in ast.walk(ast.parse(re.sub(r"^>>> ", "", block, flags=re.M))):
            if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level):
                exec(ast.unparse(node), {})


def test_the_reference_has_the_help_of_every_program_for_training_and_evaluation():
    reference = runpy.run_path(str(ROOT / "docs/hooks/commands.py"))
    shown = {command.split()[1] for command in reference["OTHERS"] if command.startswith("python ")}
    programs = {path.relative_to(ROOT).as_posix() for path in PROGRAMS if path.parent.name != "benchmarks"}
    assert shown == programs


def test_documented_extras_and_targets_of_make_exist():
    project = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    extras = re.findall(r"^([a-z]+) = \[", project.partition("[project.scripts]")[0], re.M)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    for page, block in fences("bash"):
        for names in re.findall(r"\.\[([a-z,]+)\]", block):
            assert set(names.split(",")) <= set(extras), page
        for target in re.findall(r"^make ([a-z]+)", block, re.M):
            assert target in targets, page
