"""What was recorded of an honest session over UDP and is sent again gets nothing."""

from __future__ import annotations

import os
import time

import curvecp as cp
import pytest
import support as s
from bad_packets import A_MOMENT, server  # noqa: F401


def recorded_session(end: s.UdpServerEnd, data: bytes = b"PAY 100") -> list[bytes]:
    """All that an honest client sent, from its hello to its orderly end."""
    sent: list[bytes] = []
    with end.dial() as client:
        client.port.record = sent
        client.begin()
        client.stream.write(data)
        client.stream.end()
        assert client.stream.recv_until_end() == b""
        client.stream.linger(0.1)
    return sent


def assert_replay_gets_nothing(end: s.UdpServerEnd, sent: list[bytes], sources: tuple[str, ...]) -> None:
    sessions = len(end.backend.records)
    for source in sources:
        with cp.Port(source) as thief:
            for packet in sent:
                if packet[:8] != cp.HELLO:
                    thief.send(packet, end.address)
            assert thief.is_silent(A_MOMENT)
    end.check_honest()
    assert len(end.backend.records) == sessions + 1, "the replay reached the backend"


def initiate_of(sent: list[bytes]) -> bytes:
    return next(packet for packet in sent if packet[:8] == cp.INITIATE)


@pytest.mark.parametrize("after", ["its end", "a restart of the daemon", "a restart of the vault", "a moment"])
def test_a_recorded_session_played_again_gets_nothing(site: s.Site, sink_backend: s.Backend, after: str) -> None:
    with s.Backend(s.echo_if_asked) as backend:
        end = s.udp_server_end(site, backend, workers=2)
        sent = recorded_session(end)
        assert bytes(backend.wait_done(0).data) == b"PAY 100"
        if after == "a restart of the daemon":
            end.restart()
        elif after == "a restart of the vault":
            old = end.daemon.vault_pid
            os.kill(old, 9)
            s.until(lambda: end.daemon.vault_pid != old, "another vault")
        elif after == "a moment":
            time.sleep(s.scale(5, 1))
        assert_replay_gets_nothing(end, sent, ("127.0.0.1", "127.0.0.1", "127.0.0.2"))


def test_a_thousand_copies_of_an_initiate_at_once_make_one_session(site: s.Site) -> None:
    """From many ports of the client's address, so that every worker sees some."""
    with s.Backend(s.echo_if_asked) as backend:
        end = s.udp_server_end(site, backend, workers=4)
        for _ in range(s.scale(5, 2)):
            sessions = len(backend.records)
            with end.dial() as client:
                client.begin()
                packet = client.initiate(cp.message_bytes(cp.Message(1, block=b"echo once")))
                thieves = [cp.Port() for _ in range(50)]
                for i in range(1000):
                    thieves[i % 50].send(packet, end.address)
                    if i == 500:
                        client.send(packet)
                backend.wait_records(sessions + 1)
                time.sleep(0.5)
                assert len(backend.records) == sessions + 1
                client.stream.skip(9)
                client.stream.ping()
                assert client.stream.recv_exactly(9) == b"echo once"
                client.stream.close()
                assert bytes(backend.wait_done(sessions).data) == b"echo once"
                for thief in thieves:
                    thief.close()


def test_every_cookie_of_many_is_taken_once_though_it_comes_twice_at_once(site: s.Site) -> None:
    with s.Backend(s.echo_if_asked) as backend:
        end = s.udp_server_end(site, backend, workers=2)
        count = s.scale(200, 50)
        clients = [end.dial() for _ in range(count)]
        twin = cp.Port()
        for client in clients:
            client.begin()
        for client in clients:
            packet = client.initiate()
            client.send(packet)
            twin.send(packet, end.address)
        backend.wait_records(count)
        time.sleep(0.5)
        assert len(backend.records) == count
        for client in clients:
            assert client.establish().echo(b"echo") == b"echo"
            client.leave()
        twin.close()
        assert len(backend.records) == count


def test_two_cookies_for_one_short_key_make_one_session(server: s.UdpServerEnd) -> None:
    """A duplicated hello: both cookies differ, both are good, the second comes to a session that stands."""
    sessions = len(server.backend.records)
    with server.dial() as client, server.dial() as twin:
        twin.short = client.short
        hello = client.hello()
        client.send(hello)
        first = client.take_cookie()
        client.send(hello)
        second = client.take_cookie()
        assert first.server_short != second.server_short and first.k != second.k and first.nonce != second.nonce
        client.cookie, twin.cookie = first, second
        assert client.establish().echo(b"echo") == b"echo"
        client.quiet()
        twin.number = client.number + 1000
        twin.send(twin.initiate(cp.message_bytes(cp.Message(1, block=b"echo twice"))))
        client.send(twin.initiate(cp.message_bytes(cp.Message(1, block=b"echo twice"))))
        assert twin.port.is_silent(A_MOMENT) and client.port.is_silent(A_MOMENT)
        assert client.stream.echo(b"goes on") == b"goes on"
        client.stream.close()
    assert bytes(server.backend.wait_done(sessions).data) == b"echogoes on"
    assert len(server.backend.records) == sessions + 1


def test_a_thousand_times_the_same_hello_gets_a_thousand_different_cookies(server: s.UdpServerEnd) -> None:
    front = server.daemon.front_pid
    count = s.scale(1000, 200)
    with server.dial() as client:
        hello = client.hello()
        client.send(hello)
        client.take_cookie()
        before = s.status_kib(front, "VmRSS")
        cookies = []
        for _ in range(count):
            client.send(hello)
            cookies.append(client.take_cookie())
        grown = s.status_kib(front, "VmRSS") - before
    assert len({cookie.server_short for cookie in cookies}) == count
    assert len({cookie.nonce for cookie in cookies}) == len({cookie.k for cookie in cookies}) == count
    assert len({cookie.k[:16] for cookie in cookies}) == count
    assert grown < s.scale(1024, 16384), f"{grown} KiB"


def test_a_cookie_serves_the_address_that_asked_for_it_only(server: s.UdpServerEnd) -> None:
    sessions = len(server.backend.records)
    with server.dial("127.0.0.1") as client, cp.Port("127.0.0.2") as elsewhere:
        client.begin()
        packet = client.initiate()
        elsewhere.send(packet, client.address)
        assert elsewhere.is_silent(A_MOMENT) and client.port.is_silent(A_MOMENT)
        assert len(server.backend.records) == sessions
        client.move("127.0.0.1")  # another port of the same address is a NAT's right
        client.send(packet)
        assert client.establish().echo(b"echo") == b"echo"
