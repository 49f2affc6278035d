"""What is submitted to nerfstudio's list of external methods names the methods that exist."""

from __future__ import annotations

import io
import runpy
from pathlib import Path

import pytest

pytest.importorskip("nerfstudio", reason="nerfstudio is not installed")
ENTRY = Path(__file__).resolve().parents[2] / "docs/submissions/nerfstudio/external_method.py"


def test_the_entry_names_the_methods_of_the_plugin():
    from importlib.metadata import entry_points

    methods = {entry.name for entry in entry_points(group="nerfstudio.method_configs") if entry.name.startswith("page")}
    assert {name for name, _ in runpy.run_path(str(ENTRY))["page4d"].configurations} == methods


def test_the_instructions_show_the_extra_when_the_console_prints_them():
    from rich.console import Console

    shown = io.StringIO()
    Console(file=shown, width=200).print(runpy.run_path(str(ENTRY))["page4d"].instructions)
    assert 'pip install "page4d[nerfstudio]"' in shown.getvalue()
