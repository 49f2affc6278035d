"""What `transformers.Trainer` needs to train a PAGE-4D: a collator of clips, and the steps of the mask's schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import default_collate
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.modeling_utils import unwrap_model

from .errors import Page4DError


class Page4DDataCollator:
    """Stacks clips, whose `labels` are a dict, to a batch of tensors. Nothing is padded, and what is `None` left out.

    ```python
    >>> Trainer(model, arguments, train_dataset=clips, data_collator=Page4DDataCollator())
    ```

    A clip is `{"pixel_values": [S, 3, H, W], "labels": {"extrinsics": [S, 3, 4], ...}}`, without the batch dimension of
    what [`Page4DModel.forward`] takes: tensors, arrays or nested lists, as rows of `datasets` are.
    """

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The clips with a batch dimension before all others.

        Raises:
            Page4DError: they differ in their size, in their number of frames, or in what is known of them; or what one
                holds is no array of numbers.
        """
        clips = [_tensors(clip) for clip in features]
        shapes = [_shapes(clip) for clip in clips]
        for other in shapes[1:]:
            if differing := sorted(name for name in {*shapes[0], *other} if shapes[0].get(name) != other.get(name)):
                found = [given.get(differing[0], "missing") for given in (shapes[0], other)]
                raise Page4DError(
                    f"Expected clips that are alike in a batch; {differing[0]} is {found[0]} in one and {found[1]} in "
                    "another: bring them to one size and number of frames, and give zeros with has_pose, has_depth or "
                    "has_motion false for what is not known."
                )
        batch: dict[str, Any] = default_collate(clips)
        return batch


def _tensors(clip: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """A clip with tensors for values, in dicts as they were."""
    tensors: dict[str, Any] = {}
    for name, value in clip.items():
        if isinstance(value, Mapping):
            tensors[name] = _tensors(value, f"{within}{name}.")
        elif value is not None:
            try:
                tensors[name] = torch.as_tensor(value)
            except (TypeError, ValueError, RuntimeError) as error:
                raise Page4DError(f"Expected {within}{name} of a clip as an array of numbers: {error}.") from error
    return tensors


def _shapes(clip: Mapping[str, Any], within: str = "") -> dict[str, tuple[int, ...]]:
    """The shape of every value of a clip, by its name; `()` of plain numbers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in clip.items():
        if isinstance(value, Mapping):
            shapes |= _shapes(value, f"{within}{name}.")
        else:
            shapes[within + name] = tuple(value.shape)
    return shapes


class Page4DMaskScheduleCallback(TrainerCallback):
    """Tells the mask's schedule how many optimizer steps have been made.

    Without it the strength of the mask stays in training what it is at the schedule's start. See
    [`Page4DModel.set_training_step`].
    """

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before a step: what the mask is to be as strong as in it."""
        network: Any = unwrap_model(kwargs["model"], recursive=True)
        network.set_training_step(state.global_step)

    on_step_end = on_step_begin  # what is saved then counts the step
