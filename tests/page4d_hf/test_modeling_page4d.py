"""What goes in and comes out of the network, and what must hold of it at any weights."""

import re

import pytest
import torch
from small_networks import PREDICTIONS, assert_alike, images, predict

from page4d_hf import Page4DConfig, Page4DModel, Page4DOutput
from page4d_hf.errors import Page4DError
from page4d_hf.geometry import pose_encoding_to_cameras
from page4d_hf.modeling_page4d_layers import apply_rotary, rotary_tables


@pytest.fixture(scope="module")
def model(tiny_model) -> Page4DModel:
    return tiny_model()


# Sizes


def test_the_network_has_as_many_parameters_as_the_published_one():
    with torch.device("meta"):
        model = Page4DModel(Page4DConfig(enable_track=True))

    counts = {
        "encoder": 304_372_736,
        "aggregator.frame_layers": 302_364_672,
        "aggregator.global_layers": 302_364_672,
        "aggregator.mask_head": 272_897,
        "camera_head": 216_174_610,
        "depth_head": 32_654_562,
        "point_head": 32_654_628,
        "track_head": 65_941_396,  # which PAGE-4D has not, and VGGT has
    }
    assert {part: sum(weight.numel() for weight in model.get_submodule(part).parameters()) for part in counts} == counts
    assert model.num_parameters() == 1_190_869_017 + counts["track_head"]


# Shapes


@pytest.mark.parametrize(
    ("batch_size", "num_frames", "height", "width"), [(1, 1, 28, 28), (2, 3, 28, 42), (1, 2, 56, 14), (1, 1, 14, 14)]
)
def test_outputs_have_the_documented_shapes(model, batch_size, num_frames, height, width):
    output = predict(model, images(batch_size, num_frames, 3, height, width))

    batch = (batch_size, num_frames)
    assert output.pose_enc.shape == (*batch, 9)
    assert output.depth.shape == (*batch, height, width, 1)
    assert output.world_points.shape == (*batch, height, width, 3)
    for name in ("depth_conf", "world_points_conf", "dynamics_mask"):
        assert output[name].shape == (*batch, height, width)


@pytest.mark.parametrize("mask_form", ["release", "paper"])
@pytest.mark.parametrize("shape", [(1, 1, 3, 14, 14), (1, 2, 3, 14, 14), (1, 2, 3, 14, 28)])
def test_the_smallest_images_give_finite_outputs(tiny_model, mask_form, shape):
    output = predict(tiny_model(mask_form=mask_form), images(*shape))

    for name in PREDICTIONS:
        assert output[name].isfinite().all(), name


def test_a_sequence_may_come_without_a_batch(model):
    sequence = images(2, 3, 28, 28)
    single, batched = predict(model, sequence), predict(model, sequence[None])

    assert_alike(single, batched, rtol=0, atol=0)


def test_depth_and_confidences_lie_in_their_ranges(model):
    output = predict(model, images(1, 3, 3, 28, 42))

    assert (output.depth > 0).all()
    assert (output.depth_conf > 1).all()
    assert (output.world_points_conf > 1).all()
    assert (output.pose_enc[..., 7:] >= 0).all()


@pytest.mark.slow
def test_random_weights_give_sensible_outputs():
    """Sizes as published but for the number of layers and the width, and the published initialisation."""
    torch.manual_seed(0)
    config = Page4DConfig(hidden_size=64, num_attention_heads=4, encoder_num_attention_heads=4, num_hidden_layers=24)
    model = Page4DModel(config).eval()
    output = predict(model, images(1, 2, 3, 28, 28))

    assert output.depth.min() > 0.1
    assert output.depth.max() < 10
    assert 1e-3 < output.world_points.abs().mean() < 10
    assert 1e-4 < output.pose_enc.abs().mean() < 10
    assert 0.1 < output.dynamics_mask.mean() < 0.9


# Input that is refused


