"""Forwarding with the real daemons at both ends, and with foreign peers: bytes, ends, back-pressure."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import curve_tun as ct
import pytest
import support as s

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
            sent = s.push_until_stuck(writer, MOST_IN_FLIGHT)
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
            sent = s.push_until_stuck(far, MOST_IN_FLIGHT)
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
