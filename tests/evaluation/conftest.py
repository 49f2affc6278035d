"""What tests of evaluation share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from evaluator.sequences import EvaluatedSequence
from small_networks import small_network
from small_tum import NAME, SmallSequence

from page4d_hf import Page4DImageProcessor
from page4d_hf.captures import as_pinhole


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network of random weights, and images of 28 pixels."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    small_network().save_pretrained(folder)
    Page4DImageProcessor(size=28).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> EvaluatedSequence:
    """4 images of 80x60 pixels."""
    return EvaluatedSequence(NAME, as_pinhole(SmallSequence(tmp_path_factory.mktemp("tum")).read()))


@pytest.fixture(autouse=True)
def accelerator_state() -> Iterator[None]:
    """Accelerate's state, which a process has once, as new."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
