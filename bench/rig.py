"""What the cases of udp.py measure with: real daemons with temporary keys, traffic with every byte checked."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import select
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

    def cpu(self) -> float:
        return cpu_of(self.server) + cpu_of(self.client)


@contextmanager
def tunnel(carrier: str, backend: str, **line: float) -> Iterator[Tunnel]:
    """`carrier` is "udp" or "tcp", `backend` as a configuration writes it; `line` makes the UDP line bad."""
    port = s.free_port()
    target = ("127.0.0.1", port)
    with ExitStack() as stack:
        far = stack.enter_context(site("far"))
        if line:
            target = stack.enter_context(s.UdpRelay(target, seed=int(line.pop("seed")), **line)).address
        near = stack.enter_context(site("near"))  # the first to end
        far.know("phone", near.key("client").public)
        accept = {"accept": f"{carrier}:127.0.0.1:{port}", "connect": backend, "allow": "phone"}
        server = far.start({"web": accept}, **({"drain_timeout": "1s"} if line else {}))
        if line:
            server.expected_exits.add(1)  # the last acknowledgment may end with the relay, or be lost
        key = far.key("server").public
        make = s.udp_client_end if carrier == "udp" else s.client_end
        client = make(near, target, key)
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


# ---- many connections ----


class Crowd:
    """Many clients of a tunnel and the backend behind it, in one thread: a byte there, the same byte back."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.accepted: dict[int, socket.socket] = {}
        self.waiting: dict[int, tuple[socket.socket, bytes]] = {}
        self.served: list[socket.socket] = []

    def run(self, local: tuple[str, int], count: int, together: int, keep: bool) -> float:
        """Connects `count` times, `together` at once; each closes when its byte is back, or is kept. Gives seconds."""
        begun = finished = 0
        start = time.monotonic()
        while finished < count or (self.accepted and not keep):
            while begun < count and len(self.waiting) < together:
                self._begin(local, begun)
                begun += 1
            finished += self._turn(keep)
        return time.monotonic() - start

    def let_go(self) -> None:
        """Ends what was kept, and waits until the backend has seen every end."""
        while self.served:
            self.served.pop().close()
        while self.accepted:
            self._turn(keep=False)

    def _turn(self, keep: bool) -> int:
        events = self.epoll.poll(PATIENCE)
        assert events, "nothing happens any more"
        return sum(self._handle(fd, keep) for fd, _ in events)

    def _begin(self, local: tuple[str, int], number: int) -> None:
        sock = socket.create_connection(local, PATIENCE)
        byte = bytes([number % 256])
        sock.sendall(byte)
        self.waiting[sock.fileno()] = (sock, byte)
        self.epoll.register(sock, select.EPOLLIN)

    def _handle(self, fd: int, keep: bool) -> int:
        """Gives how many clients have been served by this: one or none."""
        if fd == self.listener.fileno():
            sock, _ = self.listener.accept()
            self.accepted[sock.fileno()] = sock
            self.epoll.register(sock, select.EPOLLIN)
        elif fd in self.accepted:
            self._echo(self.accepted[fd])
        elif fd in self.waiting:
            sock, byte = self.waiting.pop(fd)
            assert sock.recv(2) == byte, "the wrong byte comes back"
            self.epoll.unregister(sock)
            if keep:
                self.served.append(sock)
            else:
                sock.close()
            return 1
        return 0

    def _echo(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(64)
            sock.sendall(data)
        except ConnectionError:
            data = b""
        if not data:
            del self.accepted[sock.fileno()]
            self.epoll.unregister(sock)
            sock.close()

    def close(self) -> None:
        for sock in [
            self.listener,
            *self.accepted.values(),
            *self.served,
            *(sock for sock, _ in self.waiting.values()),
        ]:
            sock.close()
        self.epoll.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
