"""What the mask does: the analysis behind PAGE-4D (Section 3.1 of the paper), on any network and any clips.

Three questions, of one network on the same clips:

- How much worse is depth where something moves than where nothing does?
- How much do the tokens look at patches that move, layer by layer, with the mask off and on?
- What do cameras and depth become when the truly moving patches are hidden as keys of the global attention, from all
  queries, from none, from those of camera and register tokens alone (as PAGE-4D's mask suppresses them), or from those
  of patches alone?
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from page4d_hf import Page4DModel
from page4d_hf.modeling_page4d import Page4DOutput

from ..metrics.depth import depth_figures
from ..metrics.scores import EvaluationError, ExclusionError, not_excluded
from ..metrics.trajectories import camera_figures
from .global_attention import HiddenFrom, LookedAt, hidden_patches, measured_attention
from .study_clips import StudyClip

PLAIN = "mask off, hidden from none"  # what the others are compared with
POSE_FIGURES = ("rotation_error", "ate", "rpe_translation", "rpe_rotation")
# Kinds of queries that attention is reported of: all of a kind of token, and the patches by whether they move.
LOOKING = ("camera", "register", "patch", "static", "moving")


class Setting(NamedTuple):
    """One way to run the network."""

    mask: bool  # whether its own mask acts, as strongly as the network's configuration says
    hidden_from: HiddenFrom  # which queries do not see the truly moving patches

    def __str__(self) -> str:
        return f"mask {'on' if self.mask else 'off'}, hidden from {self.hidden_from}"


@dataclass(frozen=True)
class MaskStudy:
    """All that decides the figures; `str()` says it in plain words."""

    hidden_from: tuple[HiddenFrom, ...] = get_args(HiddenFrom)
    """From which queries moving patches are hidden, in turn, with the network's mask off."""
    min_share: float = 0.5
    """A patch moves if at least this share of its pixels does."""
    layers: tuple[int, ...] | None = None
    """Global layers in which patches are hidden, from 0; by default all."""

    def __post_init__(self) -> None:
        if not 0 < self.min_share <= 1:
            raise EvaluationError(
                f"The least share of moving pixels must be above 0 and at most 1: {self.min_share:g}."
            )
        unknown = set(self.hidden_from) - set(get_args(HiddenFrom))
        if unknown:
            raise EvaluationError(f"Patches can be hidden from {', '.join(get_args(HiddenFrom))}, not {unknown.pop()}.")

    def settings(self, has_mask: bool) -> list[Setting]:
        """The ways to run a network; the plain one is always among them, and the first."""
        hidden = dict.fromkeys(("none", *self.hidden_from))
        return [Setting(False, name) for name in hidden] + [Setting(True, "none")] * has_mask

    def __str__(self) -> str:
        where = "all global layers" if self.layers is None else f"global layers {', '.join(map(str, self.layers))}"
        return " ".join(
            (
                f"A patch moves if at least {self.min_share:.0%} of its pixels do, by the true motion mask.",
                f"Hidden patches have zero weight as keys in {where}; camera and register tokens are never hidden.",
                "Depth: at the network's resolution, after one scale for the whole clip, the ratio of the medians over",
                "all pixels with known depth; errors are means over the pixels of a region.",
                "Cameras: all frames; ATE and RPE (successive frames, root mean square) after a Sim(3) between the",
                "camera centres (Umeyama), in the unit of the true cameras; the rotation error is the mean angle to",
                "the true rotation relative to the first frame, without alignment.",
                "Means are over clips, each of weight 1. Attention: mean over heads, queries and clips; relative to",
                "the uniform share, that of moving patches among all tokens.",
            )
        )


@dataclass
class ClipResult:
    """Figures of one clip, or why it has none."""

    name: str
    counts: dict[str, int]  # frames, frames left out for want of a motion mask, patches and moving patches
    figures: dict[str, dict[str, float]] = field(default_factory=dict)  # by setting
    attention: dict[str, list[dict[str, dict[str, float]]]] = field(default_factory=dict)  # by "off" and "on", by layer
    excluded: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Picture:
    """The maps of a clip that are drawn."""

    clip: StudyClip
    motion: np.ndarray | None  # [S, H, W], the network's dynamics_mask
    looked_at: dict[str, dict[int, np.ndarray]]  # by "off" and "on", by layer: camera tokens' attention [S, h, w]


