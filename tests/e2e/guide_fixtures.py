"""What the tests of the guides share: a web server behind the tunnels, a folder for the machines, and open guides."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import guides as g
import pytest
import support as s

HELLO = b"hello through the tunnel\n"
BLOB = os.urandom(300_000)


class Web(ThreadingHTTPServer):
    """The service behind the tunnels."""

    asked = 0

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), WebRequest)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class WebRequest(BaseHTTPRequestHandler):
    """A greeting, a blob, or the hash of what was sent."""

    server: Web

    def answer(self, body: bytes) -> None:
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:  # noqa: N802 (the library's name)
        self.answer(BLOB if self.path == "/blob" else HELLO)

    def do_PUT(self) -> None:  # noqa: N802
        size = int(self.headers["Content-Length"])
        self.answer(hashlib.sha256(self.rfile.read(size)).hexdigest().encode())

    def log_message(self, *_: Any) -> None:
        pass


def carries_bytes(port: int) -> None:
    """Much goes through unchanged, both ways."""
    web = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    web.request("GET", "/blob")
    assert web.getresponse().read() == BLOB
    web.close()
    web.request("PUT", "/", BLOB)
    assert web.getresponse().read().decode() == hashlib.sha256(BLOB).hexdigest()
    web.close()


@pytest.fixture(autouse=True)
def tools() -> None:
    """What more than one guide, or its test, calls."""
    for name in ("curl", "openssl", "pgrep"):
        s.need_tool(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's, which other users may not enter."""
    path = Path(tempfile.mkdtemp(prefix="curvegate-guide-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


ServeWeb = Callable[[int], Web]
OpenGuide = Callable[..., g.Guide]


@pytest.fixture
def serve_web() -> Iterator[ServeWeb]:
    servers: list[Web] = []

    def serve(port: int) -> Web:
        servers.append(Web(port))
        return servers[-1]

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def open_guide(folder: Path) -> Iterator[OpenGuide]:
    guides: list[g.Guide] = []

    def make(
        name: str, *ports: int, text: str | None = None, own: tuple[int, ...] = (), **words: str
    ) -> g.Guide:
        path = g.FOLDER / name
        if text is not None:
            path = folder / name
            path.write_text(text)
        hosts = {"server.example": "localhost", "192.0.2.1": "127.0.0.1"}
        guides.append(g.Guide(path, folder, ports, hosts | words, own_ports=own))
        return guides[-1]

    yield make
    for guide in guides:
        guide.close()
