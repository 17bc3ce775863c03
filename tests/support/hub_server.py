"""A minimal model hub on the loopback interface, for huggingface_hub's client.

It answers the requests of a download: the list of files at a revision, the headers of a file, and a file or a range of
it. It can interrupt, stall or refuse a download, or damage a file, and keeps a log of the requests.
"""

import hashlib
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit


class Request(NamedTuple):
    """An entry of the log."""

    method: str
    path: str  # of the URL, without the query
    start: int  # the first requested byte
    status: int


@dataclass
class Repository:
    """The files of a repository at one commit, to which several revisions can point."""

    files: Mapping[str, bytes]
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False

    @property
    def commit(self) -> str:
        """The commit's hash, which changes with the files."""
        return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(self.files.items()))).hexdigest()


@dataclass
class HubServer:
    """The server, started and stopped by a ``with`` statement."""

    repositories: Mapping[str, Repository]
    cut_after: list[int] = field(default_factory=list)  # for the next weights: bytes to send before disconnecting
    refuse: int = 0  # the HTTP status for weights
    damage: str = ""  # the file whose last byte is changed, so that its checksum is wrong
    stall_at: int | None = None  # for the weights: bytes to send before stalling
    log: list[Request] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client disconnected
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fetched(self) -> list[str]:
        """Return the names of the downloaded files, in order."""
        return [line.path.rpartition("/")[2] for line in self.log if line.method == "GET" and "/resolve/" in line.path]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    timeout = 30
    start = 0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        wanted = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        self.start = int(wanted[0])
        listing = parts[:2] == ["api", "models"]
        if listing:
            parts = parts[2:]
        name = "/".join(parts[:2])
        repository = self.hub.repositories.get(name)
        if repository is None:  # the same for missing and private repositories
            return self._refuse(401, "RepoNotFound", "Invalid username or password.")
        revision = parts[3] if len(parts) > 3 else "main"
        if revision not in (*repository.revisions, repository.commit):
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if listing:
            siblings = [{"rfilename": file} for file in sorted(repository.files)]
            answer = {"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings}
            return self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
        if repository.gated:
            return self._refuse(403, "GatedRepo", f"Access to model {name} is restricted.")
        data = repository.files.get("/".join(parts[4:]))
        if data is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        etag = hashlib.sha256(data).hexdigest()
        if parts[-1] == self.hub.damage:
            data = data[:-1] + bytes([data[-1] ^ 1])
        heavy = self.path.endswith((".safetensors", ".bin"))
        if heavy and self.hub.refuse and self.command == "GET":
            return self._refuse(self.hub.refuse, "", "Not today")
        headers = {
            "ETag": f'"{etag}"',
            "X-Repo-Commit": repository.commit,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if "Range" in self.headers:
            stop = int(wanted[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {self.start}-{stop}/{len(data)}"
            return self._send(206, data[self.start : stop + 1], headers, heavy)
        return self._send(200, data, headers, heavy)

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], heavy: bool = False) -> None:
        self.hub.log.append(Request(self.command, urlsplit(self.path).path, self.start, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if heavy and self.hub.stall_at is not None:
            self.wfile.write(body[: self.hub.stall_at])
            self.hub.stalled.set()
            self.hub.released.wait(20)
            self.close_connection = True
        elif heavy and self.hub.cut_after:
            self.wfile.write(body[: self.hub.cut_after.pop(0)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self.wfile.write(body)
