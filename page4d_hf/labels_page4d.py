"""Training labels of [`Page4DModel`], and the targets they become in the network's world and scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from .errors import Page4DError
from .geometry import invert_extrinsics, is_rotation, unproject_depth

SCALE_RANGE = (1e-6, 1e6)
FARTHEST = 1e6  # what is farther, in whatever unit the labels are, stands for "not known"; its square could overflow

# Shapes in terms of batch, frames, height, width.
_LABELS: dict[str, tuple[str | int, ...]] = {
    "extrinsics": ("B", "S", 3, 4),
    "intrinsics": ("B", "S", 3, 3),
    "depth": ("B", "S", "H", "W"),
    "world_points": ("B", "S", "H", "W", 3),
    "motion_mask": ("B", "S", "H", "W"),
    "has_pose": ("B",),
    "has_depth": ("B",),
    "has_motion": ("B",),
}
_FLAGS = ("motion_mask", "has_pose", "has_depth", "has_motion")


@dataclass(frozen=True)
class Page4DTargets:
    """Labels as the network shall predict them: the world is the first camera, the mean distance of its points is 1.

    Attributes:
        extrinsics: `[B, S, 3, 4]` world-to-camera; the first of every sequence is the identity.
        intrinsics: `[B, S, 3, 3]` in pixels, the first pixel's centre being (0.5, 0.5).
        depth: `[B, S, H, W]` z-depth, 0 where it is not valid.
        world_points: `[B, S, H, W, 3]`, 0 where they are not valid.
        depth_valid, points_valid: `[B, S, H, W]` bool.
        has_pose: `[B]` bool, whether the cameras are known; otherwise they are placeholders.
        has_scale: `[B]` bool, whether cameras and points are both known (or there are only cameras, and they stand
            still). Otherwise there is no telling what the mean distance of the points to the first camera is: poses
            alone are divided by the mean distance of the other cameras to the first, depth alone by its mean, and the
            loss compares them up to a factor.
        scale: `[B]` what the sequence's lengths were divided by.
        moving: `[B, S, H, W]` bool, what moves; `None` where it is known of no sequence.
        has_motion: `[B]` bool, whether that is known.
    """

    extrinsics: Tensor
    intrinsics: Tensor
    depth: Tensor
    world_points: Tensor
    depth_valid: Tensor
    points_valid: Tensor
    has_pose: Tensor
    has_scale: Tensor
    scale: Tensor
    moving: Tensor | None
    has_motion: Tensor


def check_labels(
    labels: Mapping[str, Any], size: tuple[int, int, int, int], device: torch.device | str | None = None
) -> dict[str, Tensor]:
    """Labels in full, from labels of which some may be missing.

    Args:
        labels: see [`Page4DModel.forward`]; what is `None` counts as missing.
        size: (batch, frames, height, width) of the images that they belong to.
        device: where they shall be; by default where they are.

    Returns:
        `extrinsics`, `intrinsics`, `has_pose`, `has_depth`, and `depth`, `world_points` or both. What was missing is an
        identity or zero, and said to be absent by `has_pose` or `has_depth`. `motion_mask` and `has_motion` if the
        former was given.

    Raises:
        Page4DError: labels that are unknown, of another shape or type, or incomplete; cameras that are not finite or
            whose rotation is none. The values of cameras are looked at only on the CPU, as on another device looking
            would stall it: what loads the data has to check them too.
    """
    if not isinstance(labels, Mapping):
        raise Page4DError(f"labels must be a dict of tensors with keys among {list(_LABELS)}; they are {type(labels)}.")
    given = {name: value for name, value in labels.items() if value is not None}
    if unknown := sorted(set(given) - set(_LABELS)):
        raise Page4DError(f"There is no label called {', '.join(unknown)}; the known ones are {', '.join(_LABELS)}.")
    given = {name: _checked_label(name, value, size).to(device) for name, value in given.items()}

    posed, measured = "extrinsics" in given, "depth" in given or "world_points" in given
    if not posed and not measured:
        raise Page4DError("labels hold neither extrinsics nor depth nor world_points: there is nothing to learn from.")
    if posed and "intrinsics" not in given:
        raise Page4DError("labels hold extrinsics and no intrinsics; a camera takes both.")
    for name, needed, found in (
        ("has_pose", "extrinsics", posed),
        ("has_depth", "depth or world_points", measured),
        ("world_points", "extrinsics", posed),
        ("has_motion", "motion_mask", "motion_mask" in given),
    ):
        if name in given and not found:
            raise Page4DError(f"labels hold {name} and no {needed}: give both or neither.")

    batch_size, num_frames, height, width = size
    anything = next(iter(given.values()))
    no, yes = (anything.new_full((batch_size,), value, dtype=torch.bool) for value in (False, True))
    full = {
        "has_pose": given.get("has_pose", yes) if posed else no,
        "has_depth": given.get("has_depth", yes) if measured else no,
    }
    identity = torch.eye(3, 4, device=anything.device).expand(batch_size, num_frames, 3, 4)
    full["extrinsics"] = given["extrinsics"] if posed else identity
    # Those of a sequence without poses are placeholders: intrinsics count only together with extrinsics.
    full["intrinsics"] = given["intrinsics"] if posed else identity[..., :3]
    if "world_points" in given:
        full["world_points"] = given["world_points"]
    if "depth" in given or "world_points" not in given:
        nothing = identity.new_zeros(()).expand(batch_size, num_frames, height, width)
        full["depth"] = given.get("depth", nothing)
    if "motion_mask" in given:
        full["motion_mask"] = given["motion_mask"]
        full["has_motion"] = given.get("has_motion", yes)
    if posed and anything.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_cameras(full)
    return full


def _checked_label(name: str, value: Any, size: tuple[int, int, int, int]) -> Tensor:
    if not isinstance(value, Tensor):
        raise Page4DError(f"labels[{name!r}] must be a tensor, it is {type(value)}.")
    sides = dict(zip("BSHW", size, strict=True))
    expected = tuple(sides[side] if isinstance(side, str) else side for side in _LABELS[name])
    if size[0] == 1 and tuple(value.shape) == expected[1:]:
        value = value[None]  # of one sequence without the batch dimension
    if tuple(value.shape) != expected:
        raise Page4DError(
            f"labels[{name!r}] must be {_LABELS[name]} = {expected} for {size[0]} x {size[1]} images of "
            f"{size[2]} x {size[3]}; it is {tuple(value.shape)}.".replace("'", "")
        )
    if name in _FLAGS and value.dtype != torch.bool:
        raise Page4DError(f"labels[{name!r}] must be bool, it is {value.dtype}.")
    if name not in _FLAGS and not value.is_floating_point():
        raise Page4DError(f"labels[{name!r}] must be floating point, it is {value.dtype}: convert and scale it.")
    return cast(Tensor, value)


def _check_cameras(labels: dict[str, Tensor]) -> None:
    for name in ("extrinsics", "intrinsics"):
        if bad := _first(~labels[name].isfinite().flatten(2).all(-1), labels["has_pose"]):
            raise Page4DError(
                f"labels[{name!r}] of {bad} are not finite; a sequence without cameras has has_pose=False."
            )
    if bad := _first((labels["intrinsics"].diagonal(dim1=-2, dim2=-1)[..., :2] <= 0).any(-1), labels["has_pose"]):
        raise Page4DError(f"labels['intrinsics'] of {bad} have a focal length that is not positive.")
    rotations = torch.as_tensor(is_rotation(labels["extrinsics"][..., :3].double().numpy()))
    if bad := _first(~rotations, labels["has_pose"]):
        raise Page4DError(
            f"labels['extrinsics'] of {bad} have no rotation in their first three columns (R R^T is not the identity, "
            "or R mirrors): they must be rigid world-to-camera transforms [R | t]."
        )


def _first(bad: Tensor, has_pose: Tensor) -> str:
    """Which camera `[B, S]` is the first bad one, of those that count; "" if there is none."""
    found = (bad & has_pose[:, None]).nonzero()
    return f"sequence {int(found[0, 0])}, frame {int(found[0, 1])}," if len(found) else ""


def normalize_labels(labels: Mapping[str, Any], image_size: tuple[int, int]) -> Page4DTargets:
    """The targets of labels that nobody has checked, see `targets_of`.

    Args:
        labels: as [`Page4DModel.forward`] takes them, with the batch dimension.
        image_size: (height, width) of the images.
    """
    known = next(labels[name] for name in ("extrinsics", "depth", "world_points") if labels.get(name) is not None)
    return targets_of(check_labels(labels, (known.shape[0], known.shape[1], *image_size)))


def targets_of(full: Mapping[str, Tensor]) -> Page4DTargets:
    """Bring labels, which are in a world and a scale of their own, into those that the network predicts.

    The world becomes the first camera, and lengths are divided by the mean distance of the valid points to it, clamped
    to [1e-6, 1e6]. Depth outside (0, 1e6] and points with a coordinate beyond 1e6 in that world are not valid. Where
    world points are not given they are unprojected from depth and cameras.

    Args:
        full: as `check_labels` gives them.
    """
    # Cameras are few, and a world's origin may be far off: the difference of two large translations is taken in
    # float64, where there is one.
    precise = torch.float32 if full["extrinsics"].device.type == "mps" else torch.float64
    has_pose, posed = full["has_pose"], full["has_pose"][:, None, None, None]
    identity = torch.eye(3, 4, dtype=precise, device=has_pose.device)
    original = torch.where(posed, full["extrinsics"].to(precise), identity)
    intrinsics = torch.where(posed, full["intrinsics"].float(), identity[:, :3].float())

    # 1. The world is the first camera.
    to_first = original[:, :1]
    from_first = invert_extrinsics(to_first)
    rotation = original[..., :3] @ from_first[..., :3]
    translation = original[..., :3] @ from_first[..., 3:] + original[..., 3:]
    has_depth = full["has_depth"][:, None, None, None]
    given = full["depth"] if "depth" in full else torch.zeros_like(full["world_points"][..., 0])
    given_depth = given.float()
    depth_valid = has_depth & (given_depth > 0) & (given_depth <= FARTHEST)  # NaN is neither
    depth = torch.where(depth_valid, given_depth, 0)
    relative = torch.cat((rotation, translation), dim=-1)
    if "world_points" in full:
        moved = full["world_points"].to(precise) @ to_first[..., :3].mT[:, :, None] + to_first[..., None, None, :, 3]
        points_valid = has_depth & posed
        if "depth" in full:
            points_valid = points_valid & depth_valid
        points = moved.float()
    else:
        points_valid = depth_valid & posed
        # In float32 the matrix product in there could be TF32's, of three digits.
        lifted = unproject_depth(depth.to(precise), relative, intrinsics.to(precise), pixel_center=0.5)
        points = lifted.float()
    points_valid = points_valid & (points.abs() <= FARTHEST).all(-1)
    points = torch.where(points_valid[..., None], points, 0)

    # 2. Its scale is the mean distance of the points; see Page4DTargets.has_scale for what does without.
    has_points = points_valid.flatten(1).any(1)
    distance = masked_mean(torch.linalg.vector_norm(points, dim=-1), points_valid, dim=(1, 2, 3))
    mean_depth = masked_mean(depth, depth_valid, dim=(1, 2, 3))
    path = torch.linalg.vector_norm(translation[..., 0], dim=-1)  # [B, S]; the first is 0
    # Rounding, of the labels too, moves cameras that stand still.
    rounding = 8 * torch.finfo(full["extrinsics"].dtype).eps * original[..., 3].norm(dim=-1).amax(1)
    still = has_pose & (path.amax(1) <= rounding)
    translation = torch.where((still & ~has_points)[:, None, None, None], 0, translation)
    mean_path = path.sum(1).float() / max(path.shape[1] - 1, 1)
    scale = torch.where(still | ~has_pose, torch.ones_like(mean_path), mean_path)
    scale = torch.where(depth_valid.flatten(1).any(1), mean_depth, scale)
    scale = torch.where(has_points, distance, scale).clamp(*SCALE_RANGE)
    lengths = scale[:, None, None, None]
    return Page4DTargets(
        extrinsics=torch.cat((rotation.float(), translation.float() / lengths), dim=-1),
        intrinsics=intrinsics,
        depth=depth / lengths,
        world_points=points / lengths[..., None],
        depth_valid=depth_valid,
        points_valid=points_valid,
        has_pose=has_pose,
        has_scale=has_points | (still & ~depth_valid.flatten(1).any(1)),
        scale=scale,
        moving=full.get("motion_mask"),
        has_motion=full.get("has_motion", torch.zeros_like(has_pose)),
    )


def masked_mean(values: Tensor, counted: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """Mean of the values that count; 0, with a gradient of 0, where none does."""
    return torch.where(counted, values, 0).sum(dim) / counted.sum(dim).clamp(min=1)
