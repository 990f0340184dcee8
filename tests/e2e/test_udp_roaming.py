"""Clients whose address changes while a session runs: by a NAT that forgets, and for real, between two hosts."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import curvecp as cp
import pytest
import support as s
import udp_relay
from namespaces import Host, ip, made_hosts

# ---- a NAT that forgets ----

SLOW = {"rate_mbit": 60, "delay_ms": 5}


def take(sock: socket.socket, size: int) -> s.Record:
    """Reads that many bytes, and keeps count and digest."""
    record = s.Record(sock)
    record.KEEP = 0
    sock.settimeout(s.PATIENCE)
    while record.size < size:
        data = sock.recv(1 << 16)
        if not data:
            break
        record.take(data)
    return record


def send_and_end(local: s.Local, data: bytes) -> None:
    local.send(data)
    local.half_close()


def finish(record: s.Record, data: bytes) -> None:
    record.read_to_end()
    assert (record.size, record.ended) == (len(data), "eof")
    assert record.digest.hexdigest() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("to", ["another port", "another address"])
def test_a_download_goes_on_after_the_nat_has_forgotten(
    make_udp_tunnel: Callable[..., s.UdpTunnel], to: str
) -> None:
    data = os.urandom(s.scale(12 << 20, 4 << 20))
    with s.Backend(s.source(data)) as backend:
        tunnel = make_udp_tunnel(backend, line=SLOW)
        assert tunnel.relay is not None
        with tunnel.open() as local:
            got = take(local.sock, len(data) // 8)
            for i in range(3):
                tunnel.relay.rebind(f"127.0.1.{i + 1}" if to == "another address" else "")
                start, size = time.monotonic(), got.size
                while got.size < size + len(data) // 8:
                    got.take(local.sock.recv(1 << 16))
                assert time.monotonic() - start < 8, "it takes long to follow"
            local.half_close()
            finish(got, data)
        assert len(backend.records) == 1


def test_an_upload_goes_on_after_the_nat_has_forgotten(make_udp_tunnel: Callable[..., s.UdpTunnel]) -> None:
    data = os.urandom(s.scale(12 << 20, 4 << 20))
    with s.Backend(s.sink) as backend:
        tunnel = make_udp_tunnel(backend, line=SLOW)
        assert tunnel.relay is not None
        with tunnel.open() as local:
            sender = threading.Thread(target=send_and_end, args=(local, data))
            sender.start()
            record = backend.wait_records(1)[0]
            for part in (1, 2, 3):
                s.until(lambda part=part: record.size > part * len(data) // 5, "a part of it")  # type: ignore[misc]
                tunnel.relay.rebind()
            sender.join(s.PATIENCE)
            assert backend.wait_done().digest.hexdigest() == hashlib.sha256(data).hexdigest()


def test_an_idle_session_is_found_again_by_the_client_who_moved(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_udp_tunnel(echo_backend, line={})
    assert tunnel.relay is not None
    with tunnel.open() as local:
        for i in range(5):
            assert local.echo(b"here") == b"here"
            tunnel.relay.rebind(f"127.0.1.{i + 1}")
            time.sleep(0.2)
        data = os.urandom(200_000)
        sender = threading.Thread(target=local.send, args=(data,))
        sender.start()
        assert local.recv_exactly(len(data)) == data
        sender.join()


def test_many_sessions_move_at_once(make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend) -> None:
    tunnel = make_udp_tunnel(echo_backend, line={})
    assert tunnel.relay is not None
    locals_ = [tunnel.open() for _ in range(s.scale(50, 10))]
    for i in range(3):
        for index, local in enumerate(locals_):
            word = b"%d" % (1000 * i + index)
            local.send(word)
        for index, local in enumerate(locals_):
            word = b"%d" % (1000 * i + index)
            assert local.recv_exactly(len(word)) == word
        tunnel.relay.rebind()
    for local in locals_:
        local.close()


def test_a_client_is_not_followed_to_where_it_may_not_come_from(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.udp_server_end(site, echo_backend, known="from=127.0.0.1")
    with gate.connect() as client:
        assert client.stream.echo(b"here") == b"here"
        client.quiet()
        client.move("127.0.0.5")
        client.stream.write(b"there")
        with pytest.raises(TimeoutError):
            client.stream.recv_exactly(5, 2)
        assert client.port.received == 0
        client.move("127.0.0.1")
        assert client.stream.recv_exactly(5) == b"there"


def test_the_python_peer_moves_and_shows_another_extension(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.udp_server_end(site, echo_backend)
    with gate.connect() as client:
        for i in range(4):
            data = os.urandom(100_000)
            assert client.stream.echo(data) == data
            client.move(f"127.0.2.{i + 1}")
            client.ext = cp.Extensions(client.ext.server, os.urandom(16))


class EarlyMove(udp_relay.Relay):
    """The client's address changes between its hello and its first initiate: its cookie is good for the old one."""

    moved = False

    def _pass(self, flow: udp_relay.Flow, direction: str, train: bytes, size: int) -> None:
        if train.startswith(cp.INITIATE) and not self.moved:
            self.moved = True
            self.rebind("127.0.0.2")
        super()._pass(flow, direction, train, size)


