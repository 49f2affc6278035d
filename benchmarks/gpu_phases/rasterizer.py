"""gsplat's kernels beside our CPU rasteriser on the same Gaussians, and the tests that need a GPU."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

from rasterize import Device, RasterizerOptions, compare_devices

from page4d_hf.errors import Page4DError

from .session import Session

REPOSITORY = Path(__file__).resolve().parents[2]
TESTS = REPOSITORY / "tests" / "gpu"
SCENES = {
    "10,000 at 160x120": RasterizerOptions(rounds=5),
    "100,000 at 512x384": RasterizerOptions(width=512, height=384, gaussians=100_000, rounds=2),
    "300,000 at 960x540": RasterizerOptions(width=960, height=540, gaussians=300_000, rounds=1),
}
TOY_SCENES = {"200 at 48x32": RasterizerOptions(width=48, height=32, gaussians=200, rounds=1)}


def run(session: Session) -> None:
    test(session)  # first: what they find wrong matters more than how fast it is
    devices: tuple[Device, ...] = ("cpu",) if session.toy else ("cpu", "cuda")
    for scene, options in (TOY_SCENES if session.toy else SCENES).items():
        if all(session.has(f"{scene}, {device}") for device in devices):
            continue
        session.needs(5, scene)
        for figures in compare_devices(replace(options, devices=devices))[0]:
            values = asdict(figures)
            session.add(
                f"{scene}, {values.pop('device')}",
                **{f"{name}, s": values[name] for name in ("forward", "backward", "both", "best", "first")},
                **{"image, difference": values["image"], "gradients, relative difference": values["gradients"]},
            )
    if not session.has("tests"):
        raise Page4DError("pytest crashed and left no report; rasterizer.log says where.")


def test(session: Session) -> None:
    """Run the tests that are marked `gpu`; rows name those that fail, the log says how. A crash leaves none."""
    if session.has("tests"):
        return
    report = session.folder / "tests.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", str(TESTS), "-m", "gpu", "-rs", "-p", "no:cacheprovider"]
    status = subprocess.run([*command, f"--junitxml={report}"], cwd=REPOSITORY, check=False).returncode
    if not report.is_file():
        return
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case.get("name") for case in cases if {"failure", "error"} & {child.tag for child in case}]
    skipped = sum(case.find("skipped") is not None for case in cases)
    for name in failed:
        session.add(f"failed: {name}")
    session.add(
        "tests",
        passed=len(cases) - len(failed) - skipped,
        failed=len(failed),
        skipped=skipped,
        **{"pytest's exit code": status},
    )
