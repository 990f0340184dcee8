"""A bad server over TCP: the client end refuses it with one message, and the next honest one works."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import curve_tun as ct
import pytest
import support as s
from bad_frames import BAD_LENGTH, BAD_MESSAGE, MESSAGE_CASES, WEAK_KEY, Spoken
from bad_input import LOW_ORDER, as_key, with_top_bit

ONE_MESSAGE = "gate.*wrong key for .*, or not a curve_tun server"


@dataclass
class Dialler:
    end: s.ClientEnd
    server: ct.Server
    pace: s.Pace


@pytest.fixture(scope="module")
def dialler(module_site: Callable[[str], s.Site]) -> Iterator[Dialler]:
    """A client end in front of a Python server."""
    with ct.Server(ct.KeyPair.generate()) as server:
        end = s.client_end(module_site("client"), server.address, server.keys.public, {"connect_timeout": "1s"})
        yield Dialler(end, server, s.Pace())


def check_honest_server(dialler: Dialler) -> None:
    with dialler.end.open() as local:
        connection = dialler.server.accept()
        session = connection.handshake()
        assert connection.client == dialler.end.site.key("client").public
        local.send(b"question")
        assert session.recv_exactly(8) == b"question"
        session.send(b"answer")
        assert local.recv_exactly(6) == b"answer"
        session.end()
        local.half_close()
        assert session.recv_until_end() == b""
        assert local.read_to_end() == (b"", "eof")
        connection.frames.close()


@dataclass(frozen=True)
class Answer:
    """What the server sends in the place of its cookie."""

    name: str
    packet: Callable[[ct.ServerConnection], bytes]
    reason: str


def other_server(connection: ct.ServerConnection) -> bytes:
    connection.keys = ct.KeyPair.generate()
    return connection.cookie()


def under_minute_key(connection: ct.ServerConnection) -> bytes:
    packet = connection.cookie()
    return packet[:-1] + bytes([packet[-1] ^ 1])


ANSWERS = [
    Answer("cookie that does not open", under_minute_key, ONE_MESSAGE),
    Answer("cookie of another server key", other_server, ONE_MESSAGE),
    Answer("cookie of random bytes", lambda c: ct.COOKIE + os.urandom(160), ONE_MESSAGE),
    Answer("cookie with an extra byte", lambda c: c.cookie(extra=b"\0"), ONE_MESSAGE),
    Answer("cookie with extra plaintext", lambda c: c.cookie(extra_plain=b"\0"), ONE_MESSAGE),
    Answer("cookie one byte short", lambda c: c.cookie()[:-1], ONE_MESSAGE),
    Answer("cookie with wrong magic", lambda c: c.cookie(magic=os.urandom(8)), ONE_MESSAGE),
    Answer("empty frame", lambda _: b"", ONE_MESSAGE),
    Answer("a message", lambda _: ct.MESSAGE + os.urandom(160), ONE_MESSAGE),
    Answer("a hello", lambda _: ct.HELLO + os.urandom(120), ONE_MESSAGE),
    Answer(
        "server short key with the top bit set",
        lambda c: c.cookie(server_short=with_top_bit(c.short.public)),
        f"{ONE_MESSAGE}|{WEAK_KEY}",
    ),
    *[
        Answer(
            f"server short key of low order {i}",
            lambda c, v=value: c.cookie(server_short=as_key(v)),
            f"{ONE_MESSAGE}|{WEAK_KEY}",
        )
        for i, value in enumerate(LOW_ORDER)
    ],
]


def assert_connect_failed(dialler: Dialler, local: s.Local, mark: int, reason: str) -> None:
    assert local.read_to_end() == (b"", "reset")
    event = dialler.end.daemon.wait_event("connect_failed", since=mark, service="^app$", reason=reason)
    assert event.fields.get("peer", "gate") == "gate"
    check_honest_server(dialler)
    assert len(dialler.end.daemon.events("connect_failed", mark)) == 1


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name.replace(" ", "-"))
def test_client_refuses_a_bad_cookie_with_one_message(dialler: Dialler, answer: Answer) -> None:
    dialler.pace.take()
    mark = dialler.end.daemon.mark()
    with dialler.end.open() as local:
        connection = dialler.server.accept()
        connection.take_hello()
        connection.frames.send(answer.packet(connection))
        assert connection.frames.wait_closed()[1] == b"", "the client sent a vouch"
        assert_connect_failed(dialler, local, mark, answer.reason)
        connection.frames.close()


@pytest.mark.parametrize("after", ["connect", "hello", "half a cookie"])
def test_client_tells_of_a_server_that_closes(dialler: Dialler, after: str) -> None:
    mark = dialler.end.daemon.mark()
    with dialler.end.open() as local:
        connection = dialler.server.accept()
        if after != "connect":
            connection.take_hello()
        if after == "half a cookie":
            connection.frames.write(ct.frame(connection.cookie())[:80])
        connection.frames.close()
        assert_connect_failed(dialler, local, mark, ONE_MESSAGE)


@pytest.mark.parametrize("sent", [0, 1, 80, 169])
def test_client_gives_up_on_a_silent_server(dialler: Dialler, sent: int) -> None:
    mark = dialler.end.daemon.mark()
    start = time.monotonic()
    with dialler.end.open() as local:
        connection = dialler.server.accept()
        connection.take_hello()
        connection.frames.write(ct.frame(connection.cookie())[:sent])
        assert_connect_failed(dialler, local, mark, f"{ONE_MESSAGE}|no answer in time")
        assert 0.8 < time.monotonic() - start < s.PATIENCE
        connection.frames.close()


def test_client_gives_up_on_a_trickling_server(dialler: Dialler) -> None:
    mark = dialler.end.daemon.mark()
    with dialler.end.open() as local:
        connection = dialler.server.accept()
        connection.take_hello()
        for byte in ct.frame(connection.cookie()):
            if s.is_readable(connection.frames.sock, 0.1):
                break
            connection.frames.write(bytes([byte]))
        connection.frames.wait_closed()
        assert_connect_failed(dialler, local, mark, f"{ONE_MESSAGE}|no answer in time")
        connection.frames.close()


def test_client_takes_a_cookie_in_single_bytes(dialler: Dialler) -> None:
    with dialler.end.open() as local:
        connection = dialler.server.accept()
        connection.take_hello()
        for byte in ct.frame(connection.cookie()):
            connection.frames.write(bytes([byte]))
        session = connection.take_vouch()
        session.send(b"well")
        assert local.recv_exactly(4) == b"well"
        connection.frames.close()


@pytest.mark.parametrize("case", MESSAGE_CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_client_cuts_a_session_on_a_bad_message_and_delivers_what_was_good(dialler: Dialler, case: Spoken) -> None:
    dialler.pace.take()
    mark = dialler.end.daemon.mark()
    with dialler.end.open() as local:
        connection = dialler.server.accept()
        session = connection.handshake()
        case.speak(session)
        connection.frames.wait_closed()
        data, how = local.read_to_end()
        assert data == case.delivered
        assert how == "reset" or case.reason not in (BAD_MESSAGE, BAD_LENGTH)
        dialler.end.daemon.wait_event("session_close", since=mark, reason=case.reason)
        connection.frames.close()
    check_honest_server(dialler)
