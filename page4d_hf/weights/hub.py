"""Fetches the published checkpoints from the Hugging Face Hub and converts them.

`HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HOME`, `HF_TOKEN` and what else huggingface_hub knows are honoured.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import logging

from ..configuration_page4d import Page4DConfig
from ..errors import CheckpointError
from ..utils.folders import claimed_folder
from ..utils.programs import command, one_line
from .convert_checkpoint import convert_checkpoint

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """Location of a checkpoint on the Hub, and the values of its configuration that tensors do not show."""

    repo_id: str
    repo_type: str
    filenames: tuple[str, ...]  # the same weights in several formats, the preferred one first
    overrides: Mapping[str, Any]  # values of Page4DConfig

    def __str__(self) -> str:
        return f"the {self.repo_type} repository {self.repo_id}"


_PAGE4D = ("zhouk777/PAGE4D", "dataset")

PUBLISHED = {
    # Should the file hold the mask head nevertheless, it is not used.
    "nomask": PublishedCheckpoint(
        *_PAGE4D, ("checkpoint_nomask.pt",), {"mask_strength": 0.0, "base_weights": "page4d"}
    ),
    "mask": PublishedCheckpoint(*_PAGE4D, ("checkpoint_mask.pt",), {"mask_form": "release", "base_weights": "page4d"}),
    "vggt": PublishedCheckpoint(
        "facebook/VGGT-1B", "model", ("model.safetensors", "model.pt"), {"base_weights": "vggt"}
    ),
    # Gated: its owners want their conditions accepted.
    "vggt-commercial": PublishedCheckpoint(
        "facebook/VGGT-1B-Commercial",
        "model",
        ("vggt_1B_commercial.pt", "model.safetensors", "model.pt"),
        {"base_weights": "vggt-commercial"},
    ),
}


def pull(
    name: str,
    output: str | Path = "page4d",
    *,
    revision: str | None = None,
    dtype: str = "float32",
    overwrite: bool = False,
    note: Callable[[str], object] = logger.warning,
) -> Page4DConfig:
    """Fetch a published checkpoint from the Hub and convert it to a folder for `from_pretrained`.

    Args:
        name: a key of `PUBLISHED`; `"vggt-commercial"` needs its owners' consent.
        output: the folder to make.
        revision: branch, tag or commit of the repository; the newest by default.
        dtype, overwrite, note: as for `convert_checkpoint`.

    Returns:
        The configuration of the converted model.
    """
    with claimed_folder(output, overwrite=overwrite):
        path = download(name, revision=revision, output=output)
        checkpoint, commit = PUBLISHED[name], path.parent.name
        return convert_checkpoint(
            path,
            output,
            dtype=dtype,
            source=f"`{path.name}` of {checkpoint} on the Hugging Face Hub (commit {commit})",
            overwrite=overwrite,
            overrides=checkpoint.overrides,
            note=note,
        )


def download(name: str, *, revision: str | None = None, output: str | Path = "page4d") -> Path:
    """Fetch a published checkpoint into the cache of the Hub, where it is not there yet: `.../<commit>/<file>`.

    Without a connection, what the cache has of the revision serves.

    Args:
        name: a key of `PUBLISHED`.
        revision: branch, tag or commit of the repository; the newest by default.
        output: where the model shall go in the end, for what the message advises.
    """
    if name not in PUBLISHED:
        raise CheckpointError(f"There is no published checkpoint {name!r}; there are {', '.join(PUBLISHED)}.")
    checkpoint = PUBLISHED[name]
    failures: list[Exception] = []
    for filename in checkpoint.filenames:
        try:
            return _fetch(checkpoint, filename, revision)
        except (HTTPError, OSError) as error:
            failures.append(error)
    # What hinders the preferred file tells most, unless it is only that the repository has it in another format.
    failure = next((error for error in failures if not isinstance(error, EntryNotFoundError)), failures[0])
    filename = checkpoint.filenames[0]
    url = hf_hub_url(checkpoint.repo_id, filename, repo_type=checkpoint.repo_type, revision=revision)
    raise CheckpointError(
        f"{filename} cannot be fetched from {checkpoint}: {_reason(failure, checkpoint, revision)}. "
        f"By hand: download {url} and run `{command('page4d', 'convert', filename, output)}`."
    ) from failure


def _fetch(checkpoint: PublishedCheckpoint, filename: str, revision: str | None) -> Path:
    """The path of a file in the cache."""
    place: dict[str, Any] = {"repo_id": checkpoint.repo_id, "repo_type": checkpoint.repo_type, "filename": filename}
    place["revision"] = revision
    try:
        # A download tries again and again. One question beforehand tells at once who cannot succeed.
        get_hf_file_metadata(hf_hub_url(**place))
    except (EntryNotFoundError, RevisionNotFoundError):
        raise
    except (HTTPError, OSError) as error:
        try:
            return Path(hf_hub_download(**place, local_files_only=True))
        except LocalEntryNotFoundError:
            raise error from None
    try:
        return Path(hf_hub_download(**place))
    except LocalEntryNotFoundError as error:  # is raised from what went wrong on the way
        raise error.__cause__ or error from None
    except HfHubHTTPError:
        raise
    except HTTPError as error:  # the Hub was there a moment ago
        raise ConnectionAbortedError(f"{type(error).__name__}: {error}") from error


def _reason(error: Exception, checkpoint: PublishedCheckpoint, revision: str | None) -> str:
    """Reason of a failed download, as part of a sentence."""
    endpoint, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, and the file is not in the cache {cache}"
    if isinstance(error, GatedRepoError):
        prefix = constants.REPO_TYPES_URL_PREFIXES.get(checkpoint.repo_type, "")
        page = f"{endpoint}/{prefix}{checkpoint.repo_id}"
        return (
            f"its owners ask you to accept their conditions; do so at {page} and log in by `hf auth login`, and run "
            "the command again once they have granted access"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"{endpoint} has no such repository, or not for you; where it is private, log in by `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"the repository has no revision {revision!r}"
    if isinstance(error, EntryNotFoundError):
        return f"the repository has no such file{f' at revision {revision!r}' if revision else ''}"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        advice = "; log in by `hf auth login`" if status in (401, 403) else "; try again later"
        return f"{endpoint} answered {status} {error.response.reason_phrase}{advice}"
    if isinstance(error, FileMetadataError):
        return f"what answers at {endpoint} is no Hugging Face Hub; look at HF_ENDPOINT and at the proxy's settings"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        full = "allows no file of that size" if error.errno == errno.EFBIG else "is full"
        return f"the disk with the cache {cache} {full}; free some space, or name another place in HF_HOME"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the cache {cache} cannot be written to ({error.strerror}); name another place in HF_HOME"
    if isinstance(error, ConnectionAbortedError) or "onsistency check" in str(error):
        return f"the download broke off ({one_line(error)}); run the command again"
    return f"there is no connection to {endpoint} ({type(error).__name__}: {' '.join(str(error).split())})"
