"""Checkpoints of somebody else are read in every form, and refused in one sentence where they are damaged or a trap."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from page4d_hf.errors import CheckpointError
from page4d_hf.weights.checkpoint_files import read_checkpoint


def saved(folder: Path, content: Any, name: str = "checkpoint.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return {f"aggregator.layer.{i}": torch.randn(100, 50) for i in range(3)}


def forms(folder: Path, weights: dict[str, torch.Tensor]) -> dict[str, Path]:
    """The same weights in every form in which they are met."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    training = {"model": weights, "optimizer": optimizer.state_dict(), "prev_epoch": 3, "time_elapsed": 1.5}
    save_file(weights, folder / "model.safetensors")
    torch.save(weights, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    return {
        "under model": saved(folder, {"model": weights}, "model.pt"),
        "plain": saved(folder, weights, "plain.pt"),
        "with an optimizer": saved(folder, training, "training.pt"),
        "under state_dict": saved(folder, {"state_dict": weights}, "state_dict.pt"),
        "of data-parallel training": saved(folder, {f"module.{name}": t for name, t in weights.items()}, "ddp.pt"),
        "of a compiled model": saved(folder, {f"_orig_mod.{name}": t for name, t in weights.items()}, "compiled.pt"),
        "of data-parallel training of a compiled model": saved(
            folder, {f"module._orig_mod.{name}": t for name, t in weights.items()}, "both.pt"
        ),
        "before torch 1.6": folder / "legacy.pt",
        "safetensors": folder / "model.safetensors",
    }


def test_weights_are_read_from_every_form_of_file(weights, tmp_path):
    for form, path in forms(tmp_path, weights).items():
        read = read_checkpoint(path)
        assert read.keys() == weights.keys(), form
        assert all(torch.equal(read[name], tensor) for name, tensor in weights.items()), form


def test_a_name_without_ending_is_read_by_its_content(weights, tmp_path):
    # Files in the cache of the Hub are named by a hash.
    save_file(weights, tmp_path / "5f3a")
    assert read_checkpoint(tmp_path / "5f3a").keys() == weights.keys()


@pytest.mark.parametrize("kept", [0.0, 0.00005, 0.01, 0.5, 0.99, 0.9999])
def test_a_truncated_file_is_refused(weights, tmp_path, kept):
    for form, path in forms(tmp_path, weights).items():
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(CheckpointError, match=r"download it again|is not a checkpoint") as raised:
            read_checkpoint(path)
        assert str(path) in str(raised.value), form
        assert "\n" not in str(raised.value), form


class Malice:
    """A pickle of this runs a shell command when it is loaded as pickles usually are."""

    def __init__(self, folder: Path):
        self.command = f"touch {folder / 'ran'}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "protocol 0", "protocol 2", "protocol 4", "protocol 5"])
def test_a_pickle_with_code_is_refused_by_name_and_not_run(weights, tmp_path, kind):
    path = tmp_path / "checkpoint.pt"
    content = {"model": weights, "extra": Malice(tmp_path)}
    if kind.startswith("protocol"):
        with path.open("wb") as file:
            pickle.dump({"extra": Malice(tmp_path)}, file, protocol=int(kind[-1]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is refused: it asks to run code \((posix|nt)\.system\)"):
        read_checkpoint(path)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]  # no `ran` beside it


def test_a_pickled_module_is_refused_as_code(tmp_path):
    path = saved(tmp_path, torch.nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=r"asks to run code \(torch\.nn\.modules\.linear\.Linear\)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, world, this is a text", "is not a checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a checkpoint"),
        (b"<!doctype html><html><head>", "is not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (bytes(1000), "is not a checkpoint"),
    ],
    ids=["empty", "text", "image", "web page", "LFS pointer", "zeros"],
)
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path, content, message):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"file\.pt.*{message}|{message}.*file\.pt"):
        read_checkpoint(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ([1, 2], "holds a list, not a state dict"),
        ({}, "is empty"),
        ({"model": {}}, "is empty"),
        ({"epoch": 3}, "'epoch' is no tensor"),
        ({"model": {"a": torch.zeros(1), "b": 3}}, "'b' is no tensor"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(saved(tmp_path, content))


def packed(folder: Path, **entries: bytes) -> Path:
    """A zip archive of torch.save's kind, compressed."""
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name.replace('_', '.')}", content)
    return folder / "bomb.pt"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data_pkl", "data_0"])
def test_an_archive_that_unpacks_to_far_more_than_it_holds_is_refused_unread(tmp_path, name):
    path = packed(tmp_path, **{"data_pkl": b"", name: bytes(2**26 + 2**20)})
    with pytest.raises(CheckpointError, match=r"is refused: its [\d,]+ bytes unpack to 68,157,440"):
        read_checkpoint(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_pickle_that_asks_for_memory_by_its_size_is_refused(tmp_path, form):
    content = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x04\x85R."  # bytearray(2**42)
    path = packed(tmp_path, data_pkl=content, version=b"3\n")
    if form == "legacy":
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="asks for memory of a size that it names"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(10**6, 10**6), torch.eye(3).to_sparse()],
    ids=["one value for 10^12", "sparse"],
)
def test_a_tensor_that_is_larger_than_its_file_is_refused(tmp_path, tensor):
    path = saved(tmp_path, {"model": {"camera_head.empty_pose_tokens": tensor}})
    with pytest.raises(CheckpointError, match="sparse, quantized or larger than what is stored"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.pt", r"There is no checkpoint .*nowhere\.pt"),
        ("a\0b", "There is no checkpoint"),
        ("x" * 300, "There is no checkpoint"),
        ("", "is a folder; name the checkpoint file"),
        ("/dev/zero", "is no regular file"),
    ],
)
def test_what_is_no_regular_file_is_refused(tmp_path, path, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / path)


def refusal_of(path: Path) -> str | None:
    """Why a checkpoint is refused; `None` for one that is read. Any other exception fails the test."""
    try:
        read_checkpoint(path)
    except CheckpointError as error:
        return str(error)
    return None


def test_a_damaged_checkpoint_is_refused_in_one_sentence_whatever_is_damaged(tmp_path):
    weights = {f"aggregator.layer.{i}": torch.randn(3, i + 1) for i in range(4)}
    draw = random.Random(0)
    refused = 0
    for form, path in forms(tmp_path, weights).items():
        content = path.read_bytes()
        for _ in range(60):
            changed = bytearray(content)
            for _ in range(draw.choice([1, 3, 30])):
                # What lies at the ends of a file tells what the rest is.
                place = draw.choice([draw.randrange(len(changed)), draw.randrange(200), -1 - draw.randrange(400)])
                changed[place] = draw.randrange(256)
            path.write_bytes(changed)
            if fault := refusal_of(path):
                assert "\n" not in fault, form
                refused += 1
    assert refused > 100
