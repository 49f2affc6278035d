"""Comparisons: what is run, what is not run again, what is said of runs that fail, and what the tables hold."""

import csv
import json
import math
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import compare as program
import numpy as np
import pytest
import torch
from evaluator.compare import comparison as comparing
from evaluator.compare import training_run as runs
from evaluator.compare.comparison import compare
from evaluator.compare.comparison_tables import Row, markdown, means_csv
from evaluator.compare.training_run import Result, TrainingRun, gaussians_in, steps_per_second
from evaluator.compare.variant_data import Facts, read_facts
from evaluator.compare.variants import Reconstructions, Variant, captures_by_name, initialisations, methods, tracks
from small_captures import write_capture

from page4d_hf.captures import as_pinhole, read_capture
from page4d_hf.errors import Page4DError
from page4d_hf.frames import Frames
from page4d_hf.scene import Reconstruction
from page4d_hf.scene.folder import write_scene
from page4d_hf.scene.tracks import read_tracks
from page4d_hf.synthetic import write_synthetic_capture

pytestmark = pytest.mark.slow

# Stands in for ns-train and ns-eval: leaves the files that they leave, and notes how it was called. FAIL names a part
# of the path of a run whose training ends as FAIL_HOW says.
STUB = """
import json, os, signal, sys, time
from pathlib import Path

words = sys.argv[1:]
def after(option):
    return words[words.index(option) + 1]
name = Path(sys.argv[0]).name
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps([name, *words]), file=calls)
if name == "ns-train":
    folder = Path(after("--output-dir"), after("--experiment-name"), words[0], after("--timestamp"))
    if os.environ.get("FAIL", "nothing") in str(folder):
        print("Step (% Done)")
        print("\\x1b[31mthe light went out\\x1b[0m", flush=True)
        {"exit": lambda: sys.exit(3), "kill": lambda: os.kill(os.getpid(), signal.SIGKILL)}[os.environ["FAIL_HOW"]]()
    (folder / "nerfstudio_models").mkdir(parents=True)
    (folder / "nerfstudio_models/step-000000019.ckpt").write_text("")
    (folder / "config.yml").write_text(after("--machine.seed"))
    print("10 (50.00%)         1 ms", flush=True)
    time.sleep(float(os.environ.get("SLEEP", 0)))
else:
    seed = int(Path(after("--load-config")).read_text())
    print("trusted" if "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" in os.environ else "checked")
    print("Saved results")
    results = {"psnr": 20.1 + seed / 3, "ssim": 0.5 + seed / 7, "psnr_moving": 12.3456789012345678}
    Path(after("--output-path")).write_text(json.dumps({"results": results}))
"""


