"""The options of `page4d-4dgs`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nerfstudio.models.splatfacto import SplatfactoModelConfig

from page4d_hf.errors import Page4DError

from ..ranges import ENDLESS, FINITE, check_ranges
from .deformation import DeformationConfig
from .metrics import LPIPSNetwork
from .schedule import REFERENCE_STEPS, Schedule, scale_steps

# Least and most of each option: what is a number of steps, a share, a weight or a size.
RANGES = {
    **dict.fromkeys(("refine_every", "regularize_every"), (1, ENDLESS)),
    **dict.fromkeys(("coarse_steps", "warmup_length", "stop_split_at", "stop_screen_size_at"), (0, ENDLESS)),
    **dict.fromkeys(("sh_degree_interval", "resolution_schedule", "reset_alpha_every"), (0, ENDLESS)),
    **dict.fromkeys(("time_growth", "default_time"), (0, 1)),
    "dynamics_threshold": (-ENDLESS, ENDLESS),
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
    """Whether Gaussians move. False trains the static model (3D Gaussian splatting) in the same way, to compare."""
    coarse_steps: int = 3000
    """Static training first; the deformation starts at this step."""
    hide_motion_at_first: bool = True
    """Where it is known which seed points move, leave them out of the static stage, and where there are motion masks,
    the moving pixels too: else static Gaussians smear over all places where something was."""
    time_growth: float = 0.8
    """Share of the fine stage during which its images come from a span of times that grows from the middle of the
    capture to all of it, where motion was hidden at first. 0 takes images of all times from the start, as 4DGS does;
    so does a capture of which it is not known what moves, as its static stage has all times in it."""
    deformation: DeformationConfig = field(default_factory=DeformationConfig)
    """The deformation field."""
    size_weight: float = 0.1
    """Weight of how much neighbourhoods of Gaussians that move grow or shrink: few things do, and one camera alone
    can't tell near and small from far and large. 0 lets them, as 4DGS does."""
    depth_weight: float = 0.0
    """Weight of the relative error of rendered depth, against the capture's or PAGE-4D's own where that is known."""
    plane_tv_weight: float = 2e-4
    """Weight of the planes' total variation in space."""
    time_smoothness_weight: float = 1e-3
    """Weight of the planes' acceleration along time."""
    time_sparsity_weight: float = 1e-4
    """Weight of the time planes' distance from 1, where time changes nothing."""
    regularize_every: int = 4
    """Fine steps from one evaluation of these three to the next, which then count as many times: on a CPU each costs as
    much as half a rendering, and the planes change little in between."""
    dynamics_threshold: float = 0.5
    """Seed points with a dynamics weight (0 static, 1 moving) above this move; the others, and what comes from them,
    never pass the deformation field. Without such weights every Gaussian can move."""
    strategy: Literal["default", "mcmc"] = "default"
    """Density control. default: split and clone by gradient, prune by opacity, as 4DGS does. mcmc: move faint Gaussians
    to opaque ones and add more until there are max_gaussians (3DGS-MCMC, Kheradmand et al. 2024); the options named
    densify, cull, split, reset and screen then mean nothing, but for cull_alpha_thresh."""
    noise_lr: float = 5e5
    """With mcmc: noise on positions, in units of their learning rate and of a Gaussian's covariance."""
    mcmc_opacity_reg: float = 0.01
    """With mcmc: weight of the mean opacity in the loss, which makes what is not needed faint."""
    mcmc_scale_reg: float = 0.01
    """With mcmc: weight of the mean scale, in the world's unit, in the loss."""
    max_gaussians: int = 360_000
    """There are never more Gaussians than this."""
    opacity_prune_above: int = 200_000
    """Faint Gaussians are pruned only above this number: in a moving scene many are faint at first."""
    default_time: float | None = None
    """Time, in [0, 1], of cameras that have none, like those of ns-render interpolate. By default they get the time of
    the place where they are on the path of the training cameras."""
    extent_from: Literal["points", "cameras"] = "points"
    """What the scene's radius is, of which position learning rates and size thresholds are in units. points: half the
    diagonal of the box around the seed points, all but the outermost. cameras: 1.1 times the largest distance of a
    training camera from the mean of their centres, as in 4DGS; of a camera that stands still, that of the points."""
    scene_extent: float | None = None
    """The scene's radius, where neither suits."""
    lpips_network: LPIPSNetwork = "alex"
    """Whose features LPIPS compares: AlexNet's, as elsewhere in nerfstudio, or VGG16's, which papers on Gaussian
    splatting mostly give. Figures of different networks can't be compared."""

    warmup_length: int = 500
    """Gaussians are split and cloned after this step."""
    stop_split_at: int = 13_000
    """Gaussians are split and cloned before this step (4DGS: 10,000 steps of the fine stage)."""
    refine_every: int = 100
    """Steps between refinements, whatever the length of the run."""
    sh_degree_interval: int = 1000
    """Each so many steps one more degree of the spherical harmonics is used."""
    resolution_schedule: int = 3000
    """Each so many steps the images' resolution doubles, if num_downscales starts it below the full one."""
    num_downscales: int = 0
    """Training starts at 1/2^d of the resolution, where d is this number."""
    densify_grad_thresh: float = 2e-4
    """Gradient of the image-plane position above which a Gaussian is split or cloned. With use_absgrad, 8e-4 suits."""
    densify_reference_size: float = 0.0
    """Images smaller than this (root of their area in pixels) raise densify_grad_thresh in inverse proportion: fewer
    Gaussians and a faster training, with less detail. 720 is the size that 4DGS trains HyperNeRF captures at; 0 leaves
    the threshold alone, as in 4DGS."""
    densify_gradient: Literal["view", "step"] = "view"
    """What that gradient is the mean of, where a step has several views: of each view that sees the Gaussian, or of
    each step, whose gradient is the mean over its views, as in 4DGS: the same threshold then splits fewer."""
    use_absgrad: bool = False
    """Whether to sum absolute gradients over pixels for that (AbsGS)."""
    cull_alpha_thresh: float = 0.005
    """Opacity below which Gaussians are pruned, while there are more than opacity_prune_above."""
    reset_alpha_every: int = 0
    """Each so many refinements opacities are reset; 0 is never."""
    cull_scale_thresh: float = 0.1
    """Size, in units of the scene's extent, above which Gaussians are pruned, once opacities have been reset."""
    stop_screen_size_at: int = 0
    """Gaussians that are large on the screen are split before this step; 0 is never."""
    ssim_lambda: float = 0.0
    """Weight of the D-SSIM loss; the rest is L1 (0 in 4DGS for HyperNeRF, 0.2 in 3D Gaussian splatting)."""
    run_length: int = REFERENCE_STEPS
    """Steps of the whole run: set by the trainer from --max-num-iterations."""

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

    def schedule(self) -> Schedule:
        """When each part of the training happens, scaled to `run_length`."""

        def steps(of_reference: int) -> int:
            return scale_steps(of_reference, self.run_length)

        coarse_steps = steps(self.coarse_steps)
        grows = self.time_growth if self.use_deformation else 0.0
        return Schedule(
            coarse_steps=coarse_steps,
            all_times_from=coarse_steps + round(grows * max(self.run_length - coarse_steps, 0)),
            densify_from=steps(self.warmup_length),
            densify_until=steps(self.stop_split_at),
            screen_size_until=steps(self.stop_screen_size_at),
            sh_degree_interval=max(1, steps(self.sh_degree_interval)),
            resolution_interval=max(1, steps(self.resolution_schedule)),
        )
