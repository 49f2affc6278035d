"""Gaussians of a trained scene, at one time each, as PLY files that viewers of 3D Gaussians read.

The layout is the one of the reference implementation of 3D Gaussian splatting (Kerbl et al., SIGGRAPH 2023):

    x y z               position
    nx ny nz            0
    f_dc_0..2           spherical harmonics of degree 0, of red, green and blue
    f_rest_*            those of higher degrees: all of red, then all of green, then all of blue
    opacity             logit
    scale_0..2          logarithms of the standard deviations along the axes
    rot_0..3            quaternion, w first

A colour is 0.5 + the sum of its harmonics towards the Gaussian, cut at 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.splatfacto import RGB2SH
from plyfile import PlyData, PlyElement
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from page4d_hf.utils.folders import whole_file, whole_folder
from page4d_hf.utils.programs import one_line

from ..checkpoints import UNREADABLE, read_checkpoint, saved_steps
from ..console import note
from ..gaussians.model import Page4DGaussiansModel
from .run_config import ExportError, building, read_config

World = Literal["training", "data"]

LISTING = "splats.json"  # in a folder of an export: its files and their times
STATIC = "splats_static.ply"
MOST_DEGREE = 3  # of the harmonics that viewers know


class Splats(NamedTuple):
    """Gaussians at one time, as the PLY layout holds them; arrays of float32."""

    means: npt.NDArray[Any]  # [N, 3]
    dc: npt.NDArray[Any]  # [N, 3]
    rest: npt.NDArray[Any]  # [N, K - 1, 3]
    opacities: npt.NDArray[Any]  # [N]
    scales: npt.NDArray[Any]  # [N, 3]
    quats: npt.NDArray[Any]  # [N, 4], wxyz, unit


class Run(NamedTuple):
    """A training that was read back."""

    model: Page4DGaussiansModel
    times: npt.NDArray[Any]  # [T] float64, ascending: the instants of which there are frames, held-out ones included
    transform: npt.NDArray[Any]  # [3, 4] float64: with `scale`, from the data's world to the training's
    scale: float  # training = scale * (rotation data + translation)
    only_time: float | None = None  # the one of `times`, where the data have none


class Checkpoints(NamedTuple):
    """A training's checkpoints, as far as its folder is found from here."""

    config: TrainerConfig
    folder: Path
    steps: list[int]  # ascending


def checkpoints_of(config_path: Path) -> Checkpoints:
    """Which checkpoints a training has, without reading one."""
    config = read_config(config_path)
    with building(config_path):
        folder = config.get_checkpoint_dir()
        return Checkpoints(config, folder, saved_steps(folder))


def read_run(config_path: Path) -> Run:
    """Read a training's newest checkpoint, as nerfstudio's `eval_setup` does, but without running code of its files."""
    config, checkpoints, steps = checkpoints_of(config_path)
    if not steps:
        if config_path.resolve().parent == config.get_base_dir().resolve():
            raise ExportError(
                f"The training of {config_path} has no checkpoint yet; wait for its first or, if it was interrupted, "
                "train anew."
            )
        raise ExportError(
            f"There is no checkpoint in {checkpoints}, where {config_path} says; start the command in the folder where "
            "the training was started."
        )
    checkpoint = checkpoints / f"step-{steps[-1]:09d}.ckpt"
    state = read_checkpoint(checkpoint)
    with building(config_path):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        pipeline = config.pipeline.setup(device=device, test_mode="inference")
        manager: Any = pipeline.datamanager
        outputs: DataparserOutputs = manager.train_dataparser_outputs
        clocks = [dataset.cameras.times for dataset in (manager.train_dataset, manager.eval_dataset)]
    try:
        pipeline.load_pipeline(state["pipeline"], state["step"])
    except UNREADABLE as error:
        raise ExportError(f"The checkpoint {checkpoint} does not fit {config_path}: {one_line(error):.300}") from error
    pipeline.eval()
    times = [clock.reshape(-1).double().cpu().numpy() for clock in clocks if clock is not None]
    only_time = None if times else pipeline.model.config.only_time
    return Run(
        pipeline.model,
        np.unique(np.concatenate(times)) if times else np.array([only_time]),
        outputs.dataparser_transform.double().cpu().numpy(),
        float(outputs.dataparser_scale),
        only_time,
    )


def splats_at(model: Page4DGaussiansModel, time: float) -> Splats:
    """A model's Gaussians at a time in [0, 1], in the training's world.

    Harmonics of degrees that the training has not come to are 0; those above MOST_DEGREE are left out.
    """
    with torch.no_grad():
        gaussians = model.gaussians_at(time)
        colors = gaussians.colors[:, : (MOST_DEGREE + 1) ** 2].clone()
        if model.config.sh_degree > 0:
            colors[:, (model.active_sh_degree + 1) ** 2 :] = 0.0
        else:
            colors = RGB2SH(colors.sigmoid())
        parts = (
            gaussians.means,
            colors[:, 0],
            colors[:, 1:],
            gaussians.opacities[:, 0],
            gaussians.scales,
            F.normalize(gaussians.quats, dim=-1),
        )
    return Splats(*(part.detach().float().cpu().numpy() for part in parts))


def in_data_world(splats: Splats, transform: npt.NDArray[Any], scale: float) -> Splats:
    """Gaussians of the training's world in the data's: positions, sizes, rotations and view-dependent colours.

    Args:
        splats: in the training's world.
        transform: [3, 4], a rigid transform.
        scale: training = scale * (rotation data + translation).
    """
    rotation, translation = transform[:, :3], transform[:, 3]
    quats = Rotation.from_matrix(rotation.T) * Rotation.from_quat(splats.quats[:, [1, 2, 3, 0]])
    return Splats(
        means=((splats.means.astype(np.float64) / scale - translation) @ rotation).astype(np.float32),
        dc=splats.dc,
        rest=_rotate_harmonics(splats.rest, rotation),
        opacities=splats.opacities,
        scales=splats.scales - np.float32(np.log(scale)),
        quats=quats.as_quat()[:, [3, 0, 1, 2]].astype(np.float32),
    )


