"""A UDP relay that makes a line bad: seeded loss, delay, reordering, duplicates, a rate, outages, a new port.

By hand:  python3 udp_relay.py --listen 7000 --to 127.0.0.1:7001 --loss 0.05 --delay-ms 20 --seed 1
and then lines on its standard input: `set loss=0.3`, `outage 2` (seconds), `rebind [ADDRESS]`, `counts`, `quit`.

Each client address has a socket of its own towards the server, so that the server sees one source a client;
`rebind` closes these sockets and opens others, as a NAT does that has forgotten. The chances are drawn from one
generator a direction, so a seed gives the same fates to the same sequence of datagrams.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

Address = tuple[str, int]

SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
UDP_SEGMENT, UDP_GRO = 103, 104
MOST_SEGMENTS, MOST_TRAIN = 64, 60000
BATCH = 64  # receive calls before others get their turn
COUNTS = ("up", "down", "up_bytes", "down_bytes", "dropped", "duplicated", "reordered", "queue_full", "unreachable")


@dataclass
class Line:
    """What may happen to a datagram, in both directions alike."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  # share that is held back for `reorder_ms` more than the others
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    reorder_ms: float = 10.0
    rate_mbit: float = 0.0  # 0: no bound
    queue_ms: float = 100.0  # what the bottleneck of `rate_mbit` keeps; the rest is dropped
    loss_up: float = -1.0  # instead of `loss` in one direction
    loss_down: float = -1.0

    def of(self, direction: str) -> float:
        own = self.loss_up if direction == "up" else self.loss_down
        return self.loss if own < 0 else own

    def is_clean(self) -> bool:
        chances = max(self.of("up"), self.of("down"), self.duplicate, self.reorder)
        return chances <= 0 and self.delay_ms <= 0 and self.jitter_ms <= 0 and self.rate_mbit <= 0


def udp_socket(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    for force, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, 16 << 20)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, plain, 16 << 20)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    sock.setblocking(False)
    sock.bind((host, port))
    return sock


@dataclass
class Way:
    """One direction: its generator and its bottleneck."""

    chance: random.Random
    free_at: float = 0.0  # when the bottleneck has sent what it keeps


@dataclass
class Flow:
    client: Address
    number: int
    sock: socket.socket


@dataclass(order=True)
class Late:
    due: float
    order: int
    flow: Flow = field(compare=False)
    direction: str = field(compare=False)
    packet: bytes = field(compare=False)


