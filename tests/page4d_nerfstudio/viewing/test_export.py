"""PLY files of Gaussians at a time: what a viewer of 3D Gaussians reads is what the model renders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from plyfile import PlyData
from scipy.spatial.transform import Rotation
from small_gaussians import HEIGHT, WIDTH, cameras, fine, half_moving, make_model

from page4d_hf.errors import CheckpointError, Page4DError
from page4d_nerfstudio.commands import export_splats, share
from page4d_nerfstudio.configs import page4d_4dgs
from page4d_nerfstudio.gaussians.model import world_to_camera
from page4d_nerfstudio.rasterization import rasterize
from page4d_nerfstudio.viewing.export import ExportError, Run, read_run, write_splat, write_splats

DEGREE_0 = 0.28209479177387814  # the spherical harmonic of degree 0


def viewer_reads(path: Path) -> dict[str, torch.Tensor]:
    """Gaussians as the reference implementation of 3D Gaussian splatting reads them."""
    vertices = PlyData.read(path)["vertex"]

    def columns(prefix: str) -> np.ndarray:
        names = [p.name for p in vertices.properties if p.name.startswith(prefix)]
        return np.stack([vertices[name] for name in sorted(names, key=lambda name: int(name.split("_")[-1]))], axis=1)

    dc = columns("f_dc_")[:, :, None]  # [N, 3, 1]
    higher = [p.name for p in vertices.properties if p.name.startswith("f_rest_")]
    rest = columns("f_rest_").reshape(len(dc), 3, -1) if higher else np.zeros((len(dc), 3, 0))
    quats = columns("rot_")
    values = {
        "means": np.stack([vertices[axis] for axis in "xyz"], axis=1),
        "quats": quats / np.linalg.norm(quats, axis=1, keepdims=True),
        "scales": np.exp(columns("scale_")),
        "opacities": 1 / (1 + np.exp(-vertices["opacity"])),
        "colors": np.concatenate([dc, rest], axis=2).transpose(0, 2, 1),  # [N, K, 3]
    }
    return {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in values.items()}


def viewer_shows(path: Path, viewmat: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    gaussians = viewer_reads(path)
    degree = int(gaussians["colors"].shape[1] ** 0.5) - 1
    intrinsics = cameras([0.0]).get_intrinsics_matrices()
    size = {"width": WIDTH, "height": HEIGHT}
    image, alpha, _ = rasterize(**gaussians, viewmats=viewmat[None], Ks=intrinsics, **size, sh_degree=degree)
    return (image[0] + (1 - alpha[0]) * background).clamp(0, 1)


def lively(model):
    """With colours that depend on the direction, and Gaussians to be seen."""
    torch.manual_seed(2)
    with torch.no_grad():
        model.features_rest.normal_(std=0.3)
        model.opacities.uniform_(-2, 3)
        model.scales.add_(torch.randn(model.scales.shape) * 0.5)
    return model.eval()


def run_of(model, transform=None, scale=1.0, times=(0.0, 0.5, 1.0)) -> Run:
    return Run(model, np.array(times), np.eye(3, 4) if transform is None else transform, scale)


def shown(model, time: float) -> torch.Tensor:
    return model.get_outputs_for_camera(cameras([time]))["rgb"]


def viewmat() -> torch.Tensor:
    return world_to_camera(cameras([0.0]).camera_to_worlds)[0]


@pytest.mark.parametrize("time", [0.0, 0.37, 1.0])
def test_a_viewer_shows_what_the_model_renders_at_that_time(tmp_path, time):
    model = lively(fine(half_moving()))

    count = write_splat(tmp_path / "splats.ply", run_of(model), time)

    assert count == 40
    torch.testing.assert_close(
        viewer_shows(tmp_path / "splats.ply", viewmat(), model.background_color), shown(model, time), atol=2e-5, rtol=0
    )
    assert (shown(model, time) - shown(model, 0.7)).abs().max() > 100 * 2e-5  # the time does matter


@pytest.mark.parametrize(("step", "degree"), [(0, 0), (12, 1), (25, 2)])
def test_harmonics_that_the_training_has_not_come_to_are_zero(tmp_path, step, degree):
    model = lively(make_model())
    model.step = step

    write_splat(tmp_path / "splats.ply", run_of(model), 0.5)

    colors = viewer_reads(tmp_path / "splats.ply")["colors"]
    assert colors.shape == (40, 16, 3)
    assert model.active_sh_degree == degree
    assert not colors[:, (degree + 1) ** 2 :].any()
    torch.testing.assert_close(
        viewer_shows(tmp_path / "splats.ply", viewmat(), model.background_color), shown(model, 0.5), atol=2e-5, rtol=0
    )


def test_harmonics_that_no_viewer_knows_are_left_out_and_told_of(tmp_path, capsys):
    model = lively(make_model(sh_degree=4))
    model.step = 50

    write_splat(tmp_path / "splats.ply", run_of(model), 0.5)

    assert model.active_sh_degree == 4
    torch.testing.assert_close(viewer_reads(tmp_path / "splats.ply")["colors"][:, 1:], model.features_rest[:, :15].data)
    assert "those of degree 4 are left out" in capsys.readouterr().out


def test_colours_without_harmonics_are_written_as_those_of_degree_0(tmp_path):
    model = lively(fine(half_moving(sh_degree=0)))

    write_splat(tmp_path / "splats.ply", run_of(model), 0.5)

    colors = viewer_reads(tmp_path / "splats.ply")["colors"]
    torch.testing.assert_close(0.5 + DEGREE_0 * colors[:, 0], model.features_dc.detach().sigmoid())
    torch.testing.assert_close(
        viewer_shows(tmp_path / "splats.ply", viewmat(), model.background_color), shown(model, 0.5), atol=2e-5, rtol=0
    )


def test_the_layout_is_the_reference_implementations(tmp_path):
    write_splat(tmp_path / "splats.ply", run_of(fine(make_model())), 0.25)

    ply = PlyData.read(tmp_path / "splats.ply")

    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(45))]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert [p.name for p in ply["vertex"].properties] == names
    assert {p.val_dtype for p in ply["vertex"].properties} == {"f4"}
    assert (ply.text, ply.byte_order) == (False, "<")
    assert "time 0.25" in ply.comments


def test_in_the_datas_world_a_camera_there_sees_the_same(tmp_path):
    """Rotation, translation and scale are undone, in positions, sizes, rotations and the colours' directions."""
    model = lively(fine(half_moving()))
    transform = np.concatenate([Rotation.random(random_state=3).as_matrix(), [[0.4], [-1.0], [2.0]]], axis=1)
    scale = 0.3

    write_splat(tmp_path / "splats.ply", run_of(model, transform, scale), 0.6, "data")

    # x_training = scale (R x_data + t) and x_camera = A x_training + b, so the same rays have x_camera / scale.
    from_training = viewmat().double().numpy()
    from_data = np.eye(4)
    from_data[:3, :3] = from_training[:3, :3] @ transform[:, :3]
    from_data[:3, 3] = from_training[:3, :3] @ transform[:, 3] + from_training[:3, 3] / scale
    view = torch.from_numpy(from_data).float()
    torch.testing.assert_close(
        viewer_shows(tmp_path / "splats.ply", view, model.background_color), shown(model, 0.6), atol=5e-5, rtol=0
    )


