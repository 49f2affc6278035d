"""What a training writes carries a card with base weights, licence and data."""

import pytest
from finetuning.options import from_json
from huggingface_hub import ModelCard
from small_training import train, write_options


@pytest.mark.slow
def test_a_trained_model_and_its_checkpoints_carry_a_card_with_base_weights_licence_and_data(tmp_path):
    path = write_options(tmp_path, {"base_weights": "vggt"}, max_train_steps=1, checkpointing_steps=1)
    train(from_json(path))
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-1"):
        card = ModelCard.load(folder / "README.md")
        assert (card.data.license, card.data.base_model) == ("cc-by-nc-4.0", "facebook/VGGT-1B")
        assert "Trained since on: synthetic." in card.text
    train(from_json(path))  # values of the card are none that a run must begin with again
