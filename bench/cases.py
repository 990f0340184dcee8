"""What bench/run measures through each tunnel, and what of it must hold."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import traffic
from peers import Kind, Tunnel
from traffic import Server

GB = 1e9
SETTLE = 3.0  # seconds until memory has its size


@dataclass(frozen=True)
class Column:
    """One figure of every tunnel."""

    name: str
    unit: str
    case: str


COLUMNS = {
    column.name: column
    for column in (
        Column("stream up", "GB/s", "stream"),
        Column("stream up, CPU", "s/GB", "stream"),
        Column("both ways", "GB/s", "stream"),
        Column("both ways, CPU", "s/GB", "stream"),
        Column("1 conn, p50", "us", "one"),
        Column("64 conns", "requests/s", "busy"),
        Column("64 conns, CPU", "us each", "busy"),
        Column("connects", "1/s", "connects"),
        Column("connects, CPU", "ms each", "connects"),
        Column("idle conn", "KiB", "idle"),
    )
}

# The goals: ratios to stunnel in the same round, or the figure itself where it says so.


@dataclass(frozen=True)
class Goal:
    column: str
    curve_tun: float
    curvecp: float
    is_least: bool  # else it is the most
    is_ratio: bool = True

    def bound(self, tunnel: str) -> dict[str, Any]:
        """What Report.add() is to be told; nothing if the tunnel is not ours."""
        value = {"curve_tun:": self.curve_tun, "curvecp:": self.curvecp}.get(tunnel)
        if value is None:
            return {}
        return {"at_least" if self.is_least else "at_most": value, "by_median": True}


GOALS = (
    Goal("stream up, CPU", 0.65, 1.2, False),
    Goal("both ways, CPU", 0.65, 1.2, False),
    Goal("stream up", 1.7, 0.8, True),
    Goal("1 conn, p50", 0.90, 1.1, False),
    Goal("64 conns", 2.2, 1.5, True),
    Goal("connects", 4.5, 3.5, True),
    Goal("connects, CPU", 0.20, 0.25, False),
    Goal("idle conn", 6, 10, False, is_ratio=False),
)


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    stream: int
    seconds: float
    connects: int
    idle: int

    def __str__(self) -> str:
        stream = f"{self.stream / GB:g} GB a stream, {self.seconds:g} s of requests"
        return f"{stream}, {self.connects:,} connects, {self.idle:,} idle connections"


FULL = Sizes(stream=1_000_000_000, seconds=3, connects=3000, idle=9900)
QUICK = Sizes(stream=400_000_000, seconds=1.5, connects=800, idle=1000)
SLOW = Sizes(stream=2_000_000, seconds=1, connects=100, idle=50)  # for a program that would take hours


def usual_sizes(quick: bool) -> Sizes:
    return QUICK if quick else FULL


def sizes_for(kind: Kind, quick: bool) -> Sizes:
    sizes = SLOW if kind.is_slow else usual_sizes(quick)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64
    return replace(sizes, idle=min(sizes.idle, kind.most_idle, int(descriptors / kind.descriptors_each)))


Figures = dict[str, float]  # by column


def stream(tunnel: Tunnel, backend: Server, sizes: Sizes) -> Figures:
    """One connection: all up, then half up and half down at once."""
    whole, half = sizes.stream, sizes.stream // 2
    traffic.stream(backend, tunnel.local, whole // 50, whole // 50)  # the programs have their buffers
    figures = {}
    for name, up, down in (("stream up", whole, 0), ("both ways", half, half)):
        before = tunnel.cpu()
        took = traffic.stream(backend, tunnel.local, up, down)
        figures[name] = (up + down) / GB / took
        figures[f"{name}, CPU"] = (tunnel.cpu() - before) * GB / (up + down)
    return figures


def one(tunnel: Tunnel, backend: Server, sizes: Sizes) -> Figures:
    return {"1 conn, p50": requests(tunnel, backend, 1, sizes.seconds).p50}


def busy(tunnel: Tunnel, backend: Server, sizes: Sizes) -> Figures:
    done = requests(tunnel, backend, 64, sizes.seconds)
    return {"64 conns": done.rate, "64 conns, CPU": done.cpu_us}


@dataclass(frozen=True)
class Requests:
    rate: float  # a second
    p50: float  # microseconds
    cpu_us: float  # of the tunnel, a request
    cores: float  # that the tunnel kept busy
    memory: float  # KiB a connection


def requests(tunnel: Tunnel, backend: Server, connections: int, seconds: float, size: int = 64) -> Requests:
    """Request and response, one at a time on each connection; what the tunnel uses once all are open and warm."""
    idle_memory = tunnel.memory()
    with traffic.Requests(tunnel.local, connections, size, seconds) as load:
        try:
            load.wait_ready()
            cpu, start = tunnel.cpu(), time.monotonic()
            result = load.result()
            cpu, took = tunnel.cpu() - cpu, time.monotonic() - start
            memory = (tunnel.memory() - idle_memory) / connections
            load.end()
        except traffic.TrafficError:
            backend.check()
            raise
    return Requests(result["rate"], result["p50_us"], cpu * 1e6 / result["answered"], cpu / took, memory)


def connects(tunnel: Tunnel, backend: Server, sizes: Sizes) -> Figures:
    """Connect, one byte there and back, close."""
    traffic.connects(backend, tunnel.local, sizes.connects // 10, 16)
    time.sleep(0.3)  # all have ended
    before = tunnel.cpu()
    rate = traffic.connects(backend, tunnel.local, sizes.connects, 16)["rate"]
    time.sleep(0.5)  # the last ends count too
    cost = (tunnel.cpu() - before) / sizes.connects
    return {"connects": rate, "connects, CPU": cost * 1e3}


def idle(tunnel: Tunnel, backend: Server, sizes: Sizes) -> Figures:
    """By how much memory grows with connections that have had a byte there and back, and rest."""
    traffic.connects(backend, tunnel.local, 64, 16)
    time.sleep(SETTLE / 2)
    before = tunnel.memory()
    with traffic.held(tunnel.local, sizes.idle):
        time.sleep(SETTLE)
        growth = tunnel.memory() - before
    return {"idle conn": growth / sizes.idle}


CASES: dict[str, Callable[[Tunnel, Server, Sizes], Figures]] = {
    case.__name__: case for case in (stream, one, busy, connects, idle)
}

