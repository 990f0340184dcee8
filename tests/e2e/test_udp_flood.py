"""A flood of hellos with good boxes, from a thousand sources: memory stays, honest clients come in, streams go on."""

from __future__ import annotations

import hashlib
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import curvecp as cp
import support as s

NETWORKS = 4
SOURCES = 250  # a network
FLOODER = """
import os, socket, sys, time
host, port, rate, per, networks = sys.argv[1], *map(int, sys.argv[2:6])
data = sys.stdin.buffer.read()
packets = [data[at:at + 224] for at in range(0, len(data), 224)]
socks = []
for network in range(networks):
    for source in range(per):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((f"127.{100 + network}.7.{source + 1}", 0))
        sock.setblocking(False)
        socks.append(sock)
print("ready", flush=True)
start, sent = time.monotonic(), 0
while os.getppid() != 1:
    for _ in range(100):
        try:
            socks[sent % len(socks)].sendto(packets[sent * 7 % len(packets)], (host, port))
        except OSError:
            pass
        sent += 1
    late = start + sent / rate - time.monotonic()
    if late > 0:
        time.sleep(late)
"""


@contextmanager
def flood(end: s.UdpServerEnd, rate: int) -> Iterator[subprocess.Popen[bytes]]:
    """Until the end of the block; each hello is good, and a recorded one is as good as a fresh one."""
    packets = b"".join(
        cp.hello_packet(end.key, cp.KeyPair.generate(), number) for number in range(s.scale(1000, 300))
    )
    args = [sys.executable, "-c", FLOODER, end.address[0], str(end.address[1]), str(rate), str(SOURCES), str(NETWORKS)]
    process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    process.stdin.write(packets)
    process.stdin.close()
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
        assert process.poll() is None, "the flood has ended by itself"
    finally:
        process.kill()
        process.wait(s.PATIENCE)
        process.stdout.close()


def time_to_connect(end: s.UdpServerEnd, source: str) -> float:
    start = time.monotonic()
    with end.dial(source) as client:
        client.begin(again=0.25)
        assert client.establish().echo(b"echo") == b"echo"
        return time.monotonic() - start


def test_a_flood_of_good_hellos_harms_neither_memory_nor_honest_clients_nor_streams(
    site: s.Site, make_udp_tunnel: Callable[..., s.UdpTunnel]
) -> None:
    with s.Backend(s.echo_if_asked) as backend:
        tunnel = make_udp_tunnel(backend)
        end = tunnel.server
        pids = {"front": end.daemon.front_pid, "vault": end.daemon.vault_pid}
        end.check_honest("127.200.0.1")
        with tunnel.open() as local:
            assert local.echo(b"echo") == b"echo"
            with flood(end, rate=s.scale(30_000, 10_000)):
                time.sleep(2)  # it has filled what it can fill
                before = {name: s.status_kib(pid, "VmRSS") for name, pid in pids.items()}
                times = [time_to_connect(end, f"127.200.0.{i + 2}") for i in range(10)]
                print("honest clients came in within", [f"{took:.2f}" for took in times], "s")
                data = os.urandom(s.scale(4 << 20, 1 << 20))
                sender = threading.Thread(target=local.send, args=(data,))
                sender.start()
                start = time.monotonic()
                got = local.recv_exactly(len(data))
                sender.join()
                print(f"a stream: {2 * len(data) / 2**20 / (time.monotonic() - start):.1f} MiB/s under the flood")
                assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
                grown = {name: s.status_kib(pid, "VmRSS") - before[name] for name, pid in pids.items()}
            assert statistics.median(times) < s.scale(1.0, 5.0), times
            assert max(times) < 10, times
            assert grown["front"] < s.scale(8, 64) * 1024 and grown["vault"] < s.scale(1, 64) * 1024, grown
            assert local.echo(b"after") == b"after"
        end.check_honest("127.100.7.1")  # the flood's own networks are served again
        assert (end.daemon.front_pid, end.daemon.vault_pid) == (pids["front"], pids["vault"])


def test_a_flood_of_junk_harms_nobody(site: s.Site) -> None:
    with s.Backend(s.echo_if_asked) as backend:
        end = s.udp_server_end(site, backend)
        end.check_honest()
        front = end.daemon.front_pid
        before = s.status_kib(front, "VmRSS")
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.100.0.1", 0))
        stop = threading.Event()
        kinds = [cp.INITIATE + bytes(32) + os.urandom(520), cp.CLIENT_MESSAGE + bytes(32) + os.urandom(152)]
        kinds += [os.urandom(size) for size in (0, 1, 100, 224, 1400)]

        def pour() -> None:
            while not stop.is_set():
                for packet in kinds * 10:
                    sock.sendto(packet, end.address)
                time.sleep(0.002)

        pourer = threading.Thread(target=pour)
        pourer.start()
        try:
            times = [time_to_connect(end, "127.200.0.1") for _ in range(5)]
        finally:
            stop.set()
            pourer.join()
            sock.close()
        assert statistics.median(times) < s.scale(1.0, 5.0), times
        assert s.status_kib(front, "VmRSS") - before < s.scale(8, 64) * 1024
        log = end.daemon.log.path.stat().st_size
        assert log < 1 << 20, f"{log} bytes of log"


def test_a_flood_of_one_source_does_not_stand_before_its_own_sessions(site: s.Site) -> None:
    """A client that asks again and again, like mad, is still served what it has."""
    with s.Backend(s.echo_if_asked) as backend:
        end = s.udp_server_end(site, backend)
        with end.connect() as client:
            assert client.stream.echo(b"echo") == b"echo"
            hello = cp.hello_packet(end.key, cp.KeyPair.generate(), 1)
            with cp.Port() as mad:
                for _ in range(20):
                    for _ in range(200):
                        mad.send(hello, end.address)
                    data = os.urandom(20_000)
                    assert client.stream.echo(data) == data
        end.check_honest()
