"""Figures of the PAGE-4D paper (arXiv 2510.17568v6), to be printed beside one's own.

They are as published and not measured by this project. Where the paper disagrees with itself or says too little to
reproduce a figure, `REMARKS` says so, and the tables repeat it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One method's figures in one table, for one data set and alignment."""

    method: str
    figures: dict[str, float]  # named as in `SequenceScores.figures`


def _rows(keys: tuple[str, ...], rows: dict[str, tuple[float, ...]]) -> tuple[PaperRow, ...]:
    return tuple(PaperRow(method, dict(zip(keys, figures, strict=True))) for method, figures in rows.items())


DEPTH, POSE = ("abs_rel", "delta_1.25"), ("ate", "rpe_translation", "rpe_rotation")
POINTS = (
    "accuracy_mean", "accuracy_median", "completion_mean", "completion_median", "overall_mean", "overall_median",
)  # fmt: skip
NOVEL_VIEWS = ("psnr", "ssim", "lpips")

# (task, data set, alignment): rows. The alignment is None where the paper has one only.
PAPER: dict[tuple[str, str, str | None], tuple[PaperRow, ...]] = {
    # Table 1
    ("video-depth", "sintel", "scale"): _rows(
        DEPTH,
        {
            "DUSt3R": (0.662, 0.434),
            "MASt3R": (0.558, 0.487),
            "CUT3R": (0.430, 0.465),
            "Fast3R": (0.638, 0.422),
            "FLARE": (0.729, 0.336),
            "VGGT": (0.484, 0.553),
            "PAGE-4D": (0.357, 0.699),
            # Table 5
            "VGGT tuned, whole model": (0.405, 0.593),
            "VGGT tuned, middle layers": (0.409, 0.590),
        },
    ),
    ("video-depth", "bonn", "scale"): _rows(
        DEPTH,
        {
            "DUSt3R": (0.151, 0.839),
            "MASt3R": (0.188, 0.765),
            "CUT3R": (0.077, 0.937),
            "Fast3R": (0.194, 0.772),
            "FLARE": (0.152, 0.790),
            "VGGT": (0.107, 0.883),
            "PAGE-4D": (0.092, 0.904),
            "VGGT tuned, whole model": (0.101, 0.891),
            "VGGT tuned, middle layers": (0.099, 0.879),
        },
    ),
    ("video-depth", "dycheck", "scale"): _rows(
        DEPTH,
        {
            "CUT3R": (0.176, 0.740),
            "VGGT": (0.182, 0.743),
            "PAGE-4D": (0.170, 0.785),
            "VGGT tuned, whole model": (0.175, 0.775),
            "VGGT tuned, middle layers": (0.177, 0.766),
        },
    ),
    ("video-depth", "sintel", "scale&shift"): _rows(
        DEPTH,
        {
            "DUSt3R": (0.570, 0.493),
            "MASt3R": (0.480, 0.517),
            "CUT3R": (0.534, 0.558),
            "Fast3R": (0.518, 0.486),
            "FLARE": (0.791, 0.358),
            "VGGT": (0.378, 0.605),
            "PAGE-4D": (0.212, 0.763),
        },
    ),
    ("video-depth", "bonn", "scale&shift"): _rows(
        DEPTH,
        {
            "DUSt3R": (0.152, 0.835),
            "MASt3R": (0.189, 0.771),
            "CUT3R": (0.075, 0.943),
            "Fast3R": (0.196, 0.768),
            "FLARE": (0.142, 0.797),
            "VGGT": (0.102, 0.890),
            "PAGE-4D": (0.090, 0.903),
        },
    ),
    ("video-depth", "dycheck", "scale&shift"): _rows(
        DEPTH, {"CUT3R": (0.228, 0.635), "VGGT": (0.161, 0.778), "PAGE-4D": (0.145, 0.854)}
    ),
    ("mono-depth", "sintel", None): _rows(
        DEPTH,
        {
            "DUSt3R": (0.488, 0.532),
            "MASt3R": (0.413, 0.569),
            "MonST3R": (0.402, 0.525),
            "CUT3R": (0.418, 0.520),
            "Fast3R": (0.544, 0.509),
            "FLARE": (0.606, 0.402),
            "VGGT": (0.292, 0.629),
            "PAGE-4D": (0.242, 0.742),
        },
    ),
    ("mono-depth", "bonn", None): _rows(
        DEPTH,
        {
            "DUSt3R": (0.139, 0.832),
            "MASt3R": (0.123, 0.833),
            "MonST3R": (0.069, 0.954),
            "CUT3R": (0.058, 0.967),
            "Fast3R": (0.169, 0.796),
            "FLARE": (0.130, 0.836),
            "VGGT": (0.071, 0.947),
            "PAGE-4D": (0.053, 0.970),
        },
    ),
    ("mono-depth", "dycheck", None): _rows(
        DEPTH, {"CUT3R": (0.149, 0.790), "VGGT": (0.160, 0.799), "PAGE-4D": (0.141, 0.840)}
    ),
    # Table 2
    ("pose", "sintel", None): _rows(POSE, {"VGGT": (0.214, 0.079, 0.643), "PAGE-4D": (0.178, 0.069, 0.547)}),
    ("pose", "tum", None): _rows(POSE, {"VGGT": (0.028, 0.014, 0.371), "PAGE-4D": (0.016, 0.011, 0.323)}),
    # Table 3
    ("points", "dycheck", None): _rows(
        POINTS,
        {
            "MonST3R": (0.851, 0.689, 1.734, 0.958, 1.292, 0.823),
            "DUSt3R": (0.802, 0.595, 1.950, 0.815, 1.376, 0.705),
            "CUT3R": (0.458, 0.342, 1.633, 0.792, 1.042, 0.567),
            "Easi3R (DUSt3R)": (0.703, 0.589, 1.474, 0.586, 1.088, 0.587),
            "Easi3R (MonST3R)": (0.834, 0.643, 1.661, 0.916, 1.247, 0.779),
            "DAS3R": (1.772, 1.438, 2.503, 1.548, 0.475, 0.352),
            "VGGT": (1.051, 1.016, 1.594, 1.393, 1.322, 1.204),
            "PAGE-4D": (0.403, 0.284, 1.222, 0.728, 1.115, 0.559),
        },
    ),
    # Table 4, the average of chess4, dvd, hand8, laptop8 and tomato-mark8
    ("novel-views", "nerfies", None): _rows(
        NOVEL_VIEWS,
        {
            "DUSt3R": (12.632, 0.314, 0.601),
            "MonST3R": (12.982, 0.325, 0.595),
            "CUT3R": (16.319, 0.448, 0.472),
            "VGGT": (16.861, 0.483, 0.454),
            "PAGE-4D": (17.593, 0.485, 0.449),
        },
    ),
}

