"""Measures CurveCP over UDP between real daemons on loopback: beside the reference programs, under floods, on bad
lines. (bench/run compares it with curve_tun over TCP and with other programs.)

    /usr/bin/python3 bench/udp.py [--rounds 5] [--quick] [--json FILE] [case...]

Every byte is checked. What each figure means is in bench/README.md. The exit status is 1 if a bound is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rig
import support as s  # found through rig
from report import OtherPrograms, Report

MB = 1e6


@dataclass(frozen=True)
class Round:
    """One pass over a case: its place among the rounds, its sizes, and where the figures go."""

    number: int
    quick: bool
    report: Report

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


# ---- the reference programs ----


@contextmanager
def reference_server(folder: Path, *program: str) -> Iterator[tuple[tuple[str, int], bytes]]:
    """curvecpserver with a key of its own; `program` runs for each session. Gives its address and key."""
    keys = folder / "keys"
    subprocess.run(["curvecpmakekey", str(keys)], check=True)
    key = bytes.fromhex(s.run(["curvecpprintkey", str(keys)]).stdout.decode().strip())
    port = s.free_port()
    args = ["curvecpserver", "-Q", "web", str(keys), "127.0.0.1", str(port), "00" * 16, "curvecpmessage", *program]
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        s.until(lambda: f":{port:04X} " in Path("/proc/net/udp").read_text(), "curvecpserver listens")
        yield ("127.0.0.1", port), key
    finally:
        children = s.descendants(process.pid)
        process.kill()
        process.wait(s.PATIENCE)
        for child in children:
            try:
                os.kill(child.pid, 9)
            except ProcessLookupError:
                pass


def reference(this: Round) -> None:
    """Into the receiver of nacl-tools, and from its sender; the connection is set up within the time."""
    with tempfile.TemporaryDirectory(prefix="curvegate-bench-") as folder:
        to_them = into_their_receiver(Path(folder), this.size(20_000_000, 4_000_000))
        this.report.add("reference", "into their receiver", "MB/s", to_them, at_least=20)
    with tempfile.TemporaryDirectory(prefix="curvegate-bench-") as folder:
        from_them = from_their_sender(Path(folder), this.size(2_000_000, 300_000))
        this.report.add("reference", "from their sender", "MB/s", from_them)


def into_their_receiver(folder: Path, size: int) -> float:
    kept, data = folder / "kept", b"".join(rig.pieces(size))
    script = f"cat >{kept}; echo done"
    with reference_server(folder, "sh", "-c", script) as (address, key), rig.site("reference") as site:
        end = s.udp_client_end(site, address, key)
        start = time.monotonic()
        with end.open() as local:
            local.send(data)
            local.half_close()
            assert local.read_to_end() == (b"done\n", "eof")
        took = time.monotonic() - start
        assert kept.read_bytes() == data, "bytes have changed on their way"
    return size / MB / took


def from_their_sender(folder: Path, size: int) -> float:
    source = folder / "source"
    source.write_bytes(b"".join(rig.pieces(size)))
    with reference_server(folder, "cat", str(source)) as (address, key), rig.site("reference") as site:
        end = s.udp_client_end(site, address, key)
        start = time.monotonic()
        with end.open() as local:
            local.sock.settimeout(60)
            assert rig.take(local.sock, size) == rig.digest(size), "bytes have changed on their way"
            took = time.monotonic() - start
            local.half_close()
            assert local.read_to_end() == (b"", "eof")
    return size / MB / took


# ---- floods ----


def one_core_answers(this: Round, tunnel: rig.Tunnel) -> float:
    """Hellos a second that one core would answer: how many come back, by what CPU the server uses for them."""
    before = rig.cpu_of(tunnel.server)
    asked = rig.ask_for_cookies(tunnel.target, tunnel.key, this.size(3, 1), 32)
    used = rig.cpu_of(tunnel.server) - before
    this.report.add("flood", "Hellos answered, no flood", "1/s", asked["cookies"] / asked["seconds"])
    this.report.add("flood", "CPU a Hello", "us", used / asked["cookies"] * 1e6)
    return asked["cookies"] / used


def time_to_connect(tunnel: rig.Tunnel) -> float:
    """By our own client end, from 127.0.0.1: a network that the flood does not use. It gives up after ten seconds."""
    start = time.monotonic()
    try:
        with rig.connect(tunnel.local) as sock:
            rig.transfer(sock, 1, 0)
    except ConnectionError:
        print("  an honest client is not let in", file=sys.stderr)
    return time.monotonic() - start


@contextmanager
def sink() -> Iterator[tuple[str, int]]:
    """A port where packets end unread."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


