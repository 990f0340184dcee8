"""What udp.py and bench/run measure with: real daemons with temporary keys, traffic with every byte checked."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import support as s  # noqa: E402

PATIENCE = 300.0  # seconds until a transfer counts as stuck
PIECE = 1 << 20
NOISE = os.urandom(PIECE)

# ---- daemons ----


@contextmanager
def site(name: str) -> Iterator[s.Site]:
    """A folder of its own; its daemons are stopped, and their ends checked, at the end."""
    with tempfile.TemporaryDirectory(prefix=f"curvegate-bench-{name}-") as folder:
        made = s.Site(Path(folder))
        try:
            yield made
        finally:
            made.close()


@dataclass
class Tunnel:
    """Two daemons: a client end with a plain port, a server end before a backend."""

    server: s.Daemon
    client: s.Daemon
    local: tuple[str, int]
    target: tuple[str, int]
    key: bytes  # the server's


@contextmanager
def tunnel(
    wire: str, backend: str, *, workers: int = 2, line: dict[str, Any] | None = None, waits: bool = True
) -> Iterator[Tunnel]:
    """`wire` is "curve_tun" or "curvecp", `backend` as a configuration writes it; `line` makes the UDP line bad.
    At the end the server waits until the client has acknowledged everything; not with a bad line, or without `waits`.
    """
    port = s.free_port()
    target = ("127.0.0.1", port)
    with ExitStack() as stack:
        far = stack.enter_context(site("far"))
        if line:
            target = stack.enter_context(s.UdpRelay(target, **line)).address
        near = stack.enter_context(site("near"))  # the first to end
        far.know("phone", near.key("client").public)
        accept = {"accept": f"{wire}:127.0.0.1:{port}", "connect": backend, "allow": "phone"}
        hurries = bool(line) or not waits
        more: dict[str, Any] = {"drain_timeout": "1s"} if hurries else {}
        server = far.start({"web": accept}, workers=workers, **more)
        if hurries:
            server.expected_exits.add(1)  # the last acknowledgments may be lost, or end with the relay or the client
        key = far.key("server").public
        make = s.udp_client_end if wire == "curvecp" else s.client_end
        client = make(near, target, key, workers=workers)
        yield Tunnel(server, client.daemon, client.address, target, key)


def cpu_of(daemon: s.Daemon) -> float:
    """CPU seconds of a daemon with its front and its vault."""
    return float(sum(s.cpu_seconds(pid) for pid in (daemon.pid, *(process.pid for process in daemon.family()))))


# ---- bulk ----

ASK = struct.Struct(">QQ")  # bytes that the client will send, bytes that it wants


def pieces(size: int) -> Iterator[bytes]:
    """That many bytes, no two pieces alike."""
    for at in range(0, size, PIECE):
        piece = at.to_bytes(8, "big") + NOISE[8:]
        yield piece[: size - at]


@functools.cache
def digest(size: int) -> bytes:
    hashed = hashlib.sha256()
    for piece in pieces(size):
        hashed.update(piece)
    return hashed.digest()


def send(sock: socket.socket, size: int) -> None:
    for piece in pieces(size):
        sock.sendall(piece)


def take(sock: socket.socket, size: int) -> bytes:
    """Reads that many bytes and gives their SHA-256."""
    hashed, buffer = hashlib.sha256(), memoryview(bytearray(1 << 18))
    while size > 0:
        got = sock.recv_into(buffer, min(size, len(buffer)))
        if got == 0:
            raise AssertionError(f"the stream ends {size} bytes early")
        hashed.update(buffer[:got])
        size -= got
    return hashed.digest()


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise AssertionError("the stream ends early")
        data += part
    return data


def at_once(*jobs: tuple[Any, ...]) -> None:
    """Runs them together; each is a function and its arguments."""
    threads = [threading.Thread(target=job[0], args=job[1:]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def serve(record: s.Record) -> None:
    """A backend: again and again takes what is announced and sends what is wanted, then tells what came."""
    sock = record.sock
    sock.settimeout(PATIENCE)
    try:
        while head := sock.recv(ASK.size, socket.MSG_WAITALL):
            up, down = ASK.unpack(head)
            came: list[bytes] = []
            at_once((lambda: came.append(take(sock, up)),), (send, sock, down))
            sock.sendall(came[0])
    except ConnectionError:
        return


def transfer(sock: socket.socket, up: int, down: int) -> float:
    """Moves so many bytes each way at once and checks them. Gives the seconds until both ends have them."""
    expected_up, expected_down = digest(up), digest(down)
    came: list[bytes] = []
    start = time.monotonic()
    sock.sendall(ASK.pack(up, down))
    at_once((lambda: came.append(take(sock, down)),), (send, sock, up))
    told = exactly(sock, len(expected_up))
    took = time.monotonic() - start
    assert came == [expected_down] and told == expected_up, "bytes have changed on their way"
    return took


def connect(address: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(address, PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


# ---- floods ----


@contextmanager
def flood(target: tuple[str, int], key: bytes, rate: float) -> Iterator[dict[str, float]]:
    """Hellos from 1,000 sources until the end of the block; then the result tells what was sent and answered."""
    result: dict[str, float] = {}
    args = [s.binary("curvegate-flooder"), "flood", target[0], str(target[1]), s.b64(key), str(rate)]
    process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == b"ready\n"
        yield result
        process.stdin.close()
        result |= json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait(s.PATIENCE)
        process.stdout.close()


def ask_for_cookies(target: tuple[str, int], key: bytes, seconds: float, in_flight: int) -> dict[str, float]:
    args = [
        s.binary("curvegate-flooder"),
        "ask",
        target[0],
        str(target[1]),
        s.b64(key),
        str(seconds),
        str(in_flight),
    ]
    done = s.run(args, timeout=seconds + 60)
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer
