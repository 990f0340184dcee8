"""Forwarding with the real daemons at both ends, and with foreign peers: bytes, ends, back-pressure, failures."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import curve_tun as ct
import pytest
import support as s

# ---- bytes ----

BLOCK = os.urandom(1 << 20)


def stream(size: int, seed: int) -> Iterator[bytes]:
    """That many bytes in blocks, no two alike."""
    for i in range(size // len(BLOCK)):
        yield i.to_bytes(8, "big") + seed.to_bytes(8, "big") + BLOCK[16:]


def digest(blocks: Iterator[bytes]) -> str:
    hashed = hashlib.sha256()
    for block in blocks:
        hashed.update(block)
    return hashed.hexdigest()


def send_and_end(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def send_stream(sock: socket.socket, size: int, seed: int) -> None:
    for block in stream(size, seed):
        sock.sendall(block)
    sock.shutdown(socket.SHUT_WR)


@pytest.mark.timeout(600)
def test_a_gibibyte_both_ways_at_once_arrives_unchanged(make_tunnel: Callable[..., s.Tunnel]) -> None:
    size = s.scale(1 << 30, 32 << 20)
    seen: list[s.Record] = []

    def both_ways(record: s.Record) -> None:
        record.KEEP = 0
        record.sock.settimeout(120)
        sender = threading.Thread(target=send_stream, args=(record.sock, size, 1))
        sender.start()
        record.read_to_end(120)
        sender.join()
        seen.append(record)

    with s.Backend(both_ways) as backend:
        tunnel = make_tunnel(backend)
        start = time.monotonic()
        with tunnel.open() as local:
            local.sock.settimeout(120)
            sender = threading.Thread(target=send_stream, args=(local.sock, size, 2))
            sender.start()
            mine = s.Record(local.sock)
            mine.KEEP = 0
            mine.read_to_end(120)
            sender.join()
        print(f"{2 * size / 2**20 / (time.monotonic() - start):.0f} MiB/s, both directions together")
        theirs = backend.wait_done()
    assert (mine.ended, mine.size) == ("eof", size) and (theirs.ended, theirs.size) == ("eof", size)
    assert mine.digest.hexdigest() == digest(stream(size, 1))
    assert theirs.digest.hexdigest() == digest(stream(size, 2))
    for daemon in (tunnel.client.daemon, tunnel.server.daemon):
        closed = daemon.wait_event("session_close", reason="end of stream")
        assert (int(closed.fields["bytes_out"]), int(closed.fields["bytes_in"])) == (size, size)


def test_a_thousand_connections_at_once_from_one_address(
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend
) -> None:
    count = s.scale(1000, 250)
    tunnel = make_tunnel(echo_backend)

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
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_tunnel(echo_backend)
    for i in range(s.scale(200, 40)):
        with tunnel.open() as local:
            data = b"%d" % i
            local.send(data)
            local.half_close()
            assert local.read_to_end() == (data, "eof")


def test_sizes_around_the_largest_message(make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend) -> None:
    tunnel = make_tunnel(echo_backend)
    with tunnel.open() as local:
        largest = ct.LARGEST_MESSAGE
        for size in (1, largest - 1, largest, largest + 1, 2 * largest, 4 * largest + 1, 65535, 65536):
            data = os.urandom(size)
            sender = threading.Thread(target=local.send, args=(data,))
            sender.start()
            assert local.recv_exactly(size) == data
            sender.join()


# ---- half-close ----


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_half_close_with_a_megabyte_in_flight_loses_nothing(
    make_tunnel: Callable[..., s.Tunnel], direction: str
) -> None:
    """All of it arrives, then the half-close; the other direction goes on until its own end."""
    data = os.urandom(1 << 20)
    with s.Backend(s.hold) as backend:
        tunnel = make_tunnel(backend)
        with tunnel.open() as local:
            far = backend.wait_records(1)[0].sock
            near = local.sock
            writer, reader = (near, far) if direction == "up" else (far, near)
            writer.settimeout(s.PATIENCE)
            sender = threading.Thread(target=send_and_end, args=(writer, data))
            sender.start()
            time.sleep(0.3)  # the reader is late: a megabyte is on its way
            got = s.Record(reader)
            got.read_to_end()
            sender.join()
            assert (bytes(got.data), got.ended) == (data, "eof")
            for word in (b"the other", b"direction", b"goes on"):
                reader.sendall(word)
                assert writer.recv(100) == word
            reader.shutdown(socket.SHUT_WR)
            assert writer.recv(1) == b""
            backend.records[0].done.set()
        for daemon in (tunnel.client.daemon, tunnel.server.daemon):
            daemon.wait_event("session_close", reason="end of stream")


def test_both_ends_at_once_is_an_orderly_end(make_tunnel: Callable[..., s.Tunnel]) -> None:
    with s.Backend(s.source(b"")) as backend:
        tunnel = make_tunnel(backend)
        with tunnel.open() as local:
            local.half_close()
            assert local.read_to_end() == (b"", "eof")
        assert backend.wait_done().ended == "eof"


@pytest.mark.parametrize("side", ["local", "backend"])
def test_a_reset_on_one_plain_side_is_a_reset_on_the_other(make_tunnel: Callable[..., s.Tunnel], side: str) -> None:
    with s.Backend(s.hold) as backend:
        tunnel = make_tunnel(backend)
        local = tunnel.open()
        far = s.Local.__new__(s.Local)
        far.sock = backend.wait_records(1)[0].sock
        far.sock.settimeout(s.PATIENCE)
        local.send(b"one")
        assert far.recv_exactly(3) == b"one"
        first, second = (local, far) if side == "local" else (far, local)
        first.reset()
        assert second.read_to_end() == (b"", "reset")
        backend.records[0].done.set()
        local.close()
        near = tunnel.client.daemon if side == "local" else tunnel.server.daemon
        other = tunnel.server.daemon if side == "local" else tunnel.client.daemon
        near.wait_event("session_close", reason="local side reset the connection")
        other.wait_event("session_close", reason="tunnel was cut without an end of stream")


# ---- plain sides ----


@pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])
def test_a_reply_that_comes_before_a_reset_is_not_lost(
    make_tunnel: Callable[..., s.Tunnel], make_udp_tunnel: Callable[..., s.UdpTunnel], wire: str
) -> None:
    """A web server that answers 413 in the midst of an upload, and closes."""
    reply = b"HTTP/1.1 413 Content Too Large\r\n\r\n" + os.urandom(20_000)

    def refuse(record: s.Record) -> None:
        record.take(record.sock.recv(1_000))
        record.sock.sendall(reply)
        record.sock.close()  # a reset: most of what has come is unread

    def upload(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.sendall(bytes(8 << 20))

    with s.Backend(refuse) as backend:
        tunnel = make_tunnel(backend) if wire == "curve_tun" else make_udp_tunnel(backend)
        for _ in range(20):
            with tunnel.open() as local:
                sender = threading.Thread(target=upload, args=(local.sock,))
                sender.start()
                got, _ = local.read_to_end()
                sender.join(s.PATIENCE)
                assert got == reply


@pytest.mark.parametrize("side", ["local", "backend"])
def test_an_urgent_byte_stays_where_it_is(make_tunnel: Callable[..., s.Tunnel], side: str) -> None:
    with s.Backend(s.hold) as backend:
        tunnel = make_tunnel(backend)
        with tunnel.open() as local:
            far = backend.wait_records(1)[0]
            first, second = (local.sock, far.sock) if side == "local" else (far.sock, local.sock)
            second.settimeout(s.PATIENCE)
            first.sendall(b"before ")
            first.send(b"!", socket.MSG_OOB)
            first.sendall(b" after")
            first.shutdown(socket.SHUT_WR)
            got = b""
            while part := second.recv(100):
                got += part
            assert got == b"before ! after"
        far.done.set()


def test_unix_sockets_on_both_plain_sides(make_site: Callable[[str], s.Site], tmp_path: Path) -> None:
    near, far = make_site("near"), make_site("far")
    with s.Backend(s.echo, path=tmp_path / "back.sock") as backend:
        far.know("phone", near.key("client").public)
        server = s.server_end(far, backend, {"allow": "phone"})
        path = tmp_path / "front.sock"
        client = s.client_end(near, server.address, server.key, {"accept": f"unix:{path}"})
        with s.Local(str(path)) as local:
            data = os.urandom(300_000)
            sender = threading.Thread(target=local.send, args=(data,))
            sender.start()
            assert local.recv_exactly(len(data)) == data
            sender.join()
            local.half_close()
            assert local.read_to_end() == (b"", "eof")
        client.daemon.stop()
        assert not path.exists(), "the socket file stays behind"


def test_a_second_daemon_leaves_the_socket_file_of_a_living_one_alone(
    make_site: Callable[[str], s.Site], tmp_path: Path
) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(ct.echo_handler)
        path = tmp_path / "app.sock"
        first = make_site("first")
        s.client_end(first, server.address, server.keys.public, {"accept": f"unix:{path}"})
        second = make_site("second")
        second.know("gate", server.keys.public)
        target = f"curve_tun:127.0.0.1:{server.address[1]}"
        services = {
            "other": {"client": "yes", "accept": f"127.0.0.1:{s.free_port()}", "connect": target, "peer": "gate"},
            "app": {"client": "yes", "accept": f"unix:{path}", "connect": target, "peer": "gate"},
        }
        code, said = second.start_refused(services)
        assert code != 0 and str(path) in said and "in use" in said
        with s.Local(str(path)) as local:
            assert local.echo(b"still mine") == b"still mine"


def test_a_socket_file_left_by_a_crash_is_taken_over(make_site: Callable[[str], s.Site], tmp_path: Path) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(ct.echo_handler)
        path = tmp_path / "app.sock"
        leftover = socket.socket(socket.AF_UNIX)
        leftover.bind(str(path))
        leftover.close()
        s.client_end(make_site("site"), server.address, server.keys.public, {"accept": f"unix:{path}"})
        with s.Local(str(path)) as local:
            assert local.echo(b"taken over") == b"taken over"


def test_a_file_that_is_no_socket_is_not_removed(make_site: Callable[[str], s.Site], tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    site = make_site("site")
    site.know("gate", ct.KeyPair.generate().public)
    service = {"client": "yes", "accept": f"unix:{path}", "connect": "curve_tun:127.0.0.1:9", "peer": "gate"}
    code, said = site.start_refused({"app": service})
    assert code != 0 and str(path) in said
    assert path.read_text() == "data"


def test_ipv6_at_every_place(make_site: Callable[[str], s.Site]) -> None:
    near, far = make_site("near"), make_site("far")
    with s.Backend(s.echo, host="::1") as backend:
        far.know("phone", near.key("client").public, "from=::1")
        port = s.free_port()
        server = s.server_end(far, backend, {"allow": "phone", "accept": f"curve_tun:[::1]:{port}"})
        local_port = s.free_port()
        s.client_end(near, ("::1", port), server.key, {"accept": f"[::1]:{local_port}"})
        with s.Local(("::1", local_port)) as local:
            assert local.echo(b"six") == b"six"
        opened = server.daemon.wait_event("handshake_ok", peer="phone")
        assert opened.fields["src"].startswith("[::1]:")


def test_two_colons_listen_on_both_families_and_from_sees_the_ipv4_address(
    site: s.Site, echo_backend: s.Backend
) -> None:
    port = s.free_port()
    gate = s.server_end(site, echo_backend, {"accept": f"curve_tun:[::]:{port}"}, known="from=127.0.0.0/8,::1")
    for host in ("127.0.0.1", "::1"):
        gate.address = (host, port)
        gate.check_honest()


def test_several_services_in_one_daemon(make_site: Callable[[str], s.Site]) -> None:
    """Two server ends, a client end to each, all in one process family, with one key of each role."""
    site = make_site("site")
    with s.Backend(s.source(b"one")) as one, s.Backend(s.source(b"two")) as two:
        site.know("me", site.key("client").public)
        site.know("gate", site.key("server").public)
        ports = [s.free_port() for _ in range(4)]
        services = {}
        for i, backend in enumerate((one, two)):
            services[f"in{i}"] = {"accept": f"curve_tun:127.0.0.1:{ports[i]}", "connect": backend.address, "allow": "me"}
            services[f"out{i}"] = {
                "client": "yes",
                "accept": f"127.0.0.1:{ports[2 + i]}",
                "connect": f"curve_tun:127.0.0.1:{ports[i]}",
                "peer": "gate",
            }
        daemon = site.start(services)
        assert len(daemon.events("listening")) == 4
        for i, expected in enumerate((b"one", b"two")):
            with s.Local(("127.0.0.1", ports[2 + i])) as local:
                local.half_close()
                assert local.read_to_end() == (expected, "eof")


def test_a_client_of_one_service_is_not_let_into_another(
    make_site: Callable[[str], s.Site], echo_backend: s.Backend
) -> None:
    site = make_site("site")
    tablet = ct.KeyPair.generate()
    site.know("tablet", tablet.public)
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    ports = [s.free_port(), s.free_port()]
    accept = [{"accept": f"curve_tun:127.0.0.1:{port}", "connect": echo_backend.address} for port in ports]
    daemon = site.start({"a": accept[0] | {"allow": "laptop"}, "b": accept[1] | {"allow": "tablet"}})
    server = site.key("server").public
    for port, keys, good in ((ports[0], client, True), (ports[1], client, False), (ports[1], tablet, True)):
        with ct.Client.connect(("127.0.0.1", port), server, keys) as connection:
            assert connection.session is not None
            if good:
                assert connection.session.echo(b"in") == b"in"
            else:
                assert connection.frames.wait_closed()[1] == b""
    daemon.wait_event("handshake_reject", service="b", reason="laptop.*client is not authorised")


# ---- back-pressure ----


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


MOST_IN_FLIGHT = 64 << 20  # what the sockets' buffers of the kernel hold, all together, and much more


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_reader_that_stalls_stops_its_sender_and_nobody_else(
    make_tunnel: Callable[..., s.Tunnel], direction: str
) -> None:
    def handler(record: s.Record) -> None:
        first = record.sock.recv(4)
        if first == b"echo":
            record.sock.sendall(first)
            return s.echo(record)
        return s.hold(record)

    with s.Backend(handler) as backend:
        tunnel = make_tunnel(backend)
        fronts = [tunnel.client.daemon.front_pid, tunnel.server.daemon.front_pid]
        with tunnel.open() as warm:
            assert warm.echo(b"echo") == b"echo"
        before = [s.status_kib(pid, "VmRSS") for pid in fronts]
        with tunnel.open() as stalled:
            stalled.send(b"hold")
            far = backend.wait_records(2)[1].sock
            writer, reader = (stalled.sock, far) if direction == "up" else (far, stalled.sock)
            sent = push_until_stuck(writer, MOST_IN_FLIGHT)
            grown = [s.status_kib(pid, "VmRSS") - was for pid, was in zip(fronts, before, strict=True)]
            assert max(grown) < s.scale(8, 64) * 1024, f"the daemons grew by {grown} KiB"
            with tunnel.open() as other:
                assert other.echo(b"echo") == b"echo"
                for _ in range(20):
                    data = os.urandom(50_000)
                    assert other.echo(data) == data
            writer.shutdown(socket.SHUT_WR)
            late = s.Record(reader)
            late.read_to_end()
            assert (late.size, late.ended) == (sent, "eof")
            backend.records[1].done.set()


def test_a_foreign_peer_that_never_reads_stops_its_sender_and_nobody_else(site: s.Site) -> None:
    with s.Backend(s.hold) as backend:
        gate = s.server_end(site, backend)
        with gate.connect() as lazy:
            before = s.status_kib(gate.daemon.front_pid, "VmRSS")
            far = backend.wait_records(1)[0].sock
            sent = push_until_stuck(far, MOST_IN_FLIGHT)
            assert s.status_kib(gate.daemon.front_pid, "VmRSS") - before < s.scale(8, 64) * 1024
            with gate.connect() as other:
                assert other.session is not None
                backend.wait_records(2)[1].sock.sendall(b"hello")
                assert other.session.recv() == b"hello"
            far.shutdown(socket.SHUT_WR)
            assert lazy.session is not None
            assert len(lazy.session.recv_until_end()) == sent


# ---- ends with foreign peers ----


@pytest.fixture
def foreign(site: s.Site, sink_backend: s.Backend) -> s.ServerEnd:
    return s.server_end(site, sink_backend, {"end_of_stream": "close"})


def test_end_of_stream_close_takes_fin_for_the_end(foreign: s.ServerEnd) -> None:
    with foreign.connect() as client:
        assert client.session is not None
        for word in (b"one ", b"", b"two ", b"", b"three"):
            client.session.send(word)  # an empty message carries nothing here
        client.frames.half_close()
        assert client.frames.wait_closed() == ("eof", b"")
    record = foreign.backend.wait_done()
    assert (bytes(record.data), record.ended) == (b"one two three", "eof")
    foreign.daemon.wait_event("session_close", reason="end of stream")


def test_end_of_stream_close_still_knows_a_cut_record(foreign: s.ServerEnd) -> None:
    with foreign.connect() as client:
        assert client.session is not None
        client.session.send(b"whole")
        client.frames.write(ct.frame(client.session.seal(b"half"))[:20])
        client.frames.half_close()
        client.frames.wait_closed()
    record = foreign.backend.wait_done()
    assert (bytes(record.data), record.ended) == (b"whole", "reset")


def test_end_of_stream_close_ends_the_tunnel_after_all_that_the_local_side_said(site: s.Site) -> None:
    data = os.urandom(500_000)
    with s.Backend(s.source(data)) as backend:
        gate = s.server_end(site, backend, {"end_of_stream": "close"})
        with gate.connect() as client:
            assert client.session is not None
            assert client.session.recv_exactly(len(data)) == data
            assert client.frames.wait_closed() == ("eof", b""), "FIN, and no empty message before it"


def test_end_of_stream_close_takes_a_refusal_for_no_end(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        end = s.client_end(site, server.address, server.keys.public, {"end_of_stream": "close"})
        with end.open() as local:
            connection = server.accept()
            connection.handshake()
            connection.frames.close()
            assert local.read_to_end() == (b"", "reset")
        end.daemon.wait_event("session_close", reason="closed before it sent anything", bytes_in="^0$")


def test_an_illegal_length_is_called_by_its_name(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    with gate.connect() as client:
        client.frames.write(b"\x00\x1f")
        client.frames.wait_closed()
    gate.daemon.wait_event("session_close", reason="^message has an illegal length$")


def test_end_of_stream_close_works_at_the_client_end_too(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        end = s.client_end(site, server.address, server.keys.public, {"end_of_stream": "close"})
        with end.open() as local:
            connection = server.accept()
            session = connection.handshake()
            local.send(b"question")
            assert session.recv() == b"question"
            session.send(b"")
            session.send(b"answer")
            connection.frames.close()
            assert local.read_to_end() == (b"answer", "eof")
        with end.open() as local:
            connection = server.accept()
            session = connection.handshake()
            local.send(b"goodbye")
            local.close()
            assert session.recv() == b"goodbye"
            assert connection.frames.wait_closed() == ("eof", b"")
            connection.frames.close()


# ---- the vouch's segment ----


def test_messages_in_the_segment_of_the_vouch_are_served(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    data = [b"first", os.urandom(ct.LARGEST_MESSAGE), b"last"]
    for cut in (None, 227, 228, 300):
        with gate.dial() as client:
            client.begin()
            vouch = client.vouch()
            session = client.establish()
            burst = ct.frame(vouch) + b"".join(ct.frame(session.seal(part)) for part in [*data, b""])
            client.frames.write(burst[:cut])
            if cut:
                client.frames.write(burst[cut:])
            assert session.recv_until_end() == b"".join(data)


def test_a_server_that_speaks_first_is_heard(site: s.Site) -> None:
    with s.Backend(s.source(b"220 welcome")) as backend:
        gate = s.server_end(site, backend)
        with gate.connect() as client:
            assert client.session is not None
            assert client.session.recv_until_end() == b"220 welcome"


# ---- who may ----


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ("@revoked", "revoked"),
        ("valid-until=2020-01-01", "expired"),
        ("valid-until=2020-01-01T00:00:00+02:00", "expired"),
        ("from=10.0.0.0/8", "address"),
        ("from=127.0.0.2,::1", "address"),
    ],
)
def test_a_line_of_known_hosts_that_forbids_is_heeded(
    site: s.Site, echo_backend: s.Backend, known: str, reason: str
) -> None:
    gate = s.server_end(site, echo_backend, known=known)
    with gate.connect() as client:
        assert client.frames.wait_closed()[1] == b""
    gate.daemon.wait_event("handshake_reject", reason=f"{reason}.*client is not authorised")
    assert echo_backend.records == []


def test_from_lets_in_whom_it_names(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, known="from=127.9.0.0/16 valid-until=2999-12-31")
    gate.check_honest(source="127.9.1.1")
    with gate.connect() as client:
        assert client.frames.wait_closed()[1] == b""


def test_a_revoked_line_beats_every_other_line_of_that_key(site: s.Site, echo_backend: s.Backend) -> None:
    gate_client = ct.KeyPair.generate()
    site.know("friend", gate_client.public)
    site.know("gone", gate_client.public, "@revoked")
    gate = s.server_end(site, echo_backend, {"allow": "friend, gone, laptop"})
    with gate.connect(keys=gate_client) as client:
        assert client.frames.wait_closed()[1] == b""
    gate.daemon.wait_event("handshake_reject", reason="revoked")


def test_nobody_is_allowed_unless_named_and_a_star_allows_any_but_the_revoked(
    site: s.Site, echo_backend: s.Backend
) -> None:
    revoked = ct.KeyPair.generate()
    site.know("gone", revoked.public, "@revoked")
    gate = s.server_end(site, echo_backend, {"allow": "*"})
    with gate.connect(keys=ct.KeyPair.generate()) as stranger:
        assert stranger.session is not None
        assert stranger.session.echo(b"in") == b"in"
    with gate.connect(keys=revoked) as client:
        assert client.frames.wait_closed()[1] == b""


# ---- what is not there ----


def test_names_that_do_not_resolve_are_not_fatal_at_start(make_site: Callable[[str], s.Site]) -> None:
    site = make_site("site")
    site.know("gate", ct.KeyPair.generate().public)
    port, tunnel_port = s.free_port(), s.free_port()
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    services = {
        "out": {
            "client": "yes",
            "accept": f"127.0.0.1:{port}",
            "connect": "curve_tun:no-such-host.invalid:4433",
            "peer": "gate",
        },
        "in": {"accept": f"curve_tun:127.0.0.1:{tunnel_port}", "connect": "no-such-host.invalid:80", "allow": "laptop"},
    }
    daemon = site.start(services, connect_timeout="3s")
    reason = "no-such-host.invalid.*(name does not resolve|no connection in time)"
    with s.Local(("127.0.0.1", port)) as local:
        assert local.read_to_end() == (b"", "reset")
        daemon.wait_event("connect_failed", service="^out$", reason=reason)
    with ct.Client.connect(("127.0.0.1", tunnel_port), site.key("server").public, client) as connection:
        assert connection.frames.wait_closed()[1] == b""
        daemon.wait_event("connect_failed", service="^in$", reason=reason)


def test_names_are_resolved_when_dialling(make_site: Callable[[str], s.Site], echo_backend: s.Backend) -> None:
    near, far = make_site("near"), make_site("far")
    far.know("phone", near.key("client").public)
    server = s.server_end(far, echo_backend, {"allow": "phone", "connect": f"localhost:{echo_backend.port}"})
    client = s.client_end(near, ("localhost", server.address[1]), server.key)
    with client.open() as local:
        assert local.echo(b"by name") == b"by name"


def test_a_backend_that_is_down_is_told_and_the_local_side_reset(
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_tunnel(echo_backend)
    with tunnel.open() as local:
        assert local.echo(b"up") == b"up"
    port = echo_backend.port
    echo_backend.close()
    with tunnel.open() as local:
        assert local.read_to_end() == (b"", "reset")
    tunnel.server.daemon.wait_event(
        "connect_failed", service="web", reason=f"127.0.0.1:{port}.*refused.*cannot connect"
    )
    with s.Backend(s.echo, port=port), tunnel.open() as local:
        assert local.echo(b"up again") == b"up again"


def test_a_server_end_that_is_down_is_told_and_the_local_side_reset(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        address = server.address
    end = s.client_end(site, address, server.keys.public)
    with end.open() as local:
        assert local.read_to_end() == (b"", "reset")
    end.daemon.wait_event("connect_failed", service="app", reason="refused.*cannot connect")
    with ct.Server(server.keys, port=address[1]) as again:
        again.serve(ct.echo_handler)
        with end.open() as local:
            assert local.echo(b"there now") == b"there now"


def test_a_port_in_use_refuses_the_start_and_names_it(site: s.Site, echo_backend: s.Backend) -> None:
    service = {"accept": f"curve_tun:127.0.0.1:{echo_backend.port}", "connect": "127.0.0.1:9", "allow": "*"}
    code, said = site.start_refused({"web": service})
    assert code not in (0, 1) and code > 0
    assert f"127.0.0.1:{echo_backend.port}" in said and "in use" in said
    assert "refused.conf:" in said, "the line of the section is not named"


def test_a_port_of_another_curvegate_is_in_use_too(make_site: Callable[[str], s.Site], echo_backend: s.Backend) -> None:
    """Workers share a port among themselves, not with strangers."""
    gate = s.server_end(make_site("first"), echo_backend)
    service = {"accept": f"curve_tun:127.0.0.1:{gate.address[1]}", "connect": "127.0.0.1:9", "allow": "*"}
    code, said = make_site("second").start_refused({"web": service})
    assert code != 0 and "in use" in said
    gate.check_honest()


@pytest.mark.parametrize("fault", ["missing", "open to others", "a folder", "not a key file", "of the other role"])
def test_a_key_file_that_cannot_be_used_refuses_the_start_and_names_it(site: s.Site, fault: str) -> None:
    key = site.key("server").path
    if fault == "missing":
        key.unlink()
    elif fault == "open to others":
        key.chmod(0o644)
    elif fault == "a folder":
        key.unlink()
        key.mkdir()
    elif fault == "not a key file":
        key.write_text("hello\n")
    else:
        key.write_bytes(site.key("client").path.read_bytes())
    service = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "*"}
    code, said = site.start_refused({"web": service})
    assert code in (65, 66, 77, 78), said
    assert str(key) in said
    if fault == "open to others":
        assert "chmod 600" in said


def test_an_unreadable_key_file_refuses_the_start(nobody_site: s.Site) -> None:
    """As another user than the key's owner."""
    service = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "*"}
    config = nobody_site.write_config({"web": service}, control=None)
    config.chmod(0o644)
    os.chown(nobody_site.known_hosts, 65534, 65534)
    done = s.run([*s.AS_NOBODY, s.binary("curvegated"), "-c", str(config)])
    said = done.stderr.decode()
    assert done.returncode in (66, 77), said
    assert str(nobody_site.key("server").path) in said and "ermission denied" in said
