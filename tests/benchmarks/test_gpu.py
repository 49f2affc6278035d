"""benchmarks/gpu.py: all of it in small on a CPU, and what it does where time is short or files are in the way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import gpu
import numpy as np
import pytest
import torch
from forked_python import ForkedPython
from gpu_capture import halve
from gpu_phases import finetuning, network, rasterizer
from gpu_phases.report import table
from gpu_phases.session import OutOfTime, Session, rows_of
from PIL import Image

from page4d_hf.captures.layouts.nerfies import read_nerfies
from page4d_hf.errors import Page4DError

pytestmark = pytest.mark.slow

PROGRAM = Path(gpu.__file__)
BUNDLE = PROGRAM.parent / "gpu_bundle.sh"


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def states_of(folder: Path) -> dict[str, str]:
    return {phase["name"]: phase["status"] for phase in results_of(folder)["phases"]}


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory: pytest.TempPathFactory, forking_python: ForkedPython) -> Path:
    output = tmp_path_factory.mktemp("gpu") / "toy"
    command = [str(forking_python.executable), str(PROGRAM), "--toy", "--minutes", "600", "--output", str(output)]
    done = subprocess.run([*command, "--keep", str(output.parent / "kept")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


def test_a_toy_run_does_every_phase_on_the_cpu(toy_run):
    assert states_of(toy_run) == {phase.name: "done" for phase in gpu.PHASES}, (toy_run / "results.md").read_text()
    rows = {phase["name"]: [row["name"] for row in phase["rows"]] for phase in results_of(toy_run)["phases"]}
    assert rows["network"] == ["1 x 28 x 42", "2 x 28 x 42"]
    assert rows["rasterizer"] == ["tests", "200 at 48x32, cpu"]
    assert rows["splatting"] == ["page4d-4dgs, 3 steps", "page4d-4dgs-original, 3 steps"]
    assert rows["finetuning"] == ["2 frames, checkpointing", "2 frames, no checkpointing"]
    assert rows["tiny"] == ["before", "after"]


def test_the_toy_run_counts_the_tests_that_need_a_gpu_as_skipped_and_none_as_failed(toy_run):
    tests = rows_of(toy_run, "rasterizer")[0]
    assert tests["failed"] == 0
    assert tests["passed"] + tests["skipped"] >= 6


def test_what_comes_back_is_a_handful_of_files(toy_run):
    kept = sorted(path.name for path in (toy_run.parent / "kept").iterdir())
    assert {"log.txt", "results.json", "results.md", "tiny-model.safetensors"} <= set(kept)
    assert len(kept) <= 8


def test_a_finished_run_measures_nothing_again(toy_run):
    before = results_of(toy_run)["phases"]

    gpu.main(["--toy", "--output", str(toy_run)])

    assert results_of(toy_run)["phases"] == before


def test_the_page_says_that_a_toy_run_measures_nothing(toy_run):
    text = (toy_run / "results.md").read_text()
    assert "Toy run on a CPU: these figures say that the script works, and nothing else." in text
    assert "| page4d-4dgs, 3 steps |" in text


# --------------------------------------------------------------------------------------------------------------------
# Time


@pytest.fixture
def one_phase(monkeypatch: pytest.MonkeyPatch):
    """Have a run of one phase that does what the code says, and whose time is up once a file has something in it."""

    def set_up(code: str, until: Path | None = None) -> None:
        phase = gpu.Phase("network", "The network", "About it.", 0.0, 1.0)
        monkeypatch.setattr(gpu, "PHASES", (phase,))
        monkeypatch.setattr(gpu, "EVERYTHING", gpu.PHASES)
        monkeypatch.setattr(gpu, "PATIENCE_OF_TOYS", 1)
        begun = time.time()

        def now() -> float:
            return begun + (61 if until is not None and until.exists() and until.read_text() else 0)

        monkeypatch.setattr(gpu, "time", SimpleNamespace(time=now, monotonic=now, sleep=time.sleep))
        start = f"import sys, time; sys.path.insert(0, {str(PROGRAM.parent)!r}); "
        start += "from gpu_phases.session import Session; import json; s = Session(**json.loads(sys.argv[1]));"
        monkeypatch.setattr(gpu, "command_of", lambda session: [sys.executable, "-c", start + code, session.as_json()])

    return set_up


def test_a_phase_that_overruns_is_cut_short_and_keeps_its_figures(one_phase, tmp_path):
    one_phase("s.add('1 frame', seconds=0.5); time.sleep(600)", tmp_path / "run" / "network.jsonl")

    gpu.main(["--toy", "--output", str(tmp_path / "run")])

    (phase,) = results_of(tmp_path / "run")["phases"]
    assert (phase["status"], phase["reason"]) == ("cut short", "its time was up")
    assert phase["rows"] == [{"name": "1 frame", "seconds": 0.5}]
    assert "**Cut short** after 61 s: its time was up." in (tmp_path / "run" / "results.md").read_text()


def test_the_processes_that_a_phase_has_started_end_with_it(one_phase, tmp_path):
    pid = tmp_path / "pid"
    start = "import subprocess; p = subprocess.Popen(['sleep', '600'])"
    one_phase(f"{start}; open({str(pid)!r}, 'w').write(str(p.pid)); p.wait()", pid)

    gpu.main(["--toy", "--output", str(tmp_path / "run")])

    status = Path(f"/proc/{pid.read_text()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_a_phase_ends_with_the_run_that_started_it_even_where_that_is_killed(tmp_path):
    output = tmp_path / "run"
    run = subprocess.Popen([sys.executable, str(PROGRAM), "--toy", "--output", str(output)], stdout=subprocess.DEVNULL)
    while not phases_of(output):
        assert run.poll() is None
        time.sleep(0.05)

    run.kill()
    run.wait()

    while phases_of(output):
        time.sleep(0.1)


def phases_of(output: Path) -> list[str]:
    """Processes that run a phase for that folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"--phase" in (command := path.read_bytes()) and str(output).encode() in command:
                found.append(path.parent.name)
    return found


