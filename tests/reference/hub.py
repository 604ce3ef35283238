"""A small model hub on this machine: lists files, redirects large ones, serves ranges, and misbehaves where asked."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME, COMMIT = "someone/tiny", "c0ffee"


@dataclass
class Hub:
    """What it has, how it misbehaves, and what it was asked."""

    files: dict[str, bytes]
    licence: dict[str, str] = field(default_factory=lambda: {"license": "mit"})
    cut_after: int | None = None
    """Bytes of the weights after which the connection ends."""
    takes_ranges: bool = True
    listed_sha256: str | None = None
    status: int = 200
    redirect_to: str | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def listing(self) -> dict[str, Any]:
        def told(name: str, content: bytes) -> dict[str, Any]:
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            row: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
            if name.endswith(".safetensors"):
                found = self.listed_sha256 or hashlib.sha256(content).hexdigest()
                row["lfs"] = {"sha256": found, "size": len(content), "pointerSize": 134}
            return row

        siblings = [told(name, content) for name, content in self.files.items()]
        return {"id": NAME, "sha": COMMIT, "cardData": self.licence, "siblings": siblings}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub on a free port, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            cut = hub.cut_after if self.path.startswith("/cdn/") else None
            self.wfile.write(content if cut is None else content[:cut])

        def do_GET(self) -> None:
            hub.asked.append((self.path, dict(self.headers)))
            if hub.status != 200:
                return self.answer(hub.status, b"")
            if self.path.startswith(f"/api/models/{NAME}/revision/main"):
                return self.answer(200, json.dumps(hub.listing()).encode())
            name = self.path.rpartition("/")[2]
            if name not in hub.files or COMMIT not in self.path:
                return self.answer(404, b"")
            if name.endswith(".safetensors") and not self.path.startswith("/cdn/"):
                return self.answer(302, b"", Location=hub.redirect_to or f"{hub.url}/cdn/{COMMIT}/{name}")
            start = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")
            if int(start) and hub.takes_ranges:
                return self.answer(206, hub.files[name][int(start) :])
            return self.answer(200, hub.files[name])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
