"""The model card of page4d-tiny: how it was made, on what, how good it is, and what it is not for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.studies.study_clips import Synthetic
from huggingface_hub import ModelCardData
from pydantic_core import to_jsonable_python

from page4d_hf import Page4DConfig
from page4d_hf.synthetic import SyntheticOptions
from page4d_hf.utils.json_files import read_json

from .checkpoints import RUN_FILE, RunFolderError, RunRecord, read_history

_CARD = """\
---
{metadata}
---

# page4d-tiny

A PAGE-4D of {parameters:,} parameters that was trained from random weights on rendered scenes. It is for a first
look without a download, for tests, and for teaching. From the frames of a video it gives every frame's
camera, depth{heads} and a map of what is taken for moving.

```bash
page4d pull tiny --output page4d
```

```python
import page4d_hf
from transformers import AutoModel

model = AutoModel.from_pretrained("page4d").eval()
```

## What it is not for

- Reconstructing real videos. It has seen nothing but {seen}; what it says of other images is a guess.
- Images much larger than {width} pixels or much longer sequences than it was trained on.
- Anything that depends on being right: robots, measuring, safety. The scale of a scene is arbitrary.
- Judging PAGE-4D. The published network is {ratio:.0f} times as large and was trained on real videos.

`dynamics_mask` tells where the network looks away from for its cameras. It is no segmentation.

## How it was made

By `make tiny`: random scenes, rendered as they are used, and the programs of the repository, whose
`training/recipes/tiny` has all options. No data, and no weights of others, went into it.

| stage | starts from | steps | frames seen | pixels wide | trained | mask's strength | scenes | hours |
| --- | --- | ---: | ---: | ---: | --- | ---: | --- | ---: |
{stages}

A patch has {patch} pixels a side. Hours are of training steps alone, on the machine where they
were made. Versions: {versions}.

## How good it is

{figures}

`python evaluation/held_out.py --model page4d --output held-out` makes this table again; `--clips.seed N` takes others.

## Licence

Apache-2.0, as the code.
"""


# What a network has seen: rooms with bodies, or scenes laid out like life too.
BODIES = "rooms with ellipsoids and boxes, rendered without noise, blur or the distortion of a lens"
LIFELIKE = "rendered rooms, halls, streets and country, whose people and things are put together from simple solids"


@dataclass(frozen=True)
class Stage:
    """Fields of a run's `run.json` that the card gives."""

    name: str
    options: dict[str, Any]  # its run.json
    frames: int
    seconds: float

    @classmethod
    def of(cls, name: str, folder: Path) -> Stage:
        """Read a run that is through."""
        steps = [line for line in read_history(folder) if line.loss is not None]
        return cls(
            name,
            read_json(folder / RUN_FILE, RunRecord, error=RunFolderError, remedy="train again").model_dump(),
            sum(line.frames for line in steps),
            sum(line.seconds for line in steps),
        )

    def row(self) -> str:
        """Its row of the table."""
        options = self.options
        usual = to_jsonable_python(SyntheticOptions())
        scenes = ", ".join(f"{n} {_words(value)}" for n, value in options["scenes"].items() if value != usual[n])
        configuration = options["configuration"]
        strength = "no mask" if configuration["mask_form"] is None else f"{configuration['mask_strength']:g}"
        if configuration["mask_hold_start"] is not None and configuration["mask_form"] is not None:
            strength = f"1, to 0 from step {configuration['mask_hold_start']} to {configuration['mask_hold_end']}"
        if configuration["mask_loss_weight"]:
            strength += f"; taught what moves, weight {configuration['mask_loss_weight']:g}"
        cells = (
            self.name,
            "random weights" if options["model"] is None else Path(options["model"]).name,
            f"{options['max_train_steps']:,}",
            f"{self.frames:,}",
            str(options["sampling"]["width"]),
            ", ".join(options["train"]),
            strength,
            scenes or "as the generator makes them",
            f"{self.seconds / 3600:.1f}",
        )
        return f"| {' | '.join(cells)} |"


def _words(value: Any) -> str:
    return " to ".join(f"{one:g}" for one in value) if isinstance(value, list) else f"{value:g}"


def clips_of_card(clips: Synthetic) -> dict[str, Any]:
    """Clips as `evaluation/held_out.py` reads them from a card; of the scenes, what differs from the defaults."""
    values, usual = to_jsonable_python(clips), to_jsonable_python(SyntheticOptions())
    return {**values, "scenes": {name: v for name, v in values["scenes"].items() if v != usual[name]}}


def tiny_card(folder: Path, stages: list[Stage], held_out: Synthetic, table: str) -> str:
    """The card, in Markdown with metadata at its beginning; `table` is as `evaluation/held_out.py` writes it."""
    from safetensors import safe_open

    config = Page4DConfig.from_pretrained(folder)
    parameters = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                # The count of steps of a mask's schedule is saved, and is no parameter.
                if not name.endswith("mask_schedule.step"):
                    parameters += math.prod(file.get_slice(name).get_shape())
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-to-3d",
        license="apache-2.0",
        tags=["page4d", "depth-estimation", "camera-pose-estimation", "dynamic-scenes"],
        held_out_clips=clips_of_card(held_out),
    )
    last = stages[-1].options
    lifelike = any(stage.options["scenes"]["lifelike"] for stage in stages)
    return _CARD.format(
        metadata=metadata.to_yaml(),
        parameters=parameters,
        heads=", point map" if config.enable_point else "",
        ratio=1_190_869_017 / parameters,
        stages="\n".join(stage.row() for stage in stages),
        seen=LIFELIKE if lifelike else BODIES,
        width=last["sampling"]["width"],
        patch=config.patch_size,
        versions=", ".join(f"{name} {version}" for name, version in last["versions"].items()),
        figures=table.partition("\n")[2].strip(),
    )