def test_a_phase_that_fails_is_told_by_its_last_words_and_ends_no_other(one_phase, tmp_path):
    one_phase("sys.exit('No more memory.')")

    gpu.main(["--toy", "--output", str(tmp_path / "run")])

    (phase,) = results_of(tmp_path / "run")["phases"]
    assert (phase["status"], phase["reason"]) == ("failed", "No more memory. (exit code 1)")


def test_without_time_phases_are_left_out_and_the_results_say_so(tmp_path):
    gpu.main(["--toy", "--output", str(tmp_path / "run"), "--minutes", "0"])

    assert set(states_of(tmp_path / "run").values()) == {"left out"}
    assert "it takes at least 0.5 minutes, and 0.0 were left" in (tmp_path / "run" / "results.md").read_text()


def test_a_phase_that_was_cut_short_goes_on_with_what_is_missing(one_phase, tmp_path):
    code = "[s.add(n, seconds=time.time()) for n in ('a', 'b') if not s.has(n)]"
    rows = tmp_path / "run" / "network.jsonl"
    one_phase(code.replace("('a', 'b')", "('a',)") + "; time.sleep(600)", rows)
    gpu.main(["--toy", "--output", str(tmp_path / "run")])
    (first,) = results_of(tmp_path / "run")["phases"]
    one_phase(code)

    gpu.main(["--toy", "--output", str(tmp_path / "run")])

    (second,) = results_of(tmp_path / "run")["phases"]
    assert second["status"] == "done"
    assert [row["name"] for row in second["rows"]] == ["a", "b"]
    assert second["rows"][0] == first["rows"][0]