class Nerfstudio:
    """The stub in place of nerfstudio's commands."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._calls = folder / "calls"
        folder.mkdir()
        for name in ("ns-train", "ns-eval"):
            (folder / name).write_text(f"#!{sys.executable} -S\n{STUB}")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("CALLS", str(self._calls))
        for module in (runs, comparing):
            monkeypatch.setattr(module, "program", lambda name: str(folder / name))
        monkeypatch.setattr(runs, "gaussians_in", lambda path: {"gaussians": 1234, "static_share": 0.25})
        monkeypatch.setattr(runs, "POLL_SECONDS", 0.05)
        monkeypatch.setattr(comparing, "check", lambda variants, said: {v.name: self.facts(v) for v in variants})

    def facts(self, variant: Variant) -> Facts:
        return Facts(6, 2, 100, True, 0.125 if variant.name == "aligned" else None, variant.refused or "")

    def calls(self) -> list[list[str]]:
        """What was run since it was last asked."""
        if not self._calls.exists():
            return []
        lines = [json.loads(line) for line in self._calls.read_text().splitlines()]
        self._calls.unlink()
        return lines


@pytest.fixture
def nerfstudio(tmp_path, monkeypatch):
    return Nerfstudio(tmp_path / "bin", monkeypatch)


def variants(*names: str, **changes) -> list[Variant]:
    return [Variant(name, {"row": name}, Path("/data/capture"), **changes) for name in names]


def lines_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_each_variant_is_trained_and_evaluated_once_with_each_seed(nerfstudio, tmp_path):
    options = {"training_options": ("--a", "1"), "data_options": ("--points", "random")}
    compare(variants("one", "two", **options), tmp_path / "out", (0, 5), 20, "methods")
    calls = nerfstudio.calls()
    assert [call[0] for call in calls] == ["ns-train", "ns-eval"] * 4
    words = calls[4]  # seed by seed
    assert words[:4] == ["ns-train", "page4d-4dgs", "--data", "/data/capture"]
    assert words[-5:] == ["--a", "1", "page4d-data", "--points", "random"]
    for option, value in {"--machine.seed": "5", "--max-num-iterations": "20", "--experiment-name": "one"}.items():
        assert words[words.index(option) + 1] == value


def test_what_is_done_is_not_run_again_and_seeds_can_be_added(nerfstudio, tmp_path):
    first = compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    nerfstudio.calls()
    again = compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    assert nerfstudio.calls() == []
    assert again == first
    compare(variants("one"), tmp_path / "out", (0, 1), 20, "methods")
    assert len(nerfstudio.calls()) == 2


@pytest.mark.parametrize(("how", "words"), [("exit", "ended with exit code 3"), ("kill", "was killed by signal 9")])
def test_a_run_that_fails_is_a_row_that_says_why_and_the_others_go_on(nerfstudio, tmp_path, monkeypatch, how, words):
    monkeypatch.setenv("FAIL", "two")
    monkeypatch.setenv("FAIL_HOW", how)
    rows = compare(variants("one", "two", "three"), tmp_path / "out", (0,), 20, "methods")
    assert [row.results[0].status for row in rows] == ["done", "failed", "done"]
    assert f"row: two, seed 0: failed: ns-train {words}: the light went out" in markdown(rows)
    assert [line["status"] for line in lines_of(tmp_path / "out/runs.csv")] == ["done", "failed", "done"]
    nerfstudio.calls()
    monkeypatch.delenv("FAIL")
    rows = compare(variants("one", "two", "three"), tmp_path / "out", (0,), 20, "methods")
    assert [call[0] for call in nerfstudio.calls()] == ["ns-train", "ns-eval"]
    assert [row.results[0].status for row in rows] == ["done"] * 3


def test_a_training_that_was_killed_starts_anew(nerfstudio, tmp_path):
    compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    nerfstudio.calls()
    folder = tmp_path / "out/one/page4d-4dgs/seed-0"
    for name in ("trained.json", "run.json", "eval.json"):
        (folder / name).unlink()
    (folder / "left-over").touch()
    compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    assert [call[0] for call in nerfstudio.calls()] == ["ns-train", "ns-eval"]
    assert not (folder / "left-over").exists()


def test_a_finished_training_whose_evaluation_was_killed_is_only_evaluated(nerfstudio, tmp_path):
    first = compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    nerfstudio.calls()
    (tmp_path / "out/one/page4d-4dgs/seed-0/run.json").unlink()
    again = compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    assert [call[0] for call in nerfstudio.calls()] == ["ns-eval"]
    assert again == first


def test_a_run_with_other_settings_is_refused_with_what_differs(nerfstudio, tmp_path):
    compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    with pytest.raises(Page4DError, match=r"other settings \(steps: 20, now 30\); name another --output"):
        compare(variants("one"), tmp_path / "out", (0,), 30, "methods")


@pytest.mark.parametrize("content", ["a file of somebody's", None])
def test_a_folder_with_something_else_is_refused_and_left_alone(nerfstudio, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes").write_text(content or "")
    if content is None:
        (tmp_path / "out/run.json").write_text('{"task": "compare initialisations"}')
    with pytest.raises(Page4DError, match=r"holds something else|was .compare initialisations., now .compare methods."):
        compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    assert (tmp_path / "out/notes").read_text() == (content or "")
    assert nerfstudio.calls() == []


@pytest.mark.parametrize("name", ["settings.json", "run.json", "trained.json", "../../../run.json"])
@pytest.mark.parametrize("text", ["", "[1]", "null", "[" * 5_000, '{"seconds": "2"}', '{"task": 3}', "1" * 400])
def test_records_that_are_not_what_they_should_be_end_in_a_sentence(nerfstudio, tmp_path, name, text):
    compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    folder = tmp_path / "out/one/page4d-4dgs/seed-0"
    (folder / name).write_text(text)
    if name == "trained.json":  # of a run that was only trained
        (folder / "run.json").unlink()
        (row,) = compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
        assert (row.results[0].status, "trained.json" in row.results[0].reason) == ("failed", True)
        return
    with pytest.raises(
        Page4DError, match=rf"{Path(name).name} (cannot be read as JSON|does not hold|lacks)|other (settings|options)"
    ):
        compare(variants("one"), tmp_path / "out", (0,), 20, "methods")


@pytest.mark.parametrize("output", ["/proc/x", "file/below", "a" * 300, "a\0b"])
def test_an_output_that_cannot_be_written_is_refused_before_data_are_read(nerfstudio, tmp_path, monkeypatch, output):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(comparing, "check", lambda *args: pytest.fail("read"))
    with pytest.raises(Page4DError, match=r"^(The output .* cannot be a name|Cannot write )"):
        compare(variants("one"), tmp_path / output, (0,), 20, "methods")


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", "..", "a\0b", ""])
def test_a_method_s_name_leads_out_of_no_folder(name):
    with pytest.raises(Page4DError, match="--methods names methods as ns-train knows them"):
        methods({"capture": Path("/a/capture")}, [name])


def test_a_training_that_outlives_its_comparison_keeps_others_out(nerfstudio, tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEP", "60")
    process = os.fork()
    if process == 0:  # the comparison, which is killed
        os.setsid()
        compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
        os._exit(0)
    log = tmp_path / "out/one/page4d-4dgs/seed-0/train.log"
    while not (log.exists() and "50.00%" in log.read_text()):
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    try:
        with pytest.raises(Page4DError, match=r"programs that process \d+ .* started and left running"):
            compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    finally:
        os.killpg(process, signal.SIGKILL)


def test_the_steps_that_a_training_reports_are_passed_on(nerfstudio, tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEP", "0.3")
    told: list[int] = []
    TrainingRun(tmp_path, variants("one")[0], 0, 20).execute({}, told.append, ())
    assert set(told) == {10}


@pytest.mark.parametrize(("method", "how"), [("splatfacto", "trusted"), ("page4d-4dgs", "checked")])
def test_checkpoints_of_nerfstudio_s_own_methods_are_trusted_in_their_evaluation_alone(
    nerfstudio, tmp_path, method, how
):
    run = TrainingRun(tmp_path, variants("one", method=method)[0], 0, 20)
    run.execute({}, lambda step: None, ())
    assert how in (run.folder / "eval.log").read_text().splitlines()
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ


def test_the_csv_has_each_run_s_figures_digit_for_digit_and_their_means_over_seeds(nerfstudio, tmp_path):
    compare(variants("one"), tmp_path / "out", (0, 1, 2), 20, "methods")
    figures = [
        json.loads((tmp_path / f"out/one/page4d-4dgs/seed-{seed}/eval.json").read_text())["results"]
        for seed in range(3)
    ]
    for line, own in zip(lines_of(tmp_path / "out/runs.csv"), figures, strict=True):
        assert {name: float(line[name]) for name in own} == own
    (mean,) = lines_of(tmp_path / "out/means.csv")
    for name in ("psnr", "ssim", "psnr_moving"):
        assert float(mean[name]) == pytest.approx(np.mean([own[name] for own in figures]), rel=1e-12)
        assert float(mean[f"{name}_std"]) == pytest.approx(statistics.stdev(own[name] for own in figures), abs=1e-12)
    assert (mean["runs"], mean["lpips"], float(mean["gaussians"])) == ("3", "", 1234)


def test_the_table_has_means_deviations_and_why_there_is_no_lpips(nerfstudio, tmp_path):
    compare(variants("one"), tmp_path / "out", (0, 1), 20, "methods")
    table = (tmp_path / "out/table.md").read_text()
    header, rule, row = (line.split("|")[1:-1] for line in table.splitlines()[:3])
    assert len(header) == len(rule) == len(row)
    cells = dict(zip((cell.strip() for cell in header), (cell.strip() for cell in row), strict=True))
    assert cells["PSNR"] == "20.27 ± 0.24"
    assert (cells["LPIPS"], cells["Gaussians"], cells["static"]) == ("-", "1,234 ± 0", "0.25 ± 0.00")
    assert "\n- LPIPS is left out: ns-eval gives none of these images, and eval.log of each run says why\n" in table


def test_pixels_that_are_exactly_right_have_a_mean_and_no_deviation():
    [variant] = variants("one")
    figures = ({"psnr_static": value} for value in (math.inf, 60.0))
    row = Row(variant, tuple(Result(variant, seed, "done", figures=each) for seed, each in enumerate(figures)))
    assert "| inf |" in " ".join(markdown([row]).split())
    [line] = csv.DictReader(means_csv([row]).splitlines())
    assert (line["psnr_static"], line["psnr_static_std"]) == ("inf", "")


def test_how_well_cameras_could_be_aligned_is_said_of_their_row(nerfstudio, tmp_path):
    rows = compare(variants("one", "aligned"), tmp_path / "out", (0, 1), 20, "methods")
    assert [note for note in markdown(rows).splitlines() if "Sim(3)" in note] == [
        "- row: aligned: after Sim(3), PAGE-4D's camera path is off by 12.5%"
    ]
    assert [line["path_error"] for line in lines_of(tmp_path / "out/runs.csv")] == ["", "", "0.125", "0.125"]


def test_what_cannot_be_trained_is_a_row_with_the_reason_and_no_failure(nerfstudio, tmp_path):
    rows = compare([*variants("one"), *variants("two", refused="no points")], tmp_path / "out", (0,), 20, "methods")
    assert len(nerfstudio.calls()) == 2
    assert "row: two: unavailable: no points" in markdown(rows)


@pytest.mark.parametrize(("seeds", "steps"), [((), 20), ((1, 1), 20), ((-1,), 20), ((2**32,), 20), ((0,), 0)])
def test_seeds_and_steps_that_make_no_comparison_are_refused(nerfstudio, tmp_path, seeds, steps):
    with pytest.raises(Page4DError, match=r"^--(seeds|steps) must"):
        compare(variants("one"), tmp_path / "out", seeds, steps, "methods")
    assert not (tmp_path / "out").exists()


def test_without_nerfstudio_s_programs_the_way_to_get_them_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(runs.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Page4DError, match=r"no program ns-train; `pip install .*\[nerfstudio\]"):
        compare(variants("one"), tmp_path / "out", (0,), 20, "methods")


def test_without_the_library_of_tables_nothing_is_trained(nerfstudio, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Page4DError, match="pip install"):
        compare(variants("one"), tmp_path / "out", (0,), 20, "methods")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick_programs")
def test_help_needs_no_library_of_tables():
    run = "import runpy, sys; sys.modules['pandas'] = None; "
    run += "runpy.run_module('compare', run_name='__main__', alter_sys=True)"
    words = [sys.executable, "-c", run, "--help"]  # the folder of -c is the working folder
    ended = subprocess.run(words, capture_output=True, text=True, cwd=Path(program.__file__).parent, check=False)
    assert ended.returncode == 0, ended.stderr


# --------------------------------------------------------------------------------------------------------------------
# What is compared


@pytest.mark.parametrize("deforms", [True, False])
def test_gaussians_and_the_static_share_are_the_checkpoint_s(tmp_path, deforms):
    state = {
        "_model.gauss_params.means": torch.zeros(8, 3),
        "_model._extra_state": {"step": 3, "strategy": {"in_motion": torch.arange(8) < 2}},
    } | ({"_model.deformation.planes": torch.zeros(1)} if deforms else {})
    torch.save({"step": 3, "pipeline": state}, tmp_path / "step.ckpt")
    assert gaussians_in(tmp_path / "step.ckpt") == {"gaussians": 8, "static_share": 0.75 if deforms else None}


def test_static_is_our_method_without_deformation_and_unknown_methods_of_ours_are_named():
    static, unknown, other = methods({"capture": Path("/a/capture")}, ["static", "page4d-nothing", "splatfacto"])
    assert (static.method, static.training_options) == (
        "page4d-4dgs",
        ("--pipeline.model.use-deformation", "False"),
    )
    assert unknown.refused == "this installation has no method page4d-nothing"
    assert (other.method, other.refused) == ("splatfacto", None)


def test_captures_of_one_name_are_refused(tmp_path):
    for folder in "ab":
        (tmp_path / folder / "scene").mkdir(parents=True)
    with pytest.raises(Page4DError, match="Two captures are called scene"):
        captures_by_name([tmp_path / "a/scene", tmp_path / "b/scene"])


def test_rows_that_need_a_reconstruction_say_so_where_there_is_none():
    rows = initialisations(Path("c"), Reconstructions(ready=Path("s")), ["page4d", "unmasked", "random"], ["capture"])
    assert [row.refused for row in rows] == [None, "it needs PAGE-4D: pass --model, or --unmasked-reconstruction", None]


def test_tracks_are_compared_from_the_same_points_in_one_world(tmp_path):
    sources = {"room": Reconstructions(ready=Path("scene"))}
    motions = ["original", "off", "auto", "capture", "page4d"]
    rows = tracks({"room": Path("room")}, sources, motions, ["capture", "page4d"], tmp_path)
    names = [row.name.removeprefix("room-") for row in rows]
    by_capture = [f"capture-cameras-{name}" for name in ("original", "off", "capture", "page4d")]
    assert names == [*by_capture, *(f"page4d-cameras-{name}" for name in ("original", "off", "auto", "page4d"))]
    for row in rows:
        options = dict(zip(row.data_options[::2], row.data_options[1::2], strict=True))
        assert options["--points"] == options["--cameras"]
        assert ("--reconstruction" in options) == ("page4d" in (options["--cameras"], options["--tracks"]))
    assert rows[0].method == "page4d-4dgs-original"


def test_the_rate_of_a_training_is_that_between_its_first_and_last_step():
    assert steps_per_second({10: 2.0, 20: 2.5, 50: 4.0}) == 20
    assert steps_per_second({10: 2.0}) is None


def test_three_of_ten_noisy_tracks_are_elsewhere_and_the_others_are_the_sources(tmp_path):
    data = tmp_path / "room"
    write_synthetic_capture(data, num_frames=6, width=32, height=24, supersampling=1, num_points=200)
    [row] = tracks({"room": data}, {"room": Reconstructions()}, ["capture-noise"], ["capture"], tmp_path / "tracks")
    assert read_facts(row).refused == ""
    source = read_capture(data).tracks.paths
    source = source[np.isfinite(source).any(axis=(1, 2))]
    noisy = read_tracks(row.noisy_tracks.file)[0].paths
    np.testing.assert_array_equal(np.isfinite(noisy), np.isfinite(source))
    moved = np.nanmax(np.abs(noisy - source), axis=(1, 2)) > 1e-4  # float32 in the file
    assert 0.2 < moved.mean() < 0.4
    assert str(row.noisy_tracks.file) in row.data_options


def named(rows: list[Variant]) -> dict[str, Variant]:
    return {row.name: row for row in rows}


def at_low_resolution(rows: list[Variant]) -> list[Variant]:
    return [replace(row, data_options=(*row.data_options, "--resolution", "70")) for row in rows]


ALL = ("page4d", "unmasked", "depth", "capture", "random")


def test_what_a_capture_does_not_allow_is_said_of_each_row(tmp_path, tiny_model, monkeypatch):
    """No points and no depth; PAGE-4D's depth and chance are left."""
    monkeypatch.setenv("PAGE4D_CACHE", str(tmp_path / "cache"))
    data = write_capture(tmp_path / "capture", points=0)
    rows = at_low_resolution(initialisations(data, Reconstructions(str(tiny_model)), ALL, ["capture"]))
    found = {row.name.removeprefix("capture-cameras-"): read_facts(row) for row in rows}
    assert {name for name, facts in found.items() if not facts.refused} == {"page4d", "unmasked", "random"}
    assert "has no depth" in found["depth"].refused
    assert "has no points of its own" in found["capture"].refused
    assert all(not facts.knows_motion for facts in found.values())