def flood(this: Round) -> None:
    """Good Hellos at five times what a core answers: what they do to a stream, to newcomers and to memory."""
    size = this.size(512_000_000, 16_000_000)
    rates: dict[str, float] = {}
    with s.Backend(rig.serve) as backend, rig.tunnel("curvecp", backend.address) as tunnel, sink() as nowhere:
        with rig.connect(tunnel.local) as sock:
            rig.transfer(sock, 64_000_000, 0)  # its buffers have their size
            rate = 5 * one_core_answers(this, tunnel)
            targets = (("sink", nowhere), ("server", tunnel.target))
            for where, target in targets if this.number % 2 == 0 else targets[::-1]:
                before = resident(tunnel.server)
                with rig.flood(target, tunnel.key, rate) as flooded:
                    time.sleep(this.size(2, 1))  # what can fill has filled
                    rates[where] = size / MB / rig.transfer(sock, size, 0)
                    if where == "server":
                        flooded_server(this, tunnel, before)
                this.report.add("flood", f"stream, flood to the {where}", "MB/s", rates[where])
                this.report.add("flood", f"Hellos to the {where}", "1/s", flooded["sent"] / flooded["seconds"])
                if where == "server":
                    answered = flooded["cookies"] / flooded["seconds"]
                    this.report.add("flood", "Hellos answered in the flood", "1/s", answered)
    this.report.add("flood", "stream, server/sink", "ratio", rates["server"] / rates["sink"], at_least=0.8)


def resident(daemon: s.Daemon) -> dict[str, int]:
    """Memory in KiB."""
    return {
        "front": s.status_kib(daemon.front_pid, "VmRSS"),
        "vault": s.status_kib(daemon.vault_pid, "VmRSS"),
    }


def flooded_server(this: Round, tunnel: rig.Tunnel, before: dict[str, int]) -> None:
    """How long newcomers wait while the flood goes on, and by how much memory has grown in it."""
    times = [time_to_connect(tunnel) for _ in range(10)]
    this.report.add("flood", "honest client connects, median of 10", "s", statistics.median(times))
    this.report.add("flood", "honest client connects, worst of 10", "s", max(times), at_most=1)
    for name, kib in resident(tunnel.server).items():
        this.report.add("flood", f"memory of the {name}, before", "KiB", before[name])
        this.report.add("flood", f"memory of the {name}, during", "KiB", kib)


# ---- bad lines ----


def lossy(this: Round) -> None:
    """Two mebibytes up a bad line, connecting included."""
    for loss in (0.01, 0.05):
        for delay in (0, 20, 100):
            line = {"seed": 1 + this.number, "loss": loss, "delay_ms": delay}
            with s.Backend(rig.serve) as backend, rig.tunnel("curvecp", backend.address, line=line) as tunnel:
                start = time.monotonic()
                with rig.connect(tunnel.local) as sock:
                    rig.transfer(sock, 2 << 20, 0)
                what = f"{loss:.0%} lost, {delay} ms each way"
                this.report.add("lossy", what, "s", time.monotonic() - start)


CASES: dict[str, Callable[[Round], None]] = {
    case.__name__: case for case in (reference, flood, lossy)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of small sizes: does it run at all?")
    parser.add_argument("--json", metavar="FILE", help="the figures of every round too, '-' for the standard output")
    parser.add_argument("case", nargs="*", help="default: all of " + ", ".join(CASES))
    given = parser.parse_args()
    unknown = [name for name in given.case if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the daemons get it from here
    report = Report()
    for number in range(1 if given.quick else given.rounds):
        others = OtherPrograms()
        for name in given.case or CASES:
            print(f"round {number + 1}, {name}", file=sys.stderr, flush=True)
            CASES[name](Round(number, given.quick, report))
        report.others.append(others.cores())
    if given.json and given.json != "-":
        Path(given.json).write_text(report.as_json() + "\n")
    print(report.as_json() if given.json == "-" else f"{report.table()}\n\n{report.circumstances()}")
    return 1 if report.missed() else 0


if __name__ == "__main__":
    sys.exit(main())