def test_the_phase_that_takes_all_that_is_left_waits_while_others_wait_for_the_kernels(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(gpu.Process, "start", lambda run, phase, deadline: started.append(phase.name))
    run = gpu.Run(SimpleNamespace(output=tmp_path, toy=False), "commit")
    pending = [phase for phase in gpu.PHASES if phase.name in ("splatting", "tiny")]
    end = time.time() + 600

    gpu.start_next(run, pending, SimpleNamespace(), end)
    assert started == []
    for _ in range(2):
        gpu.start_next(run, pending, None, end)
    assert started == ["splatting", "tiny"]


def test_what_is_known_is_kept_while_its_phase_goes_on(one_phase, tmp_path, monkeypatch):
    one_phase("s.add('1 frame', seconds=0.5); time.sleep(600)")
    kept = []

    def interrupt_once_there_is_a_row(seconds: float) -> None:
        time.sleep(0.01)
        if rows_of(tmp_path / "run", "network"):
            kept.append(results_of(tmp_path / "kept")["phases"])
        if len(kept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(gpu.time, "sleep", interrupt_once_there_is_a_row)
    with pytest.raises(KeyboardInterrupt):
        gpu.main(["--toy", "--output", str(tmp_path / "run"), "--keep", str(tmp_path / "kept")])

    (phase,) = kept[-1]
    assert phase["rows"] == [{"name": "1 frame", "seconds": 0.5}]
    assert (phase["status"], phase["reason"]) == ("cut short", "the run was ended")


def test_a_resumed_network_asks_for_the_time_that_its_rows_tell(tmp_path, monkeypatch):
    session = Session("network", str(tmp_path), time.time() + 60, "cpu", True, None)
    monkeypatch.setattr(network, "matrix_product_rate", lambda *_: 1.0)
    session.add("1 x 28 x 42", **{"seconds, mask on": 600.0})

    with pytest.raises(OutOfTime, match="2 x 28 x 42 would take about 4804 s"):
        network.run(session)


def test_a_resumed_finetuning_asks_for_the_time_that_its_rows_tell(tmp_path):
    session = Session("finetuning", str(tmp_path), time.time() + 60, "cpu", True, None)
    session.add("2 frames, checkpointing", seconds=10.0)

    with pytest.raises(OutOfTime, match="4 frames, checkpointing would take about 120 s"):
        finetuning.climb(session, "checkpointing", lambda frames: None, (2, 4), torch.device("cpu"), 1)


@pytest.mark.parametrize(("first", "expected"), [(1.0, 0.1), (3.0, 3.0)])
def test_the_first_pass_of_a_size_counts_only_where_there_is_no_time_for_another(monkeypatch, first, expected):
    clock = SimpleNamespace(device=torch.device("cpu"), seconds=[], peak=0)

    def time_in_turns(model, pixel_values, strengths, rounds):
        seconds = 0.1 if clock.peak else first
        clock.seconds += [seconds] * 2 * rounds
        clock.peak = 1
        return [[seconds] * rounds for _ in strengths]

    monkeypatch.setattr(network, "time_in_turns", time_in_turns)
    figures = network.measure(torch.nn.Linear(1, 1), clock, (1, 14, 14), 1, 1.0)

    names = ("seconds, mask off", "seconds, mask on", "aggregator, seconds")
    assert [figures[name] for name in names] == [expected] * 3


def test_tests_that_crash_are_no_finished_phase(tmp_path, monkeypatch):
    session = Session("rasterizer", str(tmp_path), time.time() + 60, "cpu", True, None)
    monkeypatch.setattr(rasterizer, "TOY_SCENES", {})
    monkeypatch.setattr(rasterizer.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=-11))

    with pytest.raises(Page4DError, match="pytest crashed"):
        rasterizer.run(session)
    assert not session.has("tests")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.usefixtures("quick_programs")
def test_without_a_gpu_and_without_toy_a_run_ends_with_what_is_missing(tmp_path):
    with pytest.raises(SystemExit, match=r"gpu: PyTorch finds no CUDA device; --toy runs everything in small"):
        gpu.main(["--output", str(tmp_path / "run"), "--skip", "rasterizer", "splatting"])


# --------------------------------------------------------------------------------------------------------------------
# Files


def test_figures_of_other_code_are_not_added_to(one_phase, tmp_path, monkeypatch):
    one_phase("pass")
    gpu.main(["--toy", "--output", str(tmp_path / "run")])
    monkeypatch.setattr(gpu, "commit_of", lambda bundle: "another")

    with pytest.raises(
        SystemExit, match=r"holds figures of another run .commit .* now another.; name another --output"
    ):
        gpu.main(["--toy", "--output", str(tmp_path / "run")])


def test_figures_of_other_code_in_a_bundle_are_left_aside(one_phase, tmp_path, monkeypatch, capsys):
    one_phase("s.add('1 frame', seconds=0.5)")
    bundle = tmp_path / "bundle"
    gpu.main(["--toy", "--output", str(tmp_path / "first"), "--keep", str(bundle)])
    monkeypatch.setattr(gpu, "commit_of", lambda bundle: "another")
    monkeypatch.setattr(gpu, "install", lambda bundle, site: {})

    gpu.main(["--toy", "--output", str(tmp_path / "second"), "--bundle", str(bundle)])

    assert f"{bundle} holds figures of another run" in capsys.readouterr().out
    assert results_of(tmp_path / "second")["commit"] == "another"


def test_a_run_whose_bundle_could_not_be_installed_can_be_started_again(one_phase, tmp_path):
    one_phase("pass")
    bundle = tmp_path / "bundle"
    (bundle / "wheels").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(SystemExit, match="There are no wheels"):
            gpu.main(["--toy", "--output", str(tmp_path / "run"), "--bundle", str(bundle)])


def test_a_capture_that_is_not_there_is_told_before_anything_runs(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--toy", "--output", str(tmp_path / "run"), "--data", str(tmp_path / "nowhere")])

    assert f"there is no capture {tmp_path / 'nowhere'}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_itself_needs_nothing_but_the_standard_library():
    command = [sys.executable, "-S", str(PROGRAM), "--help"]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "notes.md").write_text("mine")

    with pytest.raises(SystemExit, match="holds something else than such a run"):
        gpu.main(["--toy", "--output", str(tmp_path)])

    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]


