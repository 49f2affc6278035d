"""Write a Nerfies capture at half its size, with nothing that a training does not read."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from PIL import Image

PARTS = ("dataset.json", "metadata.json", "scene.json", "points.npy", "points_rgb.npy", "points_motion.npy")


def halve(source: Path, target: Path) -> None:
    """Write `target`, whose `rgb/2x` has the images of `rgb/1x` at half their width and height."""
    images = sorted((source / "rgb" / "1x").iterdir())
    (target / "rgb" / "2x").mkdir(parents=True)
    shutil.copytree(source / "camera", target / "camera")
    for name in PARTS:
        if (source / name).is_file():
            shutil.copy(source / name, target)
    for path in images:
        with Image.open(path) as image:
            half = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        half.save(target / "rgb" / "2x" / f"{path.stem}.png", optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """A capture that is not there is one sentence on stderr, and exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, metavar="FROM", help="the capture")
    parser.add_argument("target", type=Path, metavar="TO", help="the folder to write")
    options = parser.parse_args(arguments)
    if not (options.source / "rgb" / "1x").is_dir():
        sys.exit(f"gpu_capture: Expected a capture in the layout of Nerfies; {options.source} has no folder rgb/1x.")
    halve(options.source, options.target)


if __name__ == "__main__":
    main()