def exact_reconstruction(data: Path, folder: Path, motion: bool = True) -> Path:
    """A synthetic capture's own depth, masks and training cameras, as though PAGE-4D had seen them."""
    capture = read_capture(data)
    train = capture.splits["train"]
    images = as_pinhole(capture, 1)
    frames = Frames(
        [images.load_image(i) for i in train], [capture.frame_ids[i] for i in train], capture.times[train], None, "x"
    )
    depth = [images.load_depth(i) for i in train]
    masks = [images.load_motion_mask(i).astype(np.float32) for i in train] if motion else None
    nothing = np.zeros((1, 3), np.float32)
    reconstruction = Reconstruction(
        extrinsics=capture.extrinsics[train],
        intrinsics=images.intrinsics[train],
        depth=depth,
        depth_conf=[np.ones_like(d) for d in depth],
        motion=masks,
        points=nothing,
        point_colors=nothing.astype(np.uint8),
        point_times=np.zeros(1, np.float32),
        point_motion=np.zeros(1, np.float32) if motion else None,
        point_confidence=np.ones(1, np.float32),
        frames=frames,
        info={"model": "exact"},
    )
    return write_scene(folder, reconstruction)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "capture"
    write_synthetic_capture(
        folder, num_frames=6, held_out_every=3, width=40, height=30, supersampling=1, num_points=200
    )
    return folder


