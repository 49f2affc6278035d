"""How a network starts that is trained from nothing."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from page4d_hf import Page4DConfig, Page4DModel

SMALL = {
    "image_size": 56,
    "patch_size": 8,
    "hidden_size": 64,
    "encoder_num_hidden_layers": 1,
    "encoder_num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "camera_num_hidden_layers": 1,
    "camera_num_attention_heads": 2,
    "dense_hidden_size": 16,
    "dense_channels": [8, 8, 8, 8],
    "head_layers": [0, 0, 1, 1],
    "enable_point": False,
    "mask_form": None,
}
SAME_PLACE = {"global_attention": "same_place"}
CONSTANT = {"mask_hold_start": None, "mask_hold_end": None}


FRAMES, SPECIAL, PATCHES = 3, 5, 49


def small_network(**changes) -> Page4DModel:
    torch.manual_seed(0)
    return Page4DModel(Page4DConfig(**(SMALL | changes))).eval()


def global_attention(model: Page4DModel) -> list[torch.Tensor]:
    """The weights of every global block, `[heads, S, P, S, P]`."""
    attentions = model(torch.rand(1, FRAMES, 3, 56, 56), output_attentions=True).attentions
    return [weights[0].unflatten(-1, (FRAMES, -1)).unflatten(-3, (FRAMES, -1)) for weights in attentions[1::2]]


@torch.no_grad()
@pytest.mark.parametrize("iterations", [1, 4])
def test_a_new_network_says_that_the_camera_stands_still_and_sees_60_degrees(iterations):
    model = small_network(camera_num_iterations=iterations)
    pose = model(torch.rand(2, 3, 3, 56, 56)).pose_enc
    still = torch.tensor([0, 0, 0, 0, 0, 0, 1, torch.pi / 3, torch.pi / 3])
    # Small against the motion of a clip; every iteration adds its own noise.
    assert (pose - still).abs().max() < 0.01 * iterations


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_patches_start_by_attending_to_their_own_place_in_all_frames_alike(heads):
    model = small_network(initialization=SAME_PLACE, attn_implementation="eager", num_attention_heads=heads)
    for weights in global_attention(model):
        same_place = weights[:, :, SPECIAL:, :, SPECIAL:].diagonal(dim1=2, dim2=4)  # [heads, S, S, patches]
        assert same_place.shape == (heads, FRAMES, FRAMES, PATCHES)
        assert same_place.sum(2).min() > 0.9
        assert same_place.mean((0, 3)).sub(1 / FRAMES).abs().max() < 0.03


@torch.no_grad()
@pytest.mark.parametrize("masked", [[1], [2, 3]])
def test_cameras_start_by_seeing_all_patches_where_a_mask_will_keep_some_from_them(masked):
    mask = {"mask_form": "release", "mask_layer": masked[0] - 1, "masked_layers": masked, "mask_strength": 0.0}
    depth = {"num_hidden_layers": masked[-1] + 1, "head_layers": [masked[-1]] * 4}
    model = small_network(initialization=SAME_PLACE, attn_implementation="eager", training=CONSTANT, **mask, **depth)
    for layer, weights in enumerate(global_attention(model)):
        seen = weights[:, :, 0, :, SPECIAL:].sum((-1, -2)).mean()  # by the camera tokens, of all frames' patches
        if layer in masked:
            assert seen > 0.5 * PATCHES / (PATCHES + SPECIAL)
        else:
            assert seen < 0.01


@torch.no_grad()
def test_the_first_global_block_starts_by_taking_off_what_does_not_change():
    model = small_network(initialization={**SAME_PLACE, "layerscale_value": 0.1})
    layer = model.aggregator.global_layers[0]
    states = torch.randn(1, 20, 64)
    added = layer.attention.o_proj(layer.attention.v_proj(states)) * layer.layer_scale1
    torch.testing.assert_close(added, -0.8 * states, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_smooth_patch_embedding_knows_a_patch_that_has_moved_by_two_pixels():
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(200, 3, 64, 64, generator=generator)
    texture = torch.nn.functional.avg_pool2d(noise, 3, 1)  # neighbours are alike, as in images
    alike = {}
    for start in ("random", "smooth"):
        embedding = small_network(initialization={"patch_embedding": start}).get_input_embeddings()
        here, moved = (embedding(texture[..., 8:16, x : x + 8]).flatten(1) for x in (8, 10))
        alike[start] = torch.nn.functional.cosine_similarity(here, moved).mean()
    assert alike["random"] < 0.4
    assert alike["smooth"] > 0.6


@torch.no_grad()
def test_a_smooth_patch_embedding_is_as_large_as_a_random_one():
    random, smooth = (
        small_network(initialization={"patch_embedding": start}).get_input_embeddings().weight.flatten(1)
        for start in ("random", "smooth")
    )
    torch.testing.assert_close(smooth.norm(dim=1).mean(), random.norm(dim=1).mean(), rtol=0.05, atol=0)


@torch.no_grad()
def test_weights_that_are_loaded_do_not_start_anew(tmp_path):
    model = small_network(initialization=SAME_PLACE)
    for parameter in model.parameters():
        parameter.normal_()
    model.save_pretrained(tmp_path)
    loaded = Page4DModel.from_pretrained(tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, loaded.get_parameter(name)), name


@pytest.mark.parametrize("part", ["global_attention", "patch_embedding"])
def test_a_start_that_does_not_exist_is_refused(part):
    with pytest.raises(StrictDataclassError, match=f"{part} is 'here'; it must be one of"):
        Page4DConfig(initialization={part: "here"})
