"""Figures of the PAGE-4D paper (arXiv 2510.17568v6), to be printed beside one's own.

They are as published and not measured by this project. Where the paper disagrees with itself or says too little to
reproduce a figure, `REMARKS` says so, and the tables repeat it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperTable:
    """Figures of some methods on some data sets."""

    task: str
    figures: tuple[str, ...]  # named as in `SequenceScores.figures`
    datasets: tuple[str, ...]
    rows: dict[str, tuple[tuple[float, ...] | None, ...]]  # by method, for each data set; None where there are none
    prefix: str = ""  # of the figures' names, which tells those after a second alignment from the others


DEPTH, POSE = ("abs_rel", "delta_1.25"), ("ate", "rpe_translation", "rpe_rotation")
POINTS = (
    "accuracy_mean", "accuracy_median", "completion_mean", "completion_median", "overall_mean", "overall_median",
)  # fmt: skip
NOVEL_VIEWS = ("psnr", "ssim", "lpips")

TABLES = (
    # Table 1; those that were tuned, Table 5.
    PaperTable(
        "video-depth",
        DEPTH,
        ("sintel", "bonn", "dycheck"),
        {
            "DUSt3R": ((0.662, 0.434), (0.151, 0.839), None),
            "MASt3R": ((0.558, 0.487), (0.188, 0.765), None),
            "CUT3R": ((0.430, 0.465), (0.077, 0.937), (0.176, 0.740)),
            "Fast3R": ((0.638, 0.422), (0.194, 0.772), None),
            "FLARE": ((0.729, 0.336), (0.152, 0.790), None),
            "VGGT": ((0.484, 0.553), (0.107, 0.883), (0.182, 0.743)),
            "PAGE-4D": ((0.357, 0.699), (0.092, 0.904), (0.170, 0.785)),
            "VGGT tuned, whole model": ((0.405, 0.593), (0.101, 0.891), (0.175, 0.775)),
            "VGGT tuned, middle layers": ((0.409, 0.590), (0.099, 0.879), (0.177, 0.766)),
        },
    ),
    PaperTable(
        "video-depth",
        DEPTH,
        ("sintel", "bonn", "dycheck"),
        {
            "DUSt3R": ((0.570, 0.493), (0.152, 0.835), None),
            "MASt3R": ((0.480, 0.517), (0.189, 0.771), None),
            "CUT3R": ((0.534, 0.558), (0.075, 0.943), (0.228, 0.635)),
            "Fast3R": ((0.518, 0.486), (0.196, 0.768), None),
            "FLARE": ((0.791, 0.358), (0.142, 0.797), None),
            "VGGT": ((0.378, 0.605), (0.102, 0.890), (0.161, 0.778)),
            "PAGE-4D": ((0.212, 0.763), (0.090, 0.903), (0.145, 0.854)),
        },
        prefix="scale&shift/",
    ),
    PaperTable(
        "mono-depth",
        DEPTH,
        ("sintel", "bonn", "dycheck"),
        {
            "DUSt3R": ((0.488, 0.532), (0.139, 0.832), None),
            "MASt3R": ((0.413, 0.569), (0.123, 0.833), None),
            "MonST3R": ((0.402, 0.525), (0.069, 0.954), None),
            "CUT3R": ((0.418, 0.520), (0.058, 0.967), (0.149, 0.790)),
            "Fast3R": ((0.544, 0.509), (0.169, 0.796), None),
            "FLARE": ((0.606, 0.402), (0.130, 0.836), None),
            "VGGT": ((0.292, 0.629), (0.071, 0.947), (0.160, 0.799)),
            "PAGE-4D": ((0.242, 0.742), (0.053, 0.970), (0.141, 0.840)),
        },
    ),
    # Table 2.
    PaperTable(
        "pose",
        POSE,
        ("sintel", "tum"),
        {
            "VGGT": ((0.214, 0.079, 0.643), (0.028, 0.014, 0.371)),
            "PAGE-4D": ((0.178, 0.069, 0.547), (0.016, 0.011, 0.323)),
        },
    ),
    # Table 3.
    PaperTable(
        "points",
        POINTS,
        ("dycheck",),
        {
            "MonST3R": ((0.851, 0.689, 1.734, 0.958, 1.292, 0.823),),
            "DUSt3R": ((0.802, 0.595, 1.950, 0.815, 1.376, 0.705),),
            "CUT3R": ((0.458, 0.342, 1.633, 0.792, 1.042, 0.567),),
            "Easi3R (DUSt3R)": ((0.703, 0.589, 1.474, 0.586, 1.088, 0.587),),
            "Easi3R (MonST3R)": ((0.834, 0.643, 1.661, 0.916, 1.247, 0.779),),
            "DAS3R": ((1.772, 1.438, 2.503, 1.548, 0.475, 0.352),),
            "VGGT": ((1.051, 1.016, 1.594, 1.393, 1.322, 1.204),),
            "PAGE-4D": ((0.403, 0.284, 1.222, 0.728, 1.115, 0.559),),
        },
    ),
    # Table 4, the average of chess4, dvd, hand8, laptop8 and tomato-mark8.
    PaperTable(
        "novel-views",
        NOVEL_VIEWS,
        ("nerfies",),
        {
            "DUSt3R": ((12.632, 0.314, 0.601),),
            "MonST3R": ((12.982, 0.325, 0.595),),
            "CUT3R": ((16.319, 0.448, 0.472),),
            "VGGT": ((16.861, 0.483, 0.454),),
            "PAGE-4D": ((17.593, 0.485, 0.449),),
        },
    ),
)

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


def paper_rows(task: str, dataset: str) -> dict[str, dict[str, float]]:
    """The paper's figures for a task on a data set, by method; none where the paper has none.

    Figures after another alignment than the table's first are named as in `SequenceScores.figures`, such as
    "scale&shift/abs_rel".
    """
    rows: dict[str, dict[str, float]] = {}
    for table in TABLES:
        if table.task == task and dataset in table.datasets:
            names = [f"{table.prefix}{name}" for name in table.figures]
            for method, cells in table.rows.items():
                figures = cells[table.datasets.index(dataset)]
                if figures is not None:
                    rows.setdefault(method, {}).update(zip(names, figures, strict=True))
    return rows
