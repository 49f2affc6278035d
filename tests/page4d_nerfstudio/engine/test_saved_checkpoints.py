"""Checkpoint files: what is read is whole, plain, and runs nothing."""

import os
import random
import zipfile

import numpy as np
import pytest
import torch

from page4d_hf.errors import CheckpointError
from page4d_nerfstudio.checkpoints import read_checkpoint

STATE = {"step": 3, "pipeline": {"_model.gauss_params.means": torch.arange(12.0).reshape(4, 3)}}


class Runs:
    """Pickled, it is a call of os.system."""

    def __reduce__(self):
        return os.system, ("touch RAN",)


def test_a_checkpoint_that_holds_a_program_is_refused_and_does_not_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(STATE | {"more": Runs()}, tmp_path / "step.ckpt")

    with pytest.raises(CheckpointError, match=r"step\.ckpt is broken"):
        read_checkpoint(tmp_path / "step.ckpt")
    assert not (tmp_path / "RAN").exists()


def test_a_checkpoint_with_numpy_s_numbers_is_read(tmp_path):
    """As nerfstudio's schedulers leave them in its optimizers."""
    torch.save(STATE | {"optimizers": {"lr": np.float64(0.25)}}, tmp_path / "step.ckpt")

    for mmap in (False, True):
        assert read_checkpoint(tmp_path / "step.ckpt", mmap=mmap)["optimizers"] == {"lr": 0.25}


def test_a_checkpoint_that_unpacks_to_more_than_it_has_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "step.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 2**20)

    with pytest.raises(CheckpointError, match="unpacks to 1,048,576 bytes, more than the file has"):
        read_checkpoint(tmp_path / "step.ckpt")


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    for state in ([1], {"step": 3}, {"step": "3", "pipeline": {}}, {"step": 3, "pipeline": 1}):
        torch.save(state, tmp_path / "step.ckpt")
        with pytest.raises(CheckpointError, match=r"step\.ckpt is broken"):
            read_checkpoint(tmp_path / "step.ckpt")


def test_whatever_has_become_of_a_checkpoint_it_is_read_or_refused(tmp_path):
    """Cut short, bytes changed, parts lost or doubled: seeded, and the same at each run."""
    torch.save(STATE, tmp_path / "step.ckpt")
    whole = (tmp_path / "step.ckpt").read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        kind = rng.randrange(3)
        if kind == 0:
            del data[rng.randrange(len(data)) :]
        elif kind == 1:
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        else:
            start = rng.randrange(len(data))
            data[start:start] = data[rng.randrange(len(data)) :][: rng.randint(1, 100)]
        (tmp_path / "step.ckpt").write_bytes(data)
        try:
            read_checkpoint(tmp_path / "step.ckpt")
        except CheckpointError:
            refused += 1
    assert refused > 50
