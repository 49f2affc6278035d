"""Reconstructions are made once, and again exactly when something that matters has changed."""

import errno
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import page4d_hf.weights.loading
from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.frames import Frames
from page4d_nerfstudio.data import reconstruction_cache
from page4d_nerfstudio.data.reconstruction_cache import (
    CACHE_VARIABLE,
    ReconstructionOptions,
    cache_folder,
    digest_files,
    reconstruct_once,
)


@pytest.fixture
def model(tiny_model, tmp_path):
    """A copy of the weights, to change or remove."""
    return shutil.copytree(tiny_model, tmp_path / "weights")


SMALL = ReconstructionOptions(resolution=28)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Calls:
    """Reads two frames, and counts how often."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        images = [np.full((28, 28, 3), 60 * i, np.uint8) for i in range(2)]
        return Frames(images, ["a", "b"], np.arange(2.0), None, "test")


def run(read, model, digest="frames", resolution=28, refine="auto", use_mask=True, **others):
    options = ReconstructionOptions(resolution=resolution, refine=refine, **others)
    return reconstruct_once(read, digest, model=str(model), options=options, use_mask=use_mask)


def test_files_that_options_name_are_part_of_the_key_by_their_bytes(tmp_path):
    (tmp_path / "masks").mkdir()
    keys = []
    for value in (0, 255):
        Image.new("L", (4, 4), value).save(tmp_path / "masks" / "a.png")
        (tmp_path / "transforms.json").write_text(str(value))
        keys += [
            ReconstructionOptions(masks=tmp_path / "masks").digest(),
            ReconstructionOptions(cameras=tmp_path / "transforms.json").digest(),
            ReconstructionOptions(intrinsics=f"{value + 1},1,1,1").digest(),
            ReconstructionOptions(motion=str(tmp_path / "masks")).digest(),
        ]
    assert len(set(keys)) == 8


def test_masks_and_intrinsics_reach_the_reconstruction(model, tmp_path):
    for name in ("a", "b"):
        mask = Image.new("L", (28, 28), 255)
        mask.paste(0, (0, 0, 14, 28))
        mask.save(tmp_path / f"{name}.png")
    scene = run(Calls(), model, masks=tmp_path, intrinsics="30,31,14,14")
    np.testing.assert_allclose(scene.intrinsics[0], [[30, 0, 14], [0, 31, 14], [0, 0, 1]])
    assert (scene.load_confidence(0)[:, :13] == 0).all()
    assert scene.use_paths is not None


@pytest.mark.slow
def test_without_the_mask_no_motion_is_computed_only_to_be_dropped(model, monkeypatch):
    def unwanted(*args, **kwargs):
        raise AssertionError("geometry was asked for motion")

    monkeypatch.setattr("page4d_hf.reconstruction.motion.geometric_motion", unwanted)
    assert run(Calls(), model, use_mask=False).point_motion is None


@pytest.mark.slow
def test_the_second_time_neither_frames_are_read_nor_the_network_is_run(model, monkeypatch):
    read = Calls()
    first = run(read, model)
    monkeypatch.setattr(page4d_hf.weights.loading, "load_model", None)
    second = run(read, model)
    assert read.count == 1
    assert second.root == first.root
    np.testing.assert_array_equal(second.extrinsics, first.extrinsics)
    np.testing.assert_array_equal(second.load_depth(1), first.load_depth(1))


@pytest.mark.slow
def test_other_frames_resolution_weights_or_version_are_another_reconstruction(model, monkeypatch):
    read = Calls()
    run(read, model)
    run(read, model, digest="other frames")
    run(read, model, resolution=42)
    os.utime(model / "model.safetensors", (0, 0))  # the same weights
    run(read, model)
    assert read.count == 3
    weights = load_file(model / "model.safetensors")
    weights["camera_head.empty_pose"] += 1  # as after a training that goes on
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    run(read, model)
    assert read.count == 4
    monkeypatch.setattr(reconstruction_cache, "page4d_version", lambda: "999")
    run(read, model)
    assert read.count == 5


def test_the_digest_tells_bytes_order_and_options_apart(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    digests = [digest_files([one, other]), digest_files([other, one]), digest_files([one, other], 5.0)]
    one.write_bytes(b"12")
    other.write_bytes(b"")
    digests.append(digest_files([one, other]))
    assert len(set(digests)) == 4
    assert digests[3] == digest_files([one, other])


@pytest.mark.slow
def test_without_the_weights_what_they_made_is_used_and_not_what_others_did(model, tmp_path):
    read = Calls()
    root = run(read, model).root
    shutil.rmtree(model)
    assert run(read, model).root == root
    with pytest.raises(CheckpointError, match=r"No model folder .*/other; .*page4d pull"):
        run(read, tmp_path / "other")
    assert read.count == 1


def test_without_the_name_of_a_model_the_error_says_how_to_get_one():
    with pytest.raises(CheckpointError, match=r"--model .*page4d pull nomask --output page4d"):
        reconstruct_once(Calls(), "frames", model=None, options=SMALL)


def test_a_damaged_entry_is_made_anew(model):
    read = Calls()
    root = run(read, model).root
    (root / "page4d" / "depth" / "frame_00002.npy").unlink()
    assert run(read, model).load_depth(1).shape == (28, 28)
    assert read.count == 2


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_run_that_breaks_off_leaves_nothing_behind(model, cache, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", fail)
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else Page4DError):
            run(Calls(), model)
    assert not list(cache.rglob("*"))
    run(Calls(), model)


@pytest.mark.slow
def test_of_two_commands_at_once_the_second_waits_and_uses_what_the_first_has_made(model, cache, tmp_path, monkeypatch):
    entry = run(Calls(), model).root
    entry.rename(tmp_path / "made")

    def reconstruct(*args):  # without a network: a child by fork must not compute with PyTorch
        (tmp_path / "reading").touch()
        while not (tmp_path / "waiting").exists():
            time.sleep(0.01)
        (tmp_path / "made").rename(entry)

    process = os.fork()
    if process == 0:  # the first command
        try:
            reconstruction_cache._reconstruct = reconstruct
            run(Calls(), model)
        finally:
            os._exit(0)
    while not (tmp_path / "reading").exists():
        time.sleep(0.01)
    monkeypatch.setattr(reconstruction_cache, "note", (tmp_path / "waiting").write_text)
    read = Calls()
    scene = run(read, model)
    os.waitpid(process, 0)

    assert read.count == 0
    assert len(scene) == 2
    assert [path.name for path in (cache / "reconstructions").iterdir()] == [scene.root.name]  # and no lock
    said = (tmp_path / "waiting").read_text()
    assert (
        f"waiting: The reconstruction of these frames in {cache}/reconstructions is being written by process " in said
    )


@pytest.mark.parametrize("place", ["/proc/x", "file/below", "a" * 300, "a\0b", "~nobody-of-this-name/cache"])
def test_a_cache_that_cannot_be_written_is_refused_before_frames_are_read(model, tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    read = Calls()
    with pytest.raises(Page4DError, match=r"Cannot keep reconstructions in|cannot be read"):
        reconstruct_once(read, "frames", model=str(model), options=SMALL, cache_dir=Path(place))
    assert read.count == 0


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "~nobody-of-this-name/model", "a/b/c/d"])
def test_a_model_s_name_that_none_can_have_ends_in_a_sentence(name):
    with pytest.raises(Page4DError, match=r"^No model folder "):
        reconstruct_once(Calls(), "frames", model=name, options=SMALL)


def test_a_model_of_the_hub_is_known_by_its_commit(model, tmp_path, monkeypatch):
    """Without asking the Hub: its files lie in the Hub's own cache."""
    repository = tmp_path / "hub" / "models--somebody--page4d"
    snapshot = repository / "snapshots" / ("0123456789abcdef" * 3)[:40]
    shutil.copytree(model, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    load_model = page4d_hf.weights.loading.load_model  # transformers has read where its cache is by now
    monkeypatch.setattr(page4d_hf.weights.loading, "load_model", lambda path: load_model(snapshot))
    read = Calls()
    assert run(read, "somebody/page4d").root.name.endswith("-0123456789ab")
    run(read, "somebody/page4d")
    assert read.count == 1


def test_the_cache_lies_where_the_variable_says_or_in_the_home_folder(cache, monkeypatch):
    assert cache_folder(None, "a") == cache / "a"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_folder(None, "a") == Path("/somewhere/.cache/page4d/a")
    assert cache_folder(Path("~/b"), "a") == Path("/somewhere/b/a")
