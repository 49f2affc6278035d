"""A small Hub on the loopback interface that takes uploads: what huggingface_hub's `upload_folder` asks of one."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class SmallHub:
    """What it was given."""

    endpoint: str = ""
    repositories: dict[str, dict[str, object]] = field(default_factory=dict)  # what was asked for when it was made
    files: dict[str, bytes] = field(default_factory=dict)  # by "<repository>/<path>"
    refuses: bool = False  # whether it knows nobody


class QuietHandler(BaseHTTPRequestHandler):
    """Answers requests and says nothing of them."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(handler: type[QuietHandler]) -> Iterator[str]:
    """Serve on the loopback interface for as long as it is needed, at the address that this gives."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: SmallHub) -> type[QuietHandler]:
    class Handler(QuietHandler):
        def answer(self, value: object, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.split("?")[0]
            if hub.refuses:
                return self.answer({"error": "Invalid username or password."}, 401)
            if path == "/api/repos/create":
                asked = json.loads(content)
                name = f"{asked['organization']}/{asked['name']}"
                if name in hub.repositories:
                    return self.answer({"error": "You already created this model repo", "url": f"/{name}"}, 409)
                hub.repositories[name] = asked
                return self.answer({"url": f"{hub.endpoint}/{name}", "name": name})
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            repository, _, action = path.removeprefix("/api/models/").rpartition("/main")[0].rpartition("/")
            if action == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(content)["files"]
                ]
                return self.answer({"files": files})
            if action == "commit":
                for line in content.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        value = entry["value"]
                        hub.files[f"{repository}/{value['path']}"] = base64.b64decode(value["content"])
                url = f"{hub.endpoint}/{repository}/commit/{COMMIT}"
                return self.answer({"commitUrl": url, "commitOid": COMMIT, "pullRequestUrl": None})
            return self.answer({"error": f"no such route: {self.path}"}, 404)

        def do_GET(self) -> None:
            self.answer({"error": f"no such route: {self.path}"}, 404)

    return Handler


@contextmanager
def small_hub() -> Iterator[SmallHub]:
    """Have one, for as long as it is needed."""
    hub = SmallHub()
    with serving(_handler(hub)) as hub.endpoint:
        yield hub
