"""Published checkpoints become folders for `from_pretrained`, whole and unchanged, or are refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from published_weights import FULL_SIZE, Sizes, published_shapes, published_weights
from safetensors.torch import load_file, save_file

from page4d_hf import Page4DConfig, Page4DImageProcessor, Page4DModel
from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.weights.checkpoint_files import read_checkpoint
from page4d_hf.weights.convert_checkpoint import convert_checkpoint, convert_state_dict, infer_config, published_name

pytestmark = pytest.mark.slow


def meta_model(config: Page4DConfig) -> Page4DModel:
    with torch.device("meta"):
        return Page4DModel(config)


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def saved(folder: Path, content: Any, name: str = "checkpoint.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Of a narrow network of the published depth."""
    return published_weights()


# A network of few layers is written and read sooner, but must be told what its tensors do not show.
SHALLOW = {"head_layers": [0, 1, 1, 2], "mask_layer": 0, "masked_layers": [1], "mask_strength": 1.0}


@pytest.fixture(scope="module")
def shallow() -> dict[str, torch.Tensor]:
    return published_weights(Sizes(depth=3))


@pytest.fixture(scope="module")
def converted(shallow, tmp_path_factory) -> Path:
    """The folder that a small checkpoint of PAGE-4D becomes."""
    folder = tmp_path_factory.mktemp("converted")
    convert_checkpoint(saved(folder, {"model": shallow}), folder / "page4d", overrides=SHALLOW)
    return folder / "page4d"


# ---------------------------------------------------------------------------------------------------------------
# Names and sizes


def test_the_converted_reference_checkpoint_gives_the_outputs_of_the_release(shared, tmp_path):
    reference = load_file(shared / "reference" / "model_case.safetensors")
    convert_checkpoint(shared / "reference" / "checkpoint_mask.pt", tmp_path / "page4d")
    model = Page4DModel.from_pretrained(tmp_path / "page4d").eval()
    assert model.config.mask_strength == 1
    with torch.no_grad():
        output = model(reference["images"])
    for name in ("pose_enc", "depth", "depth_conf", "world_points", "world_points_conf"):
        expected = reference[f"maskon/{name}"]
        torch.testing.assert_close(output[name].view(expected.shape), expected, atol=1e-5, rtol=1e-5)


def test_the_names_and_shapes_that_these_tests_use_are_those_of_the_release(shared):
    reference = read_checkpoint(shared / "reference" / "checkpoint_mask.pt")
    sizes = Sizes(
        width=64, heads=4, patch=14, grid=5, encoder_registers=4, depth=24, registers=4, mlp_ratio=4, mask_hidden=256,
        camera_depth=4, dense=32, dense_channels=(16, 32, 64, 64), dense_output=32,
    )  # fmt: skip
    assert published_shapes(sizes) == {name: tuple(tensor.shape) for name, tensor in reference.items()}


@pytest.mark.parametrize(
    ("mask", "track", "parameters"),
    [(True, False, 1_190_869_017), (False, True, 1_256_810_413 - 272_897), (False, False, 1_190_869_017 - 272_897)],
    ids=["PAGE-4D with mask", "VGGT", "PAGE-4D without mask"],
)
def test_the_published_networks_are_recognised_at_full_size(mask, track, parameters):
    weights = published_weights(FULL_SIZE, mask=mask, track=track, device="meta")
    config = infer_config(weights)
    expected = Page4DConfig(
        enable_track=track, mask_form="release" if mask else None, mask_strength=1.0 if mask else 0.0
    )
    assert config.to_dict() == expected.to_dict()
    assert meta_model(config).num_parameters() == sum(tensor.numel() for tensor in weights.values()) == parameters


