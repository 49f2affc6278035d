"""Training by `transformers.Trainer`, without a line of code of the project's own training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainingArguments

from page4d_hf import Page4DDataCollator, Page4DMaskScheduleCallback, Page4DModel
from page4d_hf.errors import Page4DError

NUM_FRAMES, HEIGHT, WIDTH = 2, 14, 28


class TinyClips(Dataset):
    """A wall at a distance that its brightness tells, and a camera that steps aside."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        distance = 1 + index / 8
        extrinsics = torch.eye(3, 4).repeat(NUM_FRAMES, 1, 1)
        extrinsics[1, 0, 3] = 0.3 * (1 if index % 2 else -1)
        ramp = torch.linspace(0, 0.2, WIDTH).expand(NUM_FRAMES, 3, HEIGHT, WIDTH)
        return {
            "pixel_values": (ramp + distance / 3 + 0.05 * torch.arange(NUM_FRAMES)[:, None, None, None]).clamp(0, 1),
            "labels": {
                "extrinsics": extrinsics,
                "intrinsics": torch.tensor([[20.0, 0, WIDTH / 2], [0, 20, HEIGHT / 2], [0, 0, 1]]).repeat(2, 1, 1),
                "depth": torch.full((NUM_FRAMES, HEIGHT, WIDTH), distance),
                "has_pose": torch.tensor(True),
                "has_depth": torch.tensor(index != 5),
            },
        }


def trainer(model: Page4DModel, folder: Path, **arguments: Any) -> Any:
    from transformers import Trainer  # it imports what could report a training, for seconds

    defaults = {
        "per_device_train_batch_size": 4,
        "learning_rate": 3e-3,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **{**defaults, **arguments}),
        train_dataset=TinyClips(),
        eval_dataset=TinyClips(),
        data_collator=Page4DDataCollator(),
    )


@pytest.fixture
def model(tiny_model) -> Page4DModel:
    return tiny_model(initializer_range=0.05, layerscale_value=0.2)


@pytest.mark.slow
def test_bfloat16_and_accumulation_train_too(model, tmp_path):
    run = trainer(model, tmp_path, max_steps=2, bf16=True, per_device_train_batch_size=2, gradient_accumulation_steps=2)

    assert run.train().training_loss > 0


@pytest.mark.slow
def test_the_collator_makes_the_trainer_work_as_it_is(model, tmp_path):
    from transformers import Trainer

    run = Trainer(
        model,
        TrainingArguments(str(tmp_path), max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True),
        train_dataset=TinyClips(),
        data_collator=Page4DDataCollator(),
    )

    assert run.train().global_step == 2
    assert run.state.log_history[-1]["train_loss"] > 0


def test_the_collator_stacks_and_never_pads():
    clips = TinyClips()
    batch = Page4DDataCollator()([clips[4], clips[5]])

    assert batch["pixel_values"].shape == (2, NUM_FRAMES, 3, HEIGHT, WIDTH)
    assert batch["labels"]["extrinsics"].shape == (2, NUM_FRAMES, 3, 4)
    assert batch["labels"]["has_depth"].tolist() == [True, False]


def test_rows_of_datasets_are_collated_with_what_they_hold_of_nothing_left_out():
    clip = TinyClips()[5]
    row = {
        "pixel_values": clip["pixel_values"].tolist(),
        "labels": {**{name: value.numpy().tolist() for name, value in clip["labels"].items()}, "world_points": None},
        "query_points": None,
    }
    batch, expected = (Page4DDataCollator()([each, each]) for each in (row, clip))

    assert batch.keys() == expected.keys()
    assert batch["labels"].keys() == expected["labels"].keys()
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    for name, value in expected["labels"].items():
        assert torch.equal(batch["labels"][name], value)
        assert batch["labels"][name].dtype == value.dtype


@pytest.mark.parametrize("value", ["a name", [[1.0], [1.0, 2.0]]])
def test_what_is_no_array_is_named_by_the_collator(value):
    with pytest.raises(Page4DError, match=r"Expected labels\.depth of a clip as an array of numbers"):
        Page4DDataCollator()([{"labels": {"depth": value}}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clip: clip.update(pixel_values=clip["pixel_values"][..., :14]), r"pixel_values is \(2, 3, 14, 28\) in"),
        (lambda clip: clip.update(pixel_values=clip["pixel_values"][:1]), r"and \(1, 3, 14, 28\) in another"),
        (lambda clip: clip["labels"].pop("depth"), r"labels.depth is \(2, 14, 28\) in one and missing in another"),
        (lambda clip: clip.pop("labels"), "labels.* in one and missing in another"),
    ],
)
def test_clips_that_are_not_alike_are_refused_by_the_collator(change, message):
    other = TinyClips()[1]
    change(other)

    with pytest.raises(Page4DError, match=message):
        Page4DDataCollator()([TinyClips()[0], other])


@pytest.mark.slow
def test_the_callback_moves_the_schedule_of_the_mask(tiny_model, tmp_path):
    strengths = []

    class Record(TrainerCallback):
        def on_substep_end(self, *args: Any, model: Page4DModel, **kwargs: Any) -> None:
            strengths.append(model.aggregator.mask_schedule().item())

    model = tiny_model(mask_hold_start=0, mask_hold_end=2)
    run = trainer(model, tmp_path, max_steps=3, per_device_train_batch_size=1, gradient_accumulation_steps=2)
    run.add_callback(Page4DMaskScheduleCallback)
    run.add_callback(Record)
    run.train()

    assert strengths == pytest.approx([1, 0.5, 0], abs=1e-6)
    assert model.aggregator.mask_schedule.step == 3


@pytest.mark.slow
def test_evaluation_gives_predictions_and_their_labels(model, tmp_path):
    predicted = trainer(model, tmp_path, per_device_eval_batch_size=4).predict(TinyClips())

    assert predicted.metrics["test_loss"] > 0
    assert predicted.label_ids["depth"].shape == (8, NUM_FRAMES, HEIGHT, WIDTH)
    assert (8, NUM_FRAMES, 9) in {value.shape for value in predicted.predictions}


@pytest.mark.slow
def test_a_checkpoint_of_the_trainer_is_a_model(model, tmp_path):
    run = trainer(model, tmp_path, max_steps=1, save_strategy="steps", save_steps=1)
    run.train()

    loaded = Page4DModel.from_pretrained(tmp_path / "checkpoint-1")

    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
