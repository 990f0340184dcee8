"""Forwarding over UDP with the real daemons at both ends: bytes, ends, back-pressure."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable

import pytest
import support as s
from udp_transfers import assert_carries, digest, far_end, send_blocks


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
            sent = s.push_until_stuck(stalled.sock, 64 << 20)
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