@torch.no_grad()
def study_clip(model: Page4DModel, clip: StudyClip, study: MaskStudy) -> tuple[ClipResult, Picture | None]:
    """Run the network on a clip in all settings: in evaluation mode, with a camera head and a depth head.

    Gives the figures, or excludes a clip that allows none and says why; and what a picture shows.
    """
    if model.camera_head is None or model.depth_head is None:
        raise EvaluationError("The study needs a camera head and a depth head, and this model was built without.")
    patches = clip.moving_patches(model.config.patch_size, study.min_share)
    counts = {
        "frames": len(patches),
        "frames_left_out": clip.frames_left_out,
        "patches": patches.numel(),
        "moving_patches": int(patches.sum()),
    }
    result = ClipResult(clip.name, counts)
    picture = Picture(clip, None, {})
    try:
        _check_regions(clip, patches)
        moving = patches[None].to(model.device)
        pixel_values = clip.pixel_values[None].to(model.device)
        own_strength = model.config.mask_strength if model.aggregator.mask_head is not None else 0.0
        for setting in study.settings(own_strength > 0):
            strength = own_strength if setting.mask else 0.0
            with hidden_patches(model, moving, setting.hidden_from, study.layers):
                if setting.hidden_from != "none":
                    output = model(pixel_values, mask_strength=strength)
                else:
                    with measured_attention(model, moving) as measured:
                        output = model(pixel_values, mask_strength=strength)
                    mask = "on" if setting.mask else "off"
                    layers = [measured.layers[layer] for layer in range(model.config.num_hidden_layers)]
                    result.attention[mask] = [attention_figures(layer, patches) for layer in layers]
                    picture.looked_at[mask] = {i: layers[i].weights["camera"][0].cpu().numpy() for i in shown(layers)}
            result.figures[str(setting)] = _figures(output, clip, result.notes)
            if output.dynamics_mask is not None:
                picture.motion = output.dynamics_mask[0].float().cpu().numpy()
    except ExclusionError as error:
        return ClipResult(clip.name, counts, excluded=str(error)), None
    return result, picture


def shown(layers: Sequence[object]) -> list[int]:
    """The layers that a picture shows: of 24 the 5th, 12th, 18th and 24th, as the paper's Figure 2."""
    return sorted({max(round(place / 24 * len(layers)) - 1, 0) for place in (5, 12, 18, 24)})


def _check_regions(clip: StudyClip, patches: Tensor) -> None:
    """A clip needs both regions, as patches and as pixels with known depth."""
    known = clip.depth > 0
    for name, missing in (
        ("no patch moves", not patches.any()),
        ("all patches move", bool(patches.all())),
        ("no moving pixel has known depth", not (known & clip.moving).any()),
        ("no static pixel has known depth", not (known & ~clip.moving).any()),
    ):
        if missing:
            raise ExclusionError(f"{clip.name}: {name}, so that static and dynamic regions can't be compared.")


# --------------------------------------------------------------------------------------------------------------------
# Figures of one clip


def attention_figures(looked_at: LookedAt, moving: Tensor) -> dict[str, dict[str, float]]:
    """Attention of each kind of query to moving patches, in one layer.

    Args:
        looked_at: of one clip.
        moving: `[S, h, w]` bool.

    Returns:
        By kind of query (`LOOKING`): `share`, the attention that moving patches get; `uniform`, what they would get if
        all tokens got the same; and both `among_patches`, special tokens left out. A kind without queries is left out.
    """
    weights = {name: values[0].double().cpu() for name, values in looked_at.weights.items()}
    number = {"static": int((~moving).sum()), "moving": int(moving.sum())}
    if number["static"] and number["moving"]:
        total = number["static"] * weights["static"] + number["moving"] * weights["moving"]
        weights["patch"] = total / moving.numel()
    else:
        weights["patch"] = weights["static" if number["static"] else "moving"]
    figures = {}
    for name in LOOKING:
        if bool(weights[name].isfinite().all()):
            share, patches = float(weights[name][moving].sum()), float(weights[name].sum())
            figures[name] = {
                "share": share,
                "uniform": number["moving"] / looked_at.num_tokens,
                # Where all attention goes to special tokens, patches have equal parts of nothing.
                "share_among_patches": share / patches if patches > 0 else number["moving"] / moving.numel(),
                "uniform_among_patches": number["moving"] / moving.numel(),
            }
    return figures


