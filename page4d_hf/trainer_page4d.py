"""What `transformers.Trainer` needs to train a PAGE-4D with a schedule of its mask."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.modeling_utils import unwrap_model


class Page4DMaskScheduleCallback(TrainerCallback):
    """Tells the mask's schedule how many optimizer steps have been made.

    Without it the strength of the mask stays in training what it is at the schedule's start. See
    [`Page4DModel.set_training_step`].
    """

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before a step: what the mask is to be as strong as in it."""
        _set_training_step(kwargs["model"], state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After it: what is saved then counts it."""
        _set_training_step(kwargs["model"], state.global_step)


def _set_training_step(model: nn.Module, step: int) -> None:
    network: Any = unwrap_model(model, recursive=True)
    network.set_training_step(step)


__all__ = ["Page4DMaskScheduleCallback"]