def test_every_size_is_read_off_the_tensors():
    config = infer_config(published_weights(track=True))
    expected = {
        "hidden_size": 24,
        "num_attention_heads": 3,
        "encoder_num_attention_heads": 3,
        "camera_num_attention_heads": 3,
        "patch_size": 7,
        "image_size": 35,
        "encoder_num_hidden_layers": 2,
        "encoder_num_register_tokens": 3,
        "num_hidden_layers": 24,
        "num_register_tokens": 2,
        "mlp_ratio": 2,
        "mask_hidden_size": 10,
        "mask_form": "release",
        "mask_strength": 1,
        "camera_num_hidden_layers": 1,
        "dense_hidden_size": 40,
        "dense_channels": [4, 8, 12, 16],
        "dense_output_channels": 6,
        "track_hidden_size": 20,
        "track_transformer_size": 32,
        "track_num_hidden_layers": 1,
        "track_num_virtual_tracks": 9,
        "track_corr_levels": 3,
    }
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize("head", ["camera", "depth", "point", "track"])
def test_a_head_that_the_checkpoint_lacks_is_not_built(head):
    weights = published_weights(track=True)
    config = infer_config({name: tensor for name, tensor in weights.items() if not name.startswith(f"{head}_head.")})
    built = {name: getattr(config, f"enable_{name}") for name in ("camera", "depth", "point", "track")}
    assert built == {name: name != head for name in built}


def test_what_tensors_do_not_show_can_be_given(weights):
    config = infer_config(weights, camera_num_attention_heads=8, mask_strength=0.5, head_layers=[0, 1, 2, 23])
    assert config.camera_num_attention_heads == 8
    assert config.encoder_num_attention_heads == 3
    assert config.mask_strength == 0.5
    assert config.head_layers == [0, 1, 2, 23]


def test_a_value_that_the_configuration_does_not_have_is_refused_with_the_one_that_was_meant(weights):
    with pytest.raises(CheckpointError, match=r"no value camera_num_heads; .*camera_num_attention_heads"):
        infer_config(weights, camera_num_heads=8)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"camera_num_attention_heads": 7}, "camera_num_attention_heads = 7 does not divide"),
        ({"mask_strength": 2}, "mask_strength is 2"),
        ({"mask_layer": "x"}, "'mask_layer' expected int"),
        ({"head_layers": 3}, ""),
        ({"head_layers": [], "masked_layers": []}, "four values each"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"hidden_act": "foo"}, "hidden_act is 'foo'"),
        ({"head_layers": ["a", "b", "c", "d"]}, ""),
        ({"track_corr_radius": None}, "'track_corr_radius' expected int"),
    ],
)
def test_values_that_make_no_network_are_refused_with_their_reason(weights, overrides, reason):
    with pytest.raises(CheckpointError, match=rf"No network can be built .*{reason}.*--set NAME=VALUE"):
        infer_config(weights, **overrides)


def test_a_stray_layer_index_does_not_make_a_network_of_a_million_layers(weights):
    stray = {**weights, "aggregator.frame_blocks.999999.norm1.weight": torch.zeros(24)}
    assert infer_config(stray).num_hidden_layers <= 50
    stray = {**weights, f"aggregator.frame_blocks.{'9' * 5000}.norm1.weight": torch.zeros(24)}  # no int() reads that
    assert infer_config(stray).num_hidden_layers == 24


@pytest.mark.parametrize("mask", [True, False])
def test_every_weight_arrives_at_its_name_here(mask):
    weights = published_weights(mask=mask, track=True)
    model = meta_model(infer_config(weights))
    converted = convert_state_dict(weights, model)
    assert set(converted) == set(model.state_dict())
    assert all(converted[name].shape == tensor.shape for name, tensor in model.state_dict().items())
    # All that was published is there once, and beside it only the step count of the mask's schedule.
    new = {name for name in converted if "mask_schedule" in name}
    assert len(new) == mask
    assert all(not converted[name].any() for name in new)
    assert sum(tensor.numel() for name, tensor in converted.items() if name not in new) == sum(
        tensor.numel() for tensor in weights.values()
    )


