"""Cache of reconstructions on disk, because every `ns-*` command rebuilds its data from `config.yml`.

If several commands need the same reconstruction at once, the first makes it and the others wait.

An entry is a scene folder, `<cache>/reconstructions/<frames>-<model>`. `<frames>` is a digest of the frames' bytes, the
options, the files that options name, and the version of page4d; `<model>` of the weights, their image processor and
whether the mask was used. An entry is written whole or not at all. Where the weights are gone, an entry by a model of
the same name is used, so that trained scenes can still be viewed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.frames import IMAGE_SUFFIXES, Frames
from page4d_hf.package_version import page4d_version
from page4d_hf.scene.folder import Scene, read_scene, write_scene
from page4d_hf.utils.locks import hold
from page4d_hf.weights.identity import fingerprint

from ..console import note

CACHE_VARIABLE = "PAGE4D_CACHE"

Reconstruct = Callable[[Callable[[], Frames], str], Scene]
"""`reconstruct_once` with its options: from what reads some frames, and a digest that stands for them, to a scene."""


def cache_folder(chosen: Path | None, name: str) -> Path:
    """A folder of the cache that is chosen, by default `$PAGE4D_CACHE`, else `~/.cache/page4d`."""
    return (chosen or Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/page4d")).expanduser() / name


def digest_files(paths: Iterable[Path], *others: object) -> str:
    """A name for the bytes and the order of files, and for whatever else JSON can write down."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        content = hashlib.blake2b(digest_size=16)
        try:
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    content.update(block)
        except OSError as error:
            raise Page4DError(f"Cannot read {path}: {error.strerror}.") from error
        digest.update(content.digest())
    digest.update(json.dumps(others).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class ReconstructionOptions:
    """How frames are reconstructed: the options of the same names of `page4d_hf.reconstruct`."""

    resolution: int | None = None
    window: int = 100
    overlap: int | None = None
    refine: Literal["auto", "off"] = "auto"
    motion: str | None = None
    cameras: Path | None = None
    intrinsics: str | None = None
    distortion: Literal["none", "radial"] = "none"
    masks: Path | None = None
    metric_depth: str | None = None

    def of_all_frames(self, tracks: str | None) -> bool:
        """Whether they, or a file of the user's tracks, leave no frame out where a clip cuts."""
        from page4d_hf.reconstruction.cameras.known_cameras import read_intrinsics
        from page4d_hf.reconstruction.reconstruct import given_for_each_frame

        intrinsics = None if self.intrinsics is None else read_intrinsics(self.intrinsics)
        return given_for_each_frame(intrinsics, tracks, self.cameras, self.masks, self.motion)

    def digest(self) -> str:
        """Stands for the options, and for the bytes of the files that they name."""
        files = {name: _files_of(value) for name, value in vars(self).items()}
        values = {
            name: [file.name for file in files[name]] or (None if value is None else str(value))
            for name, value in vars(self).items()
        }
        return digest_files([file for each in files.values() for file in each], values)


def _files_of(value: object) -> list[Path]:
    """The files of an option that is a path: itself, or of a folder those that cameras and masks are read from."""
    if not isinstance(value, (str, Path)) or not os.path.exists(value):
        return []
    if os.path.isfile(value):
        return [Path(value)]
    files = (path for path in sorted(Path(value).rglob("*")) if path.is_file())
    return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES | {".bin", ".txt", ".json"}]


def reconstruct_once(
    read: Callable[[], Frames],
    frames_digest: str,
    *,
    model: str | None,
    options: ReconstructionOptions,
    use_mask: bool = True,
    cache_dir: Path | None = None,
) -> Scene:
    """The reconstruction of some frames: from the cache, or made by PAGE-4D and put there.

    `read` reads the frames, only where there is work to do; `frames_digest` stands for their bytes and all that decides
    how they are read (see `digest_files`). Without `use_mask` the network runs at mask strength 0, and motion is left
    out.
    """
    if not model:
        raise CheckpointError(
            "Cameras and points by PAGE-4D need its weights: pass --model with a folder or a Hub name "
            "(`page4d pull nomask --output page4d` fetches the published weights; then --model page4d)."
        )
    frames_key = digest_files((), page4d_version(), frames_digest, options.digest())
    try:
        cache = cache_folder(cache_dir, "reconstructions")
        scene = _find(model, use_mask, cache, frames_key)
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with a null byte, of nobody's home
        if isinstance(error, Page4DError):
            raise
        raise Page4DError(f"--model {model!r:.200} or the cache of reconstructions cannot be read: {error}.") from error
    if scene is not None:
        return scene
    with _alone(cache, frames_key):
        # Whoever held the lock before may have made it; weights of the Hub may have been fetched since.
        return _find(model, use_mask, cache, frames_key) or _reconstruct(
            read, model, use_mask, cache, frames_key, options
        )


