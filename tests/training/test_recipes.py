"""The ready recipes: their options exist, and their networks can be built."""

import json
from pathlib import Path

import pytest
from finetuning.options import from_json

from page4d_hf import Page4DConfig

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = sorted((ROOT / "training" / "recipes").glob("*-network.json"))
ABLATIONS = {*(ROOT / "training" / "recipes").glob("ablation*.json")}  # start from a model that is yet to be trained
RECIPES = sorted(set((ROOT / "training" / "recipes").glob("*.json")) - {*NETWORKS, *ABLATIONS})


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_a_network_of_a_recipe_knows_only_values_of_the_configuration(path):
    values = json.loads(path.read_text())

    assert set(values) <= set(Page4DConfig.__annotations__)
    Page4DConfig(**values)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_fits_its_network(path):
    options = from_json(path)

    network = json.loads((ROOT / options.network).read_text())
    assert options.sampling.patch_size == network["patch_size"]
    assert options.sampling.width % network["patch_size"] == 0
