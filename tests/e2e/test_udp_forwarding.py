"""Forwarding over UDP with the real daemons at both ends: bytes, ends, services, failures, bad lines."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import curvecp as cp
import pytest
import support as s
import udp_relay

# ---- bytes ----

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


def test_an_echo_and_an_orderly_end(make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend) -> None:
    tunnel = make_udp_tunnel(echo_backend)
    with tunnel.open() as local:
        for size in (1, 511, 512, 513, 1023, 1024, 1025, 65536, 300_000):
            data = os.urandom(size)
            sender = threading.Thread(target=local.send, args=(data,))
            sender.start()
            assert local.recv_exactly(size) == data
            sender.join()
        local.half_close()
        assert local.read_to_end() == (b"", "eof")
    assert tunnel.server.daemon.wait_event("handshake_ok", service="^web$").fields["peer"] == "phone"
    assert tunnel.client.daemon.wait_event("handshake_ok", service="^app$").fields["peer"] == "gate"


@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_sixty_four_mebibytes_arrive_unchanged(make_udp_tunnel: Callable[..., s.UdpTunnel], direction: str) -> None:
    size = s.scale(64 << 20, 8 << 20)
    assert_carries(make_udp_tunnel, 0 if direction == "down" else size, 0 if direction == "up" else size)


def test_a_server_that_speaks_first_is_heard(make_udp_tunnel: Callable[..., s.UdpTunnel]) -> None:
    """Nothing of the local side has been sent then: the client's empty block opens the session."""
    with s.Backend(s.source(b"220 welcome")) as backend:
        with make_udp_tunnel(backend).open() as local:
            assert local.read_to_end() == (b"220 welcome", "eof")