def test_what_is_not_finite_is_left_out_and_told_of(tmp_path, capsys):
    model = fine(make_model())
    with torch.no_grad():
        model.means[3, 1] = float("nan")
        model.scales[5, 0] = float("inf")

    assert write_splat(tmp_path / "splats.ply", run_of(model), 0.5) == 38
    assert "2 Gaussians with NaN or infinity are left out" in capsys.readouterr().out


def test_a_folder_lists_its_files_and_gaussians_keep_their_places(tmp_path):
    model = lively(fine(half_moving()))

    write_splats(tmp_path / "splats", run_of(model), [0.0, 0.5, 1.0])

    listing = json.loads((tmp_path / "splats/splats.json").read_text())
    assert [entry["time"] for entry in listing["splats"]] == [0.0, 0.5, 1.0]
    means = [viewer_reads(tmp_path / "splats" / entry["file"])["means"] for entry in listing["splats"]]
    assert torch.equal(means[0][20:], means[2][20:])  # these stand still
    assert (means[0][:20] != means[2][:20]).any(dim=1).all()
    for entry in listing["splats"]:
        seen = viewer_shows(tmp_path / "splats" / entry["file"], viewmat(), model.background_color)
        torch.testing.assert_close(seen, shown(model, entry["time"]), atol=2e-5, rtol=0)


