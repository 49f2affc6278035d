"""The study of the mask as tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # not pyplot, which keeps figures and asks for a display
from matplotlib.ticker import MaxNLocator

from page4d_hf.utils.evenly import evenly
from page4d_hf.utils.programs import counted

from ..metrics.depth import FIGURES_BY_REGION, REGIONS
from ..reporting.formats import markdown_table, spread
from .mask_study import PLAIN, POSE_FIGURES, ClipResult, Picture
from .study_reports import left_out

VGGT_ON_POINT_ODYSSEY = 0.94  # the paper, Section 3.1: absolute depth error in dynamic over static regions, less 1
TITLES = {
    "abs_rel": "Abs Rel",
    "delta_1.25": "δ < 1.25",
    "abs_error": "absolute error",
    "rotation_error": "rotation (°)",
    "ate": "ATE",
    "rpe_translation": "RPE trans",
    "rpe_rotation": "RPE rot (°)",
}
QUERY_TITLES = {
    "camera": "camera tokens",
    "register": "register tokens",
    "patch": "patches",
    "static": "patches that stand still",
    "moving": "patches that move",
}
FRAMES_SHOWN = 6


def markdown(summary: Mapping[str, Any], results: Sequence[ClipResult], protocol: str) -> str:
    """The study as tables, with its protocol and what was left out underneath."""
    counts = summary["counts"]
    lines = [
        "# What the mask does",
        "",
        f"{counted(counts['clips'], 'clip')}, {counted(counts['frames'], 'frame')}; "
        f"{counts['moving_patches'] / counts['patches']:.1%} of the patches move. Left out for want of a motion mask: "
        f"{counted(counts['frames_left_out'], 'frame')}; excluded: {counted(counts['excluded'], 'clip')}.",
        "",
        "## Moving patches hidden",
        "",
    ]
    means, attention = summary["means"], summary["attention"]
    columns = [
        *(f"{name}{region}" for name in FIGURES_BY_REGION[:2] for region in ("", *(f"_{each}" for each in REGIONS))),
        *(name for name in POSE_FIGURES if any(name in figures for figures in means.values())),
    ]
    hidden = [[setting, *(_cell(figures.get(name)) for name in columns)] for setting, figures in means.items()]
    errors = [
        [
            setting,
            *(spread(figures[f"abs_error_{region}"]["mean"]) for region in REGIONS),
            f"{summary['dynamic_excess'][setting]:+.0%}",
        ]
        for setting, figures in means.items()
    ]
    errors.append(["*paper: VGGT on PointOdyssey*", "", "", f"*{VGGT_ON_POINT_ODYSSEY:+.0%}*"])
    looking = [(kind, mask) for kind in QUERY_TITLES if kind in attention["off"][0] for mask in attention]
    layers = [
        [str(layer + 1), *(f"{attention[mask][layer][kind]['relative']:.2f}" for kind, mask in looking)]
        for layer in range(len(attention["off"]))
    ]
    lines += [
        markdown_table(["setting", *map(_title, columns)], hidden),
        "",
        "In brackets: the mean change of a clip against the first row, ± its standard error.",
        "",
        "## Depth where something moves",
        "",
        markdown_table(
            ["setting", "absolute error, static", "absolute error, dynamic", "dynamic above static"], errors
        ),
        "",
        "## Attention to moving patches, relative to the uniform share",
        "",
        markdown_table(
            ["global layer", *(f"{QUERY_TITLES[kind]}, mask {mask}" for kind, mask in looking)], layers, labels=0
        ),
        "",
        "## Protocol",
        "",
        protocol,
        "",
        *left_out([vars(result) for result in results]),
    ]
    return "\n".join(lines)


def _title(column: str) -> str:
    name, _, region = column.rpartition("_")
    if region in REGIONS:
        return f"{TITLES[name]}, {region}"
    return TITLES[column]


def _cell(figure: Mapping[str, float] | None) -> str:
    if figure is None or "change" not in figure:
        return spread(None if figure is None else figure["mean"])
    return f"{spread(figure['mean'])} ({spread(figure['change'], '+.2g', figure.get('standard_error'))})"


def draw_attention(summary: Mapping[str, Any], path: Path) -> None:
    """Attention to moving patches by layer, mask off and on, relative to the uniform share."""
    figure, axes = _subplots(1, 2, (10, 3.6))
    for axis, kinds in zip(axes[0], (("camera", "register"), ("static", "moving")), strict=True):
        for kind, color in zip(kinds, ("tab:red", "tab:blue"), strict=True):
            for mask, style in (("off", "--"), ("on", "-")):
                if kind in summary["attention"].get(mask, [{}])[0]:
                    values = [layer[kind]["relative"] for layer in summary["attention"][mask]]
                    label = f"{QUERY_TITLES[kind]}, mask {mask}"
                    axis.plot(range(1, len(values) + 1), values, style, color=color, label=label, marker=".")
        axis.axhline(1, color="gray", linewidth=0.8)
        axis.set_xlabel("global layer")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8)
    axes[0][0].set_ylabel("attention to moving patches\nover its uniform share")
    axes[0][0].set_title("queries of special tokens", fontsize=10)
    axes[0][1].set_title("queries of patches", fontsize=10)
    _save(figure, path)


def draw_errors(summary: Mapping[str, Any], path: Path) -> None:
    """Errors of depth and cameras in each setting, over those with nothing hidden and the mask off."""
    means = summary["means"]
    names = [
        name
        for name in ("abs_rel_static", "abs_rel_dynamic", "rotation_error", "ate", "rpe_translation", "rpe_rotation")
        if name in means[PLAIN]
    ]
    others = [setting for setting in means if setting != PLAIN]
    figure, axes = _subplots(1, 1, (9, 3.8))
    axis, width = axes[0][0], 0.8 / max(len(others), 1)
    for place, setting in enumerate(others):
        plain = np.array([means[PLAIN][name]["mean"] for name in names])
        changes = np.array([means[setting].get(name, {}).get("change", np.nan) for name in names])
        errors = np.array([means[setting].get(name, {}).get("standard_error", 0.0) for name in names])
        x = np.arange(len(names)) + (place - (len(others) - 1) / 2) * width
        # A camera that is exactly right leaves no ratio.
        with np.errstate(divide="ignore", invalid="ignore"):
            axis.bar(x, 100 * changes / plain, width, yerr=100 * errors / plain, label=setting, capsize=2)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(np.arange(len(names)), [_title(name) for name in names], fontsize=8)
    axis.set_ylabel(f"change of the error (%)\nagainst {PLAIN}", fontsize=8)
    axis.legend(fontsize=8)
    _save(figure, path)


def draw_picture(picture: Picture, path: Path) -> None:
    """Frames, true mask, the network's mask, and where camera tokens look, side by side.

    Attention is drawn from white (none) to red (the layer's 99th percentile, the same with the mask off and on), as in
    the paper's Figure 2.
    """
    clip = picture.clip
    count = len(clip.moving)
    columns = evenly(count, FRAMES_SHOWN)
    rows: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        ("frame", clip.pixel_values.movedim(1, -1).cpu().numpy().clip(0, 1), {}),
        ("moves, in truth", clip.moving.cpu().numpy(), {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ]
    if picture.motion is not None:
        rows.append(("dynamics_mask", picture.motion, {"cmap": "viridis", "vmin": 0, "vmax": 1}))
    for layer in picture.looked_at["off"]:
        maps = {mask: layers[layer] for mask, layers in picture.looked_at.items()}
        most = float(np.percentile(np.stack(list(maps.values())), 99))
        for mask, weights in maps.items():
            # The rest of what camera tokens look at is special tokens.
            title = f"layer {layer + 1}" + (f", mask {mask}" if len(maps) > 1 else "")
            title += f"\n{weights.sum():.0%} on patches"
            rows.append((title, weights, {"cmap": "Reds", "vmin": 0, "vmax": most or 1}))
    height, width = clip.moving.shape[-2:]
    figure, axes = _subplots(len(rows), len(columns), (1.6 * len(columns), 1.7 * len(rows) * height / width + 0.3))
    for axes_of_row, (title, images, style) in zip(axes, rows, strict=True):
        for axis, frame in zip(axes_of_row, columns, strict=True):
            axis.imshow(images[frame], extent=(0, width, height, 0), interpolation="nearest", **style)
            axis.set_xticks([])
            axis.set_yticks([])
        axes_of_row[0].set_ylabel(title, fontsize=7, rotation=0, ha="right", va="center")
    for axis, frame in zip(axes[0], columns, strict=True):
        axis.set_title(f"{frame + 1}", fontsize=8)
    figure.suptitle(clip.name, fontsize=9)
    _save(figure, path)


def _subplots(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure: Figure, path: Path) -> None:
    # Without the library's version in it, the same study gives the same file.
    figure.savefig(path, dpi=130, metadata={"Software": None})