class Relay:
    """The relay's loop. `step()` does what is due; nothing else blocks."""

    def __init__(
        self, target: Address, listen: Address, line: Line, seed: int = 1, source: str = "", record: str = ""
    ) -> None:
        self.target = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)[0][4]
        self.line = line
        self.source = source or ("::1" if ":" in self.target[0] else "127.0.0.1")
        self.near = udp_socket(*listen)
        self.address: Address = self.near.getsockname()[:2]
        self.ways = {"up": Way(random.Random(f"{seed} up")), "down": Way(random.Random(f"{seed} down"))}
        self.flows: dict[Address, Flow] = {}
        self.by_socket: dict[int, Flow] = {}
        self.waiting: list[Late] = []
        self.order = 0
        self.outage_until = 0.0
        self.counts = dict.fromkeys(COUNTS, 0)
        self.epoll = select.epoll()
        self.epoll.register(self.near, select.EPOLLIN)
        self.record: BinaryIO | None = Path(record).open("wb") if record else None

    # what is commanded

    def outage(self, seconds: float) -> None:
        self.outage_until = time.monotonic() + seconds

    def rebind(self, source: str = "") -> None:
        """New sockets towards the server; what comes to the old ones is lost."""
        self.source = source or self.source
        for flow in self.flows.values():
            self._forget(flow.sock)
            flow.sock = self._upstream(flow)

    # the loop

    def step(self, timeout: float) -> None:
        if self.waiting:
            timeout = min(timeout, max(0.0, self.waiting[0].due - time.monotonic()))
        for fd, _ in self.epoll.poll(timeout):
            if fd == self.near.fileno():
                self._take_up()
            elif fd in self.by_socket:
                self._take_down(self.by_socket[fd])
        self._release()

    def _take_up(self) -> None:
        for train, size, peer in received(self.near):
            flow = self.flows.get(peer)
            if flow is None:
                flow = self._open(peer)
            self._pass(flow, "up", train, size)

    def _take_down(self, flow: Flow) -> None:
        for train, size, _ in received(flow.sock):
            self._pass(flow, "down", train, size)

    def _open(self, peer: Address) -> Flow:
        flow = Flow(peer, len(self.flows), self.near)
        flow.sock = self._upstream(flow)
        self.flows[peer] = flow
        return flow

    def _upstream(self, flow: Flow) -> socket.socket:
        sock = udp_socket(self.source, 0)
        sock.connect(self.target)
        self.by_socket[sock.fileno()] = flow
        self.epoll.register(sock, select.EPOLLIN)
        return sock

    def _forget(self, sock: socket.socket) -> None:
        self.epoll.unregister(sock)
        del self.by_socket[sock.fileno()]
        sock.close()

    # the fate of a datagram

    def _pass(self, flow: Flow, direction: str, train: bytes, size: int) -> None:
        now = time.monotonic()
        packets = [train[at : at + size] for at in range(0, len(train), size)] if len(train) > size else [train]
        self.counts[direction] += len(packets)
        self.counts[direction + "_bytes"] += len(train)
        if self.record:
            for packet in packets:
                self.record.write(struct.pack("<dBIH", now, direction == "up", flow.number, len(packet)) + packet)
        if now < self.outage_until:
            self.counts["dropped"] += len(packets)
            return
        if self.line.is_clean():
            self._send_train(flow, direction, packets)
            return
        for packet in packets:
            self._decide(flow, direction, packet, now)

    def _decide(self, flow: Flow, direction: str, packet: bytes, now: float) -> None:
        line, way = self.line, self.ways[direction]
        lost, again, held, jitter = (way.chance.random() for _ in range(4))
        if lost < line.of(direction):
            self.counts["dropped"] += 1
            return
        due = now
        if line.rate_mbit > 0:
            if way.free_at > now + line.queue_ms / 1000:
                self.counts["queue_full"] += 1
                return
            way.free_at = due = max(now, way.free_at) + len(packet) * 8 / (line.rate_mbit * 1e6)
        due += (line.delay_ms + jitter * line.jitter_ms) / 1000
        if held < line.reorder:
            self.counts["reordered"] += 1
            due += line.reorder_ms / 1000
        self._schedule(due, flow, direction, packet)
        if again < line.duplicate:
            self.counts["duplicated"] += 1
            self._schedule(due, flow, direction, packet)

    def _schedule(self, due: float, flow: Flow, direction: str, packet: bytes) -> None:
        self.order += 1
        heapq.heappush(self.waiting, Late(due, self.order, flow, direction, packet))

    def _release(self) -> None:
        """What is due goes out, neighbours of one way together."""
        now = time.monotonic()
        train: list[bytes] = []
        last: Late | None = None
        while self.waiting and self.waiting[0].due <= now:
            late = heapq.heappop(self.waiting)
            if last and (last.flow is not late.flow or last.direction != late.direction):
                self._send_train(last.flow, last.direction, train)
                train = []
            train.append(late.packet)
            last = late
        if last:
            self._send_train(last.flow, last.direction, train)

    def _send_train(self, flow: Flow, direction: str, packets: list[bytes]) -> None:
        sock = flow.sock if direction == "up" else self.near
        to = None if direction == "up" else flow.client
        for train, size in trains(packets):
            control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", size))] if len(train) > size else []
            try:
                sock.sendmsg([train], control, 0, to) if to else sock.sendmsg([train], control)
            except OSError:
                self.counts["unreachable"] += 1

    def close(self) -> None:
        for sock in (self.near, *[flow.sock for flow in self.flows.values()]):
            sock.close()
        self.epoll.close()
        if self.record:
            self.record.close()


