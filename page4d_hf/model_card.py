"""The model card that goes with converted weights."""

from __future__ import annotations

from huggingface_hub import ModelCardData

from .configuration_page4d import Page4DConfig
from .package_version import page4d_version

VGGT_LICENSE = "https://github.com/facebookresearch/vggt/blob/main/LICENSE.txt"

_CARD = """\
---
{metadata}
---

# {title}

{what}

Input are the frames of a video, or other images of one scene. Output are, for every frame, its camera, a depth map, a
map of the points that are seen, and confidences of both{mask_output}.

Converted from {source} to the format of Transformers by page4d {version}; the weights are unchanged{cast}.

## Use

With the package `page4d` installed:

```python
import page4d_hf
from transformers import AutoModel

model = AutoModel.from_pretrained("path/to/this/folder").eval()
```

Without it, `AutoModel.from_pretrained("path/to/this/folder", trust_remote_code=True)` runs the code that lies in this
folder beside the weights.

```python
import torch
from transformers import AutoImageProcessor

processor = AutoImageProcessor.from_pretrained("path/to/this/folder")
inputs = processor(images=frames, return_tensors="pt")  # frames: a list of images
with torch.no_grad():
    output = model(**inputs)
extrinsics, intrinsics = output.cameras()
```

Cameras are world-to-camera with OpenCV axes (x right, y down, z forward), and the first frame's camera is the world.
Depth is along the camera's z axis. The scale is arbitrary, and one for all of a sequence.

## This model

| | |
| --- | --- |
| Parameters | {parameters:,} |
| Heads | {heads} |
| Mask | {mask} |
| Precision of the weights | {precision} |
| Image size | {image_size} x {image_size} is native; any multiples of {patch_size} pixels work |

## Training data and metrics

PAGE-4D starts from VGGT and fine-tunes its middle layers on videos of moving scenes. Data and protocols are described
in the papers: [PAGE-4D](https://arxiv.org/abs/2510.17568), [VGGT](https://arxiv.org/abs/2503.11651). What the authors
of PAGE-4D report for video depth (their Table 1; one scale for a sequence, lower Abs Rel is better):

| Abs Rel | Sintel | Bonn | DyCheck |
| --- | --- | --- | --- |
| VGGT | 0.484 | 0.107 | 0.182 |
| PAGE-4D | 0.357 | 0.092 | 0.170 |

These are the authors' figures, not measurements of this conversion.

## Limits

- The scale is not metric, and cameras are pinholes with the principal point at the centre of the image.
- Global attention over all frames makes memory and time grow with the length of the sequence.
- Sequences are expected to show one scene; cuts in a video are not noticed.
- The dynamics mask tells where the network looks away from for its cameras. It is no segmentation of what moves.
{track_limit}
## Licence

The weights are VGGT's or derived from them, and keep their licence, the [VGGT License]({license_link}).
The release of PAGE-4D states none of its own. The code in this folder is under Apache-2.0.
"""


def model_card(config: Page4DConfig, *, num_parameters: int, source: str) -> str:
    """Write the card of a converted model.

    Args:
        config: of the converted model.
        num_parameters: how many it has.
        source: where its weights come from.

    Returns:
        Markdown with the Hub's metadata at its beginning.
    """
    masked = config.mask_form is not None
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-to-3d",
        license="other",
        license_name="vggt",
        license_link=VGGT_LICENSE,
        base_model="facebook/VGGT-1B",
        tags=["page4d", "vggt", "depth-estimation", "camera-pose-estimation", "dynamic-scenes", "custom_code"],
    )
    heads = [name for name in ("camera", "depth", "point", "track") if getattr(config, f"enable_{name}")]
    return _CARD.format(
        metadata=metadata.to_yaml(),
        title="PAGE-4D" if masked else "The network of VGGT and PAGE-4D, without a mask",
        what=(
            "PAGE-4D estimates cameras, depth and points of moving scenes in one pass. It is VGGT with a\n"
            "dynamics-aware mask, which keeps the cameras from looking at what moves."
            if masked
            else "It estimates cameras, depth and points of a scene in one pass. VGGT and the unmasked variant of\n"
            "PAGE-4D have this network; where the weights come from tells which of the two this is."
        ),
        mask_output=", and a map of how much it is taken for moving" if masked else "",
        source=source,
        version=page4d_version(),
        cast="" if config.dtype == "float32" else f", but for encoder and aggregator being rounded to {config.dtype}",
        parameters=num_parameters,
        heads=", ".join(heads),
        mask=f"{config.mask_form} form, strength {config.mask_strength:g}" if masked else "none",
        precision="float32" if config.dtype == "float32" else f"{config.dtype}, heads float32",
        image_size=config.image_size,
        patch_size=config.patch_size,
        track_limit=("- The track head is VGGT's; PAGE-4D does not train it.\n" if config.enable_track else ""),
        license_link=VGGT_LICENSE,
    )


__all__ = ["model_card"]
