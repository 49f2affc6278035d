"""Reconstructions by PAGE-4D, kept on disk, because every `ns-*` command rebuilds its data from `config.yml`.

Of several commands that want the same reconstruction at once, the first makes it and the others wait for it.

An entry is a scene folder, `<cache>/reconstructions/<frames>-<model>`: `<frames>` stands for the bytes of the frames,
the resolution, windows and refinement, and the version of page4d, `<model>` for the weights and for whether the mask
was used. It is written whole or not at all. Where the weights are gone, an entry that was made with a model of the same
name is taken: what was trained can still be seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.frames import Frames
from page4d_hf.package_version import page4d_version
from page4d_hf.scene.folder import Scene, read_scene, write_scene
from page4d_hf.utils.locks import hold
from page4d_hf.weights.identity import fingerprint

from ..console import note

CACHE_VARIABLE = "PAGE4D_CACHE"

Reconstruct = Callable[[Callable[[], Frames], str], Scene]
"""`reconstruct_once` with its options: from what reads some frames, and a digest that stands for them, to a scene."""


def default_cache_dir() -> Path:
    """`$PAGE4D_CACHE`, else `~/.cache/page4d`."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "page4d"


def digest_files(paths: Iterable[Path], *others: object) -> str:
    """A name for the bytes and the order of files, and for whatever else JSON can write down.

    Raises:
        Page4DError: a file cannot be read.
    """
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


def reconstruct_once(
    read: Callable[[], Frames],
    frames_digest: str,
    *,
    model: str | None,
    resolution: int | None = None,
    window: int = 100,
    overlap: int | None = None,
    use_mask: bool = True,
    refine: Literal["auto", "off"] = "auto",
    cache_dir: Path | None = None,
) -> Scene:
    """The reconstruction of some frames: from the cache, or made by PAGE-4D and put there.

    Args:
        read: reads the frames; called only where there is work to do.
        frames_digest: stands for the frames' bytes and all that decides how they are read (see `digest_files`).
        model: folder or Hub name of PAGE-4D's weights.
        resolution: width of PAGE-4D's input in pixels; the default is that of the model's image processor.
        window, overlap: in which windows long clips go through the network; see `reconstruct`.
        use_mask: False runs the network at mask strength 0, and leaves out what it says of motion.
        refine: whether cameras and depth are adjusted to point tracks; see `reconstruct`.
        cache_dir: where reconstructions are kept (default: `default_cache_dir()`).

    Raises:
        CheckpointError: no model is named, or there is none of that name and nothing in the cache.
        Page4DError: the frames cannot be read, or the disk is full.
    """
    if not model:
        raise CheckpointError(
            "Cameras and points by PAGE-4D need its weights: pass --model with a folder or a Hub name "
            "(`page4d pull mask --output page4d` fetches the published weights; then --model page4d)."
        )
    frames_key = digest_files((), page4d_version(), frames_digest, resolution, window, overlap, refine)
    try:
        cache = (cache_dir or default_cache_dir()).expanduser() / "reconstructions"
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
            read, model, use_mask, cache, frames_key, resolution, window, overlap, refine
        )


@contextmanager
def _alone(cache: Path, frames_key: str) -> Iterator[None]:
    """Wait until no other command reconstructs these frames, and keep others waiting meanwhile.

    Raises:
        Page4DError: nothing can be written there.
    """
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
    resolution: int | None,
    window: int,
    overlap: int | None,
    refine: Literal["auto", "off"],
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
            resolution=resolution,
            window=window,
            overlap=overlap,
            mask_strength=None if use_mask else 0.0,
            refine=refine,
            progress=report,
        )
    reconstruction.info |= {"model": model, "use_mask": use_mask}
    if not use_mask:
        # Its mask head still speaks, but what VGGT has no head for must not help here.
        reconstruction.dynamics = reconstruction.point_dynamics = None
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
        made_by = () if scene is None else (scene.info.get("model"), scene.info.get("use_mask", True))
        if scene is not None and made_by == (model, use_mask):
            note(f"no weights at {model}; using the reconstruction that they made, {entry}")
            return scene
    return None


def _model_key(model: str, use_mask: bool) -> str | None:
    """A name for weights and the use of their mask; None where there are no such weights."""
    weights = fingerprint(model)
    return None if weights is None else weights[:12] + ("" if use_mask else "-unmasked")
