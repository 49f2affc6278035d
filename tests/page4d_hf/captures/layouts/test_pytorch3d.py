"""Cameras as PyTorch3D describes them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from page4d_hf.captures.layouts.pytorch3d import Viewpoint, camera_from_viewpoint
from page4d_hf.errors import CaptureError
from page4d_hf.utils.json_files import parse_json

ROTATION = Rotation.from_euler("xyz", (0.3, -0.5, 0.2)).as_matrix()


def viewpoint(**changes: Any) -> dict[str, Any]:
    return {
        "R": ROTATION.tolist(),
        "T": [0.2, -0.1, 3.0],
        "focal_length": [1.8, 2.1],
        "principal_point": [0.05, -0.03],
        "intrinsics_format": "ndc_isotropic",
        **changes,
    }


def camera_of(values: dict[str, Any], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return camera_from_viewpoint(parse_json(json.dumps(values), Viewpoint, "it"), size)


@pytest.mark.parametrize("size", [(64, 36), (36, 64), (40, 40)])
@pytest.mark.parametrize("kind", ["ndc_isotropic", "ndc_norm_image_bounds"])
def test_points_fall_where_pytorch3ds_definition_puts_them(kind: str, size: tuple[int, int]) -> None:
    extrinsics, intrinsics = camera_of(viewpoint(intrinsics_format=kind), size)
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    in_camera = points @ ROTATION + [0.2, -0.1, 3.0]
    # NDC of the pinhole: x left, y up, both from the middle of the image.
    ndc = np.array([1.8, 2.1]) * in_camera[:, :2] / in_camera[:, 2:] + [0.05, -0.03]
    if kind == "ndc_isotropic":
        unit = np.full(2, min(size) / 2)  # the shorter side goes from -1 to 1
    else:
        unit = np.array(size) / 2  # both do
    expected = np.array(size) / 2 - ndc * unit
    ours = points @ extrinsics[:, :3].T + extrinsics[:, 3]
    projected = ours @ intrinsics.T
    np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], expected, atol=1e-9)
    np.testing.assert_allclose(ours[:, 2], in_camera[:, 2])


def test_the_rotation_stays_a_rotation() -> None:
    extrinsics, _ = camera_of(viewpoint(), (64, 36))
    np.testing.assert_allclose(extrinsics[:, :3] @ extrinsics[:, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(extrinsics[:, :3]) == pytest.approx(1)


def test_without_a_format_the_annotations_default_holds() -> None:
    values = viewpoint()
    del values["intrinsics_format"]
    _, intrinsics = camera_of(values, (64, 36))
    np.testing.assert_allclose(intrinsics[0, 0], 1.8 * 32)
    np.testing.assert_allclose(intrinsics[1, 1], 2.1 * 18)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"intrinsics_format": "pixels"},
            "at intrinsics_format: it should be 'ndc_isotropic' or 'ndc_norm_image_bounds', got 'pixels'",
        ),
        ({"R": None}, "does not hold what it should at R: it should be a valid array, got null"),
        (
            {"T": [1.0, 2.0]},
            r"does not hold what it should at T: it should have at least 3 items, not 2, got \[1.0, 2.0\]",
        ),
        (
            {"focal_length": ["wide", "wide"]},
            r"does not hold what it should at focal_length\.0: it should be a valid number, got 'wide'",
        ),
    ],
)
def test_what_is_no_viewpoint_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        camera_of(viewpoint(**changes), (64, 36))


def test_a_missing_part_is_named() -> None:
    values = viewpoint()
    del values["principal_point"]
    with pytest.raises(CaptureError, match="it lacks principal_point"):
        camera_of(values, (64, 36))