@pytest.mark.parametrize(
    ("here", "published", "rows"),
    [
        ("encoder.embeddings.position_embeddings", "aggregator.patch_embed.pos_embed", None),
        ("encoder.embeddings.patch_embeddings.weight", "aggregator.patch_embed.patch_embed.proj.weight", None),
        ("encoder.layers.1.layer_scale2", "aggregator.patch_embed.blocks.1.ls2.gamma", None),
        ("aggregator.special_tokens.register", "aggregator.register_token", None),
        ("aggregator.frame_layers.11.attention.q_proj.weight", "aggregator.frame_blocks.11.attn.qkv.weight", (0, 24)),
        ("aggregator.frame_layers.11.attention.k_proj.weight", "aggregator.frame_blocks.11.attn.qkv.weight", (24, 48)),
        ("aggregator.global_layers.3.attention.v_proj.bias", "aggregator.global_blocks.3.attn.qkv.bias", (48, 72)),
        ("aggregator.global_layers.3.attention.k_norm.bias", "aggregator.global_blocks.3.attn.k_norm.bias", None),
        ("aggregator.mask_head.pointwise.weight", "aggregator.spatial_mask_head.head0.2.weight", None),
        ("camera_head.modulation.bias", "camera_head.poseLN_modulation.1.bias", None),
        ("camera_head.layers.0.attention.o_proj.bias", "camera_head.trunk.0.attn.proj.bias", None),
        ("depth_head.level_convs.0.weight", "depth_head.scratch.layer1_rn.weight", None),
        (
            "point_head.fusion_layers.2.skip_unit.conv2.bias",
            "point_head.scratch.refinenet3.resConfUnit1.conv2.bias",
            None,
        ),
        ("point_head.output_conv3.weight", "point_head.scratch.output_conv2.2.weight", None),
        (
            "track_head.transformer.space_layers.0.gather.attention.v_proj.bias",
            "track_head.tracker.updateformer.space_virtual2point_blocks.0.cross_attn.in_proj_bias",
            (64, 96),
        ),
        (
            "track_head.transformer.space_layers.0.mix.attention.o_proj.weight",
            "track_head.tracker.updateformer.space_virtual_blocks.0.attn.out_proj.weight",
            None,
        ),
    ],
)
def test_a_weight_here_is_that_of_the_published_name(here, published, rows):
    weights = published_weights(track=True)
    converted = convert_state_dict(weights, meta_model(infer_config(weights)))
    expected = weights[published] if rows is None else weights[published][slice(*rows)]
    assert published_name(here) == published
    assert torch.equal(converted[here], expected)


def test_converting_names_copies_no_weights(weights):
    converted = convert_state_dict(weights, meta_model(infer_config(weights)))
    storages = {tensor.untyped_storage().data_ptr() for tensor in weights.values()}
    copied = {name for name, tensor in converted.items() if tensor.untyped_storage().data_ptr() not in storages}
    assert copied == {"aggregator.mask_schedule.step"}


# ---------------------------------------------------------------------------------------------------------------
# Keys that do not fit


def fault(weights: dict[str, torch.Tensor]) -> str:
    """What is said about weights that do not fit."""
    with pytest.raises(CheckpointError) as raised:
        convert_state_dict(weights, meta_model(infer_config(weights)), source="The checkpoint x.pt")
    assert "\n" not in str(raised.value)
    return str(raised.value)


