"""The multi-task loss that [`Page4DModel`] is trained with.

    loss = 5 camera + depth + points

after VGGT (arXiv 2503.11651, Section 3.4) and PAGE-4D (arXiv 2510.17568, Section 3.3), with the confidence terms of
Kendall and Gal (arXiv 1703.04977). With r the length of a pixel's error, c its confidence, and < > the mean over
valid pixels:

    camera = T + R + FoV / 2            L1 (or Huber) on the pose encoding, refinement stages weighted 0.6^(n-1-i) / n
    depth  = <0.3 r c - 0.06 log c> + <r> + gradient    L1 on the differences of neighbouring errors, 4 scales
    points = <r c - 0.2 log c> + <r> + normals          1 - cos between the surface normals, 3 scales

Where the configuration gives it a weight, which the published network's does not, a term on the mask head joins them:
with p the dynamics of a patch, s the share of its pixels that move, and [x]_w the mean of x weighted by w,

    mask   = ([-log p]_s + [-log (1 - p)]_(1 - s)) / 2  what moves and what stands still weigh the same

Everything is in float32, whatever the network computes in, and nothing waits for the device: what is not valid is
masked rather than branched on or picked out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .configuration_page4d import Page4DTrainingConfig
from .geometry import cameras_to_pose_encoding
from .labels_page4d import FARTHEST, SCALE_RANGE, Page4DTargets, masked_mean, targets_of
from .modeling_page4d_layers import no_autocast

STAGE_DECAY = 0.6  # weight of a refinement stage of the cameras over that of the next
MAX_TERM = 100.0  # no pixel, and no component of a translation, adds more than this
MIN_PIXELS = 100  # what a batch's geometry, and the first frame of a sequence with depth, must have to count
MIN_NORMALS = 10
MIN_FILTERED = 1000  # how many elements there must be left for the largest to be left out
DEPTH_CONFIDENCE = (0.3, 0.06)  # weights of r c and of -log c
POINT_CONFIDENCE = (1.0, 0.2)
DEPTH_SCALES = (1, 2, 4, 8)
NORMAL_SCALES = (1, 2, 4)
NORMAL_EPS = 1e-8
MIN_SHARE = 1e-6  # a pixel's share of its patch, and the sum of what moves in a batch, is 0 or more than this


@dataclass(frozen=True)
class Page4DLosses:
    """The loss and what it is made of, scalars of float32.

    Attributes:
        total: the weighted sum, to be minimised.
        terms: `camera` = `camera_translation` + `camera_rotation` + `fov_loss_weight` (1/2) * `camera_fov`; `depth` =
            `depth_confidence` + `depth_error` + `depth_gradient`; `points` = `points_confidence` + `points_error` +
            `points_normal`; those of the heads that the model has; and `mask`, where it has a weight. A term for which
            nothing valid is labelled is 0, with a gradient of 0.
    """

    total: Tensor
    terms: dict[str, Tensor]


def page4d_loss(
    labels: Mapping[str, Tensor],
    config: Page4DTrainingConfig,
    *,
    pose_enc_stages: Sequence[Tensor] | None = None,
    depth: Tensor | None = None,
    depth_conf: Tensor | None = None,
    world_points: Tensor | None = None,
    world_points_conf: Tensor | None = None,
    dynamics_logits: Tensor | None = None,
) -> Page4DLosses:
    """The training loss; predictions of heads that the network lacks may be missing.

    Every term is a mean over what is labelled in the whole batch. A sequence without depth, poses or motion masks
    leaves the means that it has nothing for as they are without it.

    Args:
        labels: as `check_labels` gives them. The loss is computed where they are.
        config: weights of the terms, and what goes into them.
        pose_enc_stages: cameras after every refinement, or the last alone, each `[B, S, 9]`.
        depth, depth_conf: `[B, S, H, W, 1]` and `[B, S, H, W]`.
        world_points, world_points_conf: `[B, S, H, W, 3]` and `[B, S, H, W]`.
        dynamics_logits: `[B, S, h, w]` of the mask head, for every patch.
    """
    # Autocast would take the matrix products of cameras and points down to bfloat16.
    with no_autocast(labels["has_pose"]):
        targets = targets_of(labels)
        # A model may be spread over devices, and its heads give what they give where they lie.
        device = targets.scale.device
        terms: dict[str, Tensor] = {}
        total = []
        if pose_enc_stages:
            terms |= _camera_terms(tuple(stage.to(device) for stage in pose_enc_stages), targets, config)
            total.append(config.camera_loss_weight * terms["camera"])
        if depth is not None and depth_conf is not None:
            maps, confidence = (maps.to(device, torch.float32) for maps in (depth, depth_conf))
            terms |= _depth_terms(maps.squeeze(-1), confidence, targets, config)
            total.append(config.depth_loss_weight * terms["depth"])
        if world_points is not None and world_points_conf is not None:
            points, confidence = (maps.to(device, torch.float32) for maps in (world_points, world_points_conf))
            terms |= _points_terms(points, confidence, targets, config)
            total.append(config.point_loss_weight * terms["points"])
        if dynamics_logits is not None and config.mask_loss_weight > 0:
            terms["mask"] = _mask_term(dynamics_logits.to(device, torch.float32), targets)
            total.append(config.mask_loss_weight * terms["mask"])
        return Page4DLosses(torch.stack(total).sum(), terms)


def _camera_terms(
    stages: tuple[Tensor, ...],  # each [B, S, 9]
    targets: Page4DTargets,
    config: Page4DTrainingConfig,
) -> dict[str, Tensor]:
    height, width = targets.depth.shape[2:]
    target = cameras_to_pose_encoding(targets.extrinsics, targets.intrinsics, (height, width))
    # With hardly any depth in the first frame the scale is not to be relied on. Without any depth at all the
    # translations are compared up to scale.
    valid = targets.depth_valid | targets.points_valid
    counts = targets.has_pose & (~valid.flatten(1).any(1) | (valid[:, 0].sum((-1, -2)) > MIN_PIXELS))
    counted = counts[:, None, None]
    sums: list[Tensor] = []
    for i, stage in enumerate(stages):
        stage = torch.where(counted, stage.float(), 0)
        found, expected = _same_scale(stage[..., :3], target[..., :3], targets.has_scale, counted[..., 0])
        weight = STAGE_DECAY ** (len(stages) - 1 - i) / len(stages)
        errors = (
            _camera_error(found, expected, config).clamp(max=MAX_TERM),
            _camera_error(stage[..., 3:7], target[..., 3:7], config),
            _camera_error(stage[..., 7:], target[..., 7:], config),
        )
        sums.append(weight * torch.stack([masked_mean(error, counted.expand_as(error)) for error in errors]))
    translation, rotation, fov = torch.stack(sums).sum(0).unbind()
    return {
        "camera": translation + rotation + config.fov_loss_weight * fov,
        "camera_translation": translation,
        "camera_rotation": rotation,
        "camera_fov": fov,
    }


def _camera_error(found: Tensor, expected: Tensor, config: Page4DTrainingConfig) -> Tensor:
    if config.camera_loss == "huber":
        # Over delta, so that large errors weigh what they weigh in L1.
        return F.huber_loss(found, expected, reduction="none", delta=config.camera_huber_delta) / (
            config.camera_huber_delta
        )
    return (found - expected).abs()


def _depth_terms(
    depth: Tensor, confidence: Tensor, targets: Page4DTargets, config: Page4DTrainingConfig
) -> dict[str, Tensor]:
    valid = targets.depth_valid  # [B, S, H, W], as depth and confidence
    depth = torch.where(valid, depth, 0)
    found, expected = _same_scale(depth[..., None], targets.depth[..., None], targets.has_scale, valid)
    difference = (found - expected).squeeze(-1)
    confident, error = _confidence_terms(difference.abs(), confidence, valid, DEPTH_CONFIDENCE, config)
    scales = [_gradient_error(difference[..., ::step, ::step], valid[..., ::step, ::step]) for step in DEPTH_SCALES]
    gradient = _enough_pixels(torch.stack(scales).mean(), valid)
    return {
        "depth": confident + error + gradient,
        "depth_confidence": confident,
        "depth_error": error,
        "depth_gradient": gradient,
    }


def _points_terms(
    points: Tensor,  # [B, S, H, W, 3]
    confidence: Tensor,  # [B, S, H, W]
    targets: Page4DTargets,
    config: Page4DTrainingConfig,
) -> dict[str, Tensor]:
    valid = targets.points_valid
    # Squares of what is farther could overflow; such errors are beyond MAX_TERM anyway.
    points = torch.where(valid[..., None], points.clamp(-FARTHEST, FARTHEST), 0)
    distance = torch.linalg.vector_norm(points - targets.world_points, dim=-1)
    confident, error = _confidence_terms(distance, confidence, valid, POINT_CONFIDENCE, config)
    scales = [
        _normal_error(*(maps[:, :, ::step, ::step] for maps in (points, targets.world_points, valid)))
        for step in NORMAL_SCALES
    ]
    normal = _enough_pixels(torch.stack(scales).mean(), valid)
    return {
        "points": confident + error + normal,
        "points_confidence": confident,
        "points_error": error,
        "points_normal": normal,
    }


def _mask_term(
    logits: Tensor,  # [B, S, h, w]
    targets: Page4DTargets,
) -> Tensor:
    if targets.moving is None:
        return 0 * logits.sum()  # reaches the head all the same: processes that share gradients wait for all of them
    share = F.adaptive_avg_pool2d(targets.moving.float(), (logits.shape[2], logits.shape[3]))
    known = targets.has_motion.float()[:, None, None, None]
    # Where nothing moves, or all does, the other half is all there is.
    halves = (
        (weight * F.softplus(sign * logits)).sum() / weight.sum().clamp(min=MIN_SHARE)
        for sign, weight in ((-1, known * share), (1, known * (1 - share)))
    )
    return torch.stack(list(halves)).mean()


def _confidence_terms(
    error: Tensor, confidence: Tensor, valid: Tensor, weights: tuple[float, float], config: Page4DTrainingConfig
) -> tuple[Tensor, Tensor]:
    """Means of the errors weighted by their confidence, and of the errors as they are; all arguments alike in shape."""
    confidence = torch.where(valid, confidence, 1)
    confident = weights[0] * error * confidence - weights[1] * confidence.log()
    means = (_mean_without_largest(values, valid, config.loss_quantile) for values in (confident, error))
    confident, error = (_enough_pixels(mean, valid) for mean in means)
    return confident, error


def _mean_without_largest(values: Tensor, valid: Tensor, quantile: float) -> Tensor:
    """Mean of the valid values below their quantile, if enough are."""
    values = values.clamp(-MAX_TERM, MAX_TERM)
    if quantile == 1:
        return masked_mean(values, valid)
    with torch.no_grad():
        ascending = torch.where(valid, values, torch.inf).flatten().sort().values
        rank = (quantile * (valid.sum() - 1).clamp(min=0)).round().long()
        below = valid & (values < ascending[rank[None]])
        # Ties at the threshold may leave nothing below it.
        kept = torch.where(below.sum() > MIN_FILTERED, below, valid)
    return masked_mean(values, kept)


def _gradient_error(
    difference: Tensor,  # [B, S, h, w], 0 where it is not valid
    valid: Tensor,
) -> Tensor:
    """Sum of |difference of neighbouring differences| along both axes, over the number of valid pixels."""
    along_x = (difference[..., 1:] - difference[..., :-1]).abs() * (valid[..., 1:] & valid[..., :-1])
    along_y = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * (valid[..., 1:, :] & valid[..., :-1, :])
    total = along_x.clamp(max=MAX_TERM).sum() + along_y.clamp(max=MAX_TERM).sum()
    return total / valid.sum().clamp(min=1)


def _normal_error(
    points: Tensor,  # [B, S, h, w, 3]
    expected: Tensor,  # the same
    valid: Tensor,  # [B, S, h, w]
) -> Tensor:
    """Mean 1 - cos between the surface normals of two point maps.

    A pixel has four normals, the cross products of the steps to two neighbours: up and left, left and down, down and
    right, right and up. Each counts where all three pixels are valid.
    """
    beside = [valid & neighbour for neighbour in _neighbours(valid)]
    # Components first: planes are multiplied many times faster than interleaved vectors.
    points, expected = points.movedim(-1, 0).contiguous(), expected.movedim(-1, 0).contiguous()
    total, number = [], []
    for first, second in ((0, 1), (1, 2), (2, 3), (3, 0)):
        counted = beside[first] & beside[second]
        arguments = (points, expected, counted, first, second)
        if torch.compiler.is_compiling():  # which decides by itself what to compute again
            total.append(_normal_error_of(*arguments))
        else:
            # Computed again for the gradient: what the cross products would keep is several times the point maps.
            total.append(checkpoint(_normal_error_of, *arguments, use_reentrant=False, preserve_rng_state=False))
        number.append(counted.sum())
    count = torch.stack(number).sum()
    return torch.stack(total).sum() / count.clamp(min=1) * (count >= MIN_NORMALS)


def _normal_error_of(points: Tensor, expected: Tensor, counted: Tensor, first: int, second: int) -> Tensor:
    """Sum of 1 - cos between the normals that the steps to two neighbours span in `[3, B, S, h, w]`, where counted."""
    normal, expected_normal = (
        _cross(neighbours[first] - maps, neighbours[second] - maps)
        for maps, neighbours in ((points, _neighbours(points)), (expected, _neighbours(expected)))
    )
    squares = _dot(normal, normal), _dot(expected_normal, expected_normal)
    lengths = [square.clamp(min=NORMAL_EPS**2).sqrt() for square in squares]
    cosine = _dot(normal, expected_normal) / (lengths[0] * lengths[1])
    return torch.where(counted, 1 - cosine, 0).sum()


def _cross(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _neighbours(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is above, left of, below and right of every pixel of `[..., h, w]`; 0 beyond the border."""
    padded = F.pad(maps, (1, 1, 1, 1))
    rows, columns = padded[..., 1:-1], padded[..., 1:-1, :]
    return rows[..., :-2, :], columns[..., :-2], rows[..., 2:, :], columns[..., 2:]


def _same_scale(
    found: Tensor,  # [B, ..., C]
    expected: Tensor,  # the same
    known: Tensor,  # [B], whether the scale of `expected` is known
    counted: Tensor,  # [B, ...], broadcast
) -> tuple[Tensor, Tensor]:
    """What to compare: where the scale is not known, `expected` takes that of `found`.

    `found` keeps its value, and loses the part of its gradient that is along its scale. Otherwise a prediction whose
    shape is wrong could be made better by shrinking it, and it would shrink away.
    """
    counted = counted.expand(found.shape[:-1])
    over = tuple(range(1, counted.ndim))
    found_size, expected_size = (
        masked_mean(torch.linalg.vector_norm(maps, dim=-1), counted, over).clamp(min=SCALE_RANGE[0])
        for maps in (found, expected)
    )
    fixed = found_size.detach()
    known, invariant, ratio = (
        values.reshape(-1, *[1] * (found.ndim - 1)) for values in (known, fixed / found_size, fixed / expected_size)
    )
    return torch.where(known, found, found * invariant), torch.where(known, expected, expected * ratio)


def _enough_pixels(value: Tensor, valid: Tensor) -> Tensor:
    return value * (valid.sum() >= MIN_PIXELS)
