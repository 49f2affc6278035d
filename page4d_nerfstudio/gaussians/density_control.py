"""Which density control a model's options ask for."""

from __future__ import annotations

from .config import GaussiansOptions
from .mcmc import MotionAwareMCMC
from .schedule import Schedule
from .strategy import MotionAwareStrategy

# Of the cap, above which faint Gaussians are pruned at the latest: 4DGS's 200,000 of 360,000. A cap that is reached
# with nothing pruned would leave the set of Gaussians as it is for good.
PRUNED_SHARE = 200 / 360


def density_control(
    config: GaussiansOptions, schedule: Schedule, n_views: int
) -> MotionAwareStrategy | MotionAwareMCMC:
    """The strategy of a model's options, for a training of `n_views` views that keeps to a schedule."""
    reset_every = config.reset_alpha_every * config.refine_every
    if config.strategy == "mcmc":
        return MotionAwareMCMC(
            refine_start_iter=schedule.densify_from,
            refine_stop_iter=schedule.densify_until,
            refine_every=config.refine_every,
            min_opacity=config.cull_alpha_thresh,
            max_gaussians=config.max_gaussians,
            noise_lr=config.noise_lr,
        )
    return MotionAwareStrategy(
        prune_opa=config.cull_alpha_thresh,
        grow_grad2d=config.densify_grad_thresh,
        grow_scale3d=config.densify_size_thresh,
        grow_scale2d=config.split_screen_size,
        prune_scale3d=config.cull_scale_thresh,
        prune_scale2d=config.cull_screen_size,
        refine_scale2d_stop_iter=schedule.screen_size_until,
        refine_start_iter=schedule.densify_from,
        refine_stop_iter=schedule.densify_until,
        reset_every=reset_every,
        refine_every=config.refine_every,
        # Until every view has been seen again; where that takes as long as to the next reset, half of that.
        pause_refine_after_reset=min(n_views + config.refine_every, reset_every // 2) if reset_every else 0,
        absgrad=config.use_absgrad,
        max_gaussians=config.max_gaussians,
        prune_above=min(config.opacity_prune_above, round(PRUNED_SHARE * config.max_gaussians)),
        reference_size=config.densify_reference_size,
        gradient_of=config.densify_gradient,
    )