def test_a_table_has_the_last_row_of_each_name_and_every_column_with_a_value():
    rows = [{"name": "a", "x": 1, "y": None}, {"name": "b", "z": 0.12345}, {"name": "a", "x": 2000, "y": None}]
    assert table(rows) == ["|  | x | z |", "| --- | --- | --- |", "| a | 2,000 |  |", "| b |  | 0.123 |"]


def write_wheel(path: Path) -> None:
    info = "small-1.0.dist-info/"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("small.py", "")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(info + "RECORD", "")


def test_a_bundle_is_installed_beside_the_results_and_its_entry_points_with_it(tmp_path):
    bundle, site = tmp_path / "bundle", tmp_path / "site"
    (bundle / "wheels").mkdir(parents=True)
    (bundle / "page4d-0.1.0.dist-info").mkdir()
    write_wheel(bundle / "wheels" / "small-1.0-py3-none-any.whl")

    environment = gpu.install(bundle, site)

    assert (site / "small.py").is_file()
    assert (site / "page4d-0.1.0.dist-info").is_dir()
    assert environment["PYTHONPATH"].split(":")[:2] == [str(site), str(PROGRAM.parents[1])]


def test_figures_of_an_earlier_machine_in_the_bundle_are_gone_on_with(one_phase, tmp_path, monkeypatch):
    one_phase("s.add('1 frame', seconds=0.5)")
    bundle = tmp_path / "bundle"
    gpu.main(["--toy", "--output", str(tmp_path / "first"), "--keep", str(bundle)])
    (bundle / "commit").write_text(results_of(bundle)["commit"])
    monkeypatch.setattr(gpu, "install", lambda bundle, site: {})
    one_phase("sys.exit('This was measured already.')")

    gpu.main(["--toy", "--output", str(tmp_path / "second"), "--bundle", str(bundle)])

    assert results_of(tmp_path / "second")["phases"] == results_of(tmp_path / "first")["phases"]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """The files of a Nerfies capture that matter for its size."""
    folder = tmp_path / "capture"
    for part in ("rgb/1x", "camera", "depth/1x"):
        (folder / part).mkdir(parents=True)
    ids = ["a", "b"]
    camera = {"orientation": np.eye(3).tolist(), "position": [0, 0, 0], "focal_length": 40.0}
    camera |= {"principal_point": [20.0, 15.0], "image_size": [40, 30]}
    for name in ids:
        Image.new("RGB", (40, 30), (200, 100, 50)).save(folder / "rgb/1x" / f"{name}.png")
        (folder / "camera" / f"{name}.json").write_text(json.dumps(camera))
    (folder / "dataset.json").write_text(json.dumps({"ids": ids, "train_ids": ["a"], "val_ids": ["b"]}))
    (folder / "metadata.json").write_text(json.dumps({n: {"warp_id": i, "camera_id": 0} for i, n in enumerate(ids)}))
    (folder / "scene.json").write_text(json.dumps({"scale": 1.0, "center": [0, 0, 0], "near": 0.1, "far": 5.0}))
    np.save(folder / "points.npy", np.ones((5, 3)))
    return folder


