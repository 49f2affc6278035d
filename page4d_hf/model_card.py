"""The model card of a folder of weights: where they come from, under which licence, on what data they were trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from yaml import YAMLError

from .configuration_page4d import Page4DConfig
from .package_version import page4d_version

CC_BY_NC = "https://creativecommons.org/licenses/by-nc/4.0/"
VGGT_LICENSE = "https://github.com/facebookresearch/vggt/blob/main/LICENSE.txt"

# In each card that is written here, so that a later one may take its place; a card of somebody else stays.
MARK = "<!-- written by page4d -->"
# In those that transformers writes of itself, at `push_to_hub` and at `Trainer.create_model_card`.
MARKS_OF_LIBRARY = (
    "This model card has been automatically generated.",
    "This model card has been generated automatically according to the information the Trainer had access to.",
)
TAGS = ("page4d", "vggt", "depth-estimation", "camera-pose-estimation", "dynamic-scenes", "custom_code")
PROCEDURE = "\n## Training procedure\n"  # what a Trainer's card tells last: options, losses, versions
OF_CARD = ("base_weights", "trained_on")  # values of a configuration that no network is computed with


@dataclass(frozen=True)
class Terms:
    """Origin and licence of weights, as their card gives them."""

    what: str  # the title of a card
    words: str  # the licence in one or two sentences
    license: str  # as the Hub calls it
    license_name: str | None = None  # where the Hub has no name for it
    license_link: str | None = None
    base_model: str | None = None  # a model on the Hub


# By `Page4DConfig.base_weights`.
TERMS: dict[str | None, Terms] = {
    "page4d": Terms(
        "PAGE-4D",
        f"PAGE-4D's release states no licence for its weights. They derive from VGGT-1B, which is under [CC-BY-NC-4.0]"
        f"({CC_BY_NC}): take them to be for non-commercial use only.",
        license="other",
        license_name="not-stated",
        license_link="https://huggingface.co/datasets/zhouk777/PAGE4D",
        base_model="facebook/VGGT-1B",
    ),
    "vggt": Terms(
        "VGGT-1B",
        f"VGGT-1B's weights are under [CC-BY-NC-4.0]({CC_BY_NC}): for non-commercial use only.",
        license="cc-by-nc-4.0",
        base_model="facebook/VGGT-1B",
    ),
    "vggt-commercial": Terms(
        "VGGT-1B-Commercial",
        f"VGGT-1B-Commercial's weights are under the [VGGT licence]({VGGT_LICENSE}), which allows commercial use and "
        "forbids military use.",
        license="other",
        license_name="vggt",
        license_link=VGGT_LICENSE,
        base_model="facebook/VGGT-1B-Commercial",
    ),
    "page4d-tiny": Terms(
        "page4d-tiny",
        "page4d-tiny's weights are under Apache-2.0, as its code. It was trained without weights or data of others.",
        license="apache-2.0",
    ),
    None: Terms(
        "A network of the PAGE-4D family",
        "Where these weights started from is not known here. What derives from VGGT-1B is under [CC-BY-NC-4.0]"
        f"({CC_BY_NC}), non-commercial; PAGE-4D's release states no licence and derives from it; only "
        f"VGGT-1B-Commercial is under the [VGGT licence]({VGGT_LICENSE}).",
        license="other",
        license_name="unknown",
    ),
}

_CARD = """\
---
{metadata}
---

{mark}

# {title}

{what}

Input are the frames of a video, or other images of one scene. Output, for every frame: {outputs}.