def test_every_row_of_a_synthetic_capture_can_be_had_with_an_exact_reconstruction(synthetic, tmp_path):
    ready = exact_reconstruction(synthetic, tmp_path / "masked")
    unmasked = exact_reconstruction(synthetic, tmp_path / "unmasked", motion=False)
    rows = initialisations(synthetic, Reconstructions(None, ready, unmasked), ALL, ["capture", "page4d"])
    found = {row.name: read_facts(row) for row in rows}
    assert {name: facts.refused for name, facts in found.items() if facts.refused} == {}
    assert all(facts.seed_points > 0 and facts.knows_motion for facts in found.values())
    # Cameras were aligned where one source's are used with the other's points or held-out views.
    aligned = {name: facts.path_error for name, facts in found.items() if facts.path_error is not None}
    apart = {f"capture-cameras-{name}" for name in ("depth", "capture", "random")}
    assert set(aligned) == set(found) - apart
    assert max(aligned.values()) < 1e-6


def test_a_reconstruction_without_motion_is_not_passed_off_as_one_with_the_mask(synthetic, tmp_path):
    ready = exact_reconstruction(synthetic, tmp_path / "unmasked", motion=False)
    (row,) = initialisations(synthetic, Reconstructions(ready=ready), ["page4d"], ["capture"])
    assert read_facts(row).refused == "the model has no mask, so that this is the row without it"


