"""A bad server over UDP, and bad packets in a server's name: the client end meets them by silence, and takes the good
ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import curvecp as cp
import pytest
import support as s
from bad_input import LOW_ORDER, as_key, case_ids, with_top_bit
from bad_packets import A_MOMENT, WINDOW, empty_block, flipped, last_bit, word


@dataclass
class Dialler:
    """A client end in front of a Python server that a test answers by hand."""

    end: s.ClientEnd
    server: cp.Server


@pytest.fixture(scope="module")
def dialler(module_site: Callable[[str], s.Site]) -> Iterator[Dialler]:
    with cp.Server(cp.KeyPair.generate(), "web", by_hand=True) as server:
        end = s.udp_client_end(
            module_site("client"), server.address, server.keys.public, {"connect_timeout": "5s"}
        )
        yield Dialler(end, server)


@dataclass(frozen=True)
class Answer:
    """What comes in the place of the cookie, or of the server's first message."""

    name: str
    packet: Callable[[cp.Conversation], bytes]


COOKIE_ANSWERS = [
    Answer("damaged box", lambda t: last_bit(t.cookie())),
    Answer("another client extension", lambda t: flipped(t.cookie(), 8 * 8)),
    Answer("another server extension", lambda t: flipped(t.cookie(), 24 * 8)),
    Answer("one byte short", lambda t: t.cookie()[:-1]),
    Answer("one byte long", lambda t: t.cookie(extra=b"\0")),
    Answer("extra plaintext", lambda t: t.cookie(extra_plain=b"\0")),
    Answer("wrong magic", lambda t: t.cookie(magic=b"RL3aNMXX")),
    Answer("magic of a message", lambda t: t.cookie(magic=cp.SERVER_MESSAGE)),
    Answer("random bytes", lambda _: cp.COOKIE + bytes(32) + os.urandom(160)),
    Answer("an empty datagram", lambda _: b""),
    Answer("the hello itself", lambda t: cp.HELLO + bytes(32) + t.hello.short + os.urandom(152)),
    Answer("a message", lambda t: t.message(empty_block())),
    Answer("short key with the top bit", lambda t: t.cookie(server_short=with_top_bit(t.short.public))),
    *[
        Answer(f"short key of low order {i}", lambda t, v=value: t.cookie(server_short=as_key(v)))  # type: ignore[misc]
        for i, value in enumerate(LOW_ORDER)
    ],
]


def other_servers_cookie(talk: cp.Conversation) -> bytes:
    keys, talk.server.keys = talk.server.keys, cp.KeyPair.generate()
    try:
        return talk.cookie()
    finally:
        talk.server.keys = keys


COOKIE_ANSWERS.append(Answer("cookie of another server key", other_servers_cookie))


@contextmanager
def begun(dialler: Dialler) -> Iterator[tuple[s.Local, cp.Conversation]]:
    """A local connection and the hello that it causes; both end in order."""
    with dialler.end.open() as local:
        talk = dialler.server.take_hello()
        talk.next_packet = dialler.server.port.recv
        yield local, talk
    talk.leave()


def sends_initiate(dialler: Dialler, talk: cp.Conversation, seconds: float = A_MOMENT) -> bool:
    deadline = time.monotonic() + seconds
    while came := dialler.server.port.recv(max(0.0, deadline - time.monotonic())):
        if came[0][:8] == cp.INITIATE and came[0][40:72] == talk.hello.short:
            return True
    return False


def finish_by_hand(dialler: Dialler, local: s.Local, talk: cp.Conversation) -> cp.Stream:
    """Takes the initiate and answers a question, so that the session stands."""
    initiate = dialler.server.take_initiate(talk)
    assert initiate.client == dialler.end.site.key("client").public
    talk.stream.take(initiate.message)
    local.send(b"question")
    assert talk.stream.recv_exactly(8) == b"question"
    talk.stream.send(b"answer")
    assert local.recv_exactly(6) == b"answer"
    return talk.stream


@pytest.mark.parametrize("answer", COOKIE_ANSWERS, ids=case_ids)
def test_client_ignores_a_bad_cookie_and_takes_the_good_one(dialler: Dialler, answer: Answer) -> None:
    with begun(dialler) as (local, talk):
        talk.send(answer.packet(talk))
        assert not sends_initiate(dialler, talk)
        talk.send(talk.cookie())
        finish_by_hand(dialler, local, talk)


def test_client_takes_no_cookie_from_another_address(dialler: Dialler) -> None:
    with begun(dialler) as (local, talk), cp.Port() as elsewhere:
        elsewhere.send(talk.cookie(), talk.peer)
        assert not sends_initiate(dialler, talk)
        assert elsewhere.is_silent(A_MOMENT)
        talk.send(talk.cookie())
        finish_by_hand(dialler, local, talk)


MESSAGE_ANSWERS = [
    Answer("damaged box", lambda t: last_bit(t.message(empty_block()))),
    Answer("changed nonce", lambda t: flipped(t.message(empty_block()), 40 * 8)),
    Answer("another server extension", lambda t: flipped(t.message(empty_block()), 24 * 8)),
    Answer("another client extension", lambda t: flipped(t.message(empty_block()), 8 * 8)),
    Answer("below the least length", lambda t: t.message(empty_block())[:64]),
    Answer("one byte long", lambda t: t.message(empty_block()) + b"\0"),
    Answer("too long", lambda t: t.message(bytes(1104))),
    Answer("wrong magic", lambda t: t.message(empty_block(), magic=b"RL3aNMXX")),
    Answer("the client's own direction", lambda t: reflected(t)),
    Answer("another cookie", lambda t: t.cookie()),
    Answer("random bytes", lambda _: os.urandom(256)),
]


