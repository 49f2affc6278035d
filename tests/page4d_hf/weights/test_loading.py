"""Model folders, devices and dtypes: what is taken, and what is refused in a sentence."""

import json
import re
import shutil

import httpx
import pytest
import torch
from huggingface_hub.errors import GatedRepoError

from page4d_hf import Page4DConfig, Page4DImageProcessor
from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.weights.loading import load_config, load_model, resolve_device, resolve_dtype


def test_a_folder_without_a_model_is_refused_and_says_how_to_get_one(tmp_path):
    for path, message in (
        (
            tmp_path / "absent",
            "No model folder .*absent; fetch .*pull nomask --output .*absent.*pull tiny --output .*page4d convert",
        ),
        (tmp_path, "is no model folder: it has no config.json; fetch .*page4d pull"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_model(path, device="cpu")


def test_a_checkpoint_file_is_refused_and_says_how_to_convert_it(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"is a file.*page4d convert .*checkpoint\.pt OUT"):
        load_model(tmp_path / "checkpoint.pt", device="cpu")


def test_a_repository_that_cannot_be_reached_is_refused(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = "There is no folder someone/page4d; `page4d pull nomask .*Nor is it a model of the Hub .*: We couldn't"
    with pytest.raises(CheckpointError, match=message):
        load_config("someone/page4d")


def test_a_gated_repository_is_said_to_be_gated(monkeypatch):
    def gated(*args: object, **options: object) -> None:
        answer = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))
        raise GatedRepoError("Access to model someone/page4d is restricted.", response=answer)

    monkeypatch.setattr("transformers.utils.hub.hf_hub_download", gated)
    with pytest.raises(CheckpointError, match=r"gated repo\. Make sure to have access .*someone/page4d") as raised:
        load_config("someone/page4d")
    assert "There is no folder" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"model_type": "bert"}), "a model of type bert, not page4d"),
        ("{}", "a model of type None, not page4d"),
        ("{", r"Cannot read .*config\.json"),
        (json.dumps({"model_type": "page4d", "hidden_size": "wide"}), "configuration in .* is not valid"),
        (json.dumps({"model_type": "page4d", "mask_form": "square"}), "configuration in .* is not valid"),
    ],
)
def test_a_configuration_of_something_else_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_config(tmp_path)


def test_weights_that_are_cut_off_are_refused(own_model_folder):
    path = own_model_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="broken or cut off"):
        load_model(own_model_folder, device="cpu")


def test_weights_that_are_missing_are_refused(own_model_folder):
    (own_model_folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"Cannot load the weights in .*model"):
        load_model(own_model_folder, device="cpu")


def test_weights_of_a_part_of_the_network_are_refused(own_model_folder):
    from safetensors.torch import load_file, save_file

    path = own_model_folder / "model.safetensors"
    tensors = load_file(path)
    gone = next(name for name in tensors if name.startswith("camera_head"))
    del tensors[gone]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"lack 1 tensors of the network, such as {re.escape(gone)}"):
        load_model(own_model_folder, device="cpu")


def test_weights_of_another_size_are_refused(own_model_folder):
    config = json.loads((own_model_folder / "config.json").read_text())
    (own_model_folder / "config.json").write_text(json.dumps({**config, "mask_hidden_size": 12}))
    with pytest.raises(CheckpointError, match=r"Cannot load the weights in .*model"):
        load_model(own_model_folder, device="cpu")


def test_a_model_folder_without_an_image_processor_gets_one_that_fits(own_model_folder):
    (own_model_folder / "preprocessor_config.json").unlink()
    _, processor = load_model(own_model_folder, device="cpu")
    assert (processor.mode, processor.patch_size, dict(processor.size)) == ("balanced", 14, {"height": 70, "width": 70})


@pytest.fixture
def cached_repository(model_folder, tmp_path, monkeypatch):
    """The name of a repository that the Hub's cache holds with all but its image processor, without a network."""
    root, commit = tmp_path / "hub" / "models--someone--page4d", "a" * 40
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    shutil.copytree(model_folder, root / "snapshots" / commit, ignore=shutil.ignore_patterns("preprocessor_config*"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return "someone/page4d"


@pytest.mark.slow
def test_a_repository_without_an_image_processor_gets_one_that_fits(cached_repository):
    _, processor = load_model(cached_repository, device="cpu")
    assert (processor.mode, processor.patch_size, dict(processor.size)) == ("balanced", 14, {"height": 70, "width": 70})


def test_what_a_repository_lacks_is_told_in_the_library_s_words(cached_repository):
    for missing in (
        lambda: Page4DConfig.from_pretrained(cached_repository, revision="v2"),
        lambda: Page4DImageProcessor.from_pretrained(cached_repository),
    ):
        with pytest.raises(OSError, match=r"someone/page4d|connect to") as raised:
            missing()
        assert "There is no folder" not in str(raised.value)
    with pytest.raises(OSError, match="There is no folder someone/else"):
        Page4DConfig.from_pretrained("someone/else")


def test_a_gpu_where_there_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Page4DError, match="device cuda:0 was asked for, but PyTorch finds no CUDA GPU here"):
        resolve_device("cuda:0")
    assert resolve_device("auto") == resolve_device(None) == torch.device("cpu")


def test_a_gpu_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(Page4DError, match="cuda:2 was asked for, but there are only 2 GPUs"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "0", ""])
def test_a_device_that_is_no_device_is_refused(device):
    with pytest.raises(Page4DError, match="Expected the device auto, cpu, cuda"):
        resolve_device(device)


def test_the_dtype_follows_the_device(monkeypatch):
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32
    for capability, expected in (((9, 0), torch.bfloat16), ((7, 5), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert resolve_dtype(None, torch.device("cuda")) == expected
    assert resolve_dtype("float16", torch.device("cpu")) == resolve_dtype(torch.float16, torch.device("cpu"))
    with pytest.raises(Page4DError, match="Expected the dtype auto, float32"):
        resolve_dtype("int8", torch.device("cpu"))
