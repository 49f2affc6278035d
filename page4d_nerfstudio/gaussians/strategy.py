"""Adaptive density control for Gaussians some of which move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from gsplat.strategy import DefaultStrategy
from gsplat.strategy.ops import duplicate, remove, reset_opa, split
from torch import Tensor


@dataclass
class MotionAwareStrategy(DefaultStrategy):  # type: ignore[misc]  # gsplat's classes have no types
    """gsplat's default strategy (3D Gaussian Splatting, Kerbl et al. 2023), with these differences:

    - The state carries `in_motion` [N] bool, which Gaussians move. It is a tensor of the state, and gsplat's operations
      index every such tensor together with the parameters: a split or a clone moves if its parent does.
    - The gradient above which a Gaussian grows depends on the size of the images, see `reference_size`.
    - There are never more than `max_gaussians`: of too many candidates, those with the highest gradient grow.
    - Opacity prunes only where there are more than `prune_above` Gaussians, as in 4DGS (Wu et al. 2024): in a moving
      scene an early prune can empty it, because what is seen at few times stays faint for long.
    - Opacities are reset only if `reset_every` is positive, and not at step 0. Too large Gaussians are pruned after the
      first reset, thus by default never.
    - Gaussians with a parameter that is not finite are removed, whatever their number.

    Args:
        max_gaussians: The cap. 4DGS: 360,000.
        prune_above: Number of Gaussians above which opacity prunes. 4DGS: 200,000.
        reference_size: Size of the images, in pixels (the root of their area), that `grow_grad2d` is meant for. The
            loss is a mean over pixels, and gradients are per half an image's side; so the gradient of a Gaussian as
            large as a pixel falls with the size of the image, and in a small image all of them would grow, to less than
            a pixel each. Images smaller than this raise the threshold in inverse proportion. 0: it is what it is.
        gradient_of: What a Gaussian's gradient is the mean of, where a step has several views. "view": of each view
            that sees it. "step": of each step of which a view sees it, the norm of the mean over the views, as in
            4DGS; where views pull in different directions that is less.

    The other arguments are `DefaultStrategy`'s.
    """

    reset_every: int = 0
    max_gaussians: int = 360_000
    prune_above: int = 200_000
    reference_size: float = 0.0
    gradient_of: Literal["view", "step"] = "view"

    def initialize_state(self, scene_scale: float, in_motion: Tensor) -> dict[str, Any]:
        """The running state; `in_motion` [N] bool says which Gaussians move.

        Tensors of the state: `grad2d` [N] and `count` [N], gathered since the last refinement; `radii` [N], where
        Gaussians are refined by their size on the screen; `in_motion` [N]. `image_size`, in pixels, is that of the last
        image.
        """
        state: dict[str, Any] = super().initialize_state(scene_scale)
        state["in_motion"] = in_motion
        state["image_size"] = None
        return state

    def step_post_backward(
        self,
        params: dict[str, torch.nn.Parameter] | torch.nn.ParameterDict,
        optimizers: dict[str, torch.optim.Optimizer],
        state: dict[str, Any],
        step: int,
        views: list[dict[str, Any]],
    ) -> None:
        """Gather what the last backward pass says, and refine where the schedule says so.

        `views` is what the rasteriser said of each of the step's views, over which the loss is a mean. The gradients of
        views by themselves are multiplied by their number: how large one is does not depend on how many a step has.
        """
        if step >= self.refine_stop_iter:
            return
        if self.gradient_of == "step" and len(views) > 1:
            views = [self._together(views)]
        for view in views:
            self._update_state(params, state, view | {"n_cameras": view["n_cameras"] * len(views)})
            state["image_size"] = math.sqrt(view["width"] * view["height"])
        settled = self.reset_every <= 0 or step % self.reset_every >= self.pause_refine_after_reset
        if step > self.refine_start_iter and step % self.refine_every == 0 and settled:
            self._grow_gs(params, optimizers, state, step)
            self._prune_gs(params, optimizers, state, step)
            for name in ("grad2d", "count", "radii"):
                if state.get(name) is not None:
                    state[name].zero_()
        if self.reset_every > 0 and step > 0 and step % self.reset_every == 0:
            reset_opa(params=params, optimizers=optimizers, state=state, value=self.prune_opa * 2.0)

    def _together(self, views: list[dict[str, Any]]) -> dict[str, Any]:
        """What the rasteriser would say of one view whose gradients are the sum of those of all views of a step."""
        first, key = views[0], self.key_for_gradient
        size = (first["width"], first["height"])
        total = torch.zeros_like(first[key])  # [1, N, 2], per pixel of the first view
        for view in views:
            gradient = view[key].absgrad if self.absgrad else view[key].grad
            total += gradient * gradient.new_tensor((view["width"] / size[0], view["height"] / size[1]))
        setattr(total, "absgrad" if self.absgrad else "grad", total.clone())
        radii = torch.stack([view["radii"] for view in views]).amax(dim=0)
        return first | {key: total, "radii": radii}

    def _update_state(self, params: Any, state: dict[str, Any], info: dict[str, Any]) -> None:
        """Add what a view says to the running state.

        gsplat's own reads radii of one shape, and which one depends on its version: `[C, N]`, a radius for each
        Gaussian, up to 1.4, and `[C, N, 2]`, one along each axis of the image, since 1.5. This one reads both.

        Args:
            params: of N Gaussians.
            state: see `initialize_state`.
            info: what the rasteriser says of C cameras, not packed, with the gradients of `means2d` [C, N, 2].
        """
        means2d, radii = info[self.key_for_gradient], info["radii"]
        gradients = means2d.absgrad if self.absgrad else means2d.grad
        # Per half an image's side, whatever the number of cameras.
        factors = [info[side] / 2.0 * info["n_cameras"] for side in ("width", "height")]
        norms = (gradients * gradients.new_tensor(factors)).norm(dim=-1)  # [C, N]
        if radii.dim() == 3:
            radii = torch.where((radii > 0).all(dim=-1), radii.amax(dim=-1), 0)
        seen = radii > 0  # [C, N]

        names = ("grad2d", "count", "radii") if self.refine_scale2d_stop_iter > 0 else ("grad2d", "count")
        for name in names:
            if state[name] is None:
                state[name] = norms.new_zeros(len(params["means"]))
        state["grad2d"] += torch.where(seen, norms, 0.0).sum(dim=0)
        state["count"] += seen.sum(dim=0)
        if "radii" in names:
            state["radii"] = torch.maximum(state["radii"], radii.amax(dim=0) / max(info["width"], info["height"]))

    @torch.no_grad()
    def _grow_gs(self, params: Any, optimizers: Any, state: dict[str, Any], step: int) -> None:
        """Clone small Gaussians of high gradient and split large ones, within the cap."""
        gradient = state["grad2d"] / state["count"].clamp_min(1)  # [N]
        grows = gradient > self.grow_grad2d * max(1.0, self.reference_size / state["image_size"])
        large = params["scales"].max(dim=-1).values.exp() > self.grow_scale3d * state["scene_scale"]
        splits = grows & large
        if step < self.refine_scale2d_stop_iter:
            splits |= state["radii"] > self.grow_scale2d
        clones = grows & ~large & ~splits

        # Each clone and each split adds one Gaussian.
        room = max(self.max_gaussians - len(gradient), 0)
        candidates = torch.where(clones | splits)[0]
        if len(candidates) > room:
            kept = candidates[gradient[candidates].topk(room).indices]
            chosen = torch.zeros_like(clones).index_fill_(0, kept, True)
            clones, splits = clones & chosen, splits & chosen

        n_clones = int(clones.sum())
        if n_clones > 0:
            duplicate(params=params, optimizers=optimizers, state=state, mask=clones)
        if splits.any():
            splits = torch.cat([splits, splits.new_zeros(n_clones)])  # the new clones, at the end, do not split
            split(params=params, optimizers=optimizers, state=state, mask=splits, revised_opacity=self.revised_opacity)

    @torch.no_grad()
    def _prune_gs(self, params: Any, optimizers: Any, state: dict[str, Any], step: int) -> None:
        """Remove what is broken, and what is faint or too large where that is due."""
        prunes = ~all_finite(params)
        if len(prunes) > self.prune_above:
            prunes |= params["opacities"].flatten().sigmoid() < self.prune_opa
        if 0 < self.reset_every < step:
            prunes |= params["scales"].max(dim=-1).values.exp() > self.prune_scale3d * state["scene_scale"]
            if step < self.refine_scale2d_stop_iter:
                prunes |= state["radii"] > self.prune_scale2d
        if prunes.any():
            remove(params=params, optimizers=optimizers, state=state, mask=prunes)


def all_finite(params: Any) -> Tensor:
    """Which Gaussians [N] have only finite parameters."""
    each = [parameter.isfinite().flatten(1).all(dim=-1) for parameter in params.values()]
    finite: Tensor = torch.stack(each).all(dim=0)
    return finite