def _figures(output: Page4DOutput, clip: StudyClip, notes: list[str]) -> dict[str, float]:
    assert output.depth is not None
    size = (clip.pixel_values.shape[-2], clip.pixel_values.shape[-1])
    depth = output.depth[0, ..., 0].double().cpu().numpy()
    extrinsics = output.cameras(size)[0][0].double().cpu().numpy()
    if not (np.isfinite(depth).all() and np.isfinite(extrinsics).all()):
        raise ExclusionError(f"{clip.name}: the network's depth or cameras are not finite.")
    figures = depth_figures(depth, clip.depth.double().numpy(), clip.moving.numpy())
    try:
        figures |= camera_figures(extrinsics, clip.extrinsics)
    except ExclusionError as error:
        note = f"{clip.name} has no pose figures in some settings: {error}"
        if note not in notes:
            notes.append(note)
    return figures


# --------------------------------------------------------------------------------------------------------------------
# All clips together


def study_clips(
    model: Page4DModel, clips: Iterable[StudyClip | ClipResult], study: MaskStudy
) -> Iterator[tuple[ClipResult, Picture | None]]:
    """`study_clip` of every clip; what no clip could be made of is a result already, an excluded one."""
    for clip in clips:
        if isinstance(clip, ClipResult):
            yield clip, None
        else:
            yield study_clip(model, clip, study)


def summarise(results: Sequence[ClipResult]) -> dict[str, Any]:
    """Means over the clips that are not excluded.

    Returns:
        `means[setting][figure]`: `mean`, over `clips`; `change` against the plain setting, the mean over those clips of
        the differences, and `standard_error` of it (left out for a single clip).
        `dynamic_excess[setting]`: how much larger the mean absolute error of depth is in dynamic than in static
        regions, as a share (the paper's motivation: .94 for VGGT on PointOdyssey).
        `attention["off" or "on"][layer][queries]`: means of `attention_figures`, and `relative` (share over uniform)
        and `relative_among_patches`.
        `counts`: clips, those excluded, those without pose figures.
    """
    counted = not_excluded(results, "studied")
    means: dict[str, dict[str, dict[str, float]]] = {}
    for setting in counted[0].figures:
        names = dict.fromkeys(name for result in counted for name in result.figures[setting])
        means[setting] = {name: _mean(counted, setting, name) for name in names}
    excess = {
        setting: figures["abs_error_dynamic"]["mean"] / figures["abs_error_static"]["mean"] - 1
        for setting, figures in means.items()
    }
    # A network without register tokens has no queries of theirs.
    kinds = [kind for kind in LOOKING if any(kind in r.attention[mask][0] for r in counted for mask in r.attention)]
    attention = {
        mask: [
            {queries: _mean_attention([r.attention[mask][layer] for r in counted], queries) for queries in kinds}
            for layer in range(len(counted[0].attention[mask]))
        ]
        for mask in counted[0].attention
    }
    counts = {
        "clips": len(counted),
        "excluded": len(results) - len(counted),
        "without_pose_figures": sum(bool(result.notes) for result in counted),
    }
    counts |= {name: sum(result.counts[name] for result in counted) for name in counted[0].counts}
    return {"means": means, "dynamic_excess": excess, "attention": attention, "counts": counts}


def _mean(results: Sequence[ClipResult], setting: str, name: str) -> dict[str, float]:
    pairs = [
        (result.figures[setting][name], result.figures[PLAIN][name])
        for result in results
        if name in result.figures[setting] and name in result.figures[PLAIN]
    ]
    values = [value for value, _ in pairs]
    changes = [value - plain for value, plain in pairs]
    if not values:
        values, changes = [r.figures[setting][name] for r in results if name in r.figures[setting]], []
    mean: dict[str, float] = {"mean": fmean(values), "clips": len(values)}
    if changes and setting != PLAIN:
        mean["change"] = fmean(changes)
        if len(changes) > 1:
            mean["standard_error"] = stdev(changes) / len(changes) ** 0.5
    return mean


def _mean_attention(layers: Sequence[Mapping[str, Mapping[str, float]]], queries: str) -> dict[str, float]:
    """Means over clips, and ratios of means: a clip in which little moves does not weigh more than others."""
    known = [layer[queries] for layer in layers if queries in layer]
    mean = {name: fmean(layer[name] for layer in known) for name in known[0]}
    return mean | {
        "relative": mean["share"] / mean["uniform"],
        "relative_among_patches": mean["share_among_patches"] / mean["uniform_among_patches"],
    }
