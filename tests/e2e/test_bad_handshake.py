"""A bad or slow handshake over TCP, server role: it is answered by a close and nothing else, told to the operator in one
line with its reason, and the next honest connection works."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import curve_tun as ct
import pytest
import support as s
from bad_frames import (  # noqa: F401
    BAD_COOKIE,
    BAD_VOUCH,
    BAD_VOUCH_BOX,
    NOT_FOR_US,
    NOT_HERE,
    NOT_OURS,
    OTHER_COOKIE,
    STRANGER,
    WEAK_KEY,
    WRONG_LENGTH,
    WRONG_NUMBER,
    Server,
    server,
)
from bad_input import LOW_ORDER, TOP_BIT, P, as_key, case_ids, with_top_bit

Act = Callable[[s.ServerEnd], ct.Client]


@dataclass(frozen=True)
class Case:
    name: str
    act: Act
    reason: str


def sends_hello(build: Callable[[ct.Client], bytes]) -> Act:
    """Sends one frame in the place of the hello."""

    def act(end: s.ServerEnd) -> ct.Client:
        client = end.dial()
        client.frames.send(build(client))
        return client

    return act


def sends_bytes_first(data: bytes) -> Act:
    def act(end: s.ServerEnd) -> ct.Client:
        client = end.dial()
        client.frames.write(data)
        return client

    return act


def hello_from(key: bytes) -> Callable[[ct.Client], bytes]:
    """The box cannot be right; the key must be refused before anybody asks for the box."""

    def build(client: ct.Client) -> bytes:
        honest = client.hello()
        return ct.HELLO + key + honest[40:]

    return build


HELLO_CASES = [
    Case("hello counter 1", sends_hello(lambda c: c.hello(counter=1)), WRONG_NUMBER),
    Case("hello counter 2^64-1", sends_hello(lambda c: c.hello(counter=2**64 - 1)), WRONG_NUMBER),
    Case("hello with 63 zeros", sends_hello(lambda c: c.hello(plain=bytes(63))), WRONG_LENGTH),
    Case("hello with 65 zeros", sends_hello(lambda c: c.hello(plain=bytes(65))), WRONG_LENGTH),
    Case("hello with 64 non-zeros", sends_hello(lambda c: c.hello(plain=bytes([1]) * 64)), NOT_FOR_US),
    Case("hello with one non-zero", sends_hello(lambda c: c.hello(plain=bytes(63) + b"\x80")), NOT_FOR_US),
    Case("hello with an extra byte", sends_hello(lambda c: c.hello(extra=b"\0")), WRONG_LENGTH),
    Case("hello one byte short", sends_hello(lambda c: c.hello()[:-1]), WRONG_LENGTH),
    Case("hello with wrong magic", sends_hello(lambda c: c.hello(magic=b"\x6c\x09\xaf\xb2\x8a\xa9\xfa\xfe")), NOT_OURS),
    Case(
        "hello for another server",
        sends_hello(lambda c: ct.hello_packet(ct.KeyPair.generate().public, c.short)),
        NOT_FOR_US,
    ),
    Case(
        "hello under another short key",
        sends_hello(lambda c: c.hello(claimed=ct.KeyPair.generate().public)),
        NOT_FOR_US,
    ),
    Case("hello with a damaged box", sends_hello(lambda c: c.hello()[:-1] + bytes([c.hello()[-1] ^ 1])), NOT_FOR_US),
    Case(
        "short key with the top bit set", sends_hello(lambda c: c.hello(claimed=with_top_bit(c.short.public))), WEAK_KEY
    ),
    Case("empty frame first", sends_hello(lambda _: b""), WRONG_LENGTH),
    Case("a message first", sends_hello(lambda _: ct.MESSAGE + os.urandom(100)), WRONG_LENGTH),
    Case("a message of a hello's size first", sends_hello(lambda _: ct.MESSAGE + os.urandom(120)), NOT_HERE),
    Case("a vouch first", sends_hello(lambda _: ct.VOUCH + os.urandom(216)), WRONG_LENGTH),
    Case(
        "a vouch of a hello's size first",
        sends_hello(lambda _: ct.VOUCH + os.urandom(120)),
        f"{WRONG_LENGTH}|{NOT_OURS}|{NOT_HERE}",
    ),
    Case("a cookie first", sends_hello(lambda _: ct.COOKIE + os.urandom(160)), WRONG_LENGTH),
    Case("a request of HTTP", sends_bytes_first(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 8), WRONG_LENGTH),
    *[
        Case(f"low order short key {i} {bit}", sends_hello(hello_from(as_key(value | bit * TOP_BIT))), WEAK_KEY)
        for i, value in enumerate(LOW_ORDER)
        for bit in (0, 1)
    ],
    *[Case(f"short key P+{i}", sends_hello(hello_from(as_key(P + i))), WEAK_KEY) for i in (2, 9, 18)],
    *[
        Case(
            f"length prefix {size} first",
            sends_bytes_first(size.to_bytes(2, "big") + os.urandom(min(size, 200))),
            WRONG_LENGTH,
        )
        for size in (0, 1, 7, 8, 31, 32, 127, 129, 168, 224, 65535)
    ],
]


def sends_vouch(build: Callable[[ct.Client], bytes]) -> Act:
    """An honest hello, then one frame in the place of the vouch."""

    def act(end: s.ServerEnd) -> ct.Client:
        client = end.dial()
        client.begin()
        client.frames.send(build(client))
        return client

    return act


def cookie_of_another_connection(end: s.ServerEnd) -> ct.Client:
    other, client = end.dial(), end.dial()
    other.short = client.short
    other.begin()
    client.begin()
    client.cookie = other.cookie
    client.frames.send(client.vouch())
    other.close()
    return client


def replayed_session(end: s.ServerEnd) -> ct.Client:
    with end.connect() as honest:
        assert honest.session is not None
        honest.session.send(b"PAY 100")
        honest.session.end()
        assert honest.session.recv_until_end() == b""
        recorded = bytes(honest.frames.sent)
    replay = end.dial()
    replay.frames.write(recorded)
    assert len(replay.frames.recv()) == ct.COOKIE_SIZE  # the hello is honest as far as anybody can tell
    return replay


def low_order_client(client: ct.Client) -> bytes:
    return client.vouch(claimed=as_key(0), inner=os.urandom(48))


def unknown_k(client: ct.Client) -> bytes:
    assert client.cookie is not None
    return client.vouch(k=client.cookie.k[:16] + os.urandom(80))


VOUCH_CASES = [
    Case("vouch counter 0", sends_vouch(lambda c: c.vouch(counter=0)), WRONG_NUMBER),
    Case("vouch counter 2", sends_vouch(lambda c: c.vouch(counter=2)), WRONG_NUMBER),
    Case("vouch with an unknown cookie", sends_vouch(unknown_k), BAD_COOKIE),
    Case("vouch with a random cookie", sends_vouch(lambda c: c.vouch(k=os.urandom(96))), OTHER_COOKIE),
    Case("vouch with the cookie of another connection", cookie_of_another_connection, OTHER_COOKIE),
    Case("a recorded session played again", replayed_session, OTHER_COOKIE),
    Case("vouch of a stranger", lambda end: stranger(end), STRANGER),
    Case("vouch over another short key", sends_vouch(lambda c: c.vouch(content=os.urandom(32))), BAD_VOUCH),
    Case("vouch made with another client key", sends_vouch(lambda c: c.vouch(signer=ct.KeyPair.generate())), BAD_VOUCH),
    Case(
        "vouch that claims another client",
        sends_vouch(lambda c: c.vouch(claimed=ct.KeyPair.generate().public)),
        BAD_VOUCH,
    ),
    Case(
        "client key with the top bit set", sends_vouch(lambda c: c.vouch(claimed=with_top_bit(c.keys.public))), WEAK_KEY
    ),
    Case("client key of low order", sends_vouch(low_order_client), WEAK_KEY),
    Case("vouch with extra plaintext", sends_vouch(lambda c: c.vouch(extra_plain=b"\0")), WRONG_LENGTH),
    Case("vouch with short plaintext", sends_vouch(lambda c: c.vouch(cut_plain=1)), WRONG_LENGTH),
    Case("vouch with an extra byte", sends_vouch(lambda c: c.vouch(extra=b"\0")), WRONG_LENGTH),
    Case("vouch with a damaged box", sends_vouch(lambda c: c.vouch()[:-1] + b"\0"), BAD_VOUCH_BOX),
    Case("vouch with wrong magic", sends_vouch(lambda c: c.vouch(magic=os.urandom(8))), NOT_OURS),
    Case("a message where the vouch is due", sends_vouch(lambda c: c.establish().seal(b"early")), WRONG_LENGTH),
    Case("a message of a vouch's size", sends_vouch(lambda c: c.establish().seal(bytes(ct.VOUCH_SIZE - 32))), NOT_HERE),
    Case("a second hello", sends_vouch(lambda c: c.hello()), f"{WRONG_LENGTH}|{NOT_HERE}"),
    Case(
        "a second hello of a vouch's size",
        sends_vouch(lambda c: c.hello(extra=bytes(96))),
        f"{WRONG_LENGTH}|{NOT_OURS}|{NOT_HERE}",
    ),
    Case("a cookie to the server", sends_vouch(lambda c: ct.COOKIE + os.urandom(160)), f"{WRONG_LENGTH}|{NOT_HERE}"),
    Case("empty frame where the vouch is due", sends_vouch(lambda _: b""), WRONG_LENGTH),
]


def stranger(end: s.ServerEnd) -> ct.Client:
    client = end.dial(keys=ct.KeyPair.generate())
    client.begin()
    client.frames.send(client.vouch())
    return client


def assert_refused_in_the_handshake(server: Server, case: Case, cookies: int) -> None:
    end = server.end
    server.pace.take()
    connections = len(end.backend.records)
    replay = 1 if case.act is replayed_session else 0
    mark = end.daemon.mark()
    client = case.act(end)
    assert client.frames.wait_closed()[1] == b"", "the server said more than it would"
    assert len(client.frames.received) == cookies * (2 + ct.COOKIE_SIZE)
    source = rf"^127\.0\.0\.1:{client.port}$"
    end.daemon.wait_event("handshake_reject", since=mark, src=source, service="^web$", reason=case.reason)
    end.check_honest()
    assert len(end.daemon.events("handshake_reject", mark, src=source)) == 1
    assert len(end.backend.records) == connections + replay + 1, "the backend heard of a refused connection"
    client.close()


@pytest.mark.parametrize("case", HELLO_CASES, ids=case_ids)
def test_server_closes_on_a_bad_hello_and_says_nothing(server: Server, case: Case) -> None:
    assert_refused_in_the_handshake(server, case, cookies=0)


@pytest.mark.parametrize("case", VOUCH_CASES, ids=case_ids)
def test_server_closes_on_a_bad_vouch_and_says_nothing_but_its_cookie(server: Server, case: Case) -> None:
    assert_refused_in_the_handshake(server, case, cookies=1)


# ---- time ----


@pytest.fixture(scope="module")
def hasty(module_site: Callable[[str], s.Site]) -> Iterator[s.ServerEnd]:
    """A server with short deadlines."""
    with s.Backend(s.echo_if_asked) as backend:
        yield s.server_end(module_site("hasty"), backend, hello_timeout="1s", vouch_timeout="1s")


def trickle(client: ct.Client, data: bytes, pause: float) -> tuple[str, bytes]:
    """One byte a time until all are sent or the server closes."""
    deadline = time.monotonic() + s.PATIENCE
    for byte in data:
        if s.is_readable(client.frames.sock, pause):
            break
        try:
            client.frames.write(bytes([byte]))
        except ct.Closed:
            break
        assert time.monotonic() < deadline, "the server lets it trickle for ever"
    return client.frames.wait_closed()


@pytest.mark.parametrize("sent", [0, 1, 2, 3, 100, 129])
def test_no_hello_in_time_is_closed(hasty: s.ServerEnd, sent: int) -> None:
    mark = hasty.daemon.mark()
    with hasty.dial() as client:
        client.frames.write(ct.frame(client.hello())[:sent])
        start = time.monotonic()
        assert client.frames.wait_closed()[1] == b""
        assert time.monotonic() - start >= 0.7
        hasty.daemon.wait_event("handshake_reject", since=mark, src=f":{client.port}$", reason="no hello in time")
    hasty.check_honest()


@pytest.mark.parametrize("sent", [0, 1, 2, 112, 225])
def test_no_vouch_in_time_is_closed(hasty: s.ServerEnd, sent: int) -> None:
    """The original held its acceptor for ever here."""
    mark = hasty.daemon.mark()
    with hasty.dial() as client:
        client.begin()
        client.frames.write(ct.frame(client.vouch())[:sent])
        assert client.frames.wait_closed()[1] == b""
        hasty.daemon.wait_event("handshake_reject", since=mark, src=f":{client.port}$", reason="no vouch in time")
    hasty.check_honest()


def test_a_trickled_hello_does_not_move_its_deadline(hasty: s.ServerEnd) -> None:
    mark = hasty.daemon.mark()
    with hasty.dial() as client:
        assert trickle(client, ct.frame(client.hello()), 0.1)[1] == b""
        assert len(client.frames.sent) < 129
        hasty.daemon.wait_event("handshake_reject", since=mark, src=f":{client.port}$", reason="no hello in time")
    hasty.check_honest()


def test_a_client_that_leaves_in_the_handshake_is_told_in_the_log(hasty: s.ServerEnd) -> None:
    steps: list[Callable[[ct.Client], object]] = [lambda c: None, lambda c: c.frames.write(b"\0"), lambda c: c.begin()]
    for step in steps:
        mark = hasty.daemon.mark()
        client = hasty.dial()
        step(client)
        port = client.port
        client.close()
        hasty.daemon.wait_event("handshake_reject", since=mark, src=f":{port}$", reason="peer closed")
    hasty.check_honest()


# ---- what a stranger can tell apart ----


def test_every_refusal_of_a_vouch_looks_alike_to_the_peer(server: Server) -> None:
    """Stranger, bad V, V over another key, forged name: the same bytes, the same kind of close."""
    seen = set()
    names = ("stranger", "another short key", "another client key", "claims another", "damaged", "counter 2")
    for case in VOUCH_CASES:
        if not any(name in case.name for name in names):
            continue
        server.pace.take()
        client = case.act(server.end)
        how, rest = client.frames.wait_closed()
        seen.add((how, rest, len(client.frames.received)))
        client.close()
    assert len(seen) == 1, seen
