"""A UDP socket."""

from __future__ import annotations

import select
import socket
import time

WAIT = 20.0  # seconds; a bound, not a measure

Address = tuple[str, int]


class Port:
    """A UDP socket that counts what goes out and what comes in."""

    def __init__(self, source: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        try:  # root may have more than the system's bound
            self.sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        except PermissionError:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.sock.bind((source, port))
        self.sock.setblocking(False)
        self.sent = self.received = 0  # bytes
        self.record: list[bytes] | None = None  # a list given here gets every packet that goes out

    @property
    def address(self) -> Address:
        return self.sock.getsockname()[:2]

    def send(self, packet: bytes, to: Address) -> None:
        try:
            self.sock.sendto(packet, to)
        except (BlockingIOError, ConnectionRefusedError):
            return  # lost, as datagrams are
        self.sent += len(packet)
        if self.record is not None:
            self.record.append(packet)

    def recv(self, timeout: float) -> tuple[bytes, Address] | None:
        """The next datagram; None: none came in time."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                packet, peer = self.sock.recvfrom(65536)
            except ConnectionRefusedError:
                continue
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                    return None
                continue
            self.received += len(packet)
            return packet, peer[:2]

    def is_silent(self, seconds: float) -> bool:
        return self.recv(seconds) is None

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