def test_gaussians_that_never_move_can_be_written_once(tmp_path):
    model = lively(fine(half_moving()))

    write_splats(tmp_path / "whole", run_of(model), [0.0, 1.0])
    write_splats(tmp_path / "once", run_of(model), [0.0, 1.0], static_once=True)

    listing = json.loads((tmp_path / "once/splats.json").read_text())
    assert listing["static"] == {"file": "splats_static.ply", "gaussians": 20}
    static = viewer_reads(tmp_path / "once/splats_static.ply")["means"]
    for entry in listing["splats"]:
        assert entry["gaussians"] == 20
        whole, moving = (viewer_reads(tmp_path / folder / entry["file"])["means"] for folder in ("whole", "once"))
        assert torch.equal(torch.cat((moving, static)), whole)


def test_before_anything_moves_all_gaussians_are_static(tmp_path):
    model = half_moving()
    write_splats(tmp_path / "once", run_of(model), [0.0, 1.0], static_once=True)
    listing = json.loads((tmp_path / "once/splats.json").read_text())
    assert listing["static"]["gaussians"] == 40
    assert [entry["gaussians"] for entry in listing["splats"]] == [0, 0]


def test_an_export_that_fails_leaves_nothing(tmp_path):
    model = fine(make_model())

    def fail(*args):
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError):
        write_splats(tmp_path / "splats", run_of(model), [0.0, 1.0], progress=fail)
    model.gaussians_at = fail
    with pytest.raises(RuntimeError):
        write_splat(tmp_path / "splats.ply", run_of(model), 0.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("time", [0.25, 0.5])
def test_of_data_without_times_another_than_the_trained_one_is_noted(tmp_path, capsys, time):
    run = run_of(fine(make_model()), times=(0.25,))._replace(only_time=0.25)
    write_splat(tmp_path / "a.ply", run, time)
    write_splats(tmp_path / "splats", run, [time], static_once=True)
    noted = capsys.readouterr().out.count("all was trained at time 0.25; no other was trained")
    assert noted == (0 if time == 0.25 else 2)


# --- the command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """config.yml of a training that has not left a checkpoint."""
    path = tmp_path / "config.yml"
    path.write_text(yaml.dump(page4d_4dgs.config))
    return path


WRONG_OPTIONS = {
    "no time": ({}, "either --time, from 0 to 1, or --all-frames"),
    "a time and all": ({"time": 0.5, "all_frames": True}, "either --time, from 0 to 1, or --all-frames"),
    "a time before the first": ({"time": -0.1}, "got -0.1"),
    "a time after the last": ({"time": 1.01}, "got 1.01"),
    "no number": ({"time": float("nan")}, "got nan"),
    "static ones apart in one file": (
        {"time": 0.5, "static_once": True, "output": Path("a.ply")},
        "--static-once writes several files: name a folder as --output, not a.ply",
    ),
    "all frames in one file": ({"all_frames": True, "output": Path("a.ply")}, "name a folder as --output, not a.ply"),
}


@pytest.mark.parametrize("wrong", WRONG_OPTIONS)
def test_wrong_options_are_refused_before_anything_is_read(wrong):
    options, message = WRONG_OPTIONS[wrong]
    with pytest.raises(Page4DError, match=message):
        export_splats(**({"load_config": Path("nowhere.yml"), "output": Path("splats")} | options))


def test_an_output_in_the_way_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "splats.ply").write_text("")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("")
    with pytest.raises(Page4DError, match="exists; name another one, or pass --overwrite"):
        export_splats(Path("nowhere.yml"), tmp_path / "splats.ply", time=0.5)
    with pytest.raises(Page4DError, match="is not empty"):
        export_splats(Path("nowhere.yml"), tmp_path / "home", time=0.5)
    with pytest.raises(Page4DError, match=r"page4d did not write letter.txt"):
        export_splats(Path("nowhere.yml"), tmp_path / "home", time=0.5, overwrite=True)