@contextmanager
def _alone(cache: Path, frames_key: str) -> Iterator[None]:
    """Wait until no other command reconstructs these frames, and keep others waiting meanwhile."""
    lock = cache / f".{frames_key}.lock"
    with ExitStack() as stack:
        try:
            stack.callback(_remove_empty, cache)  # where nothing came of it
            cache.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(hold(lock, f"The reconstruction of these frames in {cache}"))
            except Page4DError as error:
                note(f"waiting: {error}")
                stack.enter_context(hold(lock, cache, wait=True))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise Page4DError(
                f"Cannot keep reconstructions in {str(cache)!r:.200}: {reason}; name another folder by --cache-dir or "
                f"${CACHE_VARIABLE}."
            ) from error
        yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError, ValueError):
        folder.rmdir()


def _find(model: str, use_mask: bool, cache: Path, frames_key: str) -> Scene | None:
    """The entry of the cache, where it is there and whole; without the weights the newest that they have made."""
    model_key = _model_key(model, use_mask)
    if model_key is None:
        return _newest_entry_of(model, use_mask, cache, frames_key)
    return _read_entry(cache / f"{frames_key}-{model_key}")


def _reconstruct(
    read: Callable[[], Frames],
    model: str,
    use_mask: bool,
    cache: Path,
    frames_key: str,
    options: ReconstructionOptions,
) -> Scene:
    # Seconds of imports, which a command that finds its reconstruction in the cache does without.
    from page4d_hf.reconstruction.reconstruct import reconstruct
    from page4d_hf.utils.progress import progress_bar
    from page4d_hf.weights.loading import load_model

    network, image_processor = load_model(model)  # a wrong name is told before a video is read
    frames = read()
    # A model of the Hub has a key only once it has been fetched.
    entry = cache / f"{frames_key}-{_model_key(model, use_mask)}"
    note(f"reconstructing {len(frames)} frames with {model}; the result is kept in {entry}")
    with progress_bar() as report:
        reconstruction = reconstruct(
            frames,
            network,
            image_processor=image_processor,
            mask_strength=None if use_mask else 0.0,
            progress=report,
            # Without the mask its head still speaks, but what VGGT has no head for must not help here.
            **(vars(options) if use_mask else vars(options) | {"motion": "off"}),
        )
    reconstruction.info |= {"model": model, "use_mask": use_mask}
    shutil.rmtree(entry, ignore_errors=True)  # a damaged one
    write_scene(entry, reconstruction)
    return read_scene(entry)


def _read_entry(entry: Path) -> Scene | None:
    if not entry.is_dir():
        return None
    try:
        return read_scene(entry)
    except Page4DError as error:
        note(f"the reconstruction in {entry} is damaged and is not used ({error})")
        return None


def _newest_entry_of(model: str, use_mask: bool, cache: Path, frames_key: str) -> Scene | None:
    """The newest reconstruction of these frames by a model of this name."""
    entries = sorted(cache.glob(f"{frames_key}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for entry in entries:
        scene = _read_entry(entry)
        if scene is not None and (scene.info.get("model"), scene.info.get("use_mask")) == (model, use_mask):
            note(f"no weights at {model}; using the reconstruction that they made, {entry}")
            return scene
    return None


def _model_key(model: str, use_mask: bool) -> str | None:
    """A name for weights and the use of their mask; None where there are no such weights."""
    weights = fingerprint(model)
    return None if weights is None else weights[:12] + ("" if use_mask else "-unmasked")
