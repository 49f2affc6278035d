"""The network computes what the authors' release computes, on a reduced network with random weights."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from page4d_hf import Page4DConfig, Page4DModel
from page4d_hf.weights.checkpoint_files import read_checkpoint
from page4d_hf.weights.convert_checkpoint import convert_state_dict

CASES = ["maskoff", "maskon", "maskpart"]
QUANTITIES = [
    "pose_enc",
    *(f"pose_enc_iter{iteration}" for iteration in range(4)),
    "depth",
    "depth_conf",
    "world_points",
    "world_points_conf",
    *(f"aggregated_tokens_{layer}" for layer in (0, 9, 10, 19, 23)),
    "dino_x_norm_patchtokens",
]


@pytest.fixture(scope="module")
def reference(shared: Path) -> dict[str, torch.Tensor]:
    """Inputs and outputs of the release."""
    return load_file(shared / "reference" / "model_case.safetensors")


@pytest.fixture(scope="module")
def model(shared: Path) -> Page4DModel:
    """The reduced network with its published weights."""
    sizes = json.loads((shared / "reference" / "model_config.json").read_text())
    config = Page4DConfig(
        image_size=sizes["img_size"],
        hidden_size=sizes["embed_dim"],
        num_attention_heads=sizes["num_heads"],
        encoder_num_attention_heads=sizes["num_heads"],
        encoder_num_hidden_layers=sizes["dino_depth"],
        camera_num_attention_heads=sizes["cam_heads"],
        dense_hidden_size=sizes["dpt_features"],
        dense_channels=sizes["dpt_out"],
    )
    model = Page4DModel(config).eval()
    weights = convert_state_dict(read_checkpoint(shared / "reference" / "checkpoint_mask.pt"), model)
    model.load_state_dict(weights, strict=False)
    return model


@pytest.fixture(scope="module")
def computed(model: Page4DModel, reference: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """What our network computes, under the names of the reference, for every case."""
    return dict(_run(model, reference))


def _run(model: Page4DModel, reference: dict[str, torch.Tensor]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    encoded: list[torch.Tensor] = []
    hook = model.encoder.register_forward_hook(lambda module, inputs, output: encoded.append(output))
    for case in CASES:
        strength = reference[f"{case}/mask_row"].max().item() / model.config.mask_scale
        with torch.no_grad():
            output = model(
                reference["images"], mask_strength=strength, output_hidden_states=True, output_pose_enc_stages=True
            )
        values = {name: output[name] for name in QUANTITIES if name in output}
        values |= {f"pose_enc_iter{iteration}": pose for iteration, pose in enumerate(output.pose_enc_stages)}
        values |= {f"aggregated_tokens_{layer}": tokens for layer, tokens in enumerate(output.hidden_states)}
        values["dino_x_norm_patchtokens"] = encoded[-1]
        yield case, values
    hook.remove()


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("case", CASES)
def test_every_recorded_quantity_equals_the_releases(computed, reference, case, quantity):
    torch.testing.assert_close(computed[case][quantity], reference[f"{case}/{quantity}"], rtol=1e-5, atol=1e-5)


def test_the_mask_equals_the_releases(model, reference):
    recorded = reference["maskon/mask_key"].view(1, 3, -1)  # [1, S, P], 0 for special tokens
    patches = model.aggregator.num_special_tokens
    seen = []
    hook = model.aggregator.mask_head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model(reference["images"])
    hook.remove()

    assert (recorded[:, :, :patches] == 0).all()
    torch.testing.assert_close(seen[0].key_bias / 64, recorded[:, :, patches:], rtol=0, atol=2e-6)
    torch.testing.assert_close(seen[0].dynamics.flatten(2), 0.5 - recorded[:, :, patches:], rtol=0, atol=2e-6)


def test_the_mask_has_an_effect_in_the_reference(reference):
    """Without this the cases above could agree with a mask that does nothing."""
    off, on = reference["maskoff/pose_enc"], reference["maskon/pose_enc"]

    assert (off - on).abs().max() > 0.05
