"""What a training starts from: which seed points become Gaussians, which of them move, and what they look like."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from nerfstudio.models.splatfacto import RGB2SH, num_sh_bases, random_quat_tensor
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import Parameter

from ..console import note
from .config import GaussiansOptions, ModelError
from .deformation import DeformationConfig, RobustBox
from .scaffold import MotionScaffold
from .schedule import CANONICAL_TIME, FIRST_SPAN
from .views import CAMERAS_EXTENT_KEY

# Fewer moving seed points than this say too little about where the motion is.
FEWEST_MOVING_POINTS = 100

# Cameras stand still whose extent is below this share of the seed points': the rest of it is rounding and tremor, and
# with learning rates in its units nothing would ever move.
STANDS_STILL = 1e-3


class Seeds(NamedTuple):
    """Where Gaussians start, on the CPU."""

    positions: Tensor  # [N, 3] in the world of the cameras
    colors: Tensor  # [N, 3] in [0, 1]
    in_motion: Tensor  # [N] bool, which move


def seeds(
    config: GaussiansOptions,
    seed_points: tuple[Tensor, Tensor] | None,
    metadata: dict[str, Any],
    scaffold: MotionScaffold | None = None,
    *,
    times_grow: bool = False,
) -> Seeds:
    """Choose the seeds of a model, at most `max_gaussians` of them.

    Args:
        config: Of the model.
        seed_points: Positions [M, 3] and colours [M, 3] in [0, 255]; without any, or where the options ask for it,
            they are drawn at random.
        metadata: Of the dataparser: `points3D_motion` [M] in [0, 1] and `points3D_times` [M] in [0, 1], if known.
        scaffold: Motions that carry what moves from the time when it was seen to the canonical one.
        times_grow: Whether training times grow from the canonical one, so that only what moves there is to be seen.

    Raises:
        ModelError: Where not every point has a colour, or a motion weight where there are weights.
    """
    if seed_points is None or config.random_init:
        points = (torch.rand((config.num_random, 3)) - 0.5) * config.random_scale
        rgb = torch.rand(config.num_random, 3)
        in_motion = torch.ones(len(points), dtype=torch.bool)
    else:
        points = seed_points[0].detach().cpu().float().clone()
        rgb = seed_points[1].detach().cpu().float() / 255.0
        if len(rgb) != len(points):
            raise ModelError(f"Seed points need a colour each, got {len(points)} points and {len(rgb)} colours.")
        in_motion = _moving(config, metadata.get("points3D_motion"), len(points))
        times = metadata.get("points3D_times")
        if scaffold is None:
            kept = ~in_motion | _seen_at_first(times, in_motion, config.hide_motion_at_first and times_grow)
            points, rgb, in_motion = points[kept], rgb[kept], in_motion[kept]
        elif times is not None:
            times = torch.as_tensor(times).cpu()
            for time in times[in_motion].unique().tolist():
                then = in_motion & (times == time)
                points[then] = scaffold.to_canonical(points[then], time)
    if len(points) > config.max_gaussians:
        kept = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[: config.max_gaussians]
        points, rgb, in_motion = points[kept], rgb[kept], in_motion[kept]
    return Seeds(points, rgb, in_motion)


def _moving(config: GaussiansOptions, weights: Any, n_points: int) -> Tensor:
    """Which seed points [N] bool move, by their weights: all of them where there are none."""
    if weights is None:
        return torch.ones(n_points, dtype=torch.bool)
    if len(weights) != n_points:
        raise ModelError(f"Seed points need a motion weight each, got {n_points} points, {len(weights)} weights.")
    return torch.as_tensor(weights).cpu() > config.motion_threshold


def _seen_at_first(times: Any, in_motion: Tensor, grows: bool) -> Tensor:
    """Which seed points [N] bool were seen around the canonical time, if enough of the moving ones were.

    A moving thing whose points come from many instants would be there many times over.
    """
    everyone = torch.ones_like(in_motion)
    if times is None or not grows or in_motion.all():
        return everyone
    near = (torch.as_tensor(times).cpu() - CANONICAL_TIME).abs() <= FIRST_SPAN
    return near if int((near & in_motion).sum()) >= FEWEST_MOVING_POINTS else everyone


def scene_extent(config: GaussiansOptions, points: Tensor, metadata: dict[str, Any]) -> float:
    """The radius of the scene, in the world's unit, by which the options say that it is found.

    Args:
        config: Of the model.
        points: The seeds. [N, 3]
        metadata: Of the training images' dataset, which knows how far apart their cameras are.
    """
    if config.scene_extent is not None:
        return config.scene_extent
    if config.extent_from == "points":
        return RobustBox.around(points, config.deformation.box_quantile, config.deformation.box_margin).extent
    # Whatever box the grid has: a stray point that it reaches out to says nothing about the scene.
    usual = DeformationConfig()
    of_points = RobustBox.around(points, usual.box_quantile, usual.box_margin).extent
    of_cameras = float(metadata.get(CAMERAS_EXTENT_KEY, 0.0))
    if of_cameras >= STANDS_STILL * of_points:
        return of_cameras
    note(
        "the training cameras stand still, or are not known, which gives the scene no extent; taking that of the seed "
        f"points, {of_points:.3g} (--pipeline.model.scene-extent says another)"
    )
    return of_points


def initial_parameters(positions: Tensor, colors: Tensor, extent: float, sh_degree: int) -> dict[str, Parameter]:
    """Round Gaussians as large as the mean distance to their three nearest neighbours, faint, of their colour.

    Args:
        positions: [N, 3] in the world's unit.
        colors: RGB in [0, 1]. [N, 3]
        extent: Radius of the cloud that they are, in the world's unit.
        sh_degree: Degree of the spherical harmonics; with 0 colours are logits.

    Returns:
        Splatfacto's parameters, by the names that it gives them.
    """
    n = len(positions)
    neighbours = min(3, n - 1)
    if neighbours > 0:
        distances, _ = cKDTree(positions.numpy()).query(positions.numpy(), k=neighbours + 1)
        size = torch.as_tensor(distances[:, 1:].mean(axis=1), dtype=torch.float32)
    else:
        size = torch.full((n,), 0.01 * extent)
    # Points that coincide get a size too, and a stray one not that of everything.
    size = size.clamp(1e-5 * extent, 0.1 * extent)
    features = torch.zeros(n, num_sh_bases(sh_degree), 3)
    features[:, 0] = RGB2SH(colors) if sh_degree > 0 else torch.logit(colors, eps=1e-4)
    values = {
        "means": positions,
        "scales": size.log()[:, None].repeat(1, 3),
        "quats": random_quat_tensor(n),
        "features_dc": features[:, 0],
        "features_rest": features[:, 1:],
        "opacities": torch.logit(torch.full((n, 1), 0.1)),
    }
    return {name: Parameter(value.contiguous()) for name, value in values.items()}