def test_two_hundred_connections_at_once(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend
) -> None:
    count = s.scale(200, 50)
    tunnel = make_udp_tunnel(echo_backend)

    async def begin(index: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*tunnel.client.address)
        hello = index.to_bytes(4, "big") * 8
        writer.write(hello)
        assert await reader.readexactly(len(hello)) == hello
        return reader, writer

    async def finish(index: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = hashlib.sha256(index.to_bytes(4, "big")).digest() * 300
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    async def run() -> None:
        opened = await asyncio.gather(*map(begin, range(count)), return_exceptions=True)
        failed = [result for result in opened if isinstance(result, BaseException)]
        assert not failed, f"{len(failed)} of {count} are not served, the first with {failed[0]!r}"
        await asyncio.gather(*[finish(i, *pair) for i, pair in enumerate(opened)])  # all are open now, at once

    asyncio.run(asyncio.wait_for(run(), 120))
    assert len(echo_backend.records) == count
    daemon = tunnel.server.daemon
    s.until(lambda: len(daemon.events("session_close", reason="end of stream")) == count, "every session ends well")


def test_many_short_connections_one_after_the_other(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_udp_tunnel(echo_backend)
    for i in range(s.scale(100, 20)):
        with tunnel.open() as local:
            data = b"%d" % i
            local.send(data)
            local.half_close()
            assert local.read_to_end() == (data, "eof")


# ---- ends ----


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_half_close_with_a_megabyte_in_flight_loses_nothing(
    make_udp_tunnel: Callable[..., s.UdpTunnel], direction: str
) -> None:
    """All of it arrives, then the half-close; the other direction goes on until its own end."""
    with s.Backend(s.hold) as backend:
        tunnel = make_udp_tunnel(backend)
        with tunnel.open() as local:
            far = backend.wait_records(1)[0].sock
            near = local.sock
            writer, reader = (near, far) if direction == "up" else (far, near)
            writer.settimeout(s.PATIENCE)
            sender = threading.Thread(target=send_blocks, args=(writer, 1 << 20, 3))
            sender.start()
            time.sleep(0.3)  # the reader is late: a megabyte is on its way
            got = s.Record(reader)
            got.read_to_end()
            sender.join()
            assert (got.size, got.ended, got.digest.hexdigest()) == (1 << 20, "eof", digest(1 << 20, 3))
            for word in (b"the other", b"direction", b"goes on"):
                reader.sendall(word)
                assert writer.recv(100) == word
            reader.shutdown(socket.SHUT_WR)
            assert writer.recv(1) == b""
            backend.records[0].done.set()
        for daemon in tunnel.daemons:
            daemon.wait_event("session_close", reason="end of stream")


def far_end(backend: s.Backend, index: int = 0) -> s.Local:
    """The backend's socket, as a Local."""
    far = s.Local.__new__(s.Local)
    far.sock = backend.wait_records(index + 1)[index].sock
    far.sock.settimeout(s.PATIENCE)
    return far


@pytest.mark.parametrize("side", ["local", "backend"])
def test_a_reset_on_one_plain_side_is_a_reset_on_the_other(
    make_udp_tunnel: Callable[..., s.UdpTunnel], side: str
) -> None:
    with s.Backend(s.hold) as backend:
        tunnel = make_udp_tunnel(backend)
        local = tunnel.open()
        far = far_end(backend)
        local.send(b"one")
        assert far.recv_exactly(3) == b"one"
        first, second = (local, far) if side == "local" else (far, local)
        first.reset()
        assert second.read_to_end() == (b"", "reset")
        backend.records[0].done.set()
        local.close()


def test_a_backend_that_is_down_is_told_and_the_local_side_reset(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_udp_tunnel(echo_backend)
    with tunnel.open() as local:
        assert local.echo(b"up") == b"up"
    port = echo_backend.port
    echo_backend.close()
    with tunnel.open() as local:
        assert local.read_to_end() == (b"", "reset")
    tunnel.server.daemon.wait_event("connect_failed", service="web", reason=f"127.0.0.1:{port}.*refused")
    with s.Backend(s.echo, port=port), tunnel.open() as local:
        assert local.echo(b"up again") == b"up again"


def test_a_reader_that_stalls_stops_its_sender_and_nobody_else(make_udp_tunnel: Callable[..., s.UdpTunnel]) -> None:
    def handler(record: s.Record) -> None:
        first = record.sock.recv(4)
        if first == b"echo":
            record.sock.sendall(first)
            return s.echo(record)
        return s.hold(record)

    with s.Backend(handler) as backend:
        tunnel = make_udp_tunnel(backend)
        with tunnel.open() as warm:
            assert warm.echo(b"echo") == b"echo"
        before = [s.status_kib(daemon.front_pid, "VmRSS") for daemon in tunnel.daemons]
        with tunnel.open() as stalled:
            stalled.send(b"hold")
            reader = backend.wait_records(2)[1].sock
            sent = push_until_stuck(stalled.sock, 64 << 20)
            after = [s.status_kib(daemon.front_pid, "VmRSS") for daemon in tunnel.daemons]
            grown = [now - was for now, was in zip(after, before, strict=True)]
            assert max(grown) < s.scale(24, 96) * 1024, f"the daemons grew by {grown} KiB"
            with tunnel.open() as other:
                assert other.echo(b"echo") == b"echo"
                for _ in range(20):
                    data = os.urandom(50_000)
                    assert other.echo(data) == data
            stalled.half_close()
            late = s.Record(reader)
            late.read_to_end()
            assert (late.size, late.ended) == (sent, "eof")
            backend.records[1].done.set()


def push_until_stuck(sock: socket.socket, most: int) -> int:
    """Sends until nothing has gone out for two seconds; fails if `most` bytes went."""
    sent = 0
    stuck_since = time.monotonic()
    while time.monotonic() - stuck_since < 2:
        # Asked first: a socket with a timeout would wait in send() for that long, whatever the flag says.
        if select.select([], [sock], [], 0.02)[1]:
            sent += sock.send(BLOCK, socket.MSG_DONTWAIT)
            stuck_since = time.monotonic()
        assert sent < most, f"{sent} bytes went out and nobody reads"
    return sent


# ---- addresses and services ----


def test_ipv6_at_every_place(make_site: Callable[[str], s.Site]) -> None:
    near, far = make_site("near"), make_site("far")
    with s.Backend(s.echo, host="::1") as backend:
        far.know("phone", near.key("client").public, "from=::1")
        port, local_port = s.free_port(), s.free_port()
        server = s.udp_server_end(far, backend, {"allow": "phone", "accept": f"curvecp:[::1]:{port}"})
        s.udp_client_end(near, ("::1", port), server.key, {"accept": f"[::1]:{local_port}"})
        with s.Local(("::1", local_port)) as local:
            assert local.echo(b"six") == b"six"
        opened = server.daemon.wait_event("handshake_ok", peer="phone")
        assert opened.fields["src"].startswith("[::1]:")


def test_two_colons_listen_on_both_families_and_from_sees_the_ipv4_address(
    site: s.Site, echo_backend: s.Backend
) -> None:
    port = s.free_port()
    gate = s.udp_server_end(site, echo_backend, {"accept": f"curvecp:[::]:{port}"}, known="from=127.0.0.0/8,::1")
    for host, source in (("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.3.2.1", "127.0.0.1")):
        gate.address = (host, port)
        gate.check_honest(source)  # the answers come from where the client sent to, or it would not take them


def test_a_host_name_is_resolved_when_dialling(make_site: Callable[[str], s.Site], echo_backend: s.Backend) -> None:
    near, far = make_site("near"), make_site("far")
    far.know("phone", near.key("client").public)
    server = s.udp_server_end(far, echo_backend, {"allow": "phone"})
    client = s.udp_client_end(near, ("localhost", server.address[1]), server.key)
    with client.open() as local:
        assert local.echo(b"by name") == b"by name"


def test_several_keys_of_one_name_are_tried_in_order(make_site: Callable[[str], s.Site]) -> None:
    near, far = make_site("near"), make_site("far")
    with s.Backend(s.echo) as backend:
        far.know("phone", near.key("client").public)
        server = s.udp_server_end(far, backend, {"allow": "phone"})
        near.know("gate", cp.KeyPair.generate().public)  # silent: nobody answers to it
        client = s.udp_client_end(near, server.address, server.key)
        for _ in range(2):
            with client.open() as local:
                assert local.echo(b"the second key") == b"the second key"
        assert not client.daemon.events("front_down")


def two_services(site: s.Site, one: s.Backend, two: s.Backend) -> tuple[s.Daemon, int, cp.KeyPair]:
    """`alpha` and `beta` on one port; `laptop` may use both, `tablet` beta only."""
    port = s.free_port()
    client, tablet = cp.KeyPair.generate(), cp.KeyPair.generate()
    site.know("laptop", client.public)
    site.know("tablet", tablet.public)
    accept = f"curvecp:127.0.0.1:{port}"
    services = {
        "alpha": {"accept": accept, "connect": one.address, "allow": "laptop"},
        "second": {"accept": accept, "connect": two.address, "allow": "laptop, tablet", "server_name": "beta.example"},
    }
    return site.start(services), port, client


def test_services_of_one_port_are_told_apart_by_name(site: s.Site) -> None:
    with s.Backend(s.source(b"one")) as one, s.Backend(s.source(b"two")) as two:
        daemon, port, client = two_services(site, one, two)
        key = site.key("server").public
        for name, expected in (("alpha", b"one"), ("beta.example", b"two"), ("alpha", b"one")):
            with cp.Client(("127.0.0.1", port), key, client, name) as connection:
                stream = connection.handshake()
                assert stream.recv_until_end() == expected
                stream.end()
        daemon.wait_event("handshake_ok", service="^alpha$")
        daemon.wait_event("handshake_ok", service="^second$")


@pytest.mark.parametrize("name", ["gamma", "Alpha", "alph", "alpha.alpha", "second", ""])
def test_an_unknown_name_is_met_by_silence(site: s.Site, echo_backend: s.Backend, name: str) -> None:
    _, port, client = two_services(site, echo_backend, echo_backend)
    with cp.Client(("127.0.0.1", port), site.key("server").public, client, name) as connection:
        connection.begin()
        with pytest.raises(TimeoutError):
            connection.establish(1.5)
    assert echo_backend.records == []
    with cp.Client(("127.0.0.1", port), site.key("server").public, client, "alpha") as connection:
        assert connection.handshake().echo(b"there") == b"there"


def test_a_client_of_one_service_is_not_let_into_its_neighbour(site: s.Site, echo_backend: s.Backend) -> None:
    port = s.free_port()
    tablet = cp.KeyPair.generate()
    site.know("laptop", cp.KeyPair.generate().public)
    site.know("tablet", tablet.public)
    accept, connect = f"curvecp:127.0.0.1:{port}", echo_backend.address
    services = {
        "alpha": {"accept": accept, "connect": connect, "allow": "laptop"},
        "beta": {"accept": accept, "connect": connect, "allow": "tablet"},
    }
    daemon = site.start(services)
    key = site.key("server").public
    with cp.Client(("127.0.0.1", port), key, tablet, "alpha") as connection:
        connection.begin()
        with pytest.raises(TimeoutError):
            connection.establish(1.5)
    assert echo_backend.records == []
    daemon.wait_event("handshake_reject", reason="client is not authorised")
    with cp.Client(("127.0.0.1", port), key, tablet, "beta") as connection:
        assert connection.handshake().echo(b"mine") == b"mine"


def test_a_star_as_server_name_takes_any_name(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.udp_server_end(site, echo_backend, {"server_name": "*"})
    for name in ("web", "anything.example", "x"):
        with gate.connect(name=name) as client:
            assert client.stream.echo(b"in") == b"in"


def test_extensions_are_checked_and_answered(make_site: Callable[[str], s.Site], echo_backend: s.Backend) -> None:
    site = make_site("site")
    server_ext, client_ext = bytes(range(16)), bytes(range(16, 32))
    gate = s.udp_server_end(site, echo_backend, {"server_extension": server_ext.hex()})
    with gate.dial() as client:
        client.send(client.hello())
        assert client.port.is_silent(0.5), "a hello without the server's extension is answered"
        client.ext = cp.Extensions(server_ext, client_ext)
        assert client.handshake().echo(b"in") == b"in"
    far = make_site("far")
    with cp.Server(cp.KeyPair.generate(), "web", server_ext) as server:
        server.serve(cp.echo_handler)
        both = {"server_extension": server_ext.hex(), "client_extension": client_ext.hex()}
        end = s.udp_client_end(far, server.address, server.keys.public, both)
        with end.open() as local:
            assert local.echo(b"out") == b"out"
            local.half_close()
            assert local.read_to_end() == (b"", "eof")
        assert server.accept().ext == cp.Extensions(server_ext, client_ext)


def test_tcp_and_udp_tunnels_live_in_one_daemon(site: s.Site, echo_backend: s.Backend) -> None:
    port = s.free_port()
    site.know("me", site.key("client").public)
    site.know("gate", site.key("server").public)
    services: dict[str, dict[str, object]] = {}
    for i, wire in enumerate(("curve_tun", "curvecp")):
        accept = f"{wire}:127.0.0.1:{port}"  # one number, two ports
        services[wire] = {"accept": accept, "connect": echo_backend.address, "allow": "me"}
        services[f"out-{wire}"] = {
            "client": "yes",
            "accept": f"127.0.0.1:{s.free_port()}",
            "connect": accept,
            "peer": "gate",
            "server_name": wire if wire == "curvecp" else None,
        }
    site.start(services)
    for wire in ("curve_tun", "curvecp"):
        local_port = int(str(services[f"out-{wire}"]["accept"]).rpartition(":")[2])
        with s.Local(("127.0.0.1", local_port)) as local:
            assert local.echo(wire.encode()) == wire.encode()


def test_a_udp_port_in_use_refuses_the_start_and_names_it(site: s.Site, echo_backend: s.Backend) -> None:
    with cp.Port() as taken:
        port = taken.address[1]
        service = {"accept": f"curvecp:127.0.0.1:{port}", "connect": echo_backend.address, "allow": "*"}
        code, said = site.start_refused({"web": service})
    assert code not in (0, 1) and code > 0
    assert f"127.0.0.1:{port}" in said and "in use" in said
    assert "refused.conf:" in said, "the line of the section is not named"


# ---- who is not there ----


def test_a_silent_server_resets_the_local_side_within_the_connect_timeout(site: s.Site) -> None:
    with cp.Port() as mute:
        end = s.udp_client_end(site, mute.address, cp.KeyPair.generate().public, {"connect_timeout": "2s"})
        start = time.monotonic()
        with end.open() as local:
            assert local.read_to_end() == (b"", "reset")
        assert 1.5 < time.monotonic() - start < 12
        hellos = 0
        while came := mute.recv(0):
            hellos += len(came[0]) == cp.HELLO_SIZE
        assert 1 <= hellos <= 10
        end.daemon.wait_event("connect_failed", service="app", reason="no answer")


def test_a_server_that_dies_is_a_reset_within_dead_peer(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend
) -> None:
    """One that speaks hears of it in that time; one that waits after the 20 s of silence that cause a ping (9.6)."""
    tunnel = make_udp_tunnel(echo_backend, client={"dead_peer": "3s"})
    with tunnel.open() as speaker, tunnel.open() as waiter:
        assert speaker.echo(b"alive") == b"alive" and waiter.echo(b"alive") == b"alive"
        tunnel.server.daemon.expected_exits = {-signal.SIGKILL}
        tunnel.server.daemon.kill()
        start = time.monotonic()
        speaker.send(b"anybody?")
        assert speaker.read_to_end() == (b"", "reset")
        assert 2 < time.monotonic() - start < 10
        assert waiter.read_to_end() == (b"", "reset")
        assert time.monotonic() - start < 35
    tunnel.client.daemon.wait_event("session_close", reason="does not answer|unreachable|dead|silent")


def test_a_client_that_dies_is_a_reset_at_the_backend_within_dead_peer(
    make_udp_tunnel: Callable[..., s.UdpTunnel],
) -> None:
    with s.Backend(s.hold) as backend:
        tunnel = make_udp_tunnel(backend, server={"dead_peer": "3s"})
        with tunnel.open() as local:
            local.send(b"alive")
            far = far_end(backend)
            assert far.recv_exactly(5) == b"alive"
            tunnel.client.daemon.expected_exits = {-signal.SIGKILL}
            tunnel.client.daemon.kill()
            start = time.monotonic()
            far.send(b"anybody?")
            assert far.read_to_end() == (b"", "reset")
            assert 2 < time.monotonic() - start < 15
            backend.records[0].done.set()


def test_sessions_outlive_the_vault_and_new_ones_come_with_the_next(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_udp_tunnel(echo_backend)
    with tunnel.open() as local:
        for daemon in tunnel.daemons:
            assert local.echo(b"before") == b"before"
            old = daemon.vault_pid
            os.kill(old, signal.SIGKILL)
            for _ in range(20):
                data = os.urandom(20_000)
                assert local.echo(data) == data
            s.until(lambda daemon=daemon, old=old: daemon.vault_pid != old, "another vault")  # type: ignore[misc]
            with tunnel.open() as other:
                assert other.echo(b"with the next vault") == b"with the next vault"
        local.half_close()
        assert local.read_to_end() == (b"", "eof")


def test_a_front_end_that_dies_comes_back_and_serves(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_udp_tunnel(echo_backend, client={"dead_peer": "3s"})
    with tunnel.open() as local:
        assert local.echo(b"before") == b"before"
        daemon = tunnel.server.daemon
        old = daemon.front_pid
        os.kill(old, signal.SIGKILL)
        local.send(b"lost")
        assert local.read_to_end() == (b"", "reset"), "the next front end knows nothing of the session"
        s.until(lambda: daemon.front_pid != old, "another front end")
    with tunnel.open() as local:
        assert local.echo(b"after") == b"after"


def test_idle_timeout_ends_a_session_that_carries_nothing(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_udp_tunnel(echo_backend, server={"idle_timeout": "2s"})
    with tunnel.open() as local:
        for _ in range(6):
            assert local.echo(b"busy") == b"busy"
            time.sleep(0.5)  # three seconds in all: more than the bound, but never idle for it
        start = time.monotonic()
        assert local.read_to_end() == (b"", "reset")
        assert 1 < time.monotonic() - start < 15
    tunnel.server.daemon.wait_event("session_close", reason="idle|nothing")
    assert echo_backend.wait_done().ended == "reset"


# ---- the daemon's end ----


def test_sessions_that_end_within_the_drain_are_served_to_their_end(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.udp_server_end(site, echo_backend, drain_timeout="60s")
    client = gate.connect()
    assert client.stream.echo(b"echo") == b"echo"
    gate.daemon.process.send_signal(signal.SIGTERM)
    gate.daemon.wait_event("draining", sessions="^1$")

    def is_closed() -> bool:
        with gate.dial() as late:
            late.send(late.hello())
            return late.port.is_silent(0.3)

    s.until(is_closed, "no new hello is answered")
    data = os.urandom(500_000)
    assert client.stream.echo(data) == data
    client.stream.close()
    assert gate.daemon.wait_exit() == 0
    client.close()


@pytest.mark.parametrize("side", ["server", "client"])
def test_the_drain_delivers_what_was_taken_from_the_plain_side(
    make_udp_tunnel: Callable[..., s.UdpTunnel], side: str
) -> None:
    """The sender is done before the signal; a slow line still holds most of it."""
    size = 3 << 20
    up = side == "client"
    handler = s.hold if up else s.source(b"".join(blocks(size, 5)))
    with s.Backend(handler) as backend:
        tunnel = make_udp_tunnel(backend, line={"delay_ms": 20, "rate_mbit": 40}, drain_timeout="30s")
        with tunnel.open() as local:
            reader = backend.wait_records(1)[0].sock if up else local.sock
            if up:
                send_blocks(local.sock, size, 5)
            daemon = tunnel.client.daemon if up else tunnel.server.daemon
            s.until(lambda: s.is_readable(reader, 0.1), "the first byte")
            daemon.process.send_signal(signal.SIGTERM)
            got = s.Record(reader)
            if not up:
                local.half_close()
            got.read_to_end()
            assert (got.size, got.ended, got.digest.hexdigest()) == (size, "eof", digest(size, 5))
            backend.records[0].done.set()
            assert daemon.wait_exit() == 0


def test_the_drain_ends_at_its_deadline_with_1_and_cuts_what_is_left(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_udp_tunnel(echo_backend, client={"dead_peer": "3s"}, drain_timeout="1s")
    with tunnel.open() as local:
        assert local.echo(b"open") == b"open"
        daemon = tunnel.server.daemon
        daemon.expected_exits = {1}
        tunnel.client.daemon.expected_exits = {0, 1}  # nobody is left to hear its last word
        start = time.monotonic()
        assert daemon.terminate() == 1
        assert 0.8 < time.monotonic() - start < 20
        daemon.wait_event("drain_timeout", sessions="^1$")
        assert local.read_to_end() == (b"", "reset"), "the cut looks like an orderly end to the client's side"
        assert echo_backend.wait_done().ended == "reset", "the cut looks like an orderly end to the backend"


# ---- bad lines ----


def test_sixty_four_mebibytes_through_a_relay_without_loss(make_udp_tunnel: Callable[..., s.UdpTunnel]) -> None:
    size = s.scale(64 << 20, 8 << 20)
    tunnel = assert_carries(make_udp_tunnel, size, 0, line={})
    assert tunnel.relay is not None
    counts = tunnel.relay.counts()
    assert counts["flows"] == 1
    assert counts["up_bytes"] < 1.5 * size, "much was sent more than once on a line that loses nothing"


LINES = [(loss, delay) for loss in (0.01, 0.05) for delay in (0, 20, 100)]


@pytest.mark.timeout(300)
def test_lossy_lines_deliver_everything(make_site: Callable[[str], s.Site]) -> None:
    """Each line has a service of its own, and all are used at once, both ways: most of the time they wait."""
    near, far = make_site("near"), make_site("far")
    far.know("phone", near.key("client").public)
    near.know("gate", far.key("server").public)
    seen: list[s.Record] = []

    def size(line: tuple[float, int]) -> int:
        slow = line == (0.05, 100)
        return s.scale(512 << 10 if slow else 2 << 20, 128 << 10)

    with ExitStack() as stack:
        relays = []
        outs: dict[str, dict[str, object]] = {}
        ins: dict[str, dict[str, object]] = {}
        port = s.free_port()
        for i, line in enumerate(LINES):
            backend = stack.enter_context(s.Backend(both_ways(size(line), size(line), seen, 120)))
            ins[f"line{i}"] = {"accept": f"curvecp:127.0.0.1:{port}", "connect": backend.address, "allow": "phone"}
            relay = stack.enter_context(
                s.UdpRelay(("127.0.0.1", port), loss=line[0], delay_ms=line[1], seed=100 + i)
            )
            relays.append(relay)
            outs[f"line{i}"] = {
                "client": "yes",
                "accept": f"127.0.0.1:{s.free_port()}",
                "connect": f"curvecp:127.0.0.1:{relay.address[1]}",
                "peer": "gate",
            }
        server, client = far.start(ins, connect_timeout="30s"), near.start(outs, connect_timeout="30s")
        results: dict[int, tuple[str, bool, float]] = {}

        def use(i: int) -> None:
            start = time.monotonic()
            address = ("127.0.0.1", int(str(outs[f"line{i}"]["accept"]).split(":")[1]))
            with s.Local(address, timeout=120) as local:
                sender = threading.Thread(target=send_blocks, args=(local.sock, size(LINES[i]), 2))
                sender.start()
                mine = s.Record(local.sock)
                mine.KEEP = 0
                mine.read_to_end(120)
                sender.join()
            right = mine.digest.hexdigest() == digest(size(LINES[i]), 1)
            results[i] = (mine.ended, right, time.monotonic() - start)

        threads = [threading.Thread(target=use, args=(i,)) for i in range(len(LINES))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(250)
        s.until(lambda: len(seen) == len(LINES), "the backends have all", 60)
        for i, (loss, delay) in enumerate(LINES):
            rate = size(LINES[i]) / 1024 / results[i][2]
            print(f"{100 * loss:.0f} % lost, {delay} ms each way: {rate:.0f} KiB/s both ways, {relays[i].counts()}")
        assert {result[:2] for result in results.values()} == {("eof", True)}, results
        digests = sorted(record.digest.hexdigest() for record in seen)
        assert digests == sorted(digest(size(line), 2) for line in LINES)
        for daemon in (client, server):
            daemon.terminate()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_third_lost_a_tenth_reordered_duplicates_and_an_outage(
    make_udp_tunnel: Callable[..., s.UdpTunnel], seed: int
) -> None:
    size = s.scale(200_000, 50_000)
    line = {"loss": 0.3, "reorder": 0.1, "duplicate": 0.1, "delay_ms": 5, "reorder_ms": 15, "seed": seed}
    record: list[s.Record] = []
    with s.Backend(both_ways(size, size, record, 60)) as backend:
        tunnel = make_udp_tunnel(backend, line=line, connect_timeout="60s")
        assert tunnel.relay is not None
        for daemon in tunnel.daemons:  # the last acknowledgment may be lost when the other one has gone
            daemon.expected_exits = {0, 1}
        with tunnel.open() as local:
            local.sock.settimeout(60)
            sender = threading.Thread(target=send_blocks, args=(local.sock, size, 2))
            sender.start()
            mine = s.Record(local.sock)
            mine.take(local.sock.recv(1))  # the session stands
            tunnel.relay.outage(2)
            mine.read_to_end(60)
            sender.join()
        theirs = backend.wait_done(seconds=60)
        counts = tunnel.relay.counts()
    assert (mine.ended, mine.digest.hexdigest()) == ("eof", digest(size, 1)), f"{mine.size} bytes"
    assert (theirs.ended, theirs.digest.hexdigest()) == ("eof", digest(size, 2)), f"{theirs.size} bytes"
    assert counts["reordered"] > 0 and counts["duplicated"] > 0


def test_a_narrow_line_is_filled_and_not_flooded(make_udp_tunnel: Callable[..., s.UdpTunnel]) -> None:
    size = s.scale(4 << 20, 1 << 20)
    tunnel = assert_carries(
        make_udp_tunnel, size, 0, line={"rate_mbit": 16, "delay_ms": 20, "queue_ms": 50}, timeout=60
    )
    assert tunnel.relay is not None
    counts = tunnel.relay.counts()
    assert counts["queue_full"] < counts["up"] / 3, f"a third of what was sent was too much for the line: {counts}"


def test_nothing_on_the_wire_is_readable(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    tunnel = make_udp_tunnel(echo_backend, line={"record": record})
    word = b"the quick brown fox jumps over the lazy dog"
    with tunnel.open() as local:
        assert local.echo(word * 50) == word * 50
        local.half_close()
        assert local.read_to_end() == (b"", "eof")
    for daemon in tunnel.daemons:
        assert daemon.terminate() == 0
    assert tunnel.relay is not None
    tunnel.relay.close()
    seen = list(udp_relay.read_record(str(record)))
    kinds = {(datagram.direction, datagram.packet[:8]) for datagram in seen}
    up, down = {cp.HELLO, cp.INITIATE, cp.CLIENT_MESSAGE}, {cp.COOKIE, cp.SERVER_MESSAGE}
    assert kinds == {("up", kind) for kind in up} | {("down", kind) for kind in down}
    client = tunnel.client.site.key("client").public
    for datagram in seen:
        assert not re.search(rb"quick|brown|\x03web", datagram.packet)
        assert client not in datagram.packet, "who the client is can be read on the wire"
        assert len(datagram.packet) <= 1184
        if datagram.direction == "up":
            assert len(datagram.packet) % 16 == 0
