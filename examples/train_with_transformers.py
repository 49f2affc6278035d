"""Fine-tuning with transformers' Trainer, on random scenes that are rendered as they are needed.

python examples/train_with_transformers.py page4d runs/trainer 20
"""

import sys

from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from page4d_hf import Page4DDataCollator, Page4DImageProcessor, Page4DMaskScheduleCallback, Page4DModel
from page4d_hf.clips import random_clips

weights, output, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
LABELS = ("depth", "extrinsics", "intrinsics", "motion_mask")


class RandomScenes(Dataset):
    """Clips of 4 frames, each of a scene of its own, without the batch dimension."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict:
        clips = random_clips([index], 4, (56, 56))
        return {"pixel_values": clips.images[0], "labels": {name: getattr(clips, name)[0] for name in LABELS}}


arguments = TrainingArguments(
    output, max_steps=steps, per_device_train_batch_size=2, learning_rate=1e-5, report_to="none", logging_steps=5
)
trainer = Trainer(
    Page4DModel.from_pretrained(weights),
    arguments,
    train_dataset=RandomScenes(),
    data_collator=Page4DDataCollator(),
    processing_class=Page4DImageProcessor.from_pretrained(weights),  # saved with the model, which is opened with it
    callbacks=[Page4DMaskScheduleCallback()],
)
trainer.train()
trainer.save_model(output)
