"""Cards name base weights, licence and data, and take no other card's place."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError
from transformers.modelcard import TrainingSummary

from page4d_hf import Page4DModel
from page4d_hf.model_card import MARK, data_name, licence, model_card, write_model_card
from page4d_hf.weights.identity import fingerprint


@pytest.mark.parametrize(
    ("base", "license", "license_name", "base_model", "words"),
    [
        ("page4d", "other", "not-stated", "facebook/VGGT-1B", "PAGE-4D's release states no licence"),
        ("vggt", "cc-by-nc-4.0", None, "facebook/VGGT-1B", "for non-commercial use only"),
        (
            "vggt-commercial",
            "other",
            "vggt",
            "facebook/VGGT-1B-Commercial",
            "allows commercial use and forbids military",
        ),
        ("page4d-tiny", "apache-2.0", None, None, "are under Apache-2.0"),
        (None, "other", "unknown", None, "is not known here"),
    ],
)
def test_a_card_has_the_licence_of_its_base_weights(tiny_config, base, license, license_name, base_model, words):
    config = tiny_config(base_weights=base)
    card = ModelCard(model_card(config, num_parameters=5))
    assert (card.data.license, card.data.license_name, card.data.base_model) == (license, license_name, base_model)
    assert words in card.text
    assert words in licence(config)
    assert "{" not in card.text
    for section in ("## Intended use", "## Training data", "## Limits", "## Licence"):
        assert section in card.text


def test_the_card_of_a_quantized_model_says_so(tiny_config):
    config = tiny_config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    assert "| quantized by bitsandbytes, heads float32 |" in model_card(config, num_parameters=5)


@pytest.mark.slow
def test_save_pretrained_writes_a_card_that_names_base_licence_and_data(tiny_model, tmp_path):
    model = tiny_model(base_weights="page4d", trained_on=["tum", "user/clips"])
    model.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "# PAGE-4D, trained further" in text
    assert "Trained since on: tum, user/clips." in text
    assert "The licences of the data that it was trained on apply too." in text
    assert f"{model.num_parameters():,}" in text
    assert "0.357" not in text  # the authors' figures are not those of these weights
    again = Page4DModel.from_pretrained(tmp_path)
    assert (again.config.base_weights, again.config.trained_on) == ("page4d", ["tum", "user/clips"])
    again.config.trained_on = ["other"]
    again.save_pretrained(tmp_path)  # a card of its own kind is replaced
    assert "Trained since on: other." in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_what_a_card_says_does_not_change_the_name_of_the_weights(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path / "a")
    tiny_model(base_weights="vggt", trained_on=["tum"]).save_pretrained(tmp_path / "b")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_save_pretrained_leaves_the_card_of_somebody_else_alone(tiny_model, tmp_path):
    (tmp_path / "README.md").write_text("my card")
    tiny_model().save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my card"


@pytest.fixture
def uploaded(monkeypatch):
    """What a Hub is given, by name. It has what is put into this before."""
    files = {}

    def load(repo_id, **options):
        if "README.md" not in files:
            raise EntryNotFoundError("no card")
        return ModelCard(files["README.md"])

    def create_commit(operations, **options):
        files.update({each.path_in_repo: each.path_or_fileobj for each in operations})
        files["README.md"] = Path(files["README.md"]).read_text(encoding="utf-8")

    api = SimpleNamespace(
        create_repo=lambda name, **options: SimpleNamespace(repo_id=name), create_commit=create_commit
    )
    monkeypatch.setattr(ModelCard, "load", staticmethod(load))
    for module in ("utils.hub", "modeling_utils"):
        monkeypatch.setattr(f"transformers.{module}.hf_api", lambda: api)
    return files


def push(model, folder, **options):
    model.push_to_hub("me/model", **options)


def save_and_push(model, folder, **options):
    model.save_pretrained(folder, push_to_hub=True, repo_id="me/model")


@pytest.mark.slow
@pytest.mark.parametrize("upload", [push, save_and_push])
def test_a_model_is_pushed_with_its_card_in_place_of_the_library_s(tiny_model, tmp_path, uploaded, upload):
    upload(tiny_model(base_weights="vggt"), tmp_path)
    card = ModelCard(uploaded["README.md"])
    assert (card.data.license, card.data.base_model) == ("cc-by-nc-4.0", "facebook/VGGT-1B")
    assert {"config.json", "model.safetensors", "modeling_page4d.py"} <= uploaded.keys()
    upload(tiny_model(base_weights="vggt", trained_on=["tum"]), tmp_path)  # our card on the Hub is replaced by ours
    assert "Trained since on: tum." in uploaded["README.md"]


@pytest.mark.slow
def test_tags_of_a_push_stand_in_the_card(tiny_model, tmp_path, uploaded):
    push(tiny_model(), tmp_path, tags=["robots"])
    push(tiny_model(enable_camera=False), tmp_path)
    assert ModelCard(uploaded["README.md"]).data.tags == [
        "page4d", "depth-estimation", "dynamic-scenes", "custom_code", "robots",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("upload", [push, save_and_push])
def test_a_card_of_somebody_else_stays_on_the_hub(tiny_model, tmp_path, uploaded, upload):
    uploaded["README.md"] = "---\nlicense: mit\n---\nmy card"
    upload(tiny_model(base_weights="vggt"), tmp_path)
    assert uploaded["README.md"].endswith("my card")


@pytest.mark.parametrize("metadata", ["license: [", "- a list"])
def test_a_card_with_metadata_that_cannot_be_read_stays(tiny_config, tmp_path, metadata):
    text = f"---\n{metadata}\n---\n{MARK}"
    (tmp_path / "README.md").write_text(text)
    write_model_card(tmp_path, tiny_config(), num_parameters=5)
    assert (tmp_path / "README.md").read_text() == text


@pytest.mark.slow
def test_the_card_of_a_trainer_gets_licence_and_data_and_keeps_its_procedure(tiny_config, tmp_path):
    config = tiny_config(base_weights="vggt")
    path = tmp_path / "README.md"
    path.write_text(TrainingSummary("run", hyperparameters={"learning_rate": 0.5}, tags=["mine"]).to_model_card())
    assert "license" not in path.read_text()
    for _ in range(2):
        write_model_card(tmp_path, config, num_parameters=5)
        text = path.read_text(encoding="utf-8")
        assert ModelCard(text).data.license == "cc-by-nc-4.0"
        assert ModelCard(text).data.tags[-1] == "mine"
        assert text.count("- learning_rate: 0.5") == text.count("## Training procedure") == 1
    path.write_text(TrainingSummary("run", license="mit").to_model_card())  # its user has said under what it is
    write_model_card(tmp_path, config, num_parameters=5)
    assert ModelCard(path.read_text(encoding="utf-8")).data.license == "mit"


@pytest.mark.parametrize(
    ("without", "task"), [((), "image-to-3d"), (("camera", "point"), "depth-estimation"), (("depth",), "image-to-3d")]
)
def test_a_card_promises_what_the_model_has_heads_for(tiny_config, without, task):
    card = ModelCard(model_card(tiny_config(**{f"enable_{head}": False for head in without}), num_parameters=5))
    assert card.data.pipeline_tag == task
    for head, promises in {
        "camera": ("its camera;", "output.cameras()", "`page4d reconstruct` refines", "- camera-pose-estimation"),
        "depth": ("a depth map", "output.depth", "- depth-estimation"),
        "point": ("a map of the points", "output.world_points"),
    }.items():
        for promise in promises:
            assert (promise in card.content) == (head not in without), promise


@pytest.mark.slow
def test_the_example_of_a_card_runs_with_the_heads_that_there_are(tiny_model):
    for without in ({}, {"enable_camera": False}, {"enable_depth": False, "enable_point": False}):
        model = tiny_model(**without)
        lines = model_card(model.config, num_parameters=5).split("output = model(**inputs)\n")[1].split("```")[0]
        exec(lines, {"output": model(torch.rand(1, 2, 3, 28, 28))})


@pytest.mark.parametrize("base", ["page4d", "page4d-tiny"])
def test_a_card_says_of_weights_that_were_not_converted_only_what_they_start_from(tiny_config, base):
    config = tiny_config(base_weights=base)
    saved, converted = (model_card(config, num_parameters=5, source=source) for source in (None, "checkpoint.pt"))
    assert "# Weights that start from " in saved
    assert "# Weights that start from " not in converted
    assert ("0.357" in saved, "0.357" in converted) == (False, base == "page4d")
    assert "went into them" not in saved


def test_a_folder_of_data_is_named_without_those_above_it(tmp_path):
    (tmp_path / "tum").mkdir()
    assert data_name(str(tmp_path / "tum")) == "tum"
    assert data_name("user/clips") == "user/clips"
