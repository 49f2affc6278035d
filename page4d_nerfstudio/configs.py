"""What nerfstudio's entry points name: the methods `page4d-4dgs` and its presets, and the dataparser `page4d-data`.

Every `ns-*` command loads both, so nothing here imports more than nerfstudio itself does. They are made when they are
first asked for: nerfstudio collects dataparsers in the middle of importing the datamanagers that the method needs.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification
    from nerfstudio.plugins.types import MethodSpecification

    page4d_4dgs: MethodSpecification
    page4d_4dgs_dnerf: MethodSpecification
    page4d_4dgs_multicam: MethodSpecification
    page4d_4dgs_original: MethodSpecification
    page4d_data: DataParserSpecification


METHODS = ("page4d_4dgs", "page4d_4dgs_dnerf", "page4d_4dgs_multicam", "page4d_4dgs_original")


def __getattr__(name: str) -> Any:
    if name in METHODS:
        return _method(name.replace("_", "-"))
    if name == "page4d_data":
        return _dataparser()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _dataparser() -> DataParserSpecification:
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification

    from .data.dataparser import Page4DDataParserConfig

    return DataParserSpecification(
        config=Page4DDataParserConfig(),
        description="A page4d scene folder, a capture (Nerfies, HyperNeRF, D-NeRF, ...), or a video or image folder.",
    )


@cache
def _method(name: str) -> MethodSpecification:
    import torch
    from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
    from nerfstudio.plugins.types import MethodSpecification

    from .data.datamanager import Page4DDatamanagerConfig
    from .data.dataparser import Page4DDataParserConfig
    from .engine.pipeline import Page4DPipelineConfig
    from .engine.trainer import FusedAdamConfig, HoldThenDecaySchedulerConfig, Page4DTrainerConfig
    from .gaussians.presets import presets

    preset = presets()[name]
    model = preset.model

    def decaying(lr: float, final: float) -> dict[str, Any]:
        return {
            "optimizer": FusedAdamConfig(lr=lr),
            "scheduler": HoldThenDecaySchedulerConfig(
                lr_final=final, max_steps=preset.decay_until, starts_anew=preset.decay_starts_anew
            ),
        }

    def constant(lr: float) -> dict[str, Any]:
        return {"optimizer": FusedAdamConfig(lr=lr), "scheduler": None}

    config = Page4DTrainerConfig(
        method_name=name,
        max_num_iterations=preset.steps,
        steps_per_eval_batch=0,
        steps_per_eval_image=500,
        steps_per_eval_all_images=5000,
        steps_per_save=2000,
        mixed_precision=False,
        machine=MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu"),
        pipeline=Page4DPipelineConfig(
            datamanager=Page4DDatamanagerConfig(dataparser=Page4DDataParserConfig(), cache_images_type="uint8"),
            model=model,
        ),
        # Positions: times the scene's extent. The learning rates are those of 4DGS for HyperNeRF captures.
        optimizers={
            "means": decaying(1.6e-4, 1.6e-6),
            "features_dc": constant(2.5e-3),
            "features_rest": constant(2.5e-3 / 20),
            "opacities": constant(0.05),
            "scales": constant(0.005),
            "quats": constant(0.001),
            "planes": decaying(1.6e-3, 1.6e-4),
            "heads": decaying(1.6e-4, 1.6e-5),
            "camera_opt": decaying(1e-4, 5e-7),
            "bilateral_grid": decaying(2e-3, 1e-4),
        },
        viewer=ViewerConfig(websocket_host="127.0.0.1", num_rays_per_chunk=1 << 15),
        vis="viewer",
    )
    return MethodSpecification(config=config, description=preset.description)