# Of all parts, a tensor that sizes are read off and one that they are not.
KEYS = [
    "aggregator.camera_token",
    "aggregator.register_token",
    "aggregator.patch_embed.cls_token",
    "aggregator.patch_embed.norm.bias",
    "aggregator.frame_blocks.3.attn.q_norm.weight",
    "aggregator.global_blocks.11.mlp.fc1.weight",
    "aggregator.spatial_mask_head.head0.4.bias",
    "camera_head.embed_pose.weight",
    "depth_head.projects.0.weight",
    "point_head.scratch.layer2_rn.weight",
    "point_head.scratch.output_conv2.2.bias",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(weights, key):
    message = fault({name: tensor for name, tensor in weights.items() if name != key})
    assert f"1 key missing ({key})" in message
    assert "unexpected" not in message


@pytest.mark.parametrize("key", KEYS)
def test_a_misshapen_key_is_named_with_both_shapes(weights, key):
    shape = list(weights[key].shape)
    wrong = [*shape[:-1], shape[-1] + 1]
    message = fault({**weights, key: torch.zeros(wrong)})
    assert f"{key} is {wrong}, not {shape}" in message


def test_all_kinds_of_faults_are_told_at_once(weights):
    changed = {**weights, "extra": torch.zeros(1), "camera_head.embed_pose.bias": torch.zeros(1)}
    del changed["depth_head.norm.bias"]
    message = fault(changed)
    assert "1 key missing (depth_head.norm.bias)" in message
    assert "1 key unexpected (extra)" in message
    assert "1 key of another shape (camera_head.embed_pose.bias is [1], not [48])" in message


def test_of_many_missing_keys_every_one_is_named_in_ranges(weights):
    gone = re.compile(r"aggregator\.(frame|global)_blocks\.(2|3|4|7|23)\.attn\.proj\.|camera_head\.embed")
    message = fault({name: tensor for name, tensor in weights.items() if not gone.match(name)})
    assert f"{sum(1 for name in weights if gone.match(name))} keys missing" in message
    for name in ("frame_blocks.{2-4,7,23}.attn.proj.weight", "global_blocks.{2-4,7,23}.attn.proj.bias"):
        assert f"aggregator.{name}" in message


def test_of_many_misshapen_keys_every_one_is_named_in_ranges_with_its_shapes(weights):
    wider = {name: torch.zeros(5) if name.endswith("ls1.gamma") else tensor for name, tensor in weights.items()}
    message = fault(wider)
    assert "51 keys of another shape" in message
    assert "aggregator.global_blocks.{0-23}.ls1.gamma is [5], not [24]" in message
    assert "camera_head.trunk.0.ls1.gamma is [5], not [48]" in message


def test_a_network_of_fewer_layers_lacks_keys_unless_it_is_told_which_layers_its_heads_read():
    shallower = published_weights(Sizes(depth=18))
    message = fault(shallower)
    assert "aggregator.frame_blocks.{18-23}.norm1.weight" in message
    config = infer_config(shallower, head_layers=[4, 8, 12, 17], masked_layers=[10])
    assert config.num_hidden_layers == 18
    assert convert_state_dict(shallower, meta_model(config))


def test_weights_of_another_network_are_said_to_be_so():
    message = fault({f"vision_model.encoder.layers.{i}.weight": torch.zeros(4) for i in range(50)})
    assert "of another network, not of PAGE-4D or VGGT" in message
    assert "vision_model.encoder.layers.0.weight" in message


def test_a_converted_file_is_said_to_be_so(converted):
    assert "has been converted already" in fault(load_file(converted / "model.safetensors"))


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(float("nan")),
        torch.tensor(float("inf")),
        torch.tensor(1),
        torch.tensor(1.0).to(torch.float8_e4m3fn),
    ],
    ids=["NaN", "inf", "integer", "eight bits"],
)
def test_weights_that_are_no_finite_numbers_are_named(weights, value):
    key = "camera_head.embed_pose.bias"
    assert f"no finite numbers in 1 key ({key})" in fault({**weights, key: value.expand(48)})


# ---------------------------------------------------------------------------------------------------------------
# What the tensors do not tell


def notes(folder: Path, weights: dict[str, torch.Tensor], name: str = "checkpoint.pt", **options: Any) -> list[str]:
    """What is told about a conversion to the folder `page4d`."""
    told: list[str] = []
    options["overrides"] = {**SHALLOW, **options.get("overrides", {})}
    if options.pop("mask_open", False):
        del options["overrides"]["mask_strength"]
    convert_checkpoint(saved(folder, weights, name), folder / "page4d", overwrite=True, note=told.append, **options)
    return told


def test_the_numbers_of_heads_that_tensors_do_not_show_are_told_unless_they_were_set(shallow, tmp_path):
    assumed = notes(tmp_path, shallow)[-1]
    assert "camera_num_attention_heads=3" in assumed
    assert "encoder_num_attention_heads=3" in assumed
    assert "camera_num_iterations=4" in assumed
    assert "head_layers" not in assumed  # was set
    assert "track" not in assumed  # has none
    assumed = notes(tmp_path, shallow, overrides={"camera_num_attention_heads": 6})[-1]
    assert "camera_num_attention_heads" not in assumed
    assert Page4DConfig.from_pretrained(tmp_path / "page4d").camera_num_attention_heads == 6


