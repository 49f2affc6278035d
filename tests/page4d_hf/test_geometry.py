"""Conventions of cameras, unprojection and Sim(3), against the authors' release and against what must hold."""

from pathlib import Path

import numpy as np
import pytest
import torch

from page4d_hf.geometry import (
    Similarity,
    align_sim3,
    camera_centers,
    camera_to_world_opengl,
    cameras_to_pose_encoding,
    extrinsics_at,
    invert_extrinsics,
    is_rotation,
    matrix_to_quaternion,
    pose_encoding_to_cameras,
    project_points,
    quaternion_to_matrix,
    resized_intrinsics,
    unproject_depth,
)

HALF_TURNS = [
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0, 0.0),
    (0.6, 0.8, 0.0, 0.0),
    (0.0, 0.6, -0.8, 0.0),
    (-0.48, 0.6, 0.64, 0.0),
]


def random_quaternions(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Unit quaternions `[count, 4]`, (x, y, z, w)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 4, generator=generator, dtype=dtype), dim=-1)


def random_cameras(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Extrinsics `[count, 3, 4]` and intrinsics `[count, 3, 3]` of images of 42 x 56 pixels."""
    generator = torch.Generator().manual_seed(seed)
    translation = torch.randn(count, 3, 1, generator=generator, dtype=torch.float64)
    extrinsics = torch.cat((quaternion_to_matrix(random_quaternions(count, seed)), translation), dim=-1)
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    intrinsics[:, 0, 0] = 30 + 40 * torch.rand(count, generator=generator, dtype=torch.float64)
    intrinsics[:, 1, 1] = 30 + 40 * torch.rand(count, generator=generator, dtype=torch.float64)
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = 28, 21
    return extrinsics, intrinsics


@pytest.fixture(scope="module")
def release(shared: Path) -> dict[str, torch.Tensor]:
    """What the authors' release computes."""
    with np.load(shared / "reference" / "pose_encoding.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


# The authors' release


def test_cameras_are_encoded_as_the_release_encodes_them(release):
    size = tuple(release["image_hw"].tolist())

    encoding = cameras_to_pose_encoding(release["extrinsics"], release["intrinsics"], size)

    torch.testing.assert_close(encoding, release["out/pose_encoding"], rtol=1e-6, atol=1e-6)


def test_encodings_of_quaternions_of_any_norm_are_decoded_as_the_release_decodes_them(release):
    size = tuple(release["image_hw"].tolist())
    norms = release["in/pose_encoding_2q"][..., 3:7].norm(dim=-1)
    assert (norms - 1).abs().min() > 0.5

    extrinsics, intrinsics = pose_encoding_to_cameras(release["in/pose_encoding_2q"], size)

    torch.testing.assert_close(extrinsics, release["out/extrinsics_back"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(intrinsics, release["out/intrinsics_back"], rtol=1e-6, atol=1e-6)


def test_depth_is_unprojected_as_the_release_unprojects_it(release):
    depth, extrinsics, intrinsics = (release[name][0].double() for name in ("depth", "extrinsics", "intrinsics"))

    points = unproject_depth(depth, extrinsics, intrinsics)

    torch.testing.assert_close(points, release["out/world_points"], rtol=1e-6, atol=1e-6)


def test_extrinsics_are_inverted_as_the_release_inverts_them(release):
    inverse = invert_extrinsics(release["extrinsics"][0])

    torch.testing.assert_close(inverse, release["out/inverse_se3"][:, :3], rtol=1e-6, atol=1e-6)


# Rotations


@pytest.mark.parametrize("quaternion", HALF_TURNS)
def test_half_turns_keep_their_axis(quaternion):
    expected = torch.tensor(quaternion)

    found = matrix_to_quaternion(quaternion_to_matrix(expected))

    sign = torch.sign((found * expected).sum())  # a half turn about an axis is one about its opposite
    torch.testing.assert_close(found * sign, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("angle", [1e-7, 1e-4, np.pi / 2, np.pi - 1e-4, np.pi - 1e-7])
def test_rotations_near_none_and_near_a_half_turn_lose_no_precision(angle):
    axis = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    expected = torch.cat((axis * np.sin(angle / 2), torch.tensor([np.cos(angle / 2)])))

    found = matrix_to_quaternion(quaternion_to_matrix(expected))

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_matrices_of_quaternions_are_rotations_whatever_the_norm():
    scales = torch.logspace(-3, 3, 100, dtype=torch.float64)[:, None]
    matrices = quaternion_to_matrix(random_quaternions(100) * scales)

    identity = torch.eye(3, dtype=torch.float64).expand(100, 3, 3)
    torch.testing.assert_close(matrices @ matrices.mT, identity, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(100, dtype=torch.float64))


def test_a_quarter_turn_about_z_takes_x_to_y():
    quarter = torch.tensor([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])

    turned = quaternion_to_matrix(quarter) @ torch.tensor([1.0, 0.0, 0.0], dtype=quarter.dtype)

    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0], dtype=quarter.dtype))


def test_gradients_reach_a_matrix_from_its_quaternion_at_a_half_turn():
    matrix = quaternion_to_matrix(torch.tensor([1.0, 0.0, 0.0, 0.0])).requires_grad_()

    matrix_to_quaternion(matrix).sum().backward()

    assert matrix.grad.isfinite().all()
    assert matrix.grad.abs().max() > 0


# The pose encoding


def test_decoding_undoes_encoding():
    extrinsics, intrinsics = random_cameras(200)

    decoded = pose_encoding_to_cameras(cameras_to_pose_encoding(extrinsics, intrinsics, (42, 56)), (42, 56))

    torch.testing.assert_close(decoded[0], extrinsics, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(decoded[1], intrinsics, rtol=1e-9, atol=1e-9)


def test_a_field_of_view_of_ninety_degrees_has_half_the_image_as_focal_length():
    encoding = torch.tensor([0, 0, 0, 0, 0, 0, 1, np.pi / 2, np.pi / 2])

    _, intrinsics = pose_encoding_to_cameras(encoding, (42, 56))

    expected = torch.tensor([[28.0, 0, 28], [0, 21, 21], [0, 0, 1]], dtype=encoding.dtype)
    torch.testing.assert_close(intrinsics, expected)


def test_the_vertical_field_of_view_comes_before_the_horizontal():
    extrinsics, intrinsics = random_cameras(1)

    encoding = cameras_to_pose_encoding(extrinsics, intrinsics, (42, 56))[0]

    assert encoding[7].item() == pytest.approx(2 * np.arctan(21 / intrinsics[0, 1, 1].item()))
    assert encoding[8].item() == pytest.approx(2 * np.arctan(28 / intrinsics[0, 0, 0].item()))


# Points


@pytest.mark.parametrize("pixel_center", [0.0, 0.5])
def test_unprojected_pixels_project_to_themselves(pixel_center):
    extrinsics, intrinsics = random_cameras(3)
    depth = 0.5 + torch.rand(3, 42, 56, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    points = unproject_depth(depth, extrinsics, intrinsics, pixel_center=pixel_center)
    pixels, z = project_points(points.flatten(1, 2), extrinsics, intrinsics)

    v, u = torch.meshgrid(torch.arange(42.0), torch.arange(56.0), indexing="ij")
    expected = (torch.stack((u, v), dim=-1).double() + pixel_center).flatten(0, 1).expand(3, -1, -1)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(z, depth.flatten(1), rtol=1e-12, atol=0)


def test_depth_is_z_and_not_the_distance_along_the_ray():
    identity = torch.eye(4)[:3]
    intrinsics = torch.tensor([[10.0, 0, 2], [0, 10, 2], [0, 0, 1]])

    points = unproject_depth(torch.full((4, 4), 3.0), identity, intrinsics)

    torch.testing.assert_close(points[..., 2], torch.full((4, 4), 3.0))


def test_an_opengl_camera_looks_along_minus_z_with_y_up():
    """A camera at the world's origin with OpenCV axes: x right, y down, z forward."""
    camera_to_world = camera_to_world_opengl(torch.eye(4)[:3])

    forward, up = -camera_to_world[:, 2], camera_to_world[:, 1]
    torch.testing.assert_close(forward, torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(up, torch.tensor([0.0, -1.0, 0.0]))


# Sim(3)


def random_similarity(seed: int) -> Similarity:
    generator = np.random.default_rng(seed)
    rotation = quaternion_to_matrix(random_quaternions(1, seed)[0]).numpy()
    return Similarity(float(generator.uniform(0.1, 10)), rotation, generator.normal(size=3))


@pytest.mark.parametrize("seed", range(5))
def test_alignment_finds_the_similarity_that_points_were_moved_by(seed):
    true = random_similarity(seed)
    source = np.random.default_rng(seed).normal(size=(20, 3))

    found = align_sim3(source, true.apply_to_points(source))

    assert found.scale == pytest.approx(true.scale, rel=1e-10)
    np.testing.assert_allclose(found.rotation, true.rotation, atol=1e-10)
    np.testing.assert_allclose(found.translation, true.translation, atol=1e-9)


def test_alignment_of_noisy_points_cannot_be_improved():
    generator = np.random.default_rng(0)
    source = generator.normal(size=(30, 3))
    target = random_similarity(3).apply_to_points(source) + 0.3 * generator.normal(size=(30, 3))
    best = align_sim3(source, target)

    def error(similarity: Similarity) -> float:
        return float(((similarity.apply_to_points(source) - target) ** 2).sum())

    for _ in range(100):
        turn = np.append(0.02 * generator.normal(size=3), 1.0)
        nudged = Similarity(
            best.scale * float(np.exp(0.02 * generator.normal())),
            quaternion_to_matrix(torch.from_numpy(turn)).numpy() @ best.rotation,
            best.translation + 0.02 * generator.normal(size=3),
        )
        assert error(nudged) > error(best)


def test_mirrored_points_are_aligned_by_a_rotation_all_the_same():
    source = np.random.default_rng(0).normal(size=(20, 3))

    found = align_sim3(source, source * [1, 1, -1])

    assert np.linalg.det(found.rotation) == pytest.approx(1)
    assert found.scale > 0


def test_points_in_one_plane_are_aligned():
    source = np.random.default_rng(0).normal(size=(10, 3)) * [1, 1, 0]
    true = random_similarity(1)

    np.testing.assert_allclose(align_sim3(source, true.apply_to_points(source)).rotation, true.rotation, atol=1e-10)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((2, 3)), "N >= 3"),
        (np.zeros((4, 2)), r"\(N, 3\)"),
        (np.full((4, 3), np.nan), "not finite"),
        (np.ones((4, 3)), "one line or in one place"),
        (np.outer(np.arange(4.0), [1.0, 2.0, 3.0]), "one line or in one place"),
    ],
    ids=["two points", "two dimensions", "not a number", "one place", "one line"],
)
def test_alignment_refuses_points_that_determine_none(source, message):
    with pytest.raises(ValueError, match=message):
        align_sim3(source, source)


def test_a_moved_camera_sees_moved_points_where_it_saw_them_before_and_scaled_in_depth():
    similarity = random_similarity(0)
    extrinsics, intrinsics = random_cameras(4)
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 50, 3)))
    pixels, depth = project_points(points, extrinsics, intrinsics)

    moved = torch.from_numpy(similarity.apply_to_extrinsics(extrinsics.numpy()))
    moved_points = torch.from_numpy(similarity.apply_to_points(points.numpy()))
    moved_pixels, moved_depth = project_points(moved_points, moved, intrinsics)

    torch.testing.assert_close(moved_pixels, pixels, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moved_depth, similarity.scale * depth, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.linalg.det(moved[..., :3]), torch.ones(4, dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_similarity_between_two_cameras_gives_one_the_pose_of_the_other_and_scales_its_depth():
    here, there = (each.numpy() for each in random_cameras(2)[0])
    change = Similarity.between(here, there, 3.0)
    points = np.random.default_rng(0).normal(size=(10, 3))

    np.testing.assert_allclose(change.apply_to_extrinsics(here), there, atol=1e-12)
    seen = change.apply_to_points(points) @ there[:, :3].T + there[:, 3]
    np.testing.assert_allclose(seen, 3 * (points @ here[:, :3].T + here[:, 3]), atol=1e-12)


def test_the_inverse_similarity_undoes_it():
    similarity = random_similarity(2)
    points = np.random.default_rng(0).normal(size=(10, 3))

    np.testing.assert_allclose(similarity.inverse().apply_to_points(similarity.apply_to_points(points)), points)


def test_rotations_are_told_from_reflections_stretched_axes_and_what_is_not_finite():
    rotation = quaternion_to_matrix(torch.tensor([0.1, 0.5, -0.3, 0.8], dtype=torch.float64)).numpy()
    matrices = np.stack([rotation, rotation.round(3), -rotation, 1.02 * rotation, np.zeros((3, 3)), rotation * np.nan])
    assert is_rotation(matrices).tolist() == [True, True, False, False, False, False]
    assert is_rotation(rotation)
    assert not is_rotation(1e300 * rotation)


def test_a_similarity_follows_weights():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(30, 3))
    truth = Similarity(0.7, quaternion_to_matrix(torch.tensor([0.1, 0.2, -0.3, 0.9]).double()).numpy(), np.ones(3))
    target = truth.apply_to_points(source)
    target[20:] += 5  # wrong, and of no weight
    found = align_sim3(source, target, np.repeat([2.0, 0.0], [20, 10]))
    np.testing.assert_allclose(found.apply_to_points(source), truth.apply_to_points(source), atol=1e-9)
    even = align_sim3(source[:20], target[:20])
    np.testing.assert_allclose(even.scale, align_sim3(source[:20], target[:20], np.full(20, 0.3)).scale, rtol=1e-12)


def test_cameras_are_where_their_centres_are_and_centres_where_cameras_are():
    rng = np.random.default_rng(0)
    rotation = quaternion_to_matrix(torch.from_numpy(rng.normal(size=(5, 4)))).numpy()
    centers = rng.normal(size=(5, 3))
    extrinsics = extrinsics_at(rotation, centers)
    np.testing.assert_allclose(camera_centers(extrinsics), centers, atol=1e-12)
    np.testing.assert_allclose(invert_extrinsics(torch.from_numpy(extrinsics))[..., 3].numpy(), centers, atol=1e-12)
    assert camera_centers(extrinsics[0]).shape == (3,)


def test_a_point_is_seen_at_the_same_share_of_a_resized_image():
    intrinsics = np.array([[50.0, 0.5, 32], [0, 60, 24], [0, 0, 1]])
    point, scale = np.array([0.3, -0.2, 1.5]), np.array([0.5, 2.0])
    seen, resized = (matrix @ point / point[2] for matrix in (intrinsics, resized_intrinsics(intrinsics, scale)))
    np.testing.assert_allclose(resized[:2], seen[:2] * scale)
    assert resized_intrinsics(np.stack([intrinsics] * 3), np.ones((3, 2))).shape == (3, 3, 3)
