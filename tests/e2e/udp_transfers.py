"""What the tests of forwarding over UDP share: blocks of which no two are alike, and transfers that are looked at from
all four places."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import support as s

BLOCK = os.urandom(1 << 20)


def blocks(size: int, seed: int) -> Iterator[bytes]:
    """That many bytes in blocks, no two alike."""
    for at in range(0, size, len(BLOCK)):
        block = at.to_bytes(8, "big") + seed.to_bytes(8, "big") + BLOCK[16:]
        yield block[: size - at]


def digest(size: int, seed: int) -> str:
    hashed = hashlib.sha256()
    for block in blocks(size, seed):
        hashed.update(block)
    return hashed.hexdigest()


def send_blocks(sock: socket.socket, size: int, seed: int) -> None:
    for block in blocks(size, seed):
        sock.sendall(block)
    sock.shutdown(socket.SHUT_WR)


def both_ways(size_up: int, size_down: int, seen: list[s.Record], timeout: float) -> s.Handler:
    """A backend that sends and takes at once."""

    def handler(record: s.Record) -> None:
        record.KEEP = 0
        record.sock.settimeout(timeout)
        sender = threading.Thread(target=send_blocks, args=(record.sock, size_down, 1))
        sender.start()
        record.read_to_end(timeout)
        sender.join()
        seen.append(record)

    return handler


def assert_carries(
    make: Callable[..., s.UdpTunnel], size_up: int, size_down: int, timeout: float = 60, **more: object
) -> s.UdpTunnel:
    """So many bytes each way at once, unchanged, and orderly ends at all four places."""
    seen: list[s.Record] = []
    with s.Backend(both_ways(size_up, size_down, seen, timeout)) as backend:
        tunnel = make(backend, **more)
        start = time.monotonic()
        with tunnel.open() as local:
            local.sock.settimeout(timeout)
            sender = threading.Thread(target=send_blocks, args=(local.sock, size_up, 2))
            sender.start()
            mine = s.Record(local.sock)
            mine.KEEP = 0
            mine.read_to_end(timeout)
            sender.join()
        theirs = backend.wait_done(seconds=timeout)
        took = time.monotonic() - start
    print(f"{(size_up + size_down) / 2**20 / took:.1f} MiB/s, {took:.1f} s")
    assert (mine.ended, mine.size) == ("eof", size_down) and (theirs.ended, theirs.size) == ("eof", size_up)
    assert mine.digest.hexdigest() == digest(size_down, 1)
    assert theirs.digest.hexdigest() == digest(size_up, 2)
    for daemon in tunnel.daemons:
        closed = daemon.wait_event("session_close", reason="end of stream")
        numbers = [int(closed.fields[key]) for key in ("bytes_in", "bytes_out")]
        assert sorted(numbers) == sorted((size_up, size_down))
    return tunnel


def far_end(backend: s.Backend, index: int = 0) -> s.Local:
    """The backend's socket, as a Local."""
    far = s.Local.__new__(s.Local)
    far.sock = backend.wait_records(index + 1)[index].sock
    far.sock.settimeout(s.PATIENCE)
    return far