def test_cameras_on_a_line_refuse_what_needs_the_sim3_and_nothing_else(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setenv("PAGE4D_CACHE", str(tmp_path / "cache"))
    data = write_capture(tmp_path / "capture", centres=np.linspace([0, 0, -3], [0.5, 0, -3], 8))
    by_model = Reconstructions(str(tiny_model))
    rows = at_low_resolution(initialisations(data, by_model, ["page4d", "random"], ["capture", "page4d"]))
    found = {name: read_facts(row).refused for name, row in named(rows).items()}
    assert found.pop("capture-cameras-random") == ""
    for sentence in found.values():
        assert "cannot be aligned" in sentence
        assert "on one line or in one place" in sentence


def test_other_methods_are_refused_where_images_would_not_fit_their_cameras(tmp_path):
    capture = write_capture(tmp_path / "capture")
    ours, other = methods({"capture": capture}, ["page4d-4dgs", "splatfacto"])
    scaled = replace(other, data_options=("--downscale", "2"))

    assert read_facts(scaled).refused == (
        "splatfacto reads images as their files are, and these have to be undistorted, scaled or made opaque"
    )
    assert read_facts(replace(ours, data_options=("--downscale", "2"))).refused == ""
    assert read_facts(other).refused == ""


def test_options_that_the_dataparser_does_not_have_are_a_row_that_says_so(tmp_path):
    (row,) = variants("one", data_options=("--no-such-option", "1"))
    assert "--no-such-option 1" in read_facts(row).refused


# --------------------------------------------------------------------------------------------------------------------
# The commands


def program_with(*words: object) -> None:
    program.main([str(word) for word in words])


def test_a_comparison_with_a_failed_run_ends_with_exit_code_1_after_its_table(
    nerfstudio, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("FAIL", "random")
    monkeypatch.setenv("FAIL_HOW", "exit")
    (tmp_path / "c").mkdir()
    with pytest.raises(SystemExit) as ended:
        program_with(
            *("initialisations", "--data", tmp_path / "c", "--output", tmp_path / "out", "--steps", 20),
            *("--initialisations", "capture", "random", "--cameras", "capture", "--seeds", 0),
        )
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert "| the capture's | the capture's points | 20.10 |" in " ".join(out.split())
    assert "1 of 2 runs failed" in err.splitlines()[-1]


@pytest.mark.parametrize("command", ["initialisations", "methods"])
def test_a_capture_that_is_not_there_ends_a_comparison_before_it_begins(nerfstudio, tmp_path, capsys, command):
    with pytest.raises(SystemExit) as ended:
        program_with(command, "--data", tmp_path / "nowhere", "--output", tmp_path / "out")
    assert ended.value.code == 1
    assert "nowhere; name a scene folder, a capture, a video or images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_comparison_of_which_nothing_can_be_had_ends_with_exit_code_1(nerfstudio, tmp_path, capsys):
    (tmp_path / "c").mkdir()
    with pytest.raises(SystemExit) as ended:
        program_with(
            *("initialisations", "--data", tmp_path / "c", "--output", tmp_path / "out", "--steps", 20),
            *("--initialisations", "page4d", "--cameras", "capture", "--seeds", 0),
        )
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert "unavailable: it needs PAGE-4D: pass --model" in out
    assert "None of the rows is available" in err


def test_further_options_reach_the_training_before_those_of_the_row(nerfstudio, tmp_path):
    (tmp_path / "c").mkdir()
    program_with(
        *("methods", "--data", tmp_path / "c", "--output", tmp_path / "out", "--steps", 20, "--seeds", 0),
        *("--methods", "static", "--data-options=--downscale 2", "--train-options=--steps-per-save 7"),
    )
    words = shlex.join(nerfstudio.calls()[0])
    assert "--steps-per-save 7 --pipeline.model.use-deformation False page4d-data --downscale 2" in words


@pytest.mark.usefixtures("quick_programs")
def test_a_comparison_on_a_tiny_network_from_the_capture_to_the_table(
    synthetic, tiny_model, tmp_path, monkeypatch, capsys
):
    """Nothing stands in for anything here: the data are read, trained on and evaluated as a user has it."""
    monkeypatch.setenv("PAGE4D_CACHE", str(tmp_path / "cache"))
    program_with(
        *("initialisations", "--data", synthetic, "--output", tmp_path / "out", "--model", tiny_model),
        *("--initialisations", "page4d", "--cameras", "capture", "page4d", "--seeds", 0, "--steps", 12),
        "--data-options=--resolution 42 --max-points 200",
    )
    done, refused = lines_of(tmp_path / "out/runs.csv")
    folder = tmp_path / "out/capture-cameras-page4d/page4d-4dgs/seed-0"
    results = json.loads((folder / "eval.json").read_text())["results"]
    assert {name: float(done[name]) for name in results} == results
    assert (done["gaussians"], done["seed_points"]) == ("200", "200")
    # A network that has learnt nothing gives no path that could be laid over the true one.
    assert (refused["cameras"], refused["status"]) == ("PAGE-4D's", "refused")
    assert "cannot be aligned" in refused["reason"]
    assert (tmp_path / "out/table.md").read_text() in capsys.readouterr().out