@contextmanager
def early_move(target: tuple[str, int]) -> Iterator[EarlyMove]:
    relay = EarlyMove(target, ("127.0.0.1", 0), udp_relay.Line())
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            relay.step(0.1)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield relay
    finally:
        stop.set()
        thread.join()
        relay.close()


@pytest.mark.parametrize("speaks", [False, True], ids=["nothing was said", "a byte has left"])
def test_a_client_that_moves_within_the_handshake_asks_twice_only_if_nothing_was_said(
    make_site: Callable[[str], s.Site], speaks: bool
) -> None:
    """What has left in an initiate may have been received, and must not be received twice (PROTOCOL 7.5)."""
    with s.Backend(s.source(b"220 welcome")) as backend:
        near, far = make_site("near"), make_site("far")
        far.know("phone", near.key("client").public)
        server = s.udp_server_end(far, backend, {"allow": "phone"})
        with early_move(server.address) as relay:
            client = s.udp_client_end(near, relay.address, server.key, {"connect_timeout": "6s"})
            with client.open() as local:
                if speaks:
                    local.send(b"PAY 100")
                    assert local.read_to_end() == (b"", "reset")
                else:
                    assert local.recv_exactly(11) == b"220 welcome"
                    local.half_close()
                    assert local.read_to_end() == (b"", "eof")
            assert relay.moved
            assert client.daemon.terminate() == 0
        assert len(backend.records) == (0 if speaks else 1)


# ---- hosts of their own ----


@dataclass(frozen=True)
class Hosts:
    """near --10.77.0/24-- far --10.78.0/24-- other; `far` is 10.77.0.1 and 10.78.0.1."""

    near: Host
    far: Host
    other: Host


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with made_hosts(3) as (near, far, other):
        for end, left, right, net in ((near, "vn", "vfn", "10.77.0"), (other, "vo", "vfo", "10.78.0")):
            ip("link", "add", left, "netns", end.name, "type", "veth", "peer", "name", right, "netns", far.name)
            end.ip("addr", "add", f"{net}.2/24", "dev", left)
            far.ip("addr", "add", f"{net}.1/24", "dev", right)
            end.ip("link", "set", left, "up")
            far.ip("link", "set", right, "up")
            end.ip("route", "add", "default", "via", f"{net}.1")
        net = "/proc/sys/net/ipv4"
        sysctl = f"for f in {net}/conf/*/rp_filter; do echo 0 >$f; done; echo 1 >{net}/ip_forward"
        subprocess.run([*far.wrap, "sh", "-c", sysctl], check=True)
        yield Hosts(near, far, other)


@dataclass
class Far:
    """Our server on the host `far`, its backend behind a unix socket."""

    site: s.Site
    backend: s.Backend
    client: cp.KeyPair
    address: tuple[str, int]

    @property
    def key(self) -> bytes:
        return self.site.key("server").public


def server_on(host: Host, site: s.Site, backend: s.Backend, allow: str = "laptop") -> Far:
    client = cp.KeyPair.generate()
    site.know("laptop", client.public)
    service = {"accept": "curvecp:0.0.0.0:4433", "connect": backend.address, "allow": allow}
    site.start({"web": service}, wrap=host.wrap)
    return Far(site, backend, client, ("10.77.0.1", 4433))


