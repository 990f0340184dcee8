"""What stands between two daemons: a man in the middle, or a bad line."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import curve_tun as ct

from .basics import PATIENCE


class Relay:
    """A man in the middle between two daemons who sees whole frames and may change what he passes on.

    `edit(direction, index, frame)` gives the frames to pass on instead (None: end the relay there); direction is
    "up" (client to server) or "down"; index counts the frames of a direction from 0. A frame includes its length.
    """

    Edit = Callable[[str, int, bytes], "list[bytes] | None"]

    def __init__(self, target: tuple[str, int], edit: Relay.Edit | None = None, end: str = "reset") -> None:
        self.target = target
        self.edit = edit or (lambda _direction, _index, data: [data])
        self.end = end
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address: tuple[str, int] = self.listener.getsockname()[:2]
        self.passed: list[tuple[str, bytes]] = []
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = ct.open_socket(self.target)
        except OSError:
            near.close()
            return
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cut = threading.Event()
        ways = (("up", near, far), ("down", far, near))
        threads = [threading.Thread(target=self._pass, args=(*way, cut), daemon=True) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        near.close()
        far.close()

    def _pass(self, direction: str, near: socket.socket, far: socket.socket, cut: threading.Event) -> None:
        """One direction, until its end or until the relay cuts."""
        near.settimeout(None)
        try:
            if self._pass_frames(direction, near, far):
                if not cut.is_set():
                    far.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass
        self._cut((near, far), cut)

    def _pass_frames(self, direction: str, near: socket.socket, far: socket.socket) -> bool:
        """False: `edit` wants the end now."""
        buffer = bytearray()
        index = 0
        while data := near.recv(1 << 18):
            buffer += data
            while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
                size = 2 + int.from_bytes(buffer[:2], "big")
                out = self.edit(direction, index, bytes(buffer[:size]))
                del buffer[:size]
                index += 1
                if out is None:
                    return False
                for item in out:
                    self.passed.append((direction, item))
                    far.sendall(item)
        return True

    def _cut(self, socks: tuple[socket.socket, socket.socket], cut: threading.Event) -> None:
        """Ends both connections: the other thread wakes up, then _serve() closes them."""
        cut.set()
        for sock in socks:
            try:
                if self.end == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.shutdown(socket.SHUT_RD)
                else:
                    sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class UdpRelay:
    """udp_relay.py in a process of its own: a bad line to a UDP server, by seed. `line` are its settings."""

    def __init__(
        self,
        target: tuple[str, int],
        *,
        seed: int = 1,
        source: str = "",
        record: Path | None = None,
        wrap: list[str] | None = None,
        listen: str = "127.0.0.1:0",
        **line: float,
    ) -> None:
        args = [*(wrap or []), sys.executable, "-B", str(Path(__file__).parents[1] / "udp_relay.py")]
        args += ["--listen", listen, "--to", f"{target[0]}:{target[1]}", "--seed", str(seed)]
        args += ["--source", source] if source else []
        args += ["--record", str(record)] if record else []
        for name, value in line.items():
            args += ["--" + name.replace("_", "-"), str(value)]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin and self.process.stdout
        self.record = record
        host, port = json.loads(self.process.stdout.readline())[:2]
        self.address: tuple[str, int] = (host, port)

    def _ask(self, command: str) -> bytes:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the relay has died"
        return answer

    def set(self, **line: float) -> None:
        self._ask("set " + " ".join(f"{name}={value}" for name, value in line.items()))

    def outage(self, seconds: float) -> None:
        self._ask(f"outage {seconds}")

    def rebind(self, source: str = "") -> None:
        """The server sees all clients come from new ports (of another address) from now on."""
        self._ask(f"rebind {source}".strip())

    def counts(self) -> dict[str, int]:
        return json.loads(self._ask("counts"))

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def __enter__(self) -> UdpRelay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
