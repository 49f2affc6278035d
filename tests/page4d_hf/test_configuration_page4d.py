"""The configuration's defaults, its way through JSON, and what it refuses."""

import json
from pathlib import Path

import pytest
from huggingface_hub.errors import StrictDataclassError

from page4d_hf import Page4DConfig, Page4DImageProcessor, Page4DModel
from page4d_hf.configuration_page4d import Page4DInitializationConfig, Page4DTrainingConfig
from page4d_hf.errors import Page4DError


def test_the_defaults_are_the_published_stages_and_layers():
    config = Page4DConfig()

    assert config.mask_layer == 9
    assert config.masked_layers == [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    assert config.head_layers == [4, 11, 17, 23]


def test_what_only_training_needs_is_apart_from_the_network(tmp_path):
    Page4DConfig(training={"camera_loss": "huber"}, initialization={"patch_embedding": "smooth"}).save_pretrained(
        tmp_path
    )
    stored = json.loads((tmp_path / "config.json").read_text())
    loaded = Page4DConfig.from_pretrained(tmp_path, training={"mask_loss_weight": 0.5})

    assert sorted(stored["initialization"]) == [
        "encoder_layerscale_value", "global_attention", "layerscale_value", "patch_embedding",
    ]  # fmt: skip
    assert not any("loss" in name or "hold" in name or "layerscale" in name for name in stored)
    assert (loaded.training.camera_loss, loaded.training.mask_loss_weight) == ("huber", 0.5)
    assert loaded.initialization.patch_embedding == "smooth"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"camera_loss_weight": 2}, "camera_loss_weight is a value of training: give it as training="),
        ({"layerscale_value": 1}, "layerscale_value is a value of initialization"),
        ({"training": {"steps": 1}}, "no value called steps in training; the known ones are mask_hold_start,"),
        ({"initialization": 3}, "initialization is a int; it must be a Page4DInitializationConfig or a dict"),
    ],
)
def test_a_value_in_no_group_or_in_another_is_refused(values, message):
    with pytest.raises(Page4DError, match=message):
        Page4DConfig(**values)


def test_whole_numbers_stand_for_floats():
    config = Page4DConfig(image_mean=[0, 0, 0], image_std=(1, 1, 1), layer_norm_eps=0, initializer_range=0)
    assert (config.image_mean, config.layer_norm_eps) == ([0, 0, 0], 0)


def test_a_group_that_is_set_later_is_checked_as_one_that_is_given(tiny_config):
    config = tiny_config()
    config.update({"training": {"camera_loss": "huber"}})
    config.initialization = None
    assert config.training == Page4DTrainingConfig(camera_loss="huber")
    assert config.initialization == Page4DInitializationConfig()
    with pytest.raises(Page4DError, match="There is no value called camera_los in training"):
        config.training = {"camera_los": "l1"}
    with pytest.raises(Page4DError, match="training is a str; it must be"):
        config.training = "huber"


def test_every_own_value_that_differs_from_its_default_is_in_the_json(tiny_config):
    stored = json.loads(tiny_config().to_json_string(use_diff=True))

    assert stored["masked_layers"] == [2, 3]
    assert stored["model_type"] == "page4d"


