"""An existing reconstruction (`--reconstruction`), used in place of running PAGE-4D."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from page4d_hf.errors import SceneError
from page4d_hf.frames import VIDEO_SUFFIXES, normalized_times
from page4d_hf.scene.folder import POINT_ARRAYS, Scene, read_scene


def ready_reconstruction(
    folder: Path, frame_ids: Sequence[str], times: npt.NDArray[Any], image_sizes: npt.NDArray[Any]
) -> Scene:
    """The part of a scene folder that shows some frames of a capture.

    The scene may have been made of all of the capture's images, of any size, or of some of them: frames are known by
    the names of the files that it was made of, as its info.json has them. Or it was made of a video of just the frames
    that are wanted, which has no names: then they are known by their times.

    Args:
        folder: a scene folder of `page4d reconstruct`.
        frame_ids: of the capture's frames that are wanted.
        times: `(N,)` of these frames, in any unit.
        image_sizes: `(N, 2)` int, (width, height) at which they are wanted.

    Returns:
        The scene with these N frames in this order, intrinsics in pixels of the wanted sizes, without a point cloud.
    """
    scene = read_scene(folder)
    if not scene.info:
        raise SceneError(f"{folder} was not made by `page4d reconstruct`: it has no page4d/info.json.")
    stems = [Path(str(frame["source"])).stem for frame in scene.info.get("frames", [])]
    places = {stem: i for i, stem in enumerate(stems)}
    wanted = [Path(name).stem for name in frame_ids]
    missing = [name for name, stem in zip(frame_ids, wanted, strict=True) if stem not in places]
    if not missing:
        for names, whose in ((stems, f"the reconstruction {folder}"), (wanted, "the capture")):
            counts = Counter(names)
            shared = next((stem for stem in wanted if counts[stem] > 1), None)
            if shared is not None:
                raise SceneError(
                    f"{counts[shared]} frames of {whose} are called {shared}, and a reconstruction knows its frames by "
                    "the names of their files; give --model, which reconstructs the capture itself."
                )
        chosen = np.array([places[stem] for stem in wanted], np.int64)
    elif _is_video_at(scene, times):
        chosen = np.argsort(np.argsort(times))
    else:
        raise SceneError(
            f"The reconstruction {folder} lacks {len(missing)} of the {len(frame_ids)} frames that are asked of it, "
            f"such as {missing[0]}; make it of the capture's own images, whose names it keeps, or of a video of just "
            "these frames."
        )
    factors = image_sizes / scene.image_sizes[chosen]  # [N, 2]
    # Sizes are whole numbers: halving an odd side changes the aspect by up to a pixel.
    if (np.abs(factors[:, 0] / factors[:, 1] - 1) > 2 / image_sizes.min(axis=1)).any():
        raise SceneError(f"The images of the reconstruction {folder} have another aspect than the capture's.")
    intrinsics = scene.intrinsics[chosen].copy()
    intrinsics[:, :2] *= factors[:, :, None]
    pointless: dict[str, Any] = dict.fromkeys(POINT_ARRAYS)
    return replace(scene.take(chosen), intrinsics=intrinsics, image_sizes=np.asarray(image_sizes), **pointless)


def _is_video_at(scene: Scene, times: npt.NDArray[Any]) -> bool:
    """Whether a scene was made of a video whose frames are, in their order, at these instants."""
    if Path(str(scene.info.get("source"))).suffix.lower() not in VIDEO_SUFFIXES or len(scene.times) != len(times):
        return False
    apart = np.abs(np.sort(normalized_times(times)) - scene.times)
    return bool((apart < 0.5 / max(len(times) - 1, 1)).all())
