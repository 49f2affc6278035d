"""Makes docs/images/first-screen.webp: a video, its depth and motion, and a new view of the scene.

    make demo
    page4d share --load-config demo-out/training/page4d-4dgs/video/config.yml --output new-view.mp4 \\
        --path held-out --width 480 --fps 12 --seconds 4
    python docs/figures/first_screen.py --scene demo-out/scene --new-view new-view.mp4
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from page4d_hf.frames import read_frames
from page4d_hf.scene import read_scene
from page4d_hf.scene.drawing import colored

GAP = 8


@dataclass
class FirstScreen:
    """Lay four moving pictures out in a square, and write them as one animation."""

    scene: Path
    """Folder of the reconstruction."""
    new_view: Path
    """Video of the trained scene from cameras that were not trained on; it runs through the same time."""
    output: Path = Path(__file__).parents[1] / "images/first-screen.webp"
    """The animation."""
    size: tuple[int, int] = (420, 315)
    """Width and height of each picture."""
    frame_milliseconds: int = 83
    """How long each frame is shown."""

    def main(self) -> None:
        scene, novel = read_scene(self.scene), read_frames(str(self.new_view)).images
        depths = [scene.load_depth(i) for i in range(len(scene))]
        near, far = np.nanpercentile([1 / depth for depth in depths], (98, 2))
        frames = []
        for step in range(len(novel)):
            i = round(step * (len(scene) - 1) / (len(novel) - 1))
            parts = {
                "video": np.asarray(Image.open(scene.image_paths[i]).convert("RGB")),
                "depth": colored(1 / depths[i], far, near),
                "motion": colored(scene.load_motion(i), 0, 1, cv2.COLORMAP_INFERNO),
                "new view": novel[step],
            }
            frames.append(self._tiled(parts))
        first, *rest = frames[:-1]  # the demo's scene ends as it begins, so that the loop has no jump
        first.save(
            self.output,
            save_all=True,
            append_images=rest,
            duration=self.frame_milliseconds,
            loop=0,
            quality=72,
            method=4,
        )
        print(f"Wrote {self.output}, {self.output.stat().st_size / 1e6:.1f} MB.")

    def _tiled(self, parts: dict[str, np.ndarray]) -> Image.Image:
        width, height = self.size
        sheet = Image.new("RGB", (2 * width + GAP, 2 * height + GAP), "white")
        draw = ImageDraw.Draw(sheet)
        font = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), 17)
        for place, (name, pixels) in enumerate(parts.items()):
            left, top = (place % 2) * (width + GAP), (place // 2) * (height + GAP)
            sheet.paste(Image.fromarray(pixels).resize(self.size, Image.Resampling.LANCZOS), (left, top))
            draw.text((left + 12, top + 9), name, font=font, fill="white", stroke_width=2, stroke_fill="#26303c")
        return sheet


if __name__ == "__main__":
    tyro.cli(FirstScreen, description=__doc__).main()