def test_the_papers_stages_can_be_expressed():
    config = Page4DConfig(mask_form="paper", mask_layer=7, masked_layers=range(8, 18))

    assert config.masked_layers == [8, 9, 10, 11, 12, 13, 14, 15, 16, 17]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mask_form": "other"}, "mask_form is 'other'; it must be one of"),
        ({"mask_layer": 5}, "mask_layer is 5"),
        ({"masked_layers": [0, 2]}, "the mask exists only from mask_layer on"),
        ({"mask_strength": 1.5}, r"mask_strength is 1.5; it must lie in \[0, 1\]"),
        ({"mask_hold_start": None}, "both be given or both None"),
        ({"mask_hold_start": 10, "mask_hold_end": 10}, "mask_hold_start must lie in"),
        ({"num_attention_heads": 3}, "hidden_size is 16, which num_attention_heads = 3"),
        ({"num_attention_heads": 8}, "a width that is a multiple of 4"),
        ({"camera_num_attention_heads": 5}, "camera_num_attention_heads = 5"),
        ({"image_size": 30}, "no multiple of patch_size 14"),
        ({"image_mean": [0.5]}, "need 3 values"),
        ({"dense_channels": [8, 8, 8]}, "four values each"),
        ({"dense_channels": [8, 8, 8, 6]}, "multiples of 4"),
        ({"head_layers": [0, 1, 2, 5]}, "head_layers"),
        ({"track_hidden_size": 6}, "track_hidden_size is 6; it must be a multiple of 4"),
        ({"camera_num_iterations": 0}, "camera_num_iterations is 0; it must be at least 1"),
        ({"track_num_iterations": 0}, "track_num_iterations is 0; it must be at least 1"),
        ({"dense_frames_per_chunk": 0}, "at least 1, or None"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; it must be at least 1"),
        ({"patch_size": 0}, "patch_size is 0; it must be at least 1"),
        ({"num_hidden_layers": 0, "head_layers": []}, "num_hidden_layers is 0; it must be at least 1"),
        ({"num_register_tokens": -1}, "num_register_tokens is -1; it must be at least 0"),
        ({"dense_channels": [8, 8, 0, 8]}, "multiples of 4"),
        ({"mlp_ratio": 0}, "mlp_ratio is 0, which leaves nothing of hidden_size 16"),
        ({"hidden_act": "foo"}, "hidden_act is 'foo'; it must be one of .*gelu"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; it must be at most 1,000"),
        ({"camera_num_iterations": 10**9}, "camera_num_iterations is 1000000000; it must be at most 1,000"),
        ({"track_num_iterations": 10**9}, "track_num_iterations is 1000000000; it must be at most 1,000"),
        ({"hidden_size": 2**17}, "hidden_size is 131072; it must be at most 65,536"),
        ({"hidden_size": 2**16}, "a network of over 1.* parameters; it may have 10,000,000,000 at most"),
        ({"enable_track": True, "track_corr_radius": 1000, "track_corr_levels": 1000}, "parameters; it may have"),
        ({"masked_layers": [2] * 2000}, "may have 1,000 values at most"),
        ({"mask_scale": float("nan")}, "mask_scale is nan; it must be a finite number"),
        ({"mlp_ratio": float("inf")}, "mlp_ratio is inf; it must be a finite number"),
        ({"layer_norm_eps": 10**400}, "layer_norm_eps"),
        ({"image_std": [0.2, 0, 0.2]}, r"image_std is \[0.2, 0, 0.2\]; it must be above 0"),
        ({"rope_theta": 0}, "rope_theta is 0; it must be above 0"),
        ({"layer_norm_eps": -1e-5}, "layer_norm_eps is -1e-05; it must be at least 0"),
        ({"initializer_range": -1}, "initializer_range is -1; it must be at least 0"),
        ({"base_weights": "mine"}, "base_weights is 'mine'; it must be one of"),
    ],
)
def test_values_that_no_network_can_be_built_from_are_refused(tiny_config, overrides, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**overrides)


def test_a_network_without_a_mask_may_be_shallower_than_the_masks_stages(tiny_config):
    config = tiny_config(mask_form=None, num_hidden_layers=1, head_layers=[0, 0, 0, 0])

    assert config.num_hidden_layers == 1


def test_the_sizes_of_the_reduced_release_can_be_expressed(shared: Path):
    sizes = json.loads((shared / "reference" / "model_config.json").read_text())

    config = Page4DConfig(mask_layer=sizes["mask_layer"], masked_layers=sizes["masked_global_blocks"])

    defaults = {
        "patch_size": "patch_size",
        "depth": "num_hidden_layers",
        "num_register_tokens": "num_register_tokens",
        "mlp_ratio": "mlp_ratio",
        "rope_freq": "rope_theta",
        "camera_trunk_depth": "camera_num_hidden_layers",
        "camera_num_iterations": "camera_num_iterations",
        "intermediate_layer_idx": "head_layers",
        "dpt_head_features_2": "dense_output_channels",
        "mask_hidden": "mask_hidden_size",
        "mask_scale": "mask_scale",
        "dino_norm_eps": "encoder_layer_norm_eps",
        "norm_eps": "layer_norm_eps",
        "mask_layer": "mask_layer",
        "masked_global_blocks": "masked_layers",
    }
    for published, ours in defaults.items():
        assert getattr(config, ours) == sizes[published], ours


def test_the_bound_on_parameters_counts_the_published_network_right(tiny_config):
    for config, parameters in ((Page4DConfig(), 1_190_869_017), (Page4DConfig(enable_track=True), 1_256_810_413)):
        assert config._least_parameters() == pytest.approx(parameters, rel=0.03)


def test_a_number_of_labels_makes_no_labels():
    assert len(Page4DConfig(num_labels=10**9).id2label) == 2


@pytest.mark.parametrize("load", [Page4DConfig, Page4DModel, Page4DImageProcessor])
def test_a_folder_that_is_not_there_is_told_with_how_to_get_it(tmp_path, monkeypatch, load):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="There is no folder page4d; `page4d pull nomask --output page4d` fetches"):
        load.from_pretrained("page4d")
