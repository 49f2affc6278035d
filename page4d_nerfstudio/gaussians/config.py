"""The options of `page4d-4dgs`."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

import tyro
from nerfstudio.models.splatfacto import SplatfactoModelConfig
from nerfstudio.utils.colors import get_color

from page4d_hf.errors import Page4DError
from page4d_hf.utils.ranges import ENDLESS, FINITE, check_ranges

from .deformation import HEADS, SIZES, DeformationConfig
from .metrics import LPIPSNetwork
from .schedule import REFERENCE_STEPS, Schedule, scale_steps

TIME_GROWTH = 0.8  # where nothing says how far things move

# Least and most of each option: what is a number of steps, a share, a weight or a size.
RANGES = {
    **dict.fromkeys(("refine_every", "regularize_every"), (1, ENDLESS)),
    **dict.fromkeys(("coarse_steps", "warmup_length", "stop_split_at", "stop_screen_size_at"), (0, ENDLESS)),
    **dict.fromkeys(("sh_degree_interval", "resolution_schedule", "reset_alpha_every"), (0, ENDLESS)),
    **dict.fromkeys(("time_growth", "default_time"), (0, 1)),
    "motion_threshold": (-ENDLESS, ENDLESS),
    **dict.fromkeys(("ssim_lambda", "cull_alpha_thresh"), (0, 1)),
    **dict.fromkeys(("size_weight", "depth_weight", "plane_tv_weight", "time_smoothness_weight"), (0, FINITE)),
    **dict.fromkeys(("time_sparsity_weight", "mcmc_opacity_reg", "mcmc_scale_reg", "noise_lr"), (0, FINITE)),
    **dict.fromkeys(("densify_grad_thresh", "densify_size_thresh", "cull_scale_thresh"), (0, ENDLESS)),
    **dict.fromkeys(("densify_reference_size", "max_gauss_ratio", "random_scale"), (0, FINITE)),
    "max_gaussians": (1, 10**8),
    "opacity_prune_above": (0, ENDLESS),
    "num_random": (1, 10**7),
    "num_downscales": (0, 8),
    "sh_degree": (0, 4),
    "grid_shape": (1, 256),
}


class ModelError(Page4DError):
    """Options, seed points or checkpoints that do not fit the model."""


@dataclass
class GaussiansOptions(SplatfactoModelConfig):
    """The options of `Page4DGaussiansModelConfig`, which lies beside the model that it builds."""

    use_deformation: bool = True
    """Whether Gaussians move. False trains a static model (3D Gaussian splatting) in the same way, as a baseline."""
    coarse_steps: int = 3000
    """Steps of the static stage, which 4DGS calls coarse; the deforming stage follows."""
    hide_motion_at_first: bool = True
    """Leave moving seed points, and pixels inside motion masks, out of the static stage. Otherwise static Gaussians
    smear over every place where something moved. It needs motion labels."""
    time_growth: float | None = None
    """Share of the deforming stage over which the range of training times grows, from the middle of the capture to all
    of it. 0 trains on all times from the start, as 4DGS does. By default 0 where the data have tracks of what moves,
    taken or not, and 0.8 elsewhere. Without motion labels, or without hide_motion_at_first, it has no effect: all times
    are taken."""
    deformation: DeformationConfig = field(default_factory=DeformationConfig)
    """The deformation field."""
    use_tracks: bool = True
    """Start the motion from tracks of what moves, where the data have some (page4d-data --tracks)."""
    size_weight: float = 0.1
    """Weight of the penalty on moving neighbourhoods that grow or shrink. A single camera cannot tell near and small
    from far and large, and few things change their size. 0 turns it off, as in 4DGS: for smoke, fire and water."""
    depth_weight: float = 0.0
    """Weight of the relative error of the rendered depth, against the capture's own depth or PAGE-4D's."""
    plane_tv_weight: float = 2e-4
    """Weight of the spatial total variation of the planes."""
    time_smoothness_weight: float = 1e-3
    """Weight of the planes' second difference along time."""
    time_sparsity_weight: float = 1e-4
    """Weight of the time planes' L1 distance from 1, the value at which time has no effect."""
    regularize_every: int = 4
    """Evaluate the three plane penalties every this many steps, weighted accordingly. On a CPU one evaluation costs
    half as much as rendering a view."""
    motion_threshold: float = 0.5
    """Seed points with a motion weight above this (0 static, 1 moving) move. The others, and all Gaussians that descend
    from them, skip the deformation field. Without motion weights every Gaussian can move."""
    strategy: Literal["default", "mcmc"] = "default"
    """Density control. default: split and clone by gradient, prune by opacity, as in 4DGS. mcmc: relocate faint
    Gaussians and add new ones until there are max_gaussians (3DGS-MCMC, Kheradmand et al. 2024). mcmc ignores the
    options named densify, cull, split, reset and screen, except cull_alpha_thresh."""
    noise_lr: float = 5e5
    """With mcmc: scale of the position noise, relative to the position learning rate and the Gaussian's covariance."""
    mcmc_opacity_reg: float = 0.01
    """With mcmc: weight of the mean opacity in the loss. Gaussians that are not needed fade."""
    mcmc_scale_reg: float = 0.01
    """With mcmc: weight of the mean scale in the loss, in world units."""
    max_gaussians: int = 360_000
    """Maximum number of Gaussians."""
    opacity_prune_above: int = 200_000
    """Prune faint Gaussians only above this number. In a moving scene many are faint at first."""
    default_time: float | None = None
    """Time in [0, 1] of cameras that have none, such as those of ns-render interpolate. By default the time at the
    nearest point of the training trajectory."""
    extent_from: Literal["points", "cameras"] = "points"
    """How to compute the scene radius, which scales position learning rates and size thresholds. points: half the
    diagonal of a box around the seed points, without outliers. cameras: 1.1 times the largest distance of a training
    camera from the mean camera centre, as in 4DGS; points if the camera is static."""
    scene_extent: float | None = None
    """Scene radius, in place of extent_from."""
    lpips_network: LPIPSNetwork = "alex"
    """LPIPS features: AlexNet's, the default in nerfstudio, or VGG16's, as in most papers on Gaussian splatting.
    Figures from different networks are not comparable."""

    warmup_length: int = 500
    """Step after which Gaussians are split and cloned."""
    stop_split_at: int = 13_000
    """Step before which Gaussians are split and cloned (4DGS: 10,000 steps of its fine stage)."""
    refine_every: int = 100
    """Steps between refinements, whatever the length of the run."""
    sh_degree_interval: int = 1000
    """Add a degree of spherical harmonics every this many steps."""
    resolution_schedule: int = 3000
    """Double the image resolution every this many steps, if num_downscales is above 0."""
    num_downscales: int = 0
    """Start training at 1/2^d of the resolution, where d is this number."""
    densify_grad_thresh: float = 2e-4
    """Split or clone Gaussians whose image-plane gradient exceeds this. Use 8e-4 with use_absgrad."""
    densify_reference_size: float = 0.0
    """Raise densify_grad_thresh in inverse proportion for images smaller than this (root of the area in pixels): fewer
    Gaussians and faster training, with less detail. 4DGS trains HyperNeRF captures at 720. 0 leaves the threshold
    alone, as in 4DGS."""
    densify_gradient: Literal["view", "step"] = "view"
    """Average gradients per view or per step, where a step has several views. step, as in 4DGS, splits fewer Gaussians
    at the same threshold, because gradients of different views partly cancel."""
    use_absgrad: bool = False
    """Sum absolute gradients over pixels (AbsGS) for densification."""
    cull_alpha_thresh: float = 0.005
    """Prune Gaussians fainter than this, while there are more than opacity_prune_above."""
    reset_alpha_every: int = 0
    """Reset opacities every this many refinements. 0 never resets."""
    cull_scale_thresh: float = 0.1
    """Prune Gaussians larger than this share of the scene radius, after the first opacity reset."""
    stop_screen_size_at: int = 0
    """Split Gaussians that are large on the screen before this step. 0 never does."""
    ssim_lambda: float = 0.0
    """Weight of the D-SSIM loss; the rest is L1 (4DGS: 0 for HyperNeRF; 3D Gaussian splatting: 0.2)."""
    run_length: tyro.conf.Suppress[int] = REFERENCE_STEPS
    """Length of the run in steps. The trainer sets it from --max-num-iterations."""

    def check(self) -> None:
        """Raises ModelError or DeformationError where an option is out of range."""
        check_ranges(self, RANGES, "--pipeline.model.", ModelError)
        self.deformation.check()
        if self.scene_extent is not None and not 0.0 < self.scene_extent < float("inf"):
            raise ModelError(f"scene_extent is a length above 0, got {self.scene_extent:g}.")
        if self.rasterize_mode != "classic":
            raise ModelError(
                f"page4d-4dgs rasterises in classic mode only, got rasterize_mode={self.rasterize_mode!r}."
            )

    @property
    def only_time(self) -> float:
        """The time that all views are trained at where the data have none."""
        return self.default_time or 0.0

    def shaping(self) -> dict[str, Any]:
        """The options that say which parameters there are and what they mean, by their names on the command line: a
        checkpoint fits a model of the same."""
        names = ["sh_degree", "use_deformation", "use_bilateral_grid", "camera_optimizer.mode"]
        names += ["grid_shape"] * self.use_bilateral_grid
        names += [f"deformation.{name}" for name in (*SIZES, *HEADS)] * self.use_deformation
        return {name.replace("_", "-"): attrgetter(name)(self) for name in names}

    def setup(self, **kwargs: Any) -> Any:
        """Build the model for data with this metadata; raises ModelError where their images lie over a colour of their
        own and another is to be rendered: each pixel of that background would count as wrong."""
        own = (kwargs.get("metadata") or {}).get("background_color")
        chosen = self.background_color
        if own is not None and chosen != "random" and not get_color(chosen).allclose(own.cpu()):
            rgb = " ".join(f"{channel:g}" for channel in own.tolist())
            raise ModelError(
                f"--pipeline.model.background-color {chosen} does not fit the data, whose images are laid over the RGB "
                f"colour {rgb}; leave it out."
            )
        return super().setup(**kwargs)

    def schedule(self, *, tracked: bool = False) -> Schedule:
        """When each part of the training happens, scaled to `run_length`.

        Args:
            tracked: whether the data have tracks of what moves.
        """

        def steps(of_reference: int) -> int:
            return scale_steps(of_reference, self.run_length)

        coarse_steps = steps(self.coarse_steps)
        growth = (0.0 if tracked else TIME_GROWTH) if self.time_growth is None else self.time_growth
        grows = growth if self.use_deformation else 0.0
        return Schedule(
            coarse_steps=coarse_steps,
            all_times_from=coarse_steps + round(grows * max(self.run_length - coarse_steps, 0)),
            densify_from=steps(self.warmup_length),
            densify_until=steps(self.stop_split_at),
            screen_size_until=steps(self.stop_screen_size_at),
            sh_degree_interval=max(1, steps(self.sh_degree_interval)),
            resolution_interval=max(1, steps(self.resolution_schedule)),
        )