@pytest.mark.parametrize(
    ("pixel_values", "message"),
    [
        (
            torch.zeros(1, 1, 3, 28, 30),
            "multiples of the patch size 14, they are 28 and 30.*nearest valid size is 28 x 28",
        ),
        (torch.zeros(1, 1, 3, 5, 36), "they are 5 and 36.*nearest valid size is 14 x 42"),
        (torch.zeros(3, 28, 28), "it has 3 dimensions"),
        (torch.zeros(1, 1, 1, 3, 28, 28), "it has 6 dimensions"),
        (torch.zeros(1, 1, 4, 28, 28), "it has 4 channels"),
        (torch.zeros(1, 28, 28, 3), "it has 28 channels"),
        (torch.zeros(1, 0, 3, 28, 28), "it is empty"),
        (torch.zeros(1, 1, 3, 0, 28), "it is empty"),
        (torch.zeros(1, 1, 3, 28, 28, dtype=torch.uint8), "it is torch.uint8: divide 8-bit images by 255"),
    ],
)
def test_images_of_a_wrong_kind_are_refused_by_name(model, pixel_values, message):
    with pytest.raises(Page4DError, match=message):
        model(pixel_values)


@pytest.mark.parametrize(
    ("change", "values"),
    [
        (lambda values: 255 * values, r"from \S+ to 25\d"),
        (lambda values: (values - 0.45) / 0.225, r"from -1\.\d+ to 2\.\d+"),
        (lambda values: values * torch.nan, "from nan to nan"),
    ],
)
def test_of_images_far_out_of_their_range_a_model_warns_once(tiny_model, library_log, change, values):
    model, pixel_values = tiny_model(), images(1, 2, 3, 28, 28)
    predict(model, pixel_values)
    predict(model, pixel_values - 0.25)
    assert not library_log.records
    for _ in range(2):
        predict(model, change(pixel_values))

    (record,) = library_log.records
    assert re.search(rf"Expected pixel_values in \[0, 1\], got values {values}.* divide .* by 255", record.getMessage())


def test_what_a_replica_of_data_parallel_training_has_looked_at_the_model_looks_at_no_more(tiny_model, monkeypatch):
    model = tiny_model()
    model._replicate_for_data_parallel()._look_at_values(torch.full((1, 3, 2, 2), 200.0))
    monkeypatch.setattr(torch.Tensor, "aminmax", lambda self: pytest.fail("the device was waited for"))
    model._look_at_values(torch.full((1, 3, 2, 2), 200.0))


# Cameras


def test_cameras_are_those_of_the_pose_encoding(model):
    output = predict(model, images(1, 2, 3, 28, 42))

    for found, expected in zip(output.cameras(), pose_encoding_to_cameras(output.pose_enc, (28, 42)), strict=True):
        assert torch.equal(found, expected)
    assert output.cameras()[0].shape == (1, 2, 3, 4)
    assert output.cameras()[1].shape == (1, 2, 3, 3)


def test_intrinsics_can_be_had_for_an_image_of_another_size():
    encoding = torch.tensor([[[0.1, 0.2, 0.3, 0, 0, 0, 1, 1.0, 1.2]]])
    output = Page4DOutput(pose_enc=encoding, depth_conf=torch.ones(1, 1, 28, 42))

    (_, half), (_, full) = output.cameras(), output.cameras((56, 84))

    torch.testing.assert_close(full[..., :2, :], 2 * half[..., :2, :])


def test_cameras_of_an_output_without_maps_need_the_size_of_the_image():
    output = Page4DOutput(pose_enc=torch.ones(1, 1, 9))

    with pytest.raises(Page4DError, match="pass image_size"):
        output.cameras()


def test_the_stages_of_the_cameras_come_on_request_and_end_with_the_best(tiny_model):
    model = tiny_model(camera_num_iterations=3)
    output = predict(model, images(1, 2, 3, 28, 28), output_pose_enc_stages=True)
    assert predict(model, images(1, 2, 3, 28, 28)).pose_enc_stages is None

    assert len(output.pose_enc_stages) == 3
    assert torch.equal(output.pose_enc_stages[-1], output.pose_enc)
    assert not torch.allclose(output.pose_enc_stages[0], output.pose_enc)


