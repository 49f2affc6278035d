"""JSON files of a model folder that are of another shape end in one sentence, before the library reads them."""

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open

from page4d_hf.errors import CheckpointError
from page4d_hf.weights.loading import load_model
from page4d_hf.weights.shipped import TINY

OTHER_SHAPES = {
    "list": "[]",
    "null": "null",
    "number": "3",
    "nested 100,000 deep": "[" * 100_000 + "]" * 100_000,
    "object nested 100,000 deep": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "number of 400 digits": f'{{"size": {"9" * 400}}}',
    "number of 5,000 digits": f'{{"size": {"9" * 5000}}}',
    "cut off": "{",
    "not UTF-8": b"\xff\xfe\x00",
}
CONFIG, PROCESSOR, INDEX = "config.json", "preprocessor_config.json", "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def refusal(folder: Path, name: str, content: str | bytes | dict) -> str:
    """What is said of a folder one of whose files is changed."""
    values = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    content = json.dumps(values | content) if isinstance(content, dict) else content
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CheckpointError) as raised:
        load_model(folder, device="cpu")
    return str(raised.value)


@pytest.mark.parametrize("name", [CONFIG, PROCESSOR, INDEX])
@pytest.mark.parametrize("content", OTHER_SHAPES.values(), ids=OTHER_SHAPES)
def test_a_file_of_another_shape_is_named(folder, name, content):
    if name == INDEX:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    message = refusal(folder, name, content)
    assert "\n" not in message
    assert str(folder) in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"patch_size": "x"}, "'patch_size' expected int"),
        ({"mask_scale": 10**400}, "mask_scale is 1000.*must be a finite number"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; it must be at most 1,000"),
        ({"dtype": "foo"}, "dtype is 'foo'"),
        ({"to_dict": 3}, "to_dict is no value of a configuration"),
        ({"id2label": [1]}, "another type than it must have"),
        ({"per_layer_config": 3}, "another type than it must have"),
        ({"attn_implementation": "nope"}, "Cannot load the weights .*nope"),
        ({"quantization_config": {"a": 1}}, "Cannot load the weights .*quantization"),
        ({"base_model_tp_plan": 3}, "Cannot load the weights"),
        ({"model_type": ["x"]}, r"holds a model of type \['x'\], not page4d"),
    ],
)
def test_a_value_of_the_configuration_that_cannot_be_is_named(folder, values, message):
    assert re.search(message, refusal(folder, CONFIG, values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": {"height": 0, "width": 0}}, "size"),
        ({"size": 2 * 10**9}, "size.*less than or equal to 16384"),
        ({"size": {"height": 8.5, "width": 8}}, "size"),
        ({"size": [1]}, "size"),
        ({"patch_size": 0}, "patch_size: it should be greater than or equal to 1, got 0"),
        ({"patch_size": "x"}, "patch_size: it should be a valid integer"),
        ({"resample": 99}, "resample"),
        ({"rescale_factor": "x"}, "rescale_factor"),
        ({"mode": "x"}, "Expected a mode among"),
    ],
)
def test_a_value_of_the_image_processor_that_cannot_be_is_named(folder, values, message):
    assert re.search(message, refusal(folder, PROCESSOR, values))


def index(**changes: object) -> dict[str, object]:
    """Of the shipped weights in one file."""
    with safe_open(TINY / "model.safetensors", "pt") as file:
        names = list(file.keys())
    return {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")} | changes


def test_an_index_of_weights_is_followed(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / INDEX).write_text(json.dumps(index()))
    load_model(folder, device="cpu")


@pytest.mark.parametrize(
    "weight_map", [3, [], {}, None, {"a": 3}, {"a": "../x.safetensors"}, {"a": "/etc/passwd"}, {"a": "no.safetensors"}]
)
def test_an_index_that_leads_elsewhere_is_refused(folder, weight_map):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    assert str(folder) in refusal(folder, INDEX, index(weight_map=weight_map))
