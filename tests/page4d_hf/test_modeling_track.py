"""The track head."""

import pytest
import torch
from small_networks import assert_alike, images, predict
from torch.nn import functional as F

from page4d_hf.errors import Page4DError
from page4d_hf.modeling_page4d_track import displacement_waves, sample_at, sampled_position_waves

# The transformer is told displacements as waves of up to 1000 radians per pixel, which makes rounding visible: weights
# as small as those that training starts from keep it below a thousandth of a pixel.
CALM = {"enable_track": True, "initializer_range": 0.02}
TRACKS = ["tracks", "track_visibility", "track_confidence"]


def points_in(height: int, width: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Random places `[..., 2]` in an image."""
    size = torch.tensor([width - 1.0, height - 1.0])
    return size * torch.rand((*shape, 2), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(enable_track=True)


@pytest.fixture(scope="module")
def calm_model(tiny_model):
    return tiny_model(**CALM)


@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 28, 28), (3, 28, 42), (2, 14, 14)])
def test_tracks_have_the_documented_shapes_and_are_finite(model, num_frames, height, width):
    output = predict(model, images(2, num_frames, 3, height, width), query_points=points_in(height, width, 2, 4))

    assert output.tracks.shape == (2, num_frames, 4, 2)
    assert output.track_visibility.shape == output.track_confidence.shape == (2, num_frames, 4)
    assert all(output[name].isfinite().all() for name in TRACKS)
    for name in TRACKS[1:]:
        assert ((output[name] > 0) & (output[name] < 1)).all()


def test_tracks_start_where_they_were_asked_for(model):
    queries = points_in(28, 42, 1, 5)
    tracks = predict(model, images(1, 3, 3, 28, 42), query_points=queries).tracks

    torch.testing.assert_close(tracks[:, 0], queries)
    assert (tracks[:, 1:] - queries[:, None]).abs().max() > 0.1


def test_without_points_nothing_is_tracked(model):
    output = predict(model, images(1, 2, 3, 28, 28))

    assert not set(TRACKS) & set(output)


def test_points_may_come_without_a_batch(model):
    pixel_values, queries = images(2, 3, 28, 28), points_in(28, 28, 4)
    single = predict(model, pixel_values, query_points=queries)
    batched = predict(model, pixel_values[None], query_points=queries[None])

    assert_alike(single, batched, TRACKS, rtol=0, atol=0)


def test_points_may_come_in_any_order(calm_model):
    pixel_values, queries, order = images(1, 3, 3, 28, 28), points_in(28, 28, 1, 4), [2, 0, 3, 1]
    straight = predict(calm_model, pixel_values, query_points=queries)
    shuffled = predict(calm_model, pixel_values, query_points=queries[:, order])

    assert_alike(shuffled, {name: straight[name][:, :, order] for name in TRACKS}, TRACKS, rtol=1e-3, atol=1e-3)


def test_sequences_of_a_batch_are_tracked_apart(calm_model):
    pixel_values, queries = images(2, 3, 3, 28, 28), points_in(28, 28, 2, 4)
    together = predict(calm_model, pixel_values, query_points=queries)
    apart = [predict(calm_model, pixel_values[i : i + 1], query_points=queries[i : i + 1]) for i in range(2)]

    expected = {name: torch.cat([output[name] for output in apart]) for name in TRACKS}
    assert_alike(together, expected, TRACKS, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("frames_per_chunk", [1, 2, None])
def test_frames_in_chunks_are_tracked_as_all_at_once(tiny_model, frames_per_chunk):
    pixel_values, queries = images(1, 3, 3, 28, 28), points_in(28, 28, 1, 4)
    chunked = predict(tiny_model(**CALM, dense_frames_per_chunk=frames_per_chunk), pixel_values, queries)
    whole = predict(tiny_model(**CALM, dense_frames_per_chunk=3), pixel_values, queries)

    torch.testing.assert_close(chunked.tracks, whole.tracks, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 4, 3), (2, 4, 2), (4,)])
def test_points_of_a_wrong_shape_are_refused(model, shape):
    with pytest.raises(Page4DError, match="with a batch of 1"):
        model(images(1, 2, 3, 28, 28), query_points=torch.zeros(shape))


def test_no_points_at_all_are_refused(model):
    with pytest.raises(Page4DError, match="query_points must hold at least one point"):
        model(images(1, 2, 3, 28, 28), query_points=torch.zeros(1, 0, 2))


def test_points_without_a_track_head_are_refused(tiny_model):
    with pytest.raises(Page4DError, match="enable_track=False"):
        tiny_model()(images(1, 2, 3, 28, 28), query_points=torch.zeros(1, 1, 2))


def test_the_transformer_is_told_displacement_correlation_feature_and_context(calm_model):
    """The order and the units that the published weights expect, in the second iteration."""
    head, queries = calm_model.track_head, points_in(28, 28, 1, 4)
    seen = {"transformer": [], "correlation_mlp": []}
    hooks = [
        head.get_submodule(name).register_forward_hook(
            lambda module, args, out, calls=calls: calls.append((*args, out))
        )
        for name, calls in seen.items()
    ]
    with torch.no_grad():
        calm_model(images(1, 3, 3, 28, 28), query_points=queries)
        for hook in hooks:
            hook.remove()
        (_, first_delta), (told, _) = seen["transformer"][:2]
        displacement = first_delta[..., :2].clone()
        displacement[:, :, 0] = 0  # the first frame's points stay
        context = sampled_position_waves(queries / 2, 28, 14, 14)[:, :, None] + head.frame_tokens[:, [0, 1, 1]][:, None]
        told = told - context

    assert told.shape == (1, 4, 3, 28)
    torch.testing.assert_close(told[..., :8], displacement_waves(displacement, 4), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(told[..., 8:10], displacement / 518, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(told[..., 10:12], displacement / 518, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(told[..., 12:20], seen["correlation_mlp"][1][1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [(14, 21), (4, 21), (14, 4), (7, 6)])
def test_correlations_are_those_with_the_whole_map_sampled_in_windows(model, size):
    """As CoTracker states them: all products with a level's map first, then samples of the products.

    The coarsest level may be one pixel high or wide. As corners are aligned, that pixel is seen wherever a point is.
    """
    head = model.track_head
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 2, 8, *size, generator=generator)
    features = torch.randn(1, 3, 2, 8, generator=generator)  # [B, N, S, C]
    points = points_in(*size, 1, 3, 2)  # [B, N, S, 2]

    found = head._correlate(head._pyramid(maps), features, points)  # [B, N, S, levels * window]

    expected = []
    levels = [maps[0]]
    for index in range(3):
        level = levels[-1] if index == 0 else F.avg_pool2d(levels[-1], 2)
        levels.append(level)
        products = torch.einsum("nsc,schw->snhw", features[0], level) / 8**0.5
        for dx in range(-2, 3):
            for dy in range(-2, 3):
                places = points[0].transpose(0, 1) / 2**index + torch.tensor([dx, dy])  # [S, N, 2]
                height, width = level.shape[-2:]
                grid = 2 * places / torch.tensor([max(width - 1.0, 1), max(height - 1.0, 1)]) - 1
                sampled = F.grid_sample(
                    products.flatten(0, 1)[:, None], grid.flatten(0, 1)[:, None, None], align_corners=True
                )
                expected.append(sampled.view(2, 3).T)
    torch.testing.assert_close(found[0], torch.stack(expected, dim=-1), rtol=1e-4, atol=1e-4)


def test_a_map_is_sampled_at_its_pixels_and_linearly_between_them():
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    points = torch.tensor([[[0.0, 0.0], [3.0, 2.0], [1.0, 2.0], [0.5, 0.0], [1.0, 0.5]]])

    torch.testing.assert_close(
        sample_at(maps, points, "zeros")[0, :, 0], torch.tensor([0.0, 11.0, 9.0, 0.5, 3.0]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_a_side_of_one_pixel_is_seen_wherever_the_point_is(padding_mode):
    row = torch.arange(4.0).view(1, 1, 1, 4)
    points = torch.tensor([[[1.0, -7.0], [1.5, 0.25], [3.0, 90.0]]])
    expected = torch.tensor([1.0, 1.5, 3.0])

    for maps, places in ((row, points), (row.mT, points.flip(-1))):
        torch.testing.assert_close(sample_at(maps, places, padding_mode)[0, :, 0], expected)


def test_position_waves_are_interpolated_linearly_between_pixels():
    ends = sampled_position_waves(torch.tensor([[2.0, 1.0], [3.0, 1.0]]), 8, 5, 6)
    between = sampled_position_waves(torch.tensor([[2.25, 1.0]]), 8, 5, 6)

    torch.testing.assert_close(between, 0.75 * ends[:1] + 0.25 * ends[1:])
    x = torch.tensor([2.0, 0.02])  # frequencies 1 and 1 / 100
    torch.testing.assert_close(ends[0, :4], torch.cat((x.sin(), x.cos())))


def test_places_outside_the_map_count_as_on_its_border():
    outside = sampled_position_waves(torch.tensor([[-3.0, 9.0]]), 8, 5, 6)

    assert torch.equal(outside, sampled_position_waves(torch.tensor([[0.0, 4.0]]), 8, 5, 6))