@pytest.mark.slow
def test_a_training_of_another_method_is_refused(config):
    from nerfstudio.configs.method_configs import all_methods

    config.write_text(yaml.dump(all_methods["splatfacto"]))
    with pytest.raises(ExportError, match=r"is of a training of splatfacto, .* those of page4d-4dgs"):
        read_run(config)


def test_a_training_without_a_checkpoint_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = page4d_4dgs.config.__class__(**{**vars(page4d_4dgs.config), "experiment_name": "a", "timestamp": "b"})
    config.write_text(yaml.dump(settings))
    with pytest.raises(ExportError, match="There is no checkpoint in outputs/a/page4d-4dgs/b/nerfstudio_models"):
        read_run(config)
    checkpoints = tmp_path / "outputs/a/page4d-4dgs/b/nerfstudio_models"
    checkpoints.mkdir(parents=True)
    (checkpoints / "step-000000010.ckpt").write_bytes(b"PK\x03\x04 and no end")
    with pytest.raises(CheckpointError, match=r"step-000000010.ckpt is broken"):
        read_run(config)


def interrupted_and_finished(folder: Path) -> list[Path]:
    """config.yml of two trainings in outputs/: the newer has no checkpoint, the older one that is broken."""
    paths = []
    for number, timestamp in enumerate(("interrupted", "finished")):
        settings = {**vars(page4d_4dgs.config), "experiment_name": "a", "timestamp": timestamp}
        path = folder / f"outputs/a/page4d-4dgs/{timestamp}/config.yml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.dump(page4d_4dgs.config.__class__(**settings)))
        os.utime(path, (10 - number, 10 - number))
        paths.append(path)
    checkpoint = paths[1].parent / "nerfstudio_models/step-000000010.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"PK\x03\x04 and no end")
    return paths


def test_of_several_trainings_the_newest_that_has_a_checkpoint_is_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = interrupted_and_finished(tmp_path)
    with pytest.raises(CheckpointError, match=r"finished/nerfstudio_models/step-000000010.ckpt is broken"):
        share(tuple(configs), tmp_path / "splats")


def test_a_training_that_was_interrupted_before_its_first_checkpoint_is_named_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    interrupted, _ = interrupted_and_finished(tmp_path)
    with pytest.raises(ExportError, match=r"interrupted/config.yml has no checkpoint yet; wait for its first or, if"):
        read_run(interrupted)


def test_its_module_imports_nothing_that_takes_time():
    program = "import sys; sys.argv = ['page4d']; import page4d_nerfstudio.commands; "
    program += "print({'torch', 'nerfstudio', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "set()"


# --- nerfstudio's own export


def test_nerfstudios_export_finds_no_colours_of_what_moves(capsys):
    model = fine(half_moving(default_time=0.3))
    for read in (
        lambda: model.shs_0.contiguous(),
        lambda: model.shs_rest.transpose(1, 2),
        lambda: model.colors.clone(),
    ):
        with pytest.raises(SystemExit) as exit_info:
            read()
        assert exit_info.value.code == 1
        assert "`page4d export-splats --load-config CONFIG.YML --time 0.3 --output" in capsys.readouterr().out


@pytest.mark.parametrize(("times", "named"), [([0.0, 1.0], 0.5), (None, 0)])
def test_nerfstudios_export_names_a_time_that_was_trained(capsys, times, named):
    model = fine(half_moving())
    views = cameras([0.0, 1.0])
    views.times = None if times is None else torch.tensor(times)[:, None]
    model.set_training_views(views)
    with pytest.raises(SystemExit):
        model.colors.clone()
    assert f"--time {named} --output" in capsys.readouterr().out


def test_nerfstudios_export_reads_a_model_in_which_nothing_moves():
    still = make_model(motion=torch.zeros(40))
    for model in (fine(make_model(use_deformation=False)), fine(still)):
        assert torch.equal(model.shs_0, model.features_dc)
        assert torch.equal(model.shs_rest, model.features_rest)
        assert model.colors.shape == (40, 3)