def client_on(host: Host, site: s.Site, far: Far, path: Path) -> s.Daemon:
    site.know("gate", far.key)
    service = {
        "client": "yes",
        "accept": f"unix:{path}",
        "connect": f"curvecp:{far.address[0]}:{far.address[1]}",
        "peer": "gate",
        "server_name": "web",
        "dead_peer": "20s",
    }
    return site.start({"app": service}, wrap=host.wrap)


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_host_whose_address_changes_goes_on(
    hosts: Hosts, make_site: Callable[[str], s.Site], tmp_path: Path, way: str
) -> None:
    """As a laptop that changes its network: the old address is gone, then there is another."""
    data = os.urandom(s.scale(16 << 20, 4 << 20))
    near, far_site = make_site("near"), make_site("far")
    far_site.know("phone", near.key("client").public)
    hosts.near.ip("link", "set", "vn", "up")
    subprocess.run(
        ["tc", "-n", hosts.far.name, "qdisc", "add", "dev", "vfn", "root", "handle", "1:"]
        + ["tbf", "rate", "80mbit", "burst", "32kb", "latency", "50ms"],
        check=False,
        stderr=subprocess.DEVNULL,
    )
    handler = s.source(data) if way == "down" else s.sink
    with s.Backend(handler, path=tmp_path / "back.sock") as backend:
        far = server_on(hosts.far, far_site, backend, "phone")
        client_on(hosts.near, near, far, tmp_path / "front.sock")
        with s.Local(str(tmp_path / "front.sock")) as local:
            record = s.Record(local.sock)
            sender = threading.Thread(target=send_and_end, args=(local, data), daemon=True)
            if way == "up":
                sender.start()
                record = backend.wait_records(1)[0]
            else:
                record = take(local.sock, 1 << 20)
            # A host that only listens speaks again after 20 s of silence (PROTOCOL 9.6).
            for old, new in ((2, 3), (3, 44)) if way == "up" else ((2, 3),):
                if way == "up":
                    s.until(lambda: record.size > 1 << 20, "the first mebibyte")
                hosts.near.ip("addr", "del", f"10.77.0.{old}/24", "dev", "vn")
                time.sleep(0.3)
                hosts.near.ip("addr", "add", f"10.77.0.{new}/24", "dev", "vn")
                hosts.near.ip("route", "replace", "default", "via", "10.77.0.1")
                if way == "down":
                    size = record.size
                    while record.size < size + (1 << 20):
                        part = local.sock.recv(1 << 16)
                        assert part, "the download ends"
                        record.take(part)
            if way == "down":
                local.half_close()
                finish(record, data)
            else:
                sender.join(s.PATIENCE)
                assert backend.wait_done().digest.hexdigest() == hashlib.sha256(data).hexdigest()
            assert len(backend.records) == 1


def spoofed(packet: bytes, source: tuple[str, int], to: tuple[str, int]) -> bytes:
    """The datagram with an IPv4 header that names another source."""
    udp = struct.pack(">HHHH", source[1], to[1], 8 + len(packet), 0) + packet
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(to[0])
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses + udp


def test_a_spoofed_source_never_gets_more_than_was_sent_in_its_name(
    hosts: Hosts, site: s.Site, tmp_path: Path
) -> None:
    """`near` sends in the name of `other`; what arrives at `other` is measured."""
    with s.Backend(s.echo, path=tmp_path / "back.sock") as backend:
        far = server_on(hosts.far, site, backend)
        with hosts.near.inside():
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            client = cp.Client(far.address, far.key, far.client, source="10.77.0.2")
        with hosts.other.inside():
            victim = cp.Port("10.78.0.2", 5353)
        recorded: list[bytes] = []
        client.port.record = recorded
        assert client.handshake().echo(b"honest") == b"honest"
        client.port.record = None
        client.quiet()
        stolen = [client.block(b"stolen", 6 + 6 * i) for i in range(3)]
        chance = os.urandom
        kinds = {
            "hellos": [client.hello() for _ in range(s.scale(300, 60))],
            "recorded": recorded * 5,
            "junk": [chance(size) for size in range(0, 1400, 9)],
            "magics": [
                magic + bytes(32) + chance(size)
                for magic in (cp.HELLO, cp.INITIATE, cp.CLIENT_MESSAGE, cp.COOKIE, cp.SERVER_MESSAGE)
                for size in (40, 72, 160, 184, 520, 1144)
            ],
        }
        for kind, packets in kinds.items():
            sent, received = 0, victim.received
            for packet in packets:
                raw.sendto(spoofed(packet, victim.address, far.address), (far.address[0], 0))
                sent += len(packet)
                while came := victim.recv(0.001):
                    assert len(came[0]) <= max(map(len, packets))
            while victim.recv(0.3):
                pass
            got = victim.received - received
            print(f"{kind}: {sent} bytes in the victim's name, {got} to the victim")
            assert got <= sent
            assert kind == "hellos" or kind == "recorded" or got == 0
        sent, received = 0, victim.received
        for packet in stolen:  # the one exception: the check of a path, at most three times
            raw.sendto(spoofed(packet, victim.address, far.address), (far.address[0], 0))
            sent += len(packet)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            victim.recv(0.1)
        assert victim.received - received <= 3 * sent
        client.stream.skip(6 + 18)
        assert client.stream.recv_exactly(18) == b"stolen" * 3
        before = victim.received
        for _ in range(5):
            data = os.urandom(20_000)
            assert client.stream.echo(data) == data
        assert victim.is_silent(0.3) and victim.received == before, "the stream goes to the victim"
        client.leave()
        raw.close()
        victim.close()
