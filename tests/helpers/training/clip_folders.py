"""Small data sets of clips of noise, as Parquet shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.spatial.transform import Rotation

from page4d_hf.clips import ClipFrames, clip_features
from page4d_hf.clips.encoding import encode_frames

SIZE = (30, 40)  # of the frames, (height, width)


def noise_clip(name: str, count: int, **changes: Any) -> ClipFrames:
    """A clip of `count` frames with everything a clip can have; keywords replace its fields."""
    generator = np.random.default_rng(sum(name.encode()))
    values: dict[str, Any] = {
        "images": generator.integers(0, 256, (count, *SIZE, 3), np.uint8),
        "depth": generator.uniform(1, 3, (count, *SIZE)).astype(np.float32),
        "motion_mask": generator.random((count, *SIZE)) < 0.5,
        "intrinsics": np.tile(np.array([[35.0, 0, 21], [0, 36, 14], [0, 0, 1]]), (count, 1, 1)),
        "extrinsics": np.concatenate(
            (Rotation.random(count, random_state=0).as_matrix(), generator.normal(size=(count, 3, 1))), axis=-1
        ),
        "timestamps": np.arange(count, dtype=np.float64),
        "source": "noise",
        "clip_id": name,
        "frame_ids": [str(i) for i in range(count)],
        "metric": True,
    }
    return ClipFrames(**{**values, **changes})


def row(clip: ClipFrames, **changes: Any) -> dict[str, Any]:
    """A clip as a row; keywords replace its columns."""
    return {**encode_frames(clip, sequence="noise"), **changes}


def write_shards(folder: Path, shards: Sequence[Sequence[dict[str, Any]]], split: str = "train") -> str:
    """Write rows as the shards of a split; the folder's path."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for i, rows in enumerate(shards):
        shard = Dataset.from_list(list(rows), features=clip_features())
        shard.to_parquet(folder / "data" / f"{split}-{i:05d}.parquet")
    return str(folder)