def received(sock: socket.socket) -> Iterator[tuple[bytes, int, Address]]:
    """What waits, in trains as the kernel joined them, with the size of their datagrams."""
    for _ in range(BATCH):
        try:
            data, control, _, peer = sock.recvmsg(65536, 64)
        except BlockingIOError:
            return
        except OSError:
            continue  # the other end is not there: ICMP told so
        size = len(data)
        for level, kind, value in control:
            if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
                size = struct.unpack_from("H", value)[0]
        yield data, max(1, size), peer


def trains(packets: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """Joins neighbours of one size (the last may be shorter) for one call."""
    at = 0
    while at < len(packets):
        size, end, total = len(packets[at]), at + 1, len(packets[at])
        while end < len(packets) and end - at < MOST_SEGMENTS and len(packets[end - 1]) == size > 0:
            if not 0 < len(packets[end]) <= size or total + len(packets[end]) > MOST_TRAIN:
                break
            total += len(packets[end])
            end += 1
        yield b"".join(packets[at:end]), size
        at = end


@dataclass(frozen=True)
class Seen:
    """A datagram as the relay got it, before its fate."""

    at: float
    direction: str
    flow: int
    packet: bytes


def read_record(path: str) -> Iterator[Seen]:
    data = Path(path).read_bytes()
    at, head = 0, struct.calcsize("<dBIH")
    while at + head <= len(data):
        when, up, flow, size = struct.unpack_from("<dBIH", data, at)
        yield Seen(when, "up" if up else "down", flow, data[at + head : at + head + size])
        at += head + size


# ---- by hand ----


def obey(relay: Relay, command: str) -> bool:
    """One line of the standard input; False: the end."""
    word, *rest = command.split() or [""]
    if word == "quit":
        return False
    if word == "set":
        for pair in rest:
            key, value = pair.split("=")
            if key not in relay.line.__dataclass_fields__:
                print(f"no such setting: {key}", file=sys.stderr)
                continue
            setattr(relay.line, key, float(value))
    elif word == "outage":
        relay.outage(float(rest[0]))
    elif word == "rebind":
        relay.rebind(*rest[:1])
    elif word == "counts":
        print(json.dumps(relay.counts | {"flows": len(relay.flows)}), flush=True)
        return True
    else:
        print("commands: set KEY=NUMBER..., outage SECONDS, rebind [ADDRESS], counts, quit", file=sys.stderr)
    print("done", flush=True)
    return True


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:0", help="PORT or HOST:PORT (default: any port of 127.0.0.1)")
    parser.add_argument("--to", required=True, help="HOST:PORT")
    parser.add_argument("--source", default="", help="address of the sockets towards the server")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", default="", help="file for every datagram that came")
    for name, default in Line().__dict__.items():
        parser.add_argument("--" + name.replace("_", "-"), type=float, default=default)
    given = parser.parse_args()
    line = Line(**{name: getattr(given, name) for name in Line().__dict__})
    listen = address(given.listen if ":" in given.listen else f"127.0.0.1:{given.listen}")
    relay = Relay(address(given.to), listen, line, given.seed, given.source, given.record)
    print(json.dumps(relay.address), flush=True)
    try:
        relay.epoll.register(sys.stdin, select.EPOLLIN)
    except PermissionError:  # /dev/null or a file: nobody will say anything; until killed
        while True:
            relay.step(1.0)
    os.set_blocking(sys.stdin.fileno(), False)
    pending, running = b"", True
    while running:
        relay.step(1.0)
        try:
            data = os.read(sys.stdin.fileno(), 4096)
        except BlockingIOError:
            continue
        pending += data
        *commands, pending = pending.split(b"\n")
        running = bool(data) and all([obey(relay, command.decode()) for command in commands])
    relay.close()


if __name__ == "__main__":
    main()
