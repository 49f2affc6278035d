"""The Hub, where a trained model can go."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import LOCK
from page4d_hf.utils.programs import one_line

from .checkpoints import HISTORY_FILE, RUN_FILE


class HubError(Page4DError):
    """A repository that cannot be used."""


def create_repository(repository: str, private: bool) -> str:
    """Have a repository on the Hub that a model can be uploaded to.

    Returns:
        Its whole name, with that of its owner.
    """
    try:
        return HfApi().create_repo(repository, private=private, exist_ok=True).repo_id
    # The Hub's client raises its own, its HTTP library's and the system's.
    except Exception as error:
        raise HubError(
            f"--hub-model-id {repository}: the repository cannot be used ({one_line(error)}). Look at its "
            "name, and log in with `hf auth login`."
        ) from error


def push(folder: Path, repository: str) -> None:
    """Upload the model in a run's folder to a repository on the Hub; what tells of the run and its machine stays."""
    try:
        HfApi().upload_folder(
            repo_id=repository,
            folder_path=folder,
            ignore_patterns=["checkpoint-*", "logs/*", RUN_FILE, HISTORY_FILE, LOCK, ".*.partial-*"],
            commit_message="Upload a trained PAGE-4D",
        )
    except Exception as error:
        raise HubError(
            f"The trained model is in {folder}, but cannot be uploaded to {repository} "
            f"({one_line(error)}). The same command uploads it without training again."
        ) from error
