"""Nothing lives that no limit counts: a place among the sessions is held as long as the session has memory, however it
ended, and comes back then."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from typing import Any

import curve_tun as ct
import curvecp as cp
import pytest
import support as s

TABLET = ct.KeyPair.generate()
AnyEnd = s.ServerEnd | s.UdpServerEnd
AnyClient = ct.Client | cp.Client


def gate(wire: str, site: s.Site, backend: s.Backend, service: dict[str, Any], **more: Any) -> AnyEnd:
    """A server end for the laptop and the tablet, with a control socket."""
    site.know("tablet", TABLET.public)
    start = s.server_end if wire == "curve_tun" else s.udp_server_end
    end = start(site, backend, {"allow": "laptop, tablet"} | service, **more)
    end.daemon.expected_exits = (0, 1)  # clients vanish without a word
    return end


def comes(end: AnyEnd, keys: ct.KeyPair | None = None) -> AnyClient | None:
    """A client whose application has said something to it, or none: it was not let in."""
    client = end.dial(keys=keys)
    try:
        if isinstance(client, cp.Client):
            client.begin()
            client.establish(1)
            assert client.stream.recv_some()
            # As an end of our own kind: a foreign one is waited for ten minutes.
            said = cp.Message(client.stream._take_id())
            client.send_message(cp.message_bytes(said, padding=cp.own_kind(1 << 20)))
        else:
            client.handshake()
            assert client.session is not None and client.session.recv()
    except (ct.Closed, ct.ProtocolError, TimeoutError, OSError):
        client.close()
        return None
    return client


def command(site: s.Site, *words: str) -> None:
    done = s.run([s.binary("curvegate"), *words, "-c", str(site.folder / "curvegate.conf")], timeout=30)
    assert done.returncode == 0, done


def fails(end: AnyEnd, client: AnyClient) -> None:
    """The client's own program was reset."""
    if isinstance(client, cp.Client):
        client.send_message(cp.message_bytes(cp.Message(client.stream._take_id(), position=0, flags=cp.FAILURE)))
    client.close()


def vanishes(_: AnyEnd, client: AnyClient) -> None:
    """Over UDP without a word; over TCP its kernel has one."""
    client.close()


def stays(_: AnyEnd, __: AnyClient) -> None:
    """Says and acknowledges nothing more."""


def is_reset_by_its_backend(end: AnyEnd, _: AnyClient) -> None:
    sock = end.backend.wait_records(1)[0].sock
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    sock.close()


def is_revoked(end: AnyEnd, _: AnyClient) -> None:
    command(end.site, "revoke", "laptop")


def greet(record: s.Record) -> None:
    """A service that speaks first, and much."""
    try:
        record.sock.sendall(b"welcome " * 65_536)
    except OSError:
        pass
    s.hold(record)


ENDS: dict[str, tuple[Callable[[AnyEnd, AnyClient], None], dict[str, Any]]] = {
    "failure": (fails, {}),
    "vanished": (vanishes, {"dead_peer": "1s"}),
    "idle": (stays, {"idle_timeout": "1s", "dead_peer": "2s"}),
    "backend-reset": (is_reset_by_its_backend, {"dead_peer": "2s"}),
    "revoked": (is_revoked, {}),
}


@pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])
@pytest.mark.parametrize("how", list(ENDS))
def test_a_place_comes_back_however_its_session_ended(site: s.Site, wire: str, how: str) -> None:
    ends, options = ENDS[how]
    with s.Backend(greet) as backend:
        end = gate(wire, site, backend, {"sessions_per_service": 1} | options)
        client = comes(end)
        assert client is not None
        ends(end, client)
        end.daemon.wait_event("session_close")
        other = s.until(lambda: comes(end, TABLET), "a place for another", 60)
        other.close()
        client.close()


def test_sessions_that_fail_and_leave_hold_their_places_while_they_have_memory(site: s.Site) -> None:
    """So their number is bounded by time: a place comes back after TIME-WAIT, three seconds, and no sooner."""
    places, tries = 4, 24
    with s.Backend(greet) as backend:
        end = gate("curvecp", site, backend, {"sessions_per_peer": places})
        start, inside = time.monotonic(), 0
        for _ in range(tries):
            client = end.dial()
            client.begin()
            client.send(client.initiate())
            if client.recv_message(0.5) is None:
                client.close()
                continue
            inside += 1
            fails(end, client)
        seconds = time.monotonic() - start
        most = places * (1 + math.floor(seconds / 3))
        assert places <= inside <= most, f"{inside} sessions in {seconds:.1f} s with {places} places"
        end.daemon.wait_event("handshake_reject", reason=r".*sessions-per-peer.*")


def test_a_revoked_client_is_told_once_and_gets_no_answer_any_more(site: s.Site) -> None:
    with s.Backend(s.echo) as backend:
        end = gate("curvecp", site, backend, {})
        assert isinstance(end, s.UdpServerEnd)
        with end.connect() as client:
            assert client.stream.echo(b"before") == b"before"
            command(site, "revoke", "laptop")
            end.daemon.wait_event("session_close", reason=".*may not be used.*")
            told = [cp.parse_message(said) for said in iter(lambda: client.recv_message(0.5), None)]
            assert any(message.flags & cp.FAILURE for message in told), told
            for number in range(5):
                client.send_message(cp.message_bytes(cp.Message(1_000 + number)))
                assert client.recv_message(0.3) is None, "a revoked peer was answered"
            client.close()
