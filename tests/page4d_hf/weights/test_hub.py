"""`pull` through the real client of the Hub, from a small Hub on this machine."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from launching import AS_COMMAND
from published_weights import published_weights
from safetensors.torch import save
from small_hub import COMMIT, QuietHandler, serving

from page4d_hf import Page4DConfig
from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.weights.hub import PUBLISHED, download, pull

pytestmark = pytest.mark.slow

OLDER = "89abcdef0123456789abcdef0123456789abcdef"


@dataclass
class LocalHub:
    """What a Hub answers with: the routes that a download uses, on the loopback interface."""

    endpoint: str = ""
    files: dict[str, bytes] = field(default_factory=dict)  # by "<repository>/<commit>/<name>"
    refusal: tuple[int, str] | None = None  # a status and the Hub's own code for it
    truncated: bool = False  # whether files end early
    requests: list[str] = field(default_factory=list)

    def put(self, repository: str, name: str, content: bytes, commit: str = COMMIT) -> None:
        self.files[f"{repository}/{commit}/{name}"] = content

    def downloads(self) -> int:
        return sum(request.startswith("GET") for request in self.requests)


REVISIONS = {"main": COMMIT, "v0": OLDER, COMMIT: COMMIT, OLDER: OLDER}


def handler(served: LocalHub) -> type[QuietHandler]:
    class Handler(QuietHandler):
        def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: len(body) // 2] if served.truncated else body)
            if served.truncated:
                self.close_connection = True

        def do_HEAD(self) -> None:
            served.requests.append(f"{self.command} {self.path}")
            if served.refusal is not None:
                status, code = served.refusal
                return self.answer(status, {"X-Error-Code": code} if code else {})
            # /<repository>/resolve/<revision>/<name>
            repository, _, rest = self.path.strip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            if not any(path.startswith(f"{repository}/") for path in served.files):
                return self.answer(404, {"X-Error-Code": "RepoNotFound"})
            if revision not in REVISIONS:
                return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
            commit = REVISIONS[revision]
            content = served.files.get(f"{repository}/{commit}/{name}")
            if content is None:
                return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            etag = hashlib.sha256(content).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "X-Linked-Size": str(len(content))}
            return self.answer(200, headers, content)

        do_GET = do_HEAD

    return Handler


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the Hub, and empty."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ask(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Have a Hub elsewhere, as HF_ENDPOINT does in a new process."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    served = LocalHub()
    with serving(handler(served)) as served.endpoint:
        ask(monkeypatch, served.endpoint)
        yield served


def content(*, mask: bool = True, track: bool = False, safetensors: bool = False) -> bytes:
    """A checkpoint file as it is published."""
    weights = published_weights(mask=mask, track=track)
    if safetensors:
        return save(weights)
    file = io.BytesIO()
    torch.save({"model": weights}, file)
    return file.getvalue()


DATASET = "datasets/zhouk777/PAGE4D"
GATED = "facebook/VGGT-1B-Commercial"
REPOSITORIES = {"nomask": DATASET, "mask": DATASET, "vggt": "facebook/VGGT-1B", "vggt-commercial": GATED}


@pytest.mark.parametrize(
    ("name", "file", "holds", "base", "form", "strength"),
    [
        ("mask", "checkpoint_mask.pt", {}, "page4d", "release", 1),
        ("nomask", "checkpoint_nomask.pt", {"mask": False}, "page4d", None, 0),
        ("nomask", "checkpoint_nomask.pt", {}, "page4d", "release", 0),  # holds one, which is not used
        ("vggt", "model.safetensors", {"mask": False, "track": True, "safetensors": True}, "vggt", None, 0),
        ("vggt", "model.pt", {"mask": False, "track": True}, "vggt", None, 0),
        ("vggt-commercial", "vggt_1B_commercial.pt", {"mask": False}, "vggt-commercial", None, 0),
    ],
)
def test_a_checkpoint_is_fetched_in_the_format_that_there_is_and_converted_with_what_is_known_of_it(
    local_hub, tmp_path, name, file, holds, base, form, strength
):
    local_hub.put(REPOSITORIES[name], file, content(**holds))
    told: list[str] = []
    pull(name, tmp_path / "page4d", note=told.append)
    config = Page4DConfig.from_pretrained(tmp_path / "page4d")
    assert (config.base_weights, config.mask_form, config.mask_strength) == (base, form, strength)
    assert config.enable_track == holds.get("track", False)
    assert any("camera_num_attention_heads=3" in note for note in told)
    card = (tmp_path / "page4d" / "README.md").read_text()
    repository = f"the {PUBLISHED[name].repo_type} repository {PUBLISHED[name].repo_id}"
    assert f"`{file}` of {repository} on the Hugging Face Hub (commit {COMMIT})" in card
    assert ("under the [VGGT licence]" in card) == (name == "vggt-commercial")


def test_weights_that_are_gated_are_told_with_how_to_get_access(local_hub):
    local_hub.refusal = (401, "GatedRepo")
    message = hindrance(name="vggt-commercial")
    assert f"accept their conditions; do so at {local_hub.endpoint}/{GATED} " in message
    assert "log in by `hf auth login`, and run the command again once they have granted access" in message


def test_a_masked_checkpoint_that_turns_out_to_have_no_mask_is_refused(local_hub, tmp_path):
    local_hub.put(DATASET, "checkpoint_mask.pt", content(mask=False))
    with pytest.raises(CheckpointError, match=r"keys missing .*spatial_mask_head"):
        pull("mask", tmp_path / "page4d")


# ---------------------------------------------------------------------------------------------------------------
# The cache


@pytest.fixture
def published(local_hub) -> LocalHub:
    """A Hub with one file, whose content does not matter here, at two revisions."""
    local_hub.put(DATASET, "checkpoint_mask.pt", b"newer" * 1000)
    local_hub.put(DATASET, "checkpoint_mask.pt", b"older" * 1000, OLDER)
    return local_hub


def test_a_file_that_is_in_the_cache_is_not_fetched_again(published):
    first = download("mask")
    assert published.downloads() == 1
    assert download("mask") == first
    assert published.downloads() == 1
    assert first.read_bytes() == b"newer" * 1000


@pytest.mark.parametrize("revision", ["v0", OLDER])
def test_a_revision_is_a_tag_or_a_commit(published, revision):
    fetched = download("mask", revision=revision)
    assert fetched.read_bytes() == b"older" * 1000
    assert fetched.parent.name == OLDER


@pytest.mark.parametrize("refusal", [(503, ""), (401, "GatedRepo")])
def test_without_the_hub_the_cache_serves(published, refusal):
    first = download("mask")
    published.refusal = refusal
    assert download("mask") == first


# ---------------------------------------------------------------------------------------------------------------
# What hinders


def hindrance(revision: str | None = None, name: str = "mask") -> str:
    """What is said when a checkpoint cannot be fetched."""
    with pytest.raises(CheckpointError) as raised:
        download(name, revision=revision)
    message = str(raised.value)
    assert "\n" not in message
    assert "page4d convert" in message
    return message


def test_without_a_connection_it_is_said_what_is_missing_and_how_to_get_it_by_hand(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        ask(monkeypatch, endpoint)
        message = hindrance()
    assert "checkpoint_mask.pt cannot be fetched from the dataset repository zhouk777/PAGE4D" in message
    assert f"there is no connection to {endpoint}" in message
    assert f"download {endpoint}/datasets/zhouk777/PAGE4D/resolve/main/checkpoint_mask.pt and run" in message
    assert "`page4d convert checkpoint_mask.pt page4d`" in message


def test_what_is_to_be_done_by_hand_goes_to_the_folder_that_was_asked_for(monkeypatch):
    ask(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"`page4d convert checkpoint_mask\.pt 'my model'`"):
        download("mask", output="my model")


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            (403, "GatedRepo"),
            "ask you to accept their conditions; do so at {endpoint}/datasets/zhouk777/PAGE4D and log in",
        ),
        ((404, "RepoNotFound"), "{endpoint} has no such repository"),
        ((401, ""), "{endpoint} answered 401 Unauthorized; log in"),
        ((403, ""), "{endpoint} answered 403 Forbidden; log in"),
        ((503, ""), "{endpoint} answered 503 Service Unavailable; try again later"),
    ],
    ids=["gated", "no repository", "unauthorized", "forbidden", "down"],
)
def test_a_refusal_of_the_hub_is_told_with_what_to_do(published, refusal, message):
    published.refusal = refusal
    assert message.format(endpoint=published.endpoint) in hindrance()


def test_a_revision_that_does_not_exist_is_named(published):
    assert "the repository has no revision 'v9'" in hindrance(revision="v9")


def test_a_file_that_the_repository_does_not_have_is_named(published):
    message = hindrance(name="nomask")
    assert "checkpoint_nomask.pt cannot be fetched" in message
    assert "the repository has no such file" in message


def test_an_endpoint_that_is_no_hub_is_said_to_be_none(monkeypatch):
    class Other(QuietHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

    with serving(Other) as endpoint:
        ask(monkeypatch, endpoint)
        message = hindrance()
    assert "is no Hugging Face Hub; look at HF_ENDPOINT" in message


def test_a_download_that_breaks_off_is_told_and_leaves_no_file(published, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    published.truncated = True
    assert "the download broke off" in hindrance()
    published.truncated = False
    assert download("mask").read_bytes() == b"newer" * 1000


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"), (errno.EFBIG, "allows no file of that size")],
)
def test_a_cache_on_a_full_disk_is_told_with_what_to_do(published, cache, monkeypatch, code, reason):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    assert f"the disk with the cache {cache} {reason}; free some space" in hindrance()


def test_a_name_that_is_not_published_is_refused_with_those_that_are():
    with pytest.raises(
        CheckpointError, match="no published checkpoint 'large'; there are nomask, mask, vggt, vggt-commercial"
    ):
        download("large")


def test_an_output_folder_in_use_is_refused_before_anything_is_fetched(published, tmp_path):
    (tmp_path / "page4d").mkdir()
    (tmp_path / "page4d" / "notes.txt").touch()
    with pytest.raises(Page4DError, match="not empty"):
        pull("mask", tmp_path / "page4d")
    with pytest.raises(Page4DError, match=r"page4d did not write notes\.txt"):
        pull("mask", tmp_path / "page4d", overwrite=True)
    assert published.requests == []


# ---------------------------------------------------------------------------------------------------------------
# The command


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, "-c", AS_COMMAND + "from page4d_hf.cli import main\nmain()", "pull", *arguments],
        cwd=folder,
        env={**clean, "HF_HOME": str(folder / "cache"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_honours_the_endpoint_in_the_environment(local_hub, tmp_path):
    local_hub.put(DATASET, "checkpoint_mask.pt", content())
    done = command(tmp_path, "mask", HF_ENDPOINT=local_hub.endpoint)
    assert done.returncode == 0, done.stderr
    assert Page4DConfig.from_pretrained(tmp_path / "page4d").mask_form == "release"
    assert "Wrote page4d" in done.stdout
    assert "The mask head is used at strength 1, as the file's name says." in done.stdout
    assert "Licence: PAGE-4D's release states no licence for its weights." in done.stdout
