"""Fingerprints tell weights apart, and nothing else."""

import json

import pytest

from page4d_hf.configuration_page4d import Page4DConfig
from page4d_hf.errors import CheckpointError
from page4d_hf.model_card import OF_CARD
from page4d_hf.weights.identity import _NOT_COMPUTED_WITH, fingerprint


def test_a_fingerprint_follows_the_weights(model_folder, own_model_folder):
    assert fingerprint(model_folder) == fingerprint(own_model_folder)
    path = own_model_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert fingerprint(model_folder) != fingerprint(own_model_folder)
    assert fingerprint("someone/page4d") is None


def test_weights_that_are_cut_off_have_no_fingerprint(own_model_folder):
    path = own_model_folder / "model.safetensors"
    for content in (path.read_bytes()[:100], b"\xff" * 8, b"", (2).to_bytes(8, "little") + b"[]"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="are broken or cut off; fetch or convert"):
            fingerprint(own_model_folder)


def test_what_a_card_says_is_no_part_of_a_fingerprint():
    assert set(OF_CARD) < set(_NOT_COMPUTED_WITH)


def test_a_fingerprint_is_the_same_with_every_version_of_the_libraries(model_folder, own_model_folder, monkeypatch):
    before = fingerprint(own_model_folder)
    path = own_model_folder / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "transformers_version": "9.9.9"}))
    monkeypatch.setattr(Page4DConfig, "to_dict", lambda self: {"default_of_another_version": 1})

    assert fingerprint(own_model_folder) == before == fingerprint(model_folder)


def test_how_images_are_prepared_is_part_of_a_fingerprint_and_where_the_code_for_it_lies_is_not(own_model_folder):
    before = fingerprint(own_model_folder)
    file = own_model_folder / "preprocessor_config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "auto_map": {"AutoImageProcessor": "elsewhere.Processor"}}))
    assert fingerprint(own_model_folder) == before
    for change in ({"mode": "pad"}, {"size": {"height": 28, "width": 28}}):
        file.write_text(json.dumps({**values, **change}))
        assert fingerprint(own_model_folder) != before