@pytest.mark.parametrize(
    ("name", "mask", "strength", "who"),
    [
        ("checkpoint_nomask.pt", None, 0, "as the file's name says"),
        ("PAGE4D-no-mask-2.pt", None, 0, "as the file's name says"),
        ("checkpoint_mask.pt", None, 1, "as the file's name says"),
        ("checkpoint.pt", "off", 0, "as --mask says"),
        ("checkpoint.pt", "on", 1, "as --mask says"),
        ("checkpoint_nomask.pt", "on", 1, "as --mask says"),
    ],
)
def test_whether_a_mask_head_is_used_is_as_the_option_or_the_files_name_says(
    shallow, tmp_path, name, mask, strength, who
):
    told = notes(tmp_path, shallow, name, mask=mask, mask_open=True)
    assert f"The mask head is used at strength {strength}, {who}." in told
    assert Page4DConfig.from_pretrained(tmp_path / "page4d").mask_strength == strength


def test_a_mask_head_of_which_nothing_tells_whether_it_is_used_is_asked_about(shallow, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds a mask head, .*--mask on .* or --mask off"):
        notes(tmp_path, shallow, mask_open=True)
    with pytest.raises(CheckpointError, match="--mask off and --set mask_strength exclude each other"):
        notes(tmp_path, shallow, mask="off")
    with pytest.raises(CheckpointError, match="holds no mask head; --mask on needs one"):
        notes(tmp_path, published_weights(Sizes(depth=3), mask=False), mask="on", mask_open=True)
    assert entries(tmp_path) == ["checkpoint.pt"]


@pytest.fixture(scope="module")
def tracking() -> dict[str, torch.Tensor]:
    return published_weights(Sizes(depth=3), track=True)


TRACK_KEYS = ["track_head.tracker.corr_mlp.fc1.bias", "track_head.feature_extractor.norm.weight"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda weights: [weights.pop(key) for key in TRACK_KEYS],
        lambda weights: weights.update({TRACK_KEYS[0]: torch.zeros(5)}),
        lambda weights: [
            weights.pop(key) for key in list(weights) if "track_head.tracker.u" not in key and "track" in key
        ],
    ],
    ids=["missing", "misshapen", "most missing"],
)
def test_a_track_head_that_is_not_whole_is_named_and_left_out(tracking, tmp_path, damage):
    weights = dict(tracking)
    damage(weights)
    told = notes(tmp_path, weights)[0]
    assert told.startswith("The track head is left out: ")
    assert TRACK_KEYS[0] in told
    assert not Page4DConfig.from_pretrained(tmp_path / "page4d").enable_track
    with pytest.raises(CheckpointError, match="does not fit the network"):
        notes(tmp_path, weights, overrides={"enable_track": True})


@pytest.mark.parametrize("track", [True, False])
def test_keys_that_no_track_head_has_are_named_and_left_out(tracking, shallow, tmp_path, track):
    weights = {**(tracking if track else shallow), "track_head.old.weight": torch.zeros(1)}
    told = notes(tmp_path, weights)[0]
    assert "track_head.old.weight" in told or "The track head is left out" in told
    assert Page4DConfig.from_pretrained(tmp_path / "page4d").enable_track == track
    assert "track_head.old.weight" not in load_file(tmp_path / "page4d" / "model.safetensors")


# ---------------------------------------------------------------------------------------------------------------
# The folder


def test_the_folder_holds_the_weights_unchanged(shallow, converted):
    written = load_file(converted / "model.safetensors")
    expected = convert_state_dict(shallow, meta_model(infer_config(shallow, **SHALLOW)))
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())


def test_the_image_processor_is_that_of_the_networks_sizes(converted):
    processor = Page4DImageProcessor.from_pretrained(converted)
    assert (processor.size["height"], processor.size["width"], processor.patch_size) == (35, 35, 7)
    assert processor.mode == "balanced"


