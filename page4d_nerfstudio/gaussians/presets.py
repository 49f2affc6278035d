"""The methods that `ns-train` lists: page4d-4dgs with the settings of 4DGS for each kind of capture.

4DGS (Wu et al., CVPR 2024) has a set of settings for each of HyperNeRF's, D-NeRF's and DyNeRF's captures. A preset is
what differs from the first of them, which the defaults are; every option of it can be overridden as any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .deformation import DeformationConfig
from .model import Page4DGaussiansModelConfig
from .published import DECAY_UNTIL, published
from .schedule import REFERENCE_STEPS


@dataclass(frozen=True)
class Preset:
    """A method: what it is for, and what it changes."""

    description: str
    model: Page4DGaussiansModelConfig = field(default_factory=Page4DGaussiansModelConfig)
    steps: int = REFERENCE_STEPS
    decay_until: int = REFERENCE_STEPS  # step at which learning rates are at their final value, of a run of 17,000
    decay_starts_anew: bool = False  # whether they decay in the static stage too, and start anew after it


def presets() -> dict[str, Preset]:
    """All methods by name, each with a configuration of its own."""
    return {
        "page4d-4dgs": Preset("4D Gaussian splatting of moving scenes: a video, a PAGE-4D scene, a Nerfies capture."),
        "page4d-4dgs-dnerf": Preset(
            "page4d-4dgs for objects seen from all around (D-NeRF): longer, with a smaller deformation field.",
            Page4DGaussiansModelConfig(deformation=DeformationConfig(multires=(1, 2), width=64)),
            steps=20_000,
        ),
        "page4d-4dgs-multicam": Preset(
            "page4d-4dgs for rigs of several cameras (DyNeRF): opacities and colours change over time too.",
            Page4DGaussiansModelConfig(deformation=DeformationConfig(opacity=True, color=True)),
        ),
        "page4d-4dgs-original": Preset(
            "4DGS with its published settings for HyperNeRF captures and nothing of ours, to compare with.",
            published(),
            decay_until=DECAY_UNTIL,
            decay_starts_anew=True,
        ),
    }