{origin}

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
{read_off}
```

{conventions}The scale is arbitrary, and one for all of a sequence.

## Intended use

Videos of one scene, as a start for splatting, for editing and for research. {refinement}Not
intended: measuring in metres without known cameras, and anything where an error endangers people, such as steering a
vehicle.

## This model

| | |
| --- | --- |
| Base weights | {base} |
| Parameters | {parameters:,} |
| Heads | {heads} |
| Mask | {mask} |
| Precision of the weights | {precision} |
| Image size | {image_size} x {image_size} is native; any multiples of {patch_size} pixels work |

## Training data{and_metrics}

{data}

## Limits

- The scale is not metric, and cameras are pinholes with the principal point at the centre of the image.
- Global attention over all frames makes memory and time grow with the length of the sequence.
- Sequences are expected to show one scene; the network does not notice cuts in a video.
{limits}
## Licence

{license_words}{license_of_data} The code in this folder is under Apache-2.0.
"""

_PAPERS = """\
Data and protocols are described in the papers: [PAGE-4D](https://arxiv.org/abs/2510.17568),
[VGGT](https://arxiv.org/abs/2503.11651)."""

_PAGE4D_METRICS = """

What the authors of PAGE-4D report for video depth (their Table 1; one scale for a sequence, lower Abs Rel is better):

| Abs Rel | Sintel | Bonn | DyCheck |
| --- | --- | --- | --- |
| VGGT | 0.484 | 0.107 | 0.182 |
| PAGE-4D | 0.357 | 0.092 | 0.170 |

These are the authors' figures, not measurements of these weights."""


# What each head gives: in words, in the example's code, and by which convention.
_HEADS = {
    "camera": (
        "its camera",
        "extrinsics, intrinsics = output.cameras()",
        "Cameras are world-to-camera with OpenCV axes (x right, y down, z forward), and the first frame's camera is "
        "the world. ",
    ),
    "depth": ("a depth map with its confidence", "depth = output.depth", "Depth is along the camera's z axis. "),
    "point": (
        "a map of the points that are seen, with its confidence",
        "points = output.world_points",
        "Points are in the world of the first frame's camera. ",
    ),
    "track": (
        "where given points of the first frame are",
        "tracks = model(**inputs, query_points=points_of_first_frame).tracks",
        "",
    ),
}


def model_card(
    config: Page4DConfig, *, num_parameters: int, source: str | None = None, tags: Sequence[str] = ()
) -> str:
    """The card of a model, in Markdown with the Hub's metadata at its beginning.

    `base_weights` of the configuration decide the licence, its `trained_on` are named as data. `source` is the
    checkpoint that the model was converted from, unchanged; None of a model that was made otherwise, of which the card
    then says no more than where it started from. `tags` come after the card's own.
    """
    terms = TERMS[config.base_weights]
    masked = config.mask_form is not None
    trained_on = list(dict.fromkeys(config.trained_on))
    heads = [name for name in _HEADS if getattr(config, f"enable_{name}")]
    depends = {
        "vggt": terms.base_model,
        "depth-estimation": "depth" in heads,
        "camera-pose-estimation": "camera" in heads,
    }
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="depth-estimation" if heads == ["depth"] else "image-to-3d",
        license=terms.license,
        license_name=terms.license_name,
        license_link=terms.license_link,
        base_model=terms.base_model,
        tags=[*(tag for tag in TAGS if depends.get(tag, True)), *tags],
    )
    title = terms.what
    quantization = config.to_dict().get("quantization_config")
    dtype = config.dtype or "float32"
    precision = "float32" if dtype == "float32" else f"{dtype}, heads float32"
    if quantization is not None:
        method = quantization.get("quant_method")
        precision = f"quantized by {getattr(method, 'value', method)}, heads float32"
    rounded = "" if dtype == "float32" else f", but for encoder and aggregator being rounded to {dtype}"
    if source is not None:
        origin = f"Converted from {source} to the format of Transformers by page4d {page4d_version()}; the weights are "
        origin += f"unchanged{rounded}."
    elif trained_on:
        origin = f"Trained with page4d {page4d_version()}. Base weights: {_base(config)}."
        title += ", trained further" if config.base_weights else ""
    else:
        origin = f"Saved by page4d {page4d_version()}. This card does not tell how the weights were trained since."
        title = f"Weights that start from {title}" if config.base_weights else title
    limits = (
        "- The dynamics mask tells where the network looks away from for its cameras. It is no segmentation of what "
    )
    limits = f"{limits}moves.\n" if masked else ""
    if config.enable_track:
        limits += "- The track head is VGGT's; PAGE-4D does not train it.\n"
    outputs = [_HEADS[name][0] for name in heads] + (["a map of how much it is taken for moving"] if masked else [])
    is_published = config.base_weights == "page4d" and source is not None
    return _CARD.format(
        metadata=metadata.to_yaml(),
        mark=MARK,
        title=title,
        what=(
            "PAGE-4D estimates cameras, depth and points of moving scenes in one pass. It is VGGT with a\n"
            "dynamics-aware mask, which keeps the cameras from looking at what moves."
            if masked
            else "It is of the family of VGGT and PAGE-4D, which see a whole scene in one pass, without a "
            "dynamics-aware mask."
        ),
        outputs="; ".join(outputs),
        read_off="\n".join(_HEADS[name][1] for name in heads),
        conventions="".join(_HEADS[name][2] for name in heads),
        refinement=(
            "`page4d reconstruct` refines the cameras by bundle adjustment, which you want before you train on them. "
            if "camera" in heads
            else ""
        ),
        origin=origin,
        base=_base(config),
        parameters=num_parameters,
        heads=", ".join(heads),
        mask=f"{config.mask_form} form, strength {config.mask_strength:g}" if masked else "none",
        precision=precision,
        image_size=config.image_size,
        patch_size=config.patch_size,
        and_metrics=" and metrics" if is_published else "",
        data=_data(config, trained_on) + (_PAGE4D_METRICS if is_published else ""),
        limits=limits,
        license_words=terms.words,
        license_of_data=" The licences of the data that it was trained on apply too." if trained_on else "",
    )


def write_model_card(folder: str | os.PathLike[str], config: Page4DConfig, *, num_parameters: int) -> None:
    """Write the card of a saved model to `README.md` in its folder, unless somebody else's is there.

    Nobody's are cards that were written here, and those that transformers wrote of itself and that name no licence;
    what they have of tags and of a Trainer's procedure is kept.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(folder) / "README.md"
    tags: Sequence[str] = ()
    procedure = ""
    if path.exists():
        text = path.read_text(encoding="utf-8", errors="replace")
        if MARK not in text and not any(mark in text for mark in MARKS_OF_LIBRARY):
            return
        try:
            metadata = ModelCard(text, ignore_metadata_errors=True).data.to_dict()
        except (ValueError, YAMLError):  # metadata that the Hub could not read: somebody has been at it
            return
        if MARK not in text and metadata.get("license"):
            return
        tags = [tag for tag in metadata.get("tags") or () if tag not in TAGS]
        procedure = "".join(text.partition(PROCEDURE)[1:])
    card = model_card(config, num_parameters=num_parameters, tags=tags)
    path.write_text(card + procedure, encoding="utf-8")


def data_name(dataset: str) -> str:
    """What a card calls a data set: its id on the Hub, or the name of its folder without those above it."""
    return Path(dataset).resolve().name if Path(dataset).exists() else dataset


def licence(config: Page4DConfig) -> str:
    """The licence of a model's weights, in a sentence or two of plain text."""
    return TERMS[config.base_weights].words.replace("[", "").replace("](", " (")


def _base(config: Page4DConfig) -> str:
    terms = TERMS[config.base_weights]
    if config.base_weights is None:
        return "not known, or random weights"
    return f"{terms.what}, which derives from VGGT-1B" if config.base_weights == "page4d" else terms.what


def _data(config: Page4DConfig, trained_on: list[str]) -> str:
    told = []
    if config.base_weights == "page4d":
        told.append(
            "PAGE-4D starts from VGGT-1B and fine-tunes its middle layers on videos of moving scenes. " + _PAPERS
        )
    elif config.base_weights in ("vggt", "vggt-commercial"):
        told.append("VGGT was trained on captures and rendered scenes, most of them static. " + _PAPERS)
    elif config.base_weights == "page4d-tiny":
        told.append("page4d-tiny was trained on rendered scenes of this project alone.")
    if trained_on:
        told.append(f"Trained since on: {', '.join(trained_on)}.")
    if not told:
        told.append("Not known.")
    return "\n\n".join(told)