def reflected(talk: cp.Conversation) -> bytes:
    box = cp.seal(empty_block(), cp.CLIENT_NONCE + cp.le64(7), talk.key)
    return cp.SERVER_MESSAGE + talk.ext.down() + cp.le64(7) + box


@pytest.mark.parametrize("answer", MESSAGE_ANSWERS, ids=case_ids)
@pytest.mark.parametrize("when", ["first", "later"])
def test_client_ignores_a_bad_message_and_takes_the_good_one(dialler: Dialler, answer: Answer, when: str) -> None:
    with begun(dialler) as (local, talk):
        talk.send(talk.cookie())
        if when == "first":
            assert sends_initiate(dialler, talk, 5)
            talk.send(answer.packet(talk))
        stream = finish_by_hand(dialler, local, talk)
        talk.send(answer.packet(talk))
        stream.write(b" and more")
        stream.wait(lambda: not stream.out, "more acknowledged")
        assert local.recv_exactly(9) == b" and more"


def test_client_takes_a_message_of_32_bytes_for_a_sign_of_life_and_nothing_else(dialler: Dialler) -> None:
    """Legal in its packet, too short for a message (PROTOCOL 8.1): no initiate is needed any more."""
    with begun(dialler) as (local, talk):
        talk.send(talk.cookie())
        talk.stream.take(dialler.server.take_initiate(talk).message)
        talk.send(talk.message(b"\1" + bytes(31)))
        local.send(b"question")
        assert talk.stream.recv_exactly(8) == b"question"
        assert not sends_initiate(dialler, talk)


def test_client_ignores_a_message_again_and_one_from_elsewhere(dialler: Dialler) -> None:
    with begun(dialler) as (local, talk), cp.Port() as elsewhere:
        talk.send(talk.cookie())
        stream = finish_by_hand(dialler, local, talk)
        stream.linger(0.3)
        packet = talk.message(cp.message_bytes(cp.Message(77, 0, (), 6, b"+")))
        elsewhere.send(packet, talk.peer)
        assert elsewhere.is_silent(A_MOMENT), "answered to a source that is not the server"
        for _ in range(20):
            talk.send(packet)
        assert local.recv_exactly(1) == b"+"
        answers = 0
        while came := dialler.server.port.recv(A_MOMENT):
            answers += talk.open(*came) is not None
        talk.stream.skip(7)
        assert answers <= 3, f"{answers} answers to one message that came 20 times"


def test_client_takes_what_was_reordered_and_drops_what_is_too_old(dialler: Dialler) -> None:
    with begun(dialler) as (local, talk):
        talk.number = 1 << 40
        talk.send(talk.cookie())
        finish_by_hand(dialler, local, talk)
        base = talk.number

        def block(index: int, number: int) -> bytes:
            body = cp.message_bytes(cp.Message(1000 + index, 0, (), 6 + 8 * index, word(index)))
            return talk.message(body, number=number)

        for index in reversed(range(500)):
            talk.send(block(index, base + 10 + 16 * index))
        assert local.recv_exactly(8 * 500) == b"".join(map(word, range(500)))
        talk.send(block(501, base + 100_000))
        talk.send(block(500, base + 100_000 - WINDOW))
        local.sock.settimeout(A_MOMENT)
        with pytest.raises(TimeoutError):
            local.sock.recv(1)
        local.sock.settimeout(s.PATIENCE)
        talk.send(block(500, base + 100_000 - WINDOW + 1))
        assert local.recv_exactly(16) == word(500) + word(501)
        talk.stream.skip(6 + 8 * 502)
        talk.number = base + 200_000


def test_client_says_the_same_of_a_wrong_key_and_of_a_dead_server(site: s.Site) -> None:
    with cp.Server(cp.KeyPair.generate(), "web") as server:
        end = s.udp_client_end(site, server.address, cp.KeyPair.generate().public, {"connect_timeout": "2s"})
        with end.open() as local:
            assert local.read_to_end() == (b"", "reset")
        wrong_key = end.daemon.wait_event("connect_failed").fields["reason"]
        assert server.refused > 0
    mark = end.daemon.mark()
    with end.open() as local:
        assert local.read_to_end() == (b"", "reset")
    dead = end.daemon.wait_event("connect_failed", since=mark).fields["reason"]
    assert wrong_key == dead and "key" in dead, f"{wrong_key} / {dead}"


def test_a_client_without_a_pin_dials_nobody(site: s.Site) -> None:
    with cp.Port() as mute:
        service = {
            "client": "yes",
            "accept": f"127.0.0.1:{s.free_port()}",
            "connect": f"curvecp:127.0.0.1:{mute.address[1]}",
            "peer": "nobody-knows",
        }
        daemon = site.start({"app": service})
        with s.Local(("127.0.0.1", int(service["accept"].split(":")[1]))) as local:
            assert local.read_to_end() == (b"", "reset")
        daemon.wait_event("connect_failed", peer="nobody-knows", reason="known_hosts has no valid key")
        assert mute.is_silent(A_MOMENT)
