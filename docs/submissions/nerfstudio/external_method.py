"""The entry for nerfstudio's list of external methods (`nerfstudio/configs/external_methods.py`)."""

from nerfstudio.configs.external_methods import ExternalMethod

page4d = ExternalMethod(
    """[bold yellow]page4d-4dgs[/bold yellow]
For more information visit: https://docs.nerf.studio/nerfology/methods/page4d.html

To enable page4d-4dgs, you must install it first by running:
  [grey]pip install "page4d\\[nerfstudio]"[/grey]""",
    configurations=[
        ("page4d-4dgs", "4D Gaussian splatting of moving scenes from a plain video, started by PAGE-4D"),
        ("page4d-4dgs-dnerf", "The same for objects that are seen from all around (D-NeRF)"),
        ("page4d-4dgs-multicam", "The same for rigs of several cameras (DyNeRF)"),
        ("page4d-4dgs-original", "4DGS as published, to compare with"),
    ],
    pip_package="page4d[nerfstudio]",
)