REMARKS: dict[tuple[str, str], tuple[str, ...]] = {
    ("pose", "sintel"): ("The paper's abstract gives PAGE-4D an ATE of 0.143 on Sintel, its Table 2 one of 0.178.",),
    ("points", "dycheck"): (
        "The paper does not say how points are aligned and sub-sampled. Its overall errors of PAGE-4D and DAS3R "
        "are not the means of accuracy and completion, as the other methods' are.",
    ),
    ("novel-views", "nerfies"): (
        "The five scenes of the paper's Table 4 are not the public Nerfies scenes: no cell can be compared to a public "
        "scene's.",
    ),
}


def paper_rows(task: str, dataset: str) -> tuple[PaperRow, ...]:
    """The paper's rows for a task on a data set; none where the paper has none.

    Figures after another alignment than the table's first are named as in `SequenceScores.figures`, such as
    "scale&shift/abs_rel".
    """
    rows: dict[str, dict[str, float]] = {}
    for alignment, prefix in ((None, ""), ("scale", ""), ("scale&shift", "scale&shift/")):
        for row in PAPER.get((task, dataset, alignment), ()):
            of_method = rows.setdefault(row.method, {})
            of_method |= {f"{prefix}{name}": figure for name, figure in row.figures.items()}
    return tuple(PaperRow(method, figures) for method, figures in rows.items())