def _rotate_harmonics(rest: npt.NDArray[Any], rotation: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Coefficients [N, K - 1, 3] that give a direction d the colour that `rest` gives `rotation` d.

    The harmonics of one degree turn among themselves: Y(R d) = Y(d) M for all d, and enough directions tell M.
    """
    degree = round((rest.shape[1] + 1) ** 0.5) - 1
    directions = np.random.default_rng(0).normal(size=(64, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rotated = np.empty_like(rest)
    for level in range(1, degree + 1):
        own, turned = (_harmonics(each, level) for each in (directions, directions @ rotation.T))
        matrix = np.linalg.lstsq(own, turned, rcond=None)[0]
        coefficients = slice(level**2 - 1, (level + 1) ** 2 - 1)
        rotated[:, coefficients] = np.einsum("jk,nkc->njc", matrix, rest[:, coefficients])
    return rotated


def _harmonics(directions: npt.NDArray[Any], degree: int) -> npt.NDArray[Any]:
    """Real spherical harmonics of one degree l of unit vectors [P, 3]: [P, 2 l + 1], by order from -l to l."""
    x, y, z = directions.T[..., None]
    orders = np.arange(-degree, degree + 1)
    values = sph_harm_y(degree, abs(orders), np.arccos(z), np.arctan2(y, x))
    harmonics: npt.NDArray[Any] = np.where(orders < 0, values.imag, values.real) * np.where(orders, 2**0.5, 1.0)
    return harmonics


def write_splat(path: Path, run: Run, time: float, world: World = "training", *, overwrite: bool = False) -> int:
    """Write the Gaussians at one time to a PLY file, which is whole or absent.

    Returns:
        How many there are.
    """
    _note_differences(run, [time])
    with whole_file(path, overwrite=overwrite) as partial:
        return _write_ply(partial, run, time, world)


def write_splats(
    folder: Path,
    run: Run,
    times: Sequence[float],
    world: World = "training",
    *,
    static_once: bool = False,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write a PLY file for each time, and `splats.json` that lists them, into a folder that is whole or absent.

    Args:
        folder: see `page4d_hf.utils.folders.whole_folder`.
        run: the training.
        times: in [0, 1].
        world: whose axes and unit.
        static_once: write Gaussians that never move to a file of their own, `STATIC`, and to no other.
        overwrite: replace the folder of an earlier export.
        progress: called with a stage, and how many files of how many are done.
    """
    _note_differences(run, times)
    with whole_folder(folder, overwrite=overwrite) as partial:
        entries: list[dict[str, Any]] = []
        listing: dict[str, Any] = {"world": world, "splats": entries}
        moves = None
        if static_once:
            moves = run.model.in_motion.cpu().numpy() & run.model.deforms
            listing["static"] = {
                "file": STATIC,
                "gaussians": _write_ply(partial / STATIC, run, float(times[0]), world, ~moves),
            }
        for index, time in enumerate(times):
            name = f"splats_{index:05d}.ply"
            count = _write_ply(partial / name, run, float(time), world, moves)
            entries.append({"file": name, "time": float(time), "gaussians": count})
            if progress is not None:
                progress("writing splats", index + 1, len(times))
        (partial / LISTING).write_text(json.dumps(listing, indent=2), "utf8")


def _note_differences(run: Run, times: Sequence[float]) -> None:
    """Say so where files cannot hold all that was trained, or data without times are written at another than theirs."""
    if run.model.active_sh_degree > MOST_DEGREE:
        note(
            f"Viewers know harmonics up to degree {MOST_DEGREE}: those of degree {run.model.active_sh_degree} are left "
            "out."
        )
    if run.only_time is not None and any(time != run.only_time for time in times):
        note(f"The data have no times, and all was trained at time {run.only_time:g}; no other was trained.")


def _write_ply(path: Path, run: Run, time: float, world: World, chosen: npt.NDArray[np.bool_] | None = None) -> int:
    """Write those Gaussians of `chosen` [N], by default all."""
    splats = splats_at(run.model, time)
    if chosen is not None:
        splats = Splats(*(part[chosen] for part in splats))
    finite = np.all([np.isfinite(part).all(axis=tuple(range(1, part.ndim))) for part in splats], axis=0)
    finite &= splats.quats.any(axis=1)  # a quaternion of no length has no direction
    if not finite.all():
        note(f"at time {time:g}, {int((~finite).sum())} Gaussians with NaN or infinity are left out")
        splats = Splats(*(part[finite] for part in splats))
    if world == "data" and len(splats.means):
        splats = in_data_world(splats, run.transform, run.scale)
    comments = [f"time {time:.9g}", f"world {world}"]
    PlyData([PlyElement.describe(_vertices(splats), "vertex")], byte_order="<", comments=comments).write(str(path))
    return len(splats.means)


def _vertices(splats: Splats) -> npt.NDArray[Any]:
    """[N] records of the layout."""
    count = len(splats.means)
    rest = splats.rest.transpose(0, 2, 1).reshape(count, 3 * splats.rest.shape[1])
    normals = np.zeros((count, 3), np.float32)
    columns = [splats.means, normals, splats.dc, rest, splats.opacities[:, None], splats.scales, splats.quats]
    names = [*"xyz", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(rest.shape[1]))]
    names += ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    table = np.concatenate(columns, axis=1).astype("<f4")
    return np.ascontiguousarray(table).view([(name, "<f4") for name in names])[:, 0]