def test_in_bfloat16_encoder_and_aggregator_are_rounded_and_the_heads_are_not(shallow, tmp_path):
    convert_checkpoint(saved(tmp_path, shallow), tmp_path / "page4d", dtype="bfloat16", overrides=SHALLOW)
    model = Page4DModel.from_pretrained(tmp_path / "page4d")
    exact = convert_state_dict(shallow, model)
    for name, tensor in model.state_dict().items():
        rounded = (
            name.startswith(("encoder.", "aggregator.")) and "mask_head" not in name and "mask_schedule" not in name
        )
        assert tensor.dtype == (torch.bfloat16 if rounded else exact[name].dtype), name
        assert torch.equal(tensor, exact[name].to(tensor.dtype)), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_in_half_precision_become_float32_heads_without_loss(shallow, tmp_path, dtype):
    halves = {name: tensor.half() for name, tensor in shallow.items()}
    convert_checkpoint(saved(tmp_path, halves), tmp_path / "page4d", dtype=dtype, overrides=SHALLOW)
    head = Page4DModel.from_pretrained(tmp_path / "page4d").camera_head.pose_embedding.weight
    assert head.dtype == torch.float32
    assert torch.equal(head, halves["camera_head.embed_pose.weight"].float())


def test_a_dtype_that_is_not_known_is_refused(shallow, tmp_path):
    with pytest.raises(CheckpointError, match=r"float64.*must be one of float32, bfloat16"):
        convert_checkpoint(saved(tmp_path, shallow), tmp_path / "page4d", dtype="float64")


def test_an_earlier_model_is_replaced_only_when_told_to(shallow, tmp_path):
    checkpoint = saved(tmp_path, shallow)
    convert_checkpoint(checkpoint, tmp_path / "page4d", overrides=SHALLOW)
    with pytest.raises(Page4DError, match="not empty"):
        convert_checkpoint(checkpoint, tmp_path / "page4d", overrides={**SHALLOW, "mask_strength": 0.25})
    assert Page4DConfig.from_pretrained(tmp_path / "page4d").mask_strength == 1
    convert_checkpoint(checkpoint, tmp_path / "page4d", overrides={**SHALLOW, "mask_strength": 0.25}, overwrite=True)
    assert Page4DConfig.from_pretrained(tmp_path / "page4d").mask_strength == 0.25


@pytest.mark.parametrize("damage", [lambda weight: {"camera_head.empty_pose": weight + 1e-6}, lambda weight: {}])
def test_a_weight_that_does_not_read_back_as_it_was_is_found_and_named(shallow, tmp_path, monkeypatch, damage):
    save_pretrained = Page4DModel.save_pretrained

    def damaged(self, folder, *args, **kwargs):
        save_pretrained(self, folder, *args, **kwargs)
        file = Path(folder) / "model.safetensors"
        tensors = load_file(file)
        weight = tensors.pop("camera_head.empty_pose")
        save_file(tensors | damage(weight), file, metadata={"format": "pt"})

    checkpoint = saved(tmp_path, shallow)
    monkeypatch.setattr(Page4DModel, "save_pretrained", damaged)
    with pytest.raises(CheckpointError, match=r"did not read back.*camera_head\.empty_pose"):
        convert_checkpoint(checkpoint, tmp_path / "page4d", overrides=SHALLOW)
    assert entries(tmp_path) == ["checkpoint.pt"]


@pytest.mark.parametrize(
    ("name", "base", "license_name"),
    [
        ("checkpoint_mask.pt", "page4d", "not-stated"),
        ("checkpoint_nomask.pt", "page4d", "not-stated"),
        ("vggt_1B_commercial.pt", "vggt-commercial", "vggt"),
    ],
)
def test_a_file_of_a_published_name_is_under_the_licence_that_is_published(shallow, tmp_path, name, base, license_name):
    convert_checkpoint(saved(tmp_path, shallow, name), tmp_path / "page4d", overrides=SHALLOW)
    assert Page4DConfig.from_pretrained(tmp_path / "page4d").base_weights == base
    assert ModelCard.load(tmp_path / "page4d" / "README.md").data.license_name == license_name


def test_the_model_card_says_what_the_weights_are(converted):
    text = (converted / "README.md").read_text(encoding="utf-8")
    card = ModelCard(text).data
    assert (card.library_name, card.pipeline_tag) == ("transformers", "image-to-3d")
    assert (card.license, card.license_name) == ("other", "unknown")  # the file's name does not tell whose it is
    assert "Converted from checkpoint.pt" in text
    assert "release form, strength 1" in text
    assert f"{sum(torch.Size(shape).numel() for shape in published_shapes(Sizes(depth=3)).values()):,}" in text
    assert "{" not in text
