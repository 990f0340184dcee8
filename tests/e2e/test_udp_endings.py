"""Sessions over UDP whose server, client, vault, front or daemon ends or was never there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import curvecp as cp
import pytest
import support as s
from udp_transfers import blocks, digest, far_end, send_blocks


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
