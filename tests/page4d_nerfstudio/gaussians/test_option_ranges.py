"""Options that are out of range end in a sentence with the option's name, before any memory is taken."""

import pytest

from page4d_hf.errors import Page4DError
from page4d_nerfstudio.gaussians.config import RANGES
from page4d_nerfstudio.gaussians.deformation import DeformationConfig
from page4d_nerfstudio.gaussians.model import Page4DGaussiansModelConfig
from page4d_nerfstudio.gaussians.published import published


@pytest.mark.parametrize("name", [name for name, (least, _) in RANGES.items() if least >= 0])
@pytest.mark.parametrize("value", [float("nan"), -float("inf"), -1])
def test_no_number_of_the_model_is_nan_or_below_its_bound(name, value):
    given = (16, value) if name == "grid_shape" else value
    with pytest.raises(Page4DError, match=rf"^--pipeline.model.{name.replace('_', '-')} must be .*, got {value:g}\.$"):
        Page4DGaussiansModelConfig(**{name: given}).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 10_000}, "would hold .* numbers, and at most 1e.09 are allowed"),
        ({"multires": (1, 2, 10**6)}, "--pipeline.model.deformation.multires must be from 1 to 65,536, got 1,000,000"),
        ({"features": 0}, "--pipeline.model.deformation.features must be from 1 to 4,096, got 0"),
        ({"width": 10**9}, "--pipeline.model.deformation.width must be from 1 to 16,384"),
        ({"time_resolution": -1}, "--pipeline.model.deformation.time-resolution must be from 1"),
        ({"frames_per_sample": float("inf")}, "--pipeline.model.deformation.frames-per-sample must be"),
    ],
)
def test_a_deformation_field_beyond_all_memory_is_refused(options, message):
    with pytest.raises(Page4DError, match=message):
        Page4DGaussiansModelConfig(deformation=DeformationConfig(**options)).check()


def test_the_defaults_are_in_range():
    Page4DGaussiansModelConfig().check()
    published().check()
