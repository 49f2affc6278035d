"""The `page4d` command: quick to help, and one line to stderr where the input is at fault."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from published_weights import Sizes, published_weights

from page4d_hf import Page4DConfig, Page4DModel, cli

SHALLOW = ["--set", "head_layers=[0,1,1,2]", "mask_layer=0", "masked_layers=[1]"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("published") / "checkpoint_mask.pt"
    torch.save({"model": published_weights(Sizes(depth=3))}, path)
    return path


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says on stderr when it ends with exit code 1: a single line."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("page4d: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.slow
def test_the_help_lists_the_subcommands_and_imports_neither_torch_nor_transformers():
    program = """
import sys
sys.argv = ["/usr/bin/page4d"]
from page4d_hf.cli import main
try:
    main(["--help"])
finally:
    print("imported:", sorted({"torch", "transformers", "numpy", "huggingface_hub"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert name in done.stdout
    assert "imported: []" in done.stdout


@pytest.mark.parametrize(("arguments", "shown"), [(["--help"], False), (["pull", "--help"], True)])
def test_the_list_of_subcommands_has_a_sentence_for_each_and_their_own_help_the_rest(capsys, arguments, shown):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "Fetch published weights from the Hugging Face Hub" in printed
    assert ("Licences: VGGT-1B is under CC-BY-NC-4.0" in printed) == shown


class Added:
    """An entry point of another package."""

    value = "another_package:function"

    def __init__(self, name: str, function: object) -> None:
        self.name, self.function = name, function

    def load(self) -> object:
        if isinstance(self.function, Exception):
            raise self.function
        return self.function


@pytest.fixture
def add(monkeypatch):
    """Install packages that add subcommands."""

    def install(**functions: object) -> None:
        found = [Added(name, function) for name, function in functions.items()]
        monkeypatch.setattr(
            "importlib.metadata.entry_points", lambda group: found if group == "page4d.commands" else []
        )

    return install


def test_other_packages_add_subcommands_by_entry_points(add):
    called = []

    def greet(name: str) -> None:
        called.append(name)

    add(greet=greet)
    cli.main(["greet", "--name", "you"])
    assert called == ["you"]


def test_a_subcommand_that_cannot_be_loaded_is_left_out_and_named(add, capsys):
    add(broken=ImportError("no module named there"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    output = capsys.readouterr()
    assert "the subcommand broken (another_package:function) is left out: no module named there" in output.err
    assert "broken" not in output.out


def test_a_subcommand_of_ours_is_not_replaced_by_another_packages(add, capsys):
    add(convert=lambda: pytest.fail("not ours"))
    assert "There is no checkpoint" in refusal(capsys, "convert", "nowhere.pt", "output-that-is-not-there")


def test_a_checkpoint_is_converted(capsys, checkpoint, tmp_path):
    cli.main(["convert", str(checkpoint), str(tmp_path / "page4d"), *SHALLOW])
    said = capsys.readouterr().out
    assert f"Wrote {tmp_path / 'page4d'}" in said
    assert "The mask head is used at strength 1, as the file's name says." in said
    assert "Assumed, as tensors do not show it: encoder_num_attention_heads=3, camera_num_attention_heads=3" in said
    assert "camera, depth, point heads, mask of the release form at strength 1, float32" in said
    assert "Licence: PAGE-4D's release states no licence for its weights." in said
    assert Page4DModel.from_pretrained(tmp_path / "page4d").config.head_layers == [0, 1, 1, 2]


@pytest.mark.slow
def test_values_that_tensors_do_not_show_are_set(checkpoint, tmp_path):
    cli.main(["convert", str(checkpoint), str(tmp_path / "page4d"), *SHALLOW, "mask_strength=0.5"])
    assert Page4DConfig.from_pretrained(tmp_path / "page4d").mask_strength == 0.5


@pytest.mark.slow
def test_the_mask_is_used_as_the_option_says(capsys, checkpoint, tmp_path):
    cli.main(["convert", str(checkpoint), str(tmp_path / "my page4d"), "--mask", "off", *SHALLOW])
    assert Page4DConfig.from_pretrained(tmp_path / "my page4d").mask_strength == 0
    said = capsys.readouterr().out
    assert "The mask head is used at strength 0, as --mask says." in said
    assert f"page4d reconstruct VIDEO --model '{tmp_path / 'my page4d'}'" in said  # quoted for a shell


@pytest.mark.parametrize("assignment", ["mask_strength", "=1", "mask_strength="])
def test_a_value_that_is_not_set_by_an_equals_sign_is_refused(capsys, checkpoint, tmp_path, assignment):
    error = refusal(capsys, "convert", checkpoint, tmp_path / "page4d", "--set", assignment)
    assert f"NAME=VALUE, as in mask_strength=0; it got {assignment!r}" in error
    assert entries(tmp_path) == []


def broken(folder: Path, kind: str) -> Path:
    """A file that is no good checkpoint."""
    path = folder / "broken.pt"
    weights = published_weights(Sizes(depth=3))
    if kind == "truncated":
        torch.save({"model": weights}, path)
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "of another model":
        torch.save({"conv1.weight": torch.zeros(3)}, path)
    elif kind == "malicious":
        torch.save({"model": weights, "extra": print}, path)
    elif kind == "incomplete":
        del weights["camera_head.embed_pose.weight"]
        torch.save(weights, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "There is no checkpoint"),
        ("truncated", "is incomplete"),
        ("of another model", "of another network"),
        ("malicious", "is refused: it asks to run code"),
        ("incomplete", "1 key missing (camera_head.embed_pose.weight)"),
    ],
)
def test_a_bad_checkpoint_ends_in_one_line_that_names_it_and_nothing_is_written(capsys, tmp_path, kind, message):
    path = broken(tmp_path, kind)
    before = entries(tmp_path)
    error = refusal(capsys, "convert", path, tmp_path / "a" / "page4d", *SHALLOW)
    assert message in error
    assert str(path) in error
    assert entries(tmp_path) == before


def test_a_synthetic_capture_s_folder_is_looked_at_before_torch_is_imported(capsys, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").touch()
    monkeypatch.setitem(sys.modules, "page4d_hf.synthetic", None)
    assert "is not empty" in refusal(capsys, "synth", tmp_path)


def test_overwriting_never_deletes_what_is_no_model(capsys, checkpoint, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    error = refusal(capsys, "convert", checkpoint, tmp_path / "photos", "--overwrite", *SHALLOW)
    assert "page4d did not write 1.jpg" in error
    assert entries(tmp_path / "photos") == ["1.jpg"]


def test_a_full_disk_ends_in_one_line_and_nothing_is_left(capsys, checkpoint, tmp_path, monkeypatch):
    def full(self: Page4DModel, folder: Path, **kwargs: object) -> None:
        (Path(folder) / "model.safetensors").write_bytes(bytes(1000))
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Page4DModel, "save_pretrained", full)
    error = refusal(capsys, "convert", checkpoint, tmp_path / "page4d", *SHALLOW)
    assert "The disk filled up while writing" in error
    assert entries(tmp_path) == []


def test_a_mistake_of_the_program_itself_is_not_hidden(monkeypatch):
    def mistake() -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(cli, "COMMANDS", {"one": mistake, "two": mistake})
    with pytest.raises(RuntimeError, match="bug"):
        cli.main(["one"])


def test_what_libraries_will_do_differently_some_day_is_not_shown_to_users_of_a_command(monkeypatch, recwarn):
    monkeypatch.setattr(sys, "warnoptions", [])
    cli.main(["--version"])
    warnings.warn("some library changes", FutureWarning, stacklevel=1)
    assert not recwarn.list
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    warnings.resetwarnings()
    cli.main(["--version"])
    with pytest.warns(FutureWarning):
        warnings.warn("some library changes", FutureWarning, stacklevel=1)
