"""Bad input on the wire: each is answered by a close and nothing else, told to the operator in one line with its
reason, and the next honest connection works. Server role first, then client role."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import curve_tun as ct
import pytest
import support as s

# ---- server role: one daemon for all cases ----


@dataclass
class Server:
    end: s.ServerEnd
    pace: s.Pace


@pytest.fixture(scope="module")
def server(module_site: Callable[[str], s.Site]) -> Iterator[Server]:
    with s.Backend(s.echo_if_asked) as backend:
        yield Server(s.server_end(module_site("server"), backend), s.Pace())


WRONG_LENGTH = "packet has the wrong length"
NOT_OURS = "not a packet of this protocol"
WRONG_NUMBER = "hello or vouch has the wrong number"
NOT_FOR_US = "hello is not for this server's key"
WEAK_KEY = "public key is not canonical or is of low order"
OTHER_COOKIE = "cookie was not issued on this connection"
BAD_COOKIE = "cookie is unknown or too old"
BAD_VOUCH_BOX = "vouch packet does not open"
BAD_VOUCH = "vouch is wrong"
STRANGER = "client is not authorised"
NOT_HERE = "packet is not allowed here"
BAD_MESSAGE = "message does not open or is out of order"
BAD_LENGTH = "message has an illegal length"

Act = Callable[[s.ServerEnd], ct.Client]


@dataclass(frozen=True)
class Case:
    name: str
    act: Act
    reason: str


def case_ids(case: Case) -> str:
    return case.name.replace(" ", "-")


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


P = 2**255 - 19
LOW_ORDER = [
    0,
    1,
    int.from_bytes(bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"),
    int.from_bytes(bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"),
    P - 1,
    P,
    P + 1,
]
TOP_BIT = 1 << 255


def as_key(value: int) -> bytes:
    return value.to_bytes(32, "little")


def with_top_bit(key: bytes) -> bytes:
    return key[:31] + bytes([key[31] | 0x80])


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


# ---- server role, connected ----

Speak = Callable[[ct.Session], None]


@dataclass(frozen=True)
class Spoken:
    name: str
    speak: Speak
    delivered: bytes
    reason: str = BAD_MESSAGE


def at_counters(*counters: int) -> Speak:
    def speak(session: ct.Session) -> None:
        for counter in counters:
            session.send(b"%d," % counter, counter=counter)

    return speak


def sends_packet(build: Callable[[ct.Session], bytes]) -> Speak:
    return lambda session: session.frames.send(build(session))


def sends_raw(data: bytes) -> Speak:
    return lambda session: session.frames.write(data)


def damaged(session: ct.Session) -> bytes:
    packet = session.seal(b"damaged")
    return packet[:-1] + bytes([packet[-1] ^ 1])


def own_direction(session: ct.Session) -> bytes:
    return ct.message_packet(session.recv_prefix, session.key, 2, b"your own words")


def after_the_end(session: ct.Session) -> None:
    """In one write: the other side may end as soon as it has heard of the end, and all would be well."""
    session.frames.write(b"".join(ct.frame(session.seal(plain)) for plain in (b"before", b"", b"after")))


MESSAGE_CASES = [
    *[Spoken(f"first message number {n}", at_counters(n), b"") for n in (0, 1, 3, 2**63, 2**64 - 1)],
    Spoken("the same message again", at_counters(2, 2), b"2,"),
    Spoken("message 2 then 4", at_counters(2, 4), b"2,"),
    Spoken("message 2 then 2^64-1", at_counters(2, 2**64 - 1), b"2,"),
    Spoken("messages 2 3 4 then 3", at_counters(2, 3, 4, 3), b"2,3,4,"),
    Spoken("a damaged box", sends_packet(damaged), b""),
    Spoken("a box shorter than its authenticator", sends_packet(lambda x: x.seal(b"")[:-1]), b"", BAD_LENGTH),
    Spoken("the server's own direction", sends_packet(own_direction), b""),
    Spoken("a hello when connected", sends_packet(lambda _: ct.HELLO + os.urandom(120)), b""),
    Spoken("a vouch when connected", sends_packet(lambda _: ct.VOUCH + os.urandom(216)), b""),
    Spoken("a cookie when connected", sends_packet(lambda _: ct.COOKIE + os.urandom(160)), b""),
    Spoken("unknown magic when connected", sends_packet(lambda x: os.urandom(8) + x.seal(b"x")[8:]), b""),
    Spoken("a message after the end of stream", after_the_end, b"before", "message after the end of stream"),
    *[
        Spoken(
            f"length prefix {size} when connected",
            sends_raw(size.to_bytes(2, "big") + os.urandom(size)),
            b"",
            BAD_LENGTH if size < 32 else BAD_MESSAGE,
        )
        for size in (0, 1, 7, 8, 31, 32, 65535)
    ],
]


@pytest.mark.parametrize("case", MESSAGE_CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_server_cuts_a_session_on_a_bad_message_and_delivers_what_was_good(server: Server, case: Spoken) -> None:
    end = server.end
    server.pace.take()
    mark = end.daemon.mark()
    connections = len(end.backend.records)
    client = end.connect()
    assert client.session is not None
    case.speak(client.session)
    how, rest = client.frames.wait_closed()
    record = end.backend.wait_done(connections)
    assert bytes(record.data) == case.delivered
    ended_well = case.reason not in (BAD_MESSAGE, BAD_LENGTH) and record.ended == "eof"  # the end of stream had been passed on before
    assert record.ended == "reset" or ended_well
    if record.ended != "eof":
        assert rest == b""
    seen = end.daemon.wait_event("session_close", since=mark, reason=case.reason)
    assert (seen.fields["service"], seen.fields["peer"]) == ("web", "laptop")
    assert len(end.daemon.events("session_close", mark, src=f"^{re.escape(seen.fields['src'])}$")) == 1
    assert how in ("eof", "reset")
    end.check_honest()
    client.close()


def test_server_reflecting_client_is_cut(server: Server) -> None:
    """The server's own packet, sent back to it, is not taken for the client's."""
    end = server.end
    connections = len(end.backend.records)
    with end.connect() as client:
        assert client.session is not None
        client.session.send(b"echo this")
        packet = client.frames.recv()
        client.frames.send(packet)
        client.frames.wait_closed()
    assert bytes(end.backend.wait_done(connections).data) == b"echo this"
    end.check_honest()


# ---- pieces and time ----


def test_frames_in_single_bytes_are_put_together(server: Server) -> None:
    with server.end.dial() as client:
        for byte in ct.frame(client.hello()):
            client.frames.write(bytes([byte]))
        client.take_cookie()
        for byte in ct.frame(client.vouch()):
            client.frames.write(bytes([byte]))
        session = client.establish()
        for byte in ct.frame(session.seal(b"echo in single bytes")) + ct.frame(session.seal(b"")):
            client.frames.write(bytes([byte]))
        assert session.recv_until_end() == b"echo in single bytes"


def test_a_header_split_between_two_segments_is_put_together(server: Server) -> None:
    with server.end.connect() as client:
        assert client.session is not None
        for word in (b"echo", b"split"):
            data = ct.frame(client.session.seal(word))
            client.frames.write(data[:1])
            time.sleep(0.05)  # so that the byte travels alone; nothing is waited for
            client.frames.write(data[1:])
            assert client.session.recv() == word


def test_largest_and_smallest_messages_pass_both_ways(server: Server) -> None:
    with server.end.connect() as client:
        assert client.session is not None
        assert client.session.echo(b"echo") == b"echo"
        for size in (1, 2, ct.LARGEST_MESSAGE - 1, ct.LARGEST_MESSAGE):
            data = os.urandom(size)
            client.session.send(data)
            assert client.session.recv_exactly(size) == data


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


# ---- client role ----

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