def test_an_iteration_of_the_camera_head_learns_from_its_own_error_alone(tiny_model):
    """What a stage starts from is detached, in the sum too: its loss reaches no earlier stage's change."""
    head = tiny_model(camera_num_iterations=3).camera_head
    deltas = []
    hook = head.pose_mlp.register_forward_hook(lambda module, inputs, output: deltas.append(output))
    stages = head(torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(0)))
    hook.remove()

    for index, stage in enumerate(stages):
        gradients = torch.autograd.grad(stage[..., :7].sum(), [*deltas, head.empty_pose], None, True, allow_unused=True)
        reached = [gradient is not None for gradient in gradients]
        assert reached == [*(index == other for other in range(3)), index == 0]


# Heads


@pytest.mark.parametrize(
    ("switch", "names"),
    [
        ("enable_camera", ["pose_enc"]),
        ("enable_depth", ["depth", "depth_conf"]),
        ("enable_point", ["world_points", "world_points_conf"]),
    ],
)
def test_a_head_that_is_switched_off_predicts_nothing_and_has_no_weights(tiny_model, model, switch, names):
    without = tiny_model(**{switch: False})
    without.load_state_dict(model.state_dict(), strict=False)
    head = switch.replace("enable", "").strip("_") + "_head"
    output, complete = predict(without, images(1, 2, 3, 28, 28)), predict(model, images(1, 2, 3, 28, 28))

    assert not any(name.startswith(head) for name in without.state_dict())
    assert not set(names) & set(output)
    assert_alike(output, complete, set(PREDICTIONS) - set(names), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("frames_per_chunk", [1, 2, 3, None])
def test_frames_in_chunks_give_what_all_at_once_give(tiny_model, frames_per_chunk):
    pixel_values = images(2, 3, 3, 28, 42)
    chunked = predict(tiny_model(dense_frames_per_chunk=frames_per_chunk), pixel_values)
    whole = predict(tiny_model(dense_frames_per_chunk=6), pixel_values)

    assert_alike(chunked, whole, rtol=1e-5, atol=1e-6)


def test_only_the_layers_that_heads_read_are_kept(model):
    kept = []
    hook = model.aggregator.register_forward_hook(lambda module, inputs, output: kept.append(output.features))
    predict(model, images(1, 2, 3, 28, 28))
    hook.remove()

    assert sorted(kept[0]) == [0, 2, 3, 4]


# Symmetries


def test_sequences_of_a_batch_do_not_see_each_other(model):
    first, second = images(1, 3, 3, 28, 42, seed=1), images(1, 3, 3, 28, 42, seed=2)
    together = predict(model, torch.cat((first, second)))
    apart = [predict(model, first), predict(model, second)]

    expected = {name: torch.cat([output[name] for output in apart]) for name in PREDICTIONS}
    assert_alike(together, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask_form", ["release", "paper"])
def test_frames_after_the_first_may_come_in_any_order(tiny_model, mask_form):
    model = tiny_model(mask_form=mask_form)
    pixel_values, order = images(1, 4, 3, 28, 28), [0, 3, 1, 2]
    straight, shuffled = predict(model, pixel_values), predict(model, pixel_values[:, order])

    assert_alike(shuffled, {name: straight[name][:, order] for name in PREDICTIONS}, rtol=1e-4, atol=1e-5)


def test_the_first_frame_is_unlike_the_others(model):
    pixel_values = images(1, 3, 3, 28, 28)
    straight, swapped = predict(model, pixel_values), predict(model, pixel_values[:, [1, 0, 2]])

    assert (swapped.pose_enc - straight.pose_enc[:, [1, 0, 2]]).abs().max() > 1e-2


def test_frames_see_each_other(model):
    pixel_values = images(1, 2, 3, 28, 28)
    pair, alone = predict(model, pixel_values), predict(model, pixel_values[:, :1])

    assert (pair.depth[:, 0] - alone.depth[:, 0]).abs().max() > 1e-3


def test_images_are_normalised_inside(tiny_model):
    """What the encoder gets of a mid-grey image, by ImageNet's statistics."""
    model = tiny_model()
    seen = []
    hook = model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(torch.full((1, 1, 3, 28, 28), 0.5))
    hook.remove()

    expected = torch.tensor([(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


# Positions


def test_position_embeddings_are_taken_as_they_are_at_their_own_size(model):
    embeddings = model.encoder.embeddings

    assert torch.equal(embeddings.resampled_position_embeddings(2, 2), embeddings.position_embeddings[:, 1:])


def test_resampled_position_embeddings_of_one_value_keep_it(tiny_model):
    embeddings = tiny_model().encoder.embeddings
    torch.nn.init.constant_(embeddings.position_embeddings, 0.7)

    torch.testing.assert_close(embeddings.resampled_position_embeddings(3, 5), torch.full((1, 15, 16), 0.7))


def test_rotary_products_depend_on_the_offset_of_the_patches_alone():
    height, width = 5, 6
    tables = rotary_tables(height, width, 0, 8, 100.0, torch.device("cpu"), torch.float32)
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    rotated = [apply_rotary(vector.expand(1, height * width, 1, 8), tables)[0, :, 0] for vector in (query, key)]
    products = (rotated[0] @ rotated[1].T).view(height, width, height, width)

    torch.testing.assert_close(products[1:, 1:, 1:, 1:], products[:-1, :-1, :-1, :-1], rtol=1e-5, atol=1e-5)
    assert (products[0, 0] - products[0, 0, 0, 0]).abs().flatten()[1:].min() > 1e-4


def test_special_tokens_are_not_rotated():
    tables = rotary_tables(2, 3, 4, 8, 100.0, torch.device("cpu"), torch.float32)
    states = torch.randn(1, 20, 2, 8, generator=torch.Generator().manual_seed(0))  # two frames of 4 + 6 tokens

    rotated = apply_rotary(states, tables).unflatten(1, (2, 10))
    frames = states.unflatten(1, (2, 10))

    assert torch.equal(rotated[:, :, :4], frames[:, :, :4])
    assert (rotated[:, :, 4:] - frames[:, :, 4:]).abs().amax(dim=(0, 1, 3, 4)).min() > 0.1
    torch.testing.assert_close(rotated.norm(dim=-1), frames.norm(dim=-1))


def test_the_first_half_of_a_head_is_rotated_by_the_row_and_the_second_by_the_column():
    tables = rotary_tables(2, 3, 0, 8, 100.0, torch.device("cpu"), torch.float32)
    cos = tables.cos.view(2, 3, 8)

    assert torch.equal(cos[:, :1, :4].expand(2, 3, 4), cos[..., :4])
    assert torch.equal(cos[:1, :, 4:].expand(2, 3, 4), cos[..., 4:])
    torch.testing.assert_close(cos[0, 0, 0], torch.tensor(1.0).cos())  # positions start at 1


# Learning


def test_every_weight_learns(tiny_model):
    """All but the token that only DINOv2's pre-training uses."""
    model = tiny_model(enable_track=True).train()
    points = 28 * torch.rand(1, 3, 2, generator=torch.Generator().manual_seed(0))
    output = model(images(1, 3, 3, 28, 28), query_points=points, output_pose_enc_stages=True)
    names = [*PREDICTIONS[1:], "tracks", "track_visibility", "track_confidence"]
    # What only the first iteration of the camera head sees learns from the first stage alone.
    sum(value.square().mean() for value in (*output.pose_enc_stages, *(output[name] for name in names))).backward()

    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert set(dict(model.named_parameters())) - set(trained) == {"encoder.embeddings.mask_token"}
    assert all(weight.grad is not None and weight.grad.any() for weight in trained.values())
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


# Heads


@torch.no_grad()
def test_only_the_heads_that_are_asked_for_run_and_say_the_same(model):
    pixel_values = images(1, 2, 3, 28, 28)
    everything, some = model(pixel_values), model(pixel_values, heads=("camera", "depth"))
    assert some.world_points is None
    assert_alike(some, everything, ("pose_enc", "depth", "depth_conf", "dynamics_mask"), rtol=0, atol=0)
    assert_alike(model(pixel_values, heads=(h for h in ("depth", "camera"))), some, ("pose_enc", "depth"))
    with pytest.raises(Page4DError, match="heads must be some of camera, depth, point; got points"):
        model(pixel_values, heads=("points",))
    with pytest.raises(Page4DError, match=r"a collection of names, as \('camera',\); got the string 'camera'"):
        model(pixel_values, heads="camera")
    with pytest.raises(Page4DError, match="or heads= left them out"):
        model(pixel_values, heads=("depth",)).cameras()
