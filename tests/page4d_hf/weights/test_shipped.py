"""The small model in the package."""

import numpy as np
import pytest

from page4d_hf import Page4DImageProcessor
from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import check_output_folder
from page4d_hf.weights.shipped import TINY, pull_tiny


def test_the_shipped_folder_may_be_made_anew_as_it_is_committed():
    # Its manifest, .page4d-files.json, must list its files as they are: `make tiny` replaces no others.
    assert check_output_folder(TINY, overwrite=True) == TINY


def test_the_small_model_sees_portraits_whole(tmp_path):
    pull_tiny(tmp_path / "page4d")
    processor = Page4DImageProcessor.from_pretrained(tmp_path / "page4d")
    inputs = processor(np.zeros((160, 90, 3), np.uint8), return_tensors="pt")
    height, width = inputs["pixel_values"].shape[-2:]
    assert inputs["image_boxes"][0, 0].tolist() == [0, 0, width, height]
    assert height * width <= 112 * 112


def test_what_is_pulled_says_where_it_comes_from(tmp_path):
    config = pull_tiny(tmp_path / "page4d")
    assert config.base_weights == "page4d-tiny"
    assert "license: apache-2.0" in (tmp_path / "page4d" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_folder_of_notes_is_refused_by_name(tmp_path):
    pull_tiny(tmp_path / "page4d")
    pull_tiny(tmp_path / "page4d", overwrite=True)
    (tmp_path / "page4d" / "notes.txt").write_text("mine")
    with pytest.raises(Page4DError, match=r"page4d did not write notes\.txt"):
        pull_tiny(tmp_path / "page4d", overwrite=True)