def test_a_halved_capture_is_the_same_at_half_the_size(capture, tmp_path):
    halve(capture, tmp_path / "half")

    whole, half = read_nerfies(capture), read_nerfies(tmp_path / "half")
    np.testing.assert_allclose(half.intrinsics[:, :2], whole.intrinsics[:, :2] / 2)
    assert Image.open(half.image_paths[0]).size == (20, 15)
    assert not (tmp_path / "half" / "depth").exists()


@pytest.fixture
def make_bundle(tmp_path: Path, capture: Path):
    """Run gpu_bundle.sh with a pip that makes one wheel of so many bytes."""
    stub = tmp_path / "python"
    stub.write_text(
        f"""#!/bin/bash
if [ "$1" = -m ]; then
    while [ "$1" != --dest ]; do shift; done
    mkdir -p "$2" && head -c "$BYTES" /dev/zero >"$2/one-1-py3-none-any.whl"
elif [ "$1" = -c ]; then mkdir "$3/page4d-0.1.0.dist-info"
else exec {sys.executable} "$@"; fi
"""
    )
    stub.chmod(0o755)

    def run(output: Path, limit: int = 64, size: int = 1 << 20) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHON": str(stub),
            "LIMIT": str(limit),
            "BYTES": str(size),
        }
        return subprocess.run(["bash", BUNDLE, output, capture], capture_output=True, text=True, env=environment)

    return run


def test_a_bundle_holds_wheels_capture_commit_and_metadata_and_says_how_large_each_is(make_bundle, tmp_path):
    done = make_bundle(tmp_path / "bundle")
    again = make_bundle(tmp_path / "bundle")

    assert done.returncode == again.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "bundle").iterdir())
    assert names == ["capture", "commit", "page4d-0.1.0.dist-info", "wheels"]
    assert "     1.00 MiB  wheels/one-1-py3-none-any.whl" in done.stdout
    assert (tmp_path / "bundle" / "capture" / "rgb" / "2x").is_dir()


def test_a_bundle_over_its_limit_is_refused(make_bundle, tmp_path):
    done = make_bundle(tmp_path / "bundle", limit=16, size=16 << 20)

    assert done.returncode == 1
    assert "together they are larger than 16 MiB" in done.stderr


def test_metadata_that_this_setuptools_cannot_make_is_refused_before_the_downloads(tmp_path, capture):
    (tmp_path / "setuptools").mkdir()
    (tmp_path / "setuptools" / "__init__.py").write_text("__version__ = '65.5.0'")
    (tmp_path / "setuptools" / "build_meta.py").touch()
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    command = ["bash", BUNDLE, tmp_path / "bundle", capture]

    done = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert done.returncode == 1
    assert "needs setuptools 77 or later" in done.stderr
    assert not list((tmp_path / "bundle" / "wheels").iterdir())


def test_a_folder_with_something_else_is_no_place_for_a_bundle(make_bundle, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.md").write_text("mine")

    done = make_bundle(tmp_path / "mine")

    assert done.returncode == 1
    assert "holds something else than a bundle" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.md"]


@pytest.mark.usefixtures("quick_programs")
def test_synthetic_clips_need_no_pyav_which_is_too_large_for_a_bundle():
    code = """
import sys
for name in [name for name in sys.modules if name.split(".")[0] in ("av", "page4d_hf")]:
    del sys.modules[name]
sys.modules["av"] = None
import page4d_hf.synthetic, page4d_hf.reconstruction.reconstruct
"""
    subprocess.run([sys.executable, "-c", code], check=True)
