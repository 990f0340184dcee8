#!/usr/bin/env python3
"""The plain sides of the package's test: a service that sends back what it gets, and one who asks it.

    echo.py serve PORT
    echo.py ask PORT BYTES       exit status 0 if what comes back is what was sent
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
import time

CHUNK = 1 << 16
DEADLINE = 120.0


def answer(connection: socket.socket) -> None:
    """Sends back until the other side has ended, then ends."""
    with connection:
        while data := connection.recv(CHUNK):
            connection.sendall(data)


def serve(port: int) -> None:
    """Serves for ever."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def read_digest(connection: socket.socket, result: list[tuple[int, str]]) -> None:
    """Reads to the end."""
    digest, size = hashlib.sha256(), 0
    while data := connection.recv(CHUNK):
        digest.update(data)
        size += len(data)
    result.append((size, digest.hexdigest()))


def ask(port: int, size: int) -> int:
    """Sends random bytes both ways at once and compares."""
    result: list[tuple[int, str]] = []
    digest, left, began = hashlib.sha256(), size, time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        reader = threading.Thread(target=read_digest, args=(connection, result))
        reader.start()
        while left > 0:
            data = os.urandom(min(CHUNK, left))
            digest.update(data)
            connection.sendall(data)
            left -= len(data)
        connection.shutdown(socket.SHUT_WR)
        reader.join()
    same = result == [(size, digest.hexdigest())]
    print(f"{size} bytes there and back in {time.monotonic() - began:.1f} s: {'the same' if same else 'NOT THE SAME'}")
    return 0 if same else 1


def main() -> int:
    """The command."""
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    return ask(int(sys.argv[2]), int(sys.argv[3]))


if __name__ == "__main__":
    sys.exit(main())
