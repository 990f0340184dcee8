"""What stands at the plain sides of a tunnel: local servers and clients."""

from __future__ import annotations

import hashlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import curve_tun as ct

from .basics import PATIENCE, until


@dataclass
class Record:
    """One connection that a Backend served."""

    sock: socket.socket
    data: bytearray = field(default_factory=bytearray)  # the first KEEP bytes
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    ended: str = ""  # "eof", "reset" or "timeout", once it has ended
    done: threading.Event = field(default_factory=threading.Event)

    KEEP = 8 << 20

    def take(self, data: bytes) -> None:
        if self.size < self.KEEP:
            self.data += data
        self.digest.update(data)
        self.size += len(data)

    def read_to_end(self, timeout: float = PATIENCE) -> None:
        self.sock.settimeout(timeout)
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionResetError:
                self.ended = "reset"
                return
            except TimeoutError:
                self.ended = "timeout"
                return
            if not data:
                self.ended = "eof"
                return
            self.take(data)


Handler = Callable[[Record], None]


def echo(record: Record) -> None:
    """Sends back what comes; ends when the other side has ended."""
    record.sock.settimeout(None)
    try:
        while data := record.sock.recv(1 << 17):
            record.take(data)
            record.sock.sendall(data)
        record.ended = "eof"
        record.sock.shutdown(socket.SHUT_WR)
    except OSError:
        record.ended = record.ended or "reset"


def echo_if_asked(record: Record) -> None:
    """Echoes what begins with "echo", takes the rest in silence."""
    record.sock.settimeout(600)
    try:
        while data := record.sock.recv(1 << 17):
            record.take(data)
            if record.data.startswith(b"echo"):
                record.sock.sendall(data)
        record.ended = "eof"
        record.sock.shutdown(socket.SHUT_WR)
    except OSError:
        record.ended = record.ended or "reset"


def sink(record: Record) -> None:
    record.read_to_end(timeout=600)


def source(data: bytes) -> Handler:
    """Sends `data`, ends its direction, then reads to the end."""

    def handler(record: Record) -> None:
        try:
            record.sock.sendall(data)
            record.sock.shutdown(socket.SHUT_WR)
        except OSError:
            record.ended = "reset"
            return
        record.read_to_end(timeout=600)

    return handler


def hold(record: Record) -> None:
    """Reads nothing and says nothing until the test sets `done` itself."""
    record.done.wait(600)


class Backend:
    """A local server, TCP or unix; each connection has a thread and a Record."""

    def __init__(
        self, handler: Handler = echo, *, host: str = "127.0.0.1", path: Path | None = None, port: int = 0
    ) -> None:
        self.handler = handler
        self.records: list[Record] = []
        self.path = path
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
            self.listener.listen(1024)
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.listener = socket.create_server((host, port), family=family, backlog=4096)
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            record = Record(sock)
            self.records.append(record)
            threading.Thread(target=self._serve, args=(record,), daemon=True).start()

    def _serve(self, record: Record) -> None:
        try:
            self.handler(record)
        finally:
            record.sock.close()
            record.done.set()

    @property
    def address(self) -> str:
        """As a configuration writes it."""
        if self.path:
            return f"unix:{self.path}"
        host, port = self.listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def wait_records(self, count: int, seconds: float = PATIENCE) -> list[Record]:
        until(lambda: len(self.records) >= count, f"{count} connections at the backend", seconds)
        return self.records

    def wait_done(self, index: int = -1, seconds: float = PATIENCE) -> Record:
        """Waits until that connection exists and has ended."""
        self.wait_records(index + 1 if index >= 0 else 1, seconds)
        record = self.records[index]
        assert record.done.wait(seconds), f"the backend's connection does not end; {record.size} bytes so far"
        return record

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for record in self.records:
            record.done.set()

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Local:
    """A local application's connection to the plain side of a client end."""

    reset_early = False

    def __init__(self, address: tuple[str, int] | str, source: str | None = None, timeout: float = PATIENCE) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(address)
        else:
            try:
                self.sock = ct.open_socket(address, source, timeout)
            except ConnectionResetError:  # the daemon was quicker than connect()
                self.sock = socket.socket()
                self.reset_early = True

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise AssertionError(f"end of stream after {len(data)} of {size} bytes")
            data += part
        return bytes(data)

    def echo(self, data: bytes) -> bytes:
        self.send(data)
        return self.recv_exactly(len(data))

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def read_to_end(self) -> tuple[bytes, str]:
        """All that comes, and how it ended: "eof" or "reset"."""
        if self.reset_early:
            return b"", "reset"
        record = Record(self.sock)
        record.read_to_end(self.sock.gettimeout() or PATIENCE)
        assert record.ended != "timeout", f"no end within the wait; {record.size} bytes so far"
        return bytes(record.data), record.ended

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_readable(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])


def push_until_stuck(sock: socket.socket, most: int) -> int:
    """Sends until nothing has gone out for two seconds; fails if `most` bytes went."""
    sent, block = 0, bytes(1 << 20)
    stuck_since = time.monotonic()
    while time.monotonic() - stuck_since < 2:
        # Asked first: a socket with a timeout would wait in send() for that long, whatever the flag says.
        if select.select([], [sock], [], 0.02)[1]:
            sent += sock.send(block, socket.MSG_DONTWAIT)
            stuck_since = time.monotonic()
        assert sent < most, f"{sent} bytes went out and nobody reads"
    return sent
