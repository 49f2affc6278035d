"""Cards name base weights, licence and data, and take no other card's place."""

import pytest
from huggingface_hub import ModelCard

from page4d_hf import Page4DModel
from page4d_hf.model_card import data_name, licence, model_card
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


def test_a_folder_of_data_is_named_without_those_above_it(tmp_path):
    (tmp_path / "tum").mkdir()
    assert data_name(str(tmp_path / "tum")) == "tum"
    assert data_name("user/clips") == "user/clips"
