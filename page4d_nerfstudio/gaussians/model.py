"""`page4d-4dgs`: 4D Gaussian splatting as a nerfstudio model.

Gaussians live in one canonical space. For a view at time t, those that move are deformed to t by a HexPlane field
(`deformation.py`), all are rasterised (`rasterization/`), and density control (`strategy.py`) sees what a static model
would show it. The first part of the training is static, then the deformation starts, as the identity.

After 4DGS (Wu et al., "4D Gaussian Splatting for Real-Time Dynamic Scene Rendering", CVPR 2024), with the settings of
its HyperNeRF configuration as defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.model_components.lib_bilagrid import BilateralGrid, color_correct, total_variation_loss
from nerfstudio.models.splatfacto import SplatfactoModel, num_sh_bases
from nerfstudio.utils.colors import get_color
from nerfstudio.utils.poses import to4x4
from pytorch_msssim import SSIM
from torch import Tensor, nn
from torch.nn import Parameter

from page4d_hf.geometry import extrinsics_from_camera_to_world_opengl

from ..console import EndsTheCommand, note
from ..rasterization import rasterize
from . import losses
from .config import GaussiansOptions, ModelError
from .constant_size import Neighbourhoods, change_of_size
from .deformation import DeformationField, RobustBox
from .density_control import density_control
from .initial_gaussians import FEWEST_MOVING_POINTS, initial_parameters, scene_extent, seeds
from .mcmc import MotionAwareMCMC
from .metrics import LazyLPIPS, image_metrics, psnr
from .motion import ClipMotion
from .outputs import LazyOutputs, rendering_for_the_viewer
from .scaffold import TRACKED_KEY, MotionScaffold, motion_scaffold, turned
from .strategy import MotionAwareStrategy
from .views import INSTANTS_KEY, TrainingViews

# Nerfstudio's viewer has this background; renders are laid over it where nothing is.
VIEWER_BACKGROUND = (0.1490, 0.1647, 0.2157)

# Logarithm of the largest scale that is rendered: larger than any scene, in its unit. An offset that has run away
# would have an infinite scale, whose gradient is NaN, and the heads would hand that on to all Gaussians.
LARGEST_LOG_SCALE = 20.0


@dataclass
class Page4DGaussiansModelConfig(GaussiansOptions):
    """4D Gaussian splatting. All numbers of steps are for a run of 17,000 steps, and scale with --max-num-iterations.

    Only those do not that say how often something is done: refine_every, how many views are gathered before Gaussians
    are split and cloned; reset_alpha_every, which counts refinements; and regularize_every.
    """

    _target: type = field(default_factory=lambda: Page4DGaussiansModel)


class Gaussians(NamedTuple):
    """Gaussians at one time, as they are parametrised."""

    means: Tensor  # [N, 3]
    scales: Tensor  # [N, 3], logarithms
    quats: Tensor  # [N, 4], wxyz, not normalised
    opacities: Tensor  # [N, 1], logits
    colors: Tensor  # [N, K, 3], coefficients of spherical harmonics (with sh_degree 0: logits of RGB, K = 1)

    def select(self, which: Tensor) -> Gaussians:
        """Those of `which` [N] bool."""
        return Gaussians(*(values[which] for values in self))


class Page4DGaussiansModel(SplatfactoModel):
    """Splatting of Gaussians that move.

    A `SplatfactoModel`, because nerfstudio's viewer and exporter test for it, with the same per-Gaussian parameters
    under the same names. Plane and head parameters belong to `deformation` and to the optimizers' groups `planes` and
    `heads`; density control, which indexes whatever is per Gaussian, never sees them. Which Gaussians move is part of
    the strategy's state (`in_motion`), and is saved with it.
    """

    config: Page4DGaussiansModelConfig
    strategy: MotionAwareStrategy | MotionAwareMCMC
    space_penalty = staticmethod(losses.total_variation)  # of planes whose axes are both of space

    def populate_modules(self) -> None:
        config = self.config
        config.check()
        metadata = self.kwargs.get("metadata") or {}
        scaffold = motion_scaffold(metadata) if config.use_deformation and config.use_tracks else None
        self.schedule = config.schedule(tracked=bool(metadata.get(TRACKED_KEY)))
        points, rgb, in_motion = seeds(
            config, self.seed_points, metadata, scaffold, times_grow=self.schedule.times_grow
        )
        box = RobustBox.around(points, config.deformation.box_quantile, config.deformation.box_margin)
        self.scene_extent = scene_extent(config, points, metadata)
        self.gauss_params = nn.ParameterDict(initial_parameters(points, rgb, box.extent, config.sh_degree))

        # Known from the start, and not asked of the device at each step.
        self.hides_known_motion = config.hide_motion_at_first and bool(in_motion.any()) and not bool(in_motion.all())
        if not self.hides_known_motion:
            self.schedule = replace(self.schedule, all_times_from=self.schedule.coarse_steps)
        if config.time_growth and not self.schedule.times_grow:
            note(
                f"--pipeline.model.time-growth {config.time_growth:g} has no effect: times grow where seed points are "
                "labelled moving and static and what moves is hidden in the static stage."
            )
        self.deformation: DeformationField | None = None
        if config.use_deformation:
            if int(in_motion.sum()) >= FEWEST_MOVING_POINTS:
                # The grid need not resolve what never asks it.
                box = RobustBox.around(
                    points[in_motion], config.deformation.box_quantile, config.deformation.box_margin
                )
            bases = num_sh_bases(config.sh_degree)
            instants = int(metadata.get(INSTANTS_KEY, self.num_train_data))
            self.deformation = config.deformation.build(box, instants, bases)
            self.deformation.scaffold = scaffold

        self.camera_optimizer = config.camera_optimizer.setup(num_cameras=self.num_train_data, device="cpu")
        if config.use_bilateral_grid:
            self.bil_grids = BilateralGrid(self.num_train_data, *config.grid_shape)
        self.ssim = SSIM(data_range=1.0, size_average=True, channel=3)
        self.lpips = LazyLPIPS(config.lpips_network)  # type: ignore[assignment]
        self.crop_box: OrientedBox | None = None
        self.training_views: TrainingViews | None = None
        self.views_of_step: list[dict[str, Any]] = []  # what the rasteriser tells of each view of a training step
        self.moved: list[tuple[Tensor, Tensor]] = []  # canonical and deformed positions [M, 3] of each view of a step
        self.neighbourhoods = Neighbourhoods()
        self.step = 0
        self.loaded_run_length: int | None = None  # of the training that a checkpoint is of
        # Filled in by a viewer: which Gaussians [N] bool to render outside of training, None is all of them.
        self.looked_at: Callable[[], Tensor | None] = lambda: None
        self.clip_motion = ClipMotion()
        # Of a capture whose images were all laid over one colour; random ones would teach Gaussians to be that colour.
        self.own_background = metadata.get("background_color")
        if config.background_color == "random" and self.own_background is not None:
            self.background_color = self.own_background.detach().cpu().float()
        elif config.background_color == "random":
            self.background_color = torch.tensor(VIEWER_BACKGROUND)
        else:
            self.background_color = get_color(config.background_color)
        self.viewer_background: Tensor | None = None

        self.strategy = density_control(config, self.schedule, self.num_train_data)
        self.strategy_state = self.strategy.initialize_state(self.scene_extent, in_motion)

    @property
    def in_motion(self) -> Tensor:
        """Which Gaussians move, [N] bool."""
        flag: Tensor = self.strategy_state["in_motion"]
        if flag.device != self.device:
            flag = self.strategy_state["in_motion"] = flag.to(self.device)
        return flag

    @property
    def deforms(self) -> bool:
        """Whether the training has come to the point where Gaussians move."""
        return self.deformation is not None and self.step >= self.schedule.coarse_steps

    @property
    def active_sh_degree(self) -> int:
        """The degree of spherical harmonics that the training has come to."""
        return min(self.step // self.schedule.sh_degree_interval, self.config.sh_degree)

    # What `ns-export gaussian-splat` reads of a model beside its parameters. It knows no time: what moves would be
    # where it is at none.

    @property
    def shs_0(self) -> Any:
        return self._unless_it_moves(super().shs_0)

    @property
    def shs_rest(self) -> Any:
        return self._unless_it_moves(super().shs_rest)

    @property
    def colors(self) -> Any:
        return self._unless_it_moves(super().colors)

    def _unless_it_moves(self, values: Tensor) -> Tensor | EndsTheCommand:
        if not self.deforms or not bool(self.in_motion.any()):
            return values
        time = 0.5 if self.config.default_time is None and self.training_views is not None else self.config.only_time
        return EndsTheCommand(
            "These Gaussians move, and ns-export gaussian-splat takes no time to write them at: run "
            f"`page4d export-splats --load-config CONFIG.YML --time {time:g} --output splats.ply`, or --all-frames."
        )

    def set_training_views(self, cameras: Cameras) -> None:
        """Tell the model where and when the training images were taken; see `time_of`."""
        self.training_views = TrainingViews.of(cameras, self.scene_extent)

    def time_of(self, camera: Cameras) -> float:
        """The time in [0, 1] at which to render a camera.

        Its own, if it has one. Otherwise the configured default; otherwise that of its place along the path of the
        training cameras; otherwise 0.
        """
        if camera.times is not None:
            return float(camera.times.reshape(-1)[0])
        if self.config.default_time is None and self.training_views is not None:
            return self.training_views.time_near(camera.camera_to_worlds.reshape(-1, 3, 4)[0])
        return self.config.only_time

    def gaussians_at(self, time: float) -> Gaussians:
        """All Gaussians as they are at a time in [0, 1]: those that move deformed, the others as they are.

        In the static stage, and without deformation, none move.
        """
        colors = torch.cat((self.features_dc[:, None, :], self.features_rest), dim=1)
        canonical = Gaussians(self.means, self.scales, self.quats, self.opacities, colors)
        if not self.deforms:
            return canonical
        assert self.deformation is not None
        which = torch.where(self.in_motion)[0]
        if len(which) == 0:
            return canonical

        def add(values: Tensor, offsets: Tensor | None) -> Tensor:
            if offsets is None:
                return values
            if len(which) == len(values):
                return values + offsets
            return values.index_add(0, which, offsets)

        positions = self.means if len(which) == self.num_points else self.means[which]
        offsets = self.deformation(positions, time)
        if self.training and self.config.size_weight > 0 and offsets.position is not None:
            self.moved.append((positions, positions + offsets.position))
        # Only the direction of a quaternion matters; an offset should mean the same at any length.
        quats = F.normalize(self.quats, dim=-1)
        if offsets.turn is not None:
            quats = quats.index_copy(0, which, turned(quats[which], offsets.turn))
        return Gaussians(
            means=add(self.means, offsets.position),
            scales=add(self.scales, offsets.scale),
            quats=add(quats, offsets.rotation),
            opacities=add(self.opacities, offsets.opacity),
            colors=add(colors, offsets.color),
        )

    def motion_over_clip(self) -> Tensor:
        """How far each Gaussian goes, [N], in the scene's unit: the largest distance between two of its places."""
        return self._motion_of(self.means, self.in_motion)

    def _motion_of(self, means: Tensor, in_motion: Tensor) -> Tensor:
        return self.clip_motion.of(self.deformation if self.deforms else None, means, in_motion, self.step)

    def get_outputs(self, camera: Cameras) -> MutableMapping[str, Tensor]:  # type: ignore[override]
        """Render one camera at its time.

        Returns:
            `rgb` [H, W, 3] in [0, 1], `accumulation` [H, W, 1], `depth` [H, W, 1] (in evaluation, or if
            `output_depth_during_training`) and `background` [3] or [H, W, 3]. In evaluation also `motion` [H, W, 1],
            `motion_over_clip` composited over 0; it is rendered when it is first read.
        """
        if not isinstance(camera, Cameras):  # nerfstudio asks Gaussians for rays in places, as it does splatfacto
            return {}
        if camera.shape[0] != 1:
            raise ModelError(f"page4d-4dgs renders one camera at a time, got {camera.shape[0]}.")
        poses = self.camera_optimizer.apply_to_camera(camera) if self.training else camera.camera_to_worlds
        shrink = self._get_downscale_factor()
        if shrink > 1:
            camera.rescale_output_resolution(1 / shrink)
        intrinsics = camera.get_intrinsics_matrices().to(self.device)
        width, height = int(camera.width.item()), int(camera.height.item())
        if camera.times is None and self.training_views is not None:
            width, height = self.training_views.size_of(camera)
        if shrink > 1:
            camera.rescale_output_resolution(shrink)

        gaussians = self.gaussians_at(self.time_of(camera))
        kept = None if self.training else self._kept(gaussians)
        if kept is not None:
            if not kept.any():
                return self._empty_view(width, height)
            gaussians = gaussians.select(kept)

        with_depth = self.config.output_depth_during_training or self.config.depth_weight > 0 or not self.training
        if self.config.sh_degree > 0:
            colors = gaussians.colors
            degree = self.active_sh_degree
        else:
            colors, degree = gaussians.colors[:, 0].sigmoid(), None
        draw = partial(
            rasterize,
            means=gaussians.means,
            quats=gaussians.quats,
            scales=gaussians.scales.clamp(max=LARGEST_LOG_SCALE).exp(),
            opacities=self._shown(gaussians.opacities.sigmoid().squeeze(-1)),
            viewmats=world_to_camera(poses.to(self.device, torch.float32)),  # a path by hand may hold integers
            Ks=intrinsics,
            width=width,
            height=height,
        )
        render, alpha, info = draw(
            colors=colors,
            sh_degree=degree,
            render_mode="RGB+ED" if with_depth else "RGB",
            absgrad=self.config.use_absgrad,
        )
        if self.training:
            self.views_of_step.append(info)
            if info["means2d"].requires_grad:
                self.strategy.step_pre_backward(
                    self.gauss_params, self.optimizers, self.strategy_state, self.step, info
                )
        background = self._get_background_color()
        rgb = (render[0, ..., :3] + (1 - alpha[0]) * background).clamp(0.0, 1.0)
        metadata = camera.metadata or {}
        if self.config.use_bilateral_grid and self.training and "cam_idx" in metadata:
            rgb = self._apply_bilateral_grid(rgb[None], metadata["cam_idx"], height, width)[0]
        outputs = {"rgb": rgb, "accumulation": alpha[0]}
        if with_depth:
            depth = render[0, ..., 3:4]
            outputs["depth"] = torch.where(alpha[0] > 0, depth, depth.detach().max())
        if self.training:
            return outputs | {"background": background}
        outputs["background"] = background.expand(height, width, 3)
        means, in_motion = self.means, self.in_motion  # as they are now: a training's next step may have others

        @torch.no_grad()
        def motion() -> Tensor:
            values = self._motion_of(means, in_motion)
            return draw(colors=(values if kept is None else values[kept])[:, None])[0][0]

        return LazyOutputs(outputs, motion=motion)

    def _kept(self, gaussians: Gaussians) -> Tensor | None:
        """Which Gaussians [N] bool are inside of the crop box and of the kind that the viewer's user wants to see."""
        kept = self.looked_at()
        if self.crop_box is not None:
            inside = self.crop_box.within(gaussians.means)
            kept = inside if kept is None else kept & inside
        return kept

    def _empty_view(self, width: int, height: int) -> MutableMapping[str, Tensor]:
        """The outputs of a view in which there is nothing."""
        empty = self.get_empty_outputs(width, height, self._get_background_color())
        # All that a view has: the viewer's choice among them outlasts a view.
        return {**empty, "background": empty["rgb"], "motion": torch.zeros_like(empty["accumulation"])}  # type: ignore[dict-item, arg-type]

    @property
    def hides_motion(self) -> bool:
        """Whether this is a training step of the static stage that leaves out what is known to move."""
        return self.hides_known_motion and self.training and self.deformation is not None and not self.deforms

    def _shown(self, opacities: Tensor) -> Tensor:
        """Opacities [N], 0 for the Gaussians that are hidden: they keep their place in what density control counts."""
        return opacities * ~self.in_motion if self.hides_motion else opacities

    def set_background(self, background_color: Tensor) -> None:
        """The colour [3] that the viewer's user has chosen, told before each of its frames: theirs alone."""
        self.viewer_background = background_color

    def _get_background_color(self) -> Tensor:
        """RGB [3]: the one that the configuration names; otherwise the viewer's in its own frames, and elsewhere that
        of the capture's images where they have one."""
        if self.config.background_color == "random":
            if self.viewer_background is not None and rendering_for_the_viewer():
                return self.viewer_background.to(self.device)
            if self.own_background is not None:
                return self.background_color.to(self.device)
        color: Tensor = super()._get_background_color()  # type: ignore[no-untyped-call]  # of nerfstudio
        return color

    def _get_downscale_factor(self) -> int:
        if not self.training:
            return 1
        return int(2 ** max(self.config.num_downscales - self.step // self.schedule.resolution_interval, 0))

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Any]:
        """What is logged while training: PSNR, and how many Gaussians there are and move."""
        truth = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
        metrics: dict[str, Any] = {
            "psnr": psnr(outputs["rgb"].detach(), truth),
            "gaussian_count": self.num_points,
            "moving_count": int(self.in_motion.sum()) if self.deformation is not None else 0,
        }
        self.camera_optimizer.get_metrics_dict(metrics)
        return metrics

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor], metrics_dict: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """`image_losses`, and the `regularizers` when training."""
        terms = self.image_losses(outputs, batch)
        return terms | self.regularizers() if self.training else terms

    def image_losses(self, outputs: Mapping[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """L1 and D-SSIM of a view against its image (where its mask is, if it has one)."""
        config = self.config
        truth = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
        predicted = outputs["rgb"]
        share = 1.0
        masks = [batch["mask"]] if "mask" in batch else []
        if "motion_mask" in batch and self.hides_motion:
            masks.append(~batch["motion_mask"])
        if masks:  # of which nerfstudio brings only the first to the device
            mask = torch.stack([one.to(self.device).float() for one in masks]).prod(dim=0)
            mask = self._downscale_if_required(mask)  # type: ignore[no-untyped-call]  # of nerfstudio
            truth, predicted = truth * mask, predicted * mask
            share = mask.mean().clamp_min(1e-6)
        loss = (1 - config.ssim_lambda) * (truth - predicted).abs().mean() / share
        if config.ssim_lambda > 0:
            similarity = self.ssim(truth.permute(2, 0, 1)[None], predicted.permute(2, 0, 1)[None])
            loss = loss + config.ssim_lambda * (1 - similarity)
        terms = {"main_loss": loss}
        if self.training and config.depth_weight > 0 and "depth" in batch:
            terms["depth_loss"] = config.depth_weight * self._depth_error(outputs, batch)
        return terms

    def _depth_error(self, outputs: Mapping[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """The relative error of a view's depth, of the pixels that its colours are learned from."""
        size = outputs["depth"].shape[:2]

        def at_size(values: Tensor) -> Tensor:
            channels_first = values.to(self.device, torch.float32).permute(2, 0, 1)[None]
            return F.interpolate(channels_first, size=size, mode="nearest-exact")[0].permute(1, 2, 0)

        counts = outputs["accumulation"].detach() > 0
        if "mask" in batch:
            counts = counts & (at_size(batch["mask"]) > 0)
        if "motion_mask" in batch and self.hides_motion:
            counts = counts & (at_size(batch["motion_mask"]) == 0)
        return losses.relative_depth_error(outputs["depth"], at_size(batch["depth"]), counts)

    def regularizers(self) -> dict[str, Tensor]:
        """What a training step asks of Gaussians, planes and cameras, besides that they look like its views."""
        config = self.config
        terms: dict[str, Tensor] = {}
        if config.use_scale_regularization and self.step % 10 == 0:
            scales = self.scales.exp()
            ratio = scales.amax(dim=-1) / scales.amin(dim=-1)
            terms["scale_reg"] = 0.1 * (ratio.clamp_min(config.max_gauss_ratio) - config.max_gauss_ratio).mean()
        if config.strategy == "mcmc":
            # Not of what is hidden: no image would hold it back from fading away.
            shown = self._shown(torch.ones_like(self.opacities[:, 0])).bool()
            terms["opacity_reg"] = config.mcmc_opacity_reg * self.opacities[shown].sigmoid().mean()
            terms["size_reg"] = config.mcmc_scale_reg * self.scales[shown].exp().mean()
        if self.moved:
            groups = self.neighbourhoods.of(self.moved[0][0], self.step)
            changes = [change_of_size(*positions, groups, self.scene_extent) for positions in self.moved]
            terms["size"] = config.size_weight * torch.stack(changes).mean()
        if self.deforms and (self.step - self.schedule.coarse_steps) % config.regularize_every == 0:
            terms.update(self._plane_losses())
        if config.use_bilateral_grid:
            terms["tv_loss"] = 10 * total_variation_loss(self.bil_grids.grids)
        self.camera_optimizer.get_loss_dict(terms)
        return terms

    def _plane_losses(self) -> dict[str, Tensor]:
        """The regularisers of the planes that have a weight, summed over planes and scales.

        Evaluated each `regularize_every` steps and counted as often (lazy regularisation, Karras et al., CVPR 2020,
        appendix B).
        """
        assert self.deformation is not None
        space, time = self.deformation.hexplane.space, self.deformation.hexplane.time
        each = (
            ("plane_tv", self.config.plane_tv_weight, self.space_penalty, space),
            ("time_smoothness", self.config.time_smoothness_weight, losses.acceleration, time),
            ("time_sparsity", self.config.time_sparsity_weight, losses.time_sparsity, time),
        )
        return {
            name: self.config.regularize_every * weight * torch.stack([penalty(planes) for planes in scales]).sum()
            for name, weight, penalty, scales in each
            if weight > 0
        }

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of a rendered view, and truth and render side by side.

        Those of `image_metrics`: `motion_mask` and `covisible_mask` [H, W, 1] are taken from the batch, where it has
        them.
        """
        truth = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
        predicted = outputs["rgb"]
        moving, covisible = batch.get("motion_mask"), batch.get("covisible_mask")
        metrics = image_metrics(predicted, truth, moving, covisible, self.lpips)  # type: ignore[arg-type]
        if self.config.color_corrected_metrics:
            corrected = color_correct(predicted, truth)
            metrics.update({f"cc_{name}": value for name, value in image_metrics(corrected, truth).items()})
        return metrics, {"img": torch.cat([truth, predicted], dim=1)}

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Splatfacto's groups, and `planes` and `heads` of the deformation."""
        groups = super().get_param_groups()
        if self.deformation is not None:
            groups["planes"] = self.deformation.plane_parameters()
            groups["heads"] = self.deformation.head_parameters()
        return groups

    def step_cb(self, optimizers: Any, step: int) -> None:
        """What nerfstudio calls before each step of training."""
        super().step_cb(optimizers, step)
        for name, optimizer in self.optimizers.items():  # density control has new ones: nerfstudio clips gradients here
            optimizers.parameters[name] = optimizer.param_groups[0]["params"]
        self.views_of_step.clear()
        self.moved.clear()

    def step_post_backward(self, step: int) -> None:
        """What nerfstudio calls after each step of training: density control."""
        config, params, state = self.config, self.gauss_params, self.strategy_state
        for name, value in state.items():  # the flags are made before the model goes to its device
            if isinstance(value, Tensor):
                state[name] = value.to(self.device)
        if isinstance(self.strategy, MotionAwareMCMC):
            hidden = self.in_motion if self.hides_motion else None
            self.strategy.step_post_backward(params, self.optimizers, state, step, self.views_of_step, hidden)
        else:
            self.strategy.step_post_backward(params, self.optimizers, state, step, self.views_of_step)
        if self.schedule.densify_from < step < self.schedule.densify_until and step % config.refine_every == 0:
            # Others are now where they were, even if there are as many of them.
            self.neighbourhoods.forget()

    def update_to_step(self, step: int) -> None:
        self.step = step

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds besides parameters: the step and the length of the run, when things began to move,
        the options that shape the model, the strategy's state with the motion flag, and who is whose neighbour."""
        return {
            "step": self.step,
            "run_length": self.config.run_length,
            "deforming_from": (self.schedule.coarse_steps, self.schedule.all_times_from),
            "options": self.config.shaping(),
            "strategy": dict(self.strategy_state),
            "neighbourhoods": self.neighbourhoods.state,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.loaded_run_length = state["run_length"]
        coarse_steps, all_times_from = state["deforming_from"]
        if self.step >= coarse_steps:  # a run that is made longer does not go back to its static stage
            self.schedule = replace(
                self.schedule,
                coarse_steps=min(coarse_steps, self.schedule.coarse_steps),
                all_times_from=min(all_times_from, self.schedule.all_times_from),
            )
        self.neighbourhoods.state = state["neighbourhoods"]
        for name, value in state["strategy"].items():
            self.strategy_state[name] = value.to(self.device) if isinstance(value, Tensor) else value

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """Load a checkpoint, with however many Gaussians it has, and the motions of tracks where it has some.

        Raises:
            ModelError: without Gaussians, or of a training whose options make another model. nerfstudio loads what
                fits of it, and leaves the rest as it is.
        """
        self._check_options(dict.get("_extra_state", {}).get("options", {}))
        if self.deformation is not None:
            quats = dict.get("deformation.scaffold.quats")
            self.deformation.scaffold = None if quats is None else MotionScaffold(*quats.shape[:2]).to(self.device)
        for name, parameter in self.gauss_params.items():
            saved = dict.get(f"gauss_params.{name}")
            if saved is None:
                raise ModelError(f"The checkpoint holds no Gaussians: it lacks gauss_params.{name}.")
            # In place: the optimizers, set up before a training resumes, hold these very parameters.
            parameter.data = parameter.data.new_zeros(saved.shape)
        return super(SplatfactoModel, self).load_state_dict(dict, **kwargs)

    def _check_options(self, trained: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that was `trained` with other options of those that shape the model."""
        own = self.config.shaping()
        other = {name: value for name, value in trained.items() if name in own and own[name] != value}
        if other:
            words = (value if isinstance(value, tuple) else (value,) for value in other.values())
            options = (f"--pipeline.model.{name} {' '.join(map(str, w))}" for name, w in zip(other, words, strict=True))
            raise ModelError(f"This checkpoint was trained with {' '.join(options)}: repeat that, or train anew.")


def world_to_camera(camera_to_worlds: Tensor) -> Tensor:
    """Nerfstudio's camera-to-world (OpenGL axes, [C, 3, 4]) to gsplat's world-to-camera (OpenCV axes, [C, 4, 4])."""
    world_to_cameras: Tensor = to4x4(extrinsics_from_camera_to_world_opengl(camera_to_worlds))
    return world_to_cameras
