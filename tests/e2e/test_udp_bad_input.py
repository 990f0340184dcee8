"""Bad packets over UDP: each is met by silence and changes nothing, and the good one still works. Server role first,
then client role. The 18 packets of tests/vectors that must be dropped stand here as the same damage to live sessions;
what a stranger, a thief of packets and a bad client may not get stands below them."""

from __future__ import annotations

import os
import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import curvecp as cp
import pytest
import support as s

A_MOMENT = 0.15  # silence for that long is silence


def case_ids(case: Case | Damage | Answer) -> str:
    return case.name.replace(" ", "-")


@pytest.fixture(scope="module")
def server(module_site: Callable[[str], s.Site]) -> Iterator[s.UdpServerEnd]:
    with s.Backend(s.echo_if_asked) as backend:
        yield s.udp_server_end(module_site("server"), backend)


def flipped(packet: bytes, bit: int) -> bytes:
    changed = bytearray(packet)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def last_bit(packet: bytes) -> bytes:
    return flipped(packet, 8 * len(packet) - 1)


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


def as_key(value: int) -> bytes:
    return value.to_bytes(32, "little")


def with_top_bit(key: bytes) -> bytes:
    return key[:31] + bytes([key[31] | 0x80])


OTHER_EXT = cp.Extensions(b"\x01" + bytes(15))

# ---- instead of a hello ----


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[cp.Client], bytes]


def padded(length: int, plain: int) -> Callable[[cp.Client], bytes]:
    """A hello of that length whose box holds so many zeros."""

    def build(client: cp.Client) -> bytes:
        packet = client.hello(plain=bytes(plain))
        return packet.ljust(length, b"\0")[:length]

    return build


HELLO_CASES = [
    Case("damaged box", lambda c: last_bit(c.hello())),
    Case("another server extension", lambda c: c.hello(ext=OTHER_EXT)),
    Case("one block too short", lambda c: c.hello()[:-16]),
    Case("one block too long", lambda c: c.hello(extra=bytes(16))),
    Case("one byte too short", lambda c: c.hello()[:-1]),
    Case("one byte too long", lambda c: c.hello(extra=b"\0")),
    Case("box of 63 zeros", lambda c: c.hello(plain=bytes(63))),
    Case("box of 65 zeros", lambda c: c.hello(plain=bytes(65))),
    Case("box of 63 zeros filled up", padded(224, 63)),
    Case("box of 65 zeros cut", padded(224, 65)),
    Case("box of 48 zeros filled up", padded(224, 48)),
    Case("box of 64 ones", lambda c: c.hello(plain=b"\1" * 64)),
    Case("box with one bit", lambda c: c.hello(plain=bytes(63) + b"\x80")),
    Case("changed nonce", lambda c: flipped(c.hello(), 136 * 8)),
    Case("for another server", lambda c: cp.hello_packet(cp.KeyPair.generate().public, c.short, 1)),
    Case("under another short key", lambda c: c.hello(claimed=cp.KeyPair.generate().public)),
    Case("short key with the top bit", lambda c: c.hello(claimed=with_top_bit(c.short.public))),
    Case("magic of a cookie", lambda c: c.hello(magic=cp.COOKIE)),
    Case("magic of an initiate", lambda c: c.hello(magic=cp.INITIATE)),
    Case("magic of a message", lambda c: c.hello(magic=cp.CLIENT_MESSAGE)),
    Case("magic of a server's message", lambda c: c.hello(magic=cp.SERVER_MESSAGE)),
    Case("magic of nobody", lambda c: c.hello(magic=b"QvnQ5XlX")),
    Case("an empty datagram", lambda _: b""),
    Case("one byte", lambda _: b"Q"),
    Case("only the magic", lambda _: cp.HELLO),
    Case("half a hello", lambda c: c.hello()[:112]),
    Case("random bytes of a hello's length", lambda _: os.urandom(224)),
    Case("a request of DNS", lambda _: bytes.fromhex("abcd01000001000000000000037777770765786d70") + bytes(20)),
    Case("an initiate of random bytes", lambda _: cp.INITIATE + bytes(32) + os.urandom(700 - 28)),
    Case("a message of random bytes", lambda _: cp.CLIENT_MESSAGE + bytes(32) + os.urandom(152)),
    Case("a server's message", lambda _: cp.SERVER_MESSAGE + bytes(32) + os.urandom(216)),
    Case("a cookie", lambda _: cp.COOKIE + bytes(32) + os.urandom(160)),
    *[
        Case(f"low order short key {i} {bit}", lambda c, v=value | bit << 255: c.hello(claimed=as_key(v)))
        for i, value in enumerate(LOW_ORDER)
        for bit in (0, 1)
    ],
    *[Case(f"short key P plus {i}", lambda c, v=P + i: c.hello(claimed=as_key(v))) for i in (2, 9, 18)],
]


@pytest.mark.parametrize("case", HELLO_CASES, ids=case_ids)
def test_a_bad_hello_is_met_by_silence_and_the_good_one_by_a_cookie(server: s.UdpServerEnd, case: Case) -> None:
    with server.dial() as client:
        client.send(case.build(client))
        assert client.port.is_silent(A_MOMENT)
        assert client.handshake().echo(b"echo") == b"echo"
        assert client.other == []


# ---- instead of an initiate ----


def cookie_of_another(client: cp.Client) -> bytes:
    """Another client's cookie, for its own C', but in this client's packet."""
    with cp.Client(client.address, client.server, client.keys, client.name) as other:
        return client.initiate(k=other.begin().k)


def whole_initiate_for_another_key(client: cp.Client) -> bytes:
    """This client's cookie in a packet of another C', consistent but for the cookie."""
    other = cp.KeyPair.generate()
    assert client.cookie is not None
    key = cp.shared_key(client.cookie.server_short, other.secret)
    nonce = os.urandom(16)
    inner = cp.vouch(client.keys, client.server, other.public, nonce)
    plain = client.keys.public + nonce + inner + cp.encode_name(client.name) + empty_block()
    return cp.initiate_packet(other.public, client.cookie.k, key, plain, 5)


def empty_block() -> bytes:
    return cp.message_bytes(cp.Message(id=1))


def old_vouch(client: cp.Client) -> bytes:
    """A vouch that was good in an earlier session of the same client."""
    nonce = os.urandom(16)
    inner = cp.vouch(client.keys, client.server, cp.KeyPair.generate().public, nonce)
    return client.initiate(inner=inner, vouch_nonce=nonce)


def odd_name(client: cp.Client, last: bytes) -> bytes:
    return client.initiate(name=cp.encode_name(client.name)[: -len(last)] + last)


INITIATE_CASES = [
    Case("damaged cookie nonce", lambda c: flipped(c.initiate(), 72 * 8)),
    Case("damaged cookie", lambda c: flipped(c.initiate(), 167 * 8)),
    Case("clear short key that does not match the cookie", lambda c: flipped(c.initiate(), 40 * 8)),
    Case("short key with the top bit", lambda c: flipped(c.initiate(), 72 * 8 - 1)),
    Case("damaged box", lambda c: last_bit(c.initiate())),
    Case("changed nonce", lambda c: flipped(c.initiate(), 168 * 8)),
    Case("not a multiple of 16 long", lambda c: c.initiate() + bytes(8)),
    Case("one byte short", lambda c: c.initiate()[:-1]),
    Case("one block too many", lambda c: c.initiate() + bytes(16)),
    Case("without a message", lambda c: c.initiate(b"")),
    Case("with a message of 656 bytes", lambda c: c.initiate(cp.message_bytes(cp.Message(id=1), 656))),
    Case("another server extension", lambda c: c.initiate(ext=OTHER_EXT)),
    Case("a random cookie", lambda c: c.initiate(k=os.urandom(96))),
    Case("the cookie of another client", cookie_of_another),
    Case("our cookie in another client's packet", whole_initiate_for_another_key),
    Case("box of a message", lambda c: cp.INITIATE + c.initiate()[8:168] + c.message(bytes(400))[72:]),
    Case("another server's name", lambda c: c.initiate(name=cp.encode_name("other"))),
    Case("our name in capitals", lambda c: c.initiate(name=cp.encode_name("WEB"))),
    Case("our name with a tail", lambda c: odd_name(c, b"\1")),
    Case("a name of zeros", lambda c: c.initiate(name=bytes(256))),
    Case("a name that points beyond itself", lambda c: c.initiate(name=b"\xff" * 256)),
    Case("vouch for another short key", lambda c: c.initiate(content=os.urandom(32))),
    Case("vouch made with another client's key", lambda c: c.initiate(signer=cp.KeyPair.generate())),
    Case("vouch that claims another client", lambda c: c.initiate(claimed=cp.KeyPair.generate().public)),
    Case("vouch of an earlier session", old_vouch),
    Case("vouch of zeros", lambda c: c.initiate(inner=bytes(48))),
    Case("a stranger", lambda c: by_stranger(c)),
    Case("client key with the top bit", lambda c: c.initiate(claimed=with_top_bit(c.keys.public))),
    *[
        Case(f"client key of low order {i}", lambda c, v=value: c.initiate(claimed=as_key(v)))
        for i, value in enumerate(LOW_ORDER)
    ],
    Case("magic of a hello", lambda c: c.initiate(magic=cp.HELLO)),
    Case("a message before the initiate", lambda c: c.message(empty_block())),
]


def by_stranger(client: cp.Client) -> bytes:
    stranger = cp.KeyPair.generate()
    return client.initiate(signer=stranger, claimed=stranger.public)


@pytest.mark.parametrize("case", INITIATE_CASES, ids=case_ids)
def test_a_bad_initiate_is_met_by_silence_and_the_good_one_by_a_session(server: s.UdpServerEnd, case: Case) -> None:
    sessions = len(server.backend.records)
    with server.dial() as client:
        client.begin()
        client.send(case.build(client))
        assert client.port.is_silent(A_MOMENT)
        assert len(server.backend.records) == sessions, "the backend heard of it"
        assert client.establish().echo(b"echo") == b"echo"
        assert len(server.backend.records) == sessions + 1
        assert client.other == []


def send_paced(client: cp.Client, packets: Iterator[bytes]) -> None:
    """Not faster than a server can look at them."""
    for i, packet in enumerate(packets):
        client.send(packet)
        if i % 25 == 24:
            time.sleep(0.02)


def test_any_bit_of_the_vouch_wrong_in_a_right_box_is_refused(server: s.UdpServerEnd) -> None:
    """What the network cannot change a bad client can: each bit of C, the vouch's nonce and the vouch."""
    sessions = len(server.backend.records)
    with server.dial() as client:
        client.begin()
        bits = range(0, 96 * 8, s.scale(1, 13))
        send_paced(client, (client.initiate(plain=lambda whole, bit=bit: flipped(whole, bit)) for bit in bits))
        assert client.port.is_silent(1)
        assert len(server.backend.records) == sessions
        assert client.establish().echo(b"echo") == b"echo"
    assert len(server.backend.records) == sessions + 1


CLIENT_EXTENSION = range(24 * 8, 40 * 8)  # the one field that no box covers


def test_an_initiate_with_any_bit_flipped_is_met_by_silence(server: s.UdpServerEnd) -> None:
    sessions = len(server.backend.records)
    with server.dial() as client:
        client.begin()
        packet = client.initiate(cp.message_bytes(cp.Message(id=1), 48))
        bits = range(0, 8 * len(packet), s.scale(3, 37))
        send_paced(client, (flipped(packet, bit) for bit in bits if bit not in CLIENT_EXTENSION))
        assert client.port.is_silent(1)
        assert len(server.backend.records) == sessions
        client.send(packet)
        assert client.establish().echo(b"echo") == b"echo"


# ---- in a session ----


@dataclass(frozen=True)
class Damage:
    """`build` gets an established client and its next good packet."""

    name: str
    build: Callable[[cp.Client, bytes], bytes]


def own_direction(client: cp.Client, _: bytes) -> bytes:
    """A box under the server's numbers, as the server would make it."""
    number = client.next_number()
    box = cp.seal(empty_block(), cp.SERVER_NONCE + cp.le64(number), client.session_key())
    return cp.CLIENT_MESSAGE + client.ext.up() + client.short.public + cp.le64(number) + box


MESSAGE_CASES = [
    Damage("damaged box", lambda _, packet: last_bit(packet)),
    Damage("changed nonce", lambda _, packet: flipped(packet, 72 * 8)),
    Damage("nonce of all ones", lambda _, packet: packet[:72] + b"\xff" * 8 + packet[80:]),
    Damage("below the least length", lambda _, packet: packet[:96]),
    Damage("one block short", lambda _, packet: packet[:-16]),
    Damage("one block long", lambda _, packet: packet + bytes(16)),
    Damage("one byte short", lambda _, packet: packet[:-1]),
    Damage("one byte long", lambda _, packet: packet + b"\0"),
    Damage("too long", lambda c, _: c.message(bytes(1104))),
    Damage("another server extension", lambda _, packet: flipped(packet, 8 * 8)),
    Damage("another short key", lambda _, packet: flipped(packet, 40 * 8)),
    Damage("short key with the top bit", lambda _, packet: flipped(packet, 72 * 8 - 1)),
    Damage("magic of nobody", lambda _, packet: b"QvnQ5Xlm" + packet[8:]),
    Damage("magic of an initiate", lambda _, packet: cp.INITIATE + packet[8:]),
    Damage("magic of a hello", lambda _, packet: cp.HELLO + packet[8:]),
    Damage("the server's own direction", own_direction),
    Damage("empty message", lambda c, _: c.message(b"")),
    Damage("message of 16 bytes", lambda c, _: c.message(bytes(16))),
    Damage("message of 32 bytes", lambda c, _: c.message(b"\1" + bytes(31))),
    Damage(
        "a block of 1025 bytes",
        lambda c, _: c.message(cp.message_bytes(cp.Message(1, block=b"x" * 900), 1088, block_length=1025)),
    ),
    Damage(
        "a block longer than the message",
        lambda c, _: c.message(cp.message_bytes(cp.Message(1, block=b"x" * 8), 192, block_length=145)),
    ),
    Damage("flags that mean nothing", lambda c, _: c.message(cp.message_bytes(cp.Message(1, flags=8192)))),
]


@pytest.mark.parametrize("case", MESSAGE_CASES, ids=case_ids)
def test_a_bad_message_is_met_by_silence_and_the_good_one_by_its_answer(server: s.UdpServerEnd, case: Damage) -> None:
    sessions = len(server.backend.records)
    with server.connect() as client:
        stream = client.stream
        assert stream.echo(b"echo") == b"echo"
        client.quiet()
        good = client.block(b" more", 4)
        client.send(case.build(client, good))
        assert client.port.is_silent(A_MOMENT)
        client.send(good)
        stream.skip(9)
        assert stream.recv_exactly(5) == b" more"
        stream.close()
    record = server.backend.wait_done(sessions)
    assert (bytes(record.data), record.ended) == (b"echo more", "eof")


@pytest.mark.parametrize("what", ["message", "initiate"])
def test_a_packet_of_a_living_session_again_is_met_by_silence(server: s.UdpServerEnd, what: str) -> None:
    sessions = len(server.backend.records)
    with server.dial() as client:
        client.begin()
        initiate = client.initiate(cp.message_bytes(cp.Message(1, block=b"echo")))
        client.send(initiate)
        client.stream.skip(4)
        assert client.stream.recv_exactly(4) == b"echo"
        message = client.block(b"+", 4)
        client.send(message)
        client.stream.skip(5)
        assert client.stream.recv_exactly(1) == b"+"
        client.quiet()
        for _ in range(50):
            client.send(message if what == "message" else initiate)
        with cp.Port() as elsewhere:
            elsewhere.send(message if what == "message" else initiate, client.address)
            assert client.port.is_silent(A_MOMENT) and elsewhere.is_silent(A_MOMENT)
        assert client.stream.echo(b"goes on") == b"goes on"
        client.stream.close()
    assert bytes(server.backend.wait_done(sessions).data) == b"echo+goes on"
    assert len(server.backend.records) == sessions + 1


def test_a_message_with_any_bit_flipped_is_never_delivered(server: s.UdpServerEnd) -> None:
    sessions = len(server.backend.records)
    with server.connect() as client:
        assert client.stream.echo(b"echo") == b"echo"
        client.quiet()
        body = cp.message_bytes(cp.Message(99, 0, (), 4, b"word"), cp.smallest_size(4))
        packet = client.message(body)
        bits = (bit for bit in range(8 * len(packet)) if bit not in CLIENT_EXTENSION)
        send_paced(client, (flipped(packet, bit) for bit in bits))
        assert client.port.is_silent(0.5)
        client.send(packet)
        client.stream.skip(8)
        assert client.stream.recv_exactly(4) == b"word"
        client.stream.close()
    assert bytes(server.backend.wait_done(sessions).data) == b"echoword"


# ---- numbers ----

WINDOW = 8192


def word(index: int) -> bytes:
    return b"%07d\n" % index


def numbered_block(client: cp.Client, index: int, number: int) -> bytes:
    """The index-th word of the stream behind `echo`, in a packet of that number."""
    return client.block(word(index), 4 + 8 * index, number=number)


def test_numbers_out_of_order_within_the_window_are_all_accepted(server: s.UdpServerEnd) -> None:
    sessions = len(server.backend.records)
    with server.connect() as client:
        assert client.stream.echo(b"echo") == b"echo"
        base, count = client.number + 1, 1000
        order = list(range(count))
        random.Random(4).shuffle(order)
        for index in order:
            client.send(numbered_block(client, index, base + index * 8))  # from the first to the last: 7,992
        client.number = base + 8 * count
        client.stream.skip(4 + 8 * count)
        assert client.stream.recv_exactly(8 * count) == b"".join(map(word, range(count)))
        client.stream.close()
    assert server.backend.wait_done(sessions).size == 4 + 8 * count


def test_a_number_is_accepted_once_whatever_its_packet_holds(server: s.UdpServerEnd) -> None:
    with server.connect() as client:
        assert client.stream.echo(b"echo") == b"echo"
        client.quiet()
        number = client.number + 100
        client.send(numbered_block(client, 0, number))
        client.stream.skip(12)
        assert client.stream.recv_exactly(8) == word(0)
        client.quiet()
        client.send(numbered_block(client, 1, number))
        assert client.port.is_silent(A_MOMENT), "a number was accepted twice"
        client.send(numbered_block(client, 1, number - 1))
        client.stream.skip(20)
        assert client.stream.recv_exactly(8) == word(1)


@pytest.mark.parametrize(
    ("behind", "taken"), [(1, True), (WINDOW - 1, True), (WINDOW, False), (WINDOW + 1, False), (10**6, False)]
)
def test_a_number_behind_the_window_is_dropped(server: s.UdpServerEnd, behind: int, taken: bool) -> None:
    with server.dial() as client:
        client.number = 1 << 40
        assert client.handshake().echo(b"echo") == b"echo"
        client.quiet()
        client.number += 2 << 20
        client.send(numbered_block(client, 0, client.next_number()))
        client.stream.skip(12)
        assert client.stream.recv_exactly(8) == word(0)
        client.quiet()
        client.number += 20_000
        client.send(client.message(cp.message_bytes(cp.Message(0, 0, ((0, 12),)))))
        highest = client.number
        client.send(numbered_block(client, 1, highest - behind))
        if not taken:
            assert client.port.is_silent(A_MOMENT)
            client.send(numbered_block(client, 1, client.next_number()))
        client.stream.skip(20)
        assert client.stream.recv_exactly(8) == word(1)


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64 - 2])
def test_numbers_are_of_64_bits_without_a_sign(server: s.UdpServerEnd, number: int) -> None:
    with server.connect() as client:
        assert client.stream.echo(b"echo") == b"echo"
        client.send(numbered_block(client, 0, number))
        client.number = number - 4000  # what lies within the window behind it is still new
        client.stream.skip(12)
        assert client.stream.recv_exactly(8) == word(0)


def test_the_last_number_of_all_ends_the_session_and_harms_nobody(server: s.UdpServerEnd) -> None:
    sessions = len(server.backend.records)
    with server.connect() as client:
        assert client.stream.echo(b"echo") == b"echo"
        client.send(numbered_block(client, 0, 2**64 - 1))
        record = server.backend.wait_done(sessions)
        assert record.ended == "reset"
    server.check_honest()


def test_a_client_that_acknowledges_what_was_never_sent_is_cut(server: s.UdpServerEnd) -> None:
    sessions = len(server.backend.records)
    with server.connect() as client:
        assert client.stream.echo(b"echo") == b"echo"
        client.send(client.message(cp.message_bytes(cp.Message(0, 0, ((0, 1 << 40),)))))
        assert server.backend.wait_done(sessions).ended == "reset"
    server.check_honest()


def test_blocks_at_the_end_of_all_streams_are_ignored(server: s.UdpServerEnd) -> None:
    with server.connect() as client:
        assert client.stream.echo(b"echo") == b"echo"
        for position in (2**60 - 4, 2**60, 2**63, 2**64 - 4, 1 << 40):
            client.send(client.block(b"far away", position))
        assert client.stream.echo(b"still here") == b"still here"


# ---- replay ----


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


# ---- nothing for nothing ----


def junk(seed: int) -> list[bytes]:
    """Every length, every magic, rights and wrongs in the rest."""
    chance = random.Random(seed)
    packets = [chance.randbytes(size) for size in range(0, 1500, 7)]
    for magic in (cp.HELLO, cp.COOKIE, cp.INITIATE, cp.CLIENT_MESSAGE, cp.SERVER_MESSAGE):
        for size in (0, 8, 80, 96, 112, 192, 200, 208, 224, 240, 256, 544, 560, 736, 1152, 1184, 1200):
            packets.append((magic + bytes(32) + chance.randbytes(1200))[:size])
    return packets


STRANGERS: dict[str, Callable[[cp.Client], list[bytes]]] = {
    "hellos": lambda c: [c.hello() for _ in range(100)],
    "one hello again and again": lambda c: [c.hello()] * 100,
    "hellos of many keys": lambda c: [cp.hello_packet(c.server, cp.KeyPair.generate(), 1) for _ in range(50)],
    "bad hellos": lambda c: [case.build(c) for case in HELLO_CASES],
    "initiates without a cookie": lambda c: [cp.INITIATE + bytes(32) + os.urandom(72 * 8) for _ in range(50)],
    "messages without a session": lambda c: [cp.CLIENT_MESSAGE + bytes(32) + os.urandom(456) for _ in range(50)],
    "junk": lambda _: junk(1),
    "large datagrams": lambda c: [os.urandom(size) for size in (1472, 8972, 60000)] + [c.hello(extra=bytes(50000))],
}


@pytest.mark.parametrize("what", STRANGERS)
def test_nothing_longer_than_what_came_is_sent_to_a_stranger(server: s.UdpServerEnd, what: str) -> None:
    """Every byte counted, a packet at a time and in sum."""
    with server.dial("127.0.0.7") as client:
        for packet in STRANGERS[what](client):
            client.send(packet)
            if what in ("junk", "large datagrams"):
                continue
            if len(packet) == cp.HELLO_SIZE and "bad" not in what:
                came = client.port.recv(0.5)
                assert came and len(came[0]) <= len(packet)
        if not what.startswith("one hello") and "hellos" != what:
            while came := client.port.recv(A_MOMENT):
                assert len(came[0]) == cp.COOKIE_SIZE
        assert client.port.is_silent(A_MOMENT), "more than one answer to one hello"
        assert client.port.received <= client.port.sent
        if "hello" not in what:
            assert client.port.received == 0
    server.check_honest()


def test_a_client_that_is_refused_gets_no_byte_more_than_its_cookie(server: s.UdpServerEnd) -> None:
    """A stranger, a bad vouch, an unknown name, a used cookie: nothing tells them apart."""
    with server.dial(keys=cp.KeyPair.generate()) as client:
        client.begin()
        sent, received = client.port.sent, client.port.received
        for case in INITIATE_CASES:
            if case.name != "a message before the initiate":
                client.send(case.build(client))
        assert client.port.is_silent(1)
        assert (client.port.received, received) == (cp.COOKIE_SIZE, cp.COOKIE_SIZE) and client.port.sent > sent


def test_a_stolen_packet_from_another_source_earns_three_times_its_length_at_most(server: s.UdpServerEnd) -> None:
    """A packet that never arrived, sent by a thief from where it is: the check of a moved path, and no stream."""
    with server.connect() as client, cp.Port("127.0.0.9") as thief:
        assert client.stream.echo(b"echo") == b"echo"
        client.quiet()
        stolen = client.block(b"x", 4)
        thief.send(stolen, client.address)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            thief.recv(0.05)
        assert thief.received <= 3 * thief.sent
        client.stream.skip(5)
        assert client.stream.recv_exactly(1) == b"x"
        received = thief.received
        for _ in range(10):
            data = os.urandom(3000)
            assert client.stream.echo(data) == data
        while thief.recv(0.2):
            pass
        assert thief.received == received, "the stream goes to the thief"


# ---- exhaustion ----


def test_ten_thousand_initiates_of_strangers_leave_nothing_and_keep_nobody_out(site: s.Site) -> None:
    with s.Backend(s.echo_if_asked) as backend:
        end = s.udp_server_end(site, backend)
        front = end.daemon.front_pid
        end.check_honest()
        count, stranger = s.scale(10_000, 1_000), cp.KeyPair.generate()
        before = 0
        with end.dial("127.1.0.1", keys=stranger) as client:
            for i in range(count):
                client.short = cp.KeyPair.generate()
                client.begin(again=0.5)
                client.send(client.initiate())
                if i == count // 10:
                    before = s.status_kib(front, "VmRSS")
            grown = s.status_kib(front, "VmRSS") - before
            start = time.monotonic()
            end.check_honest("127.2.0.1")
            took = time.monotonic() - start
        assert took < 1.5, f"an honest client waits {took:.1f} s"
        assert len(backend.records) == 2
        assert grown < s.scale(2048, 65536), f"{grown} KiB stay behind"


def test_clients_that_fall_silent_after_their_initiate_are_forgotten(site: s.Site) -> None:
    """Clients of our kind: foreign ones have ten minutes (PROTOCOL 9.6)."""
    with s.Backend(s.hold) as backend:
        end = s.udp_server_end(site, backend, {"dead_peer": "2s"})
        count = s.scale(200, 40)
        mute = [end.dial() for _ in range(count)]
        for client in mute:
            client.begin()
            client.send(client.initiate(cp.message_bytes(cp.Message(1), padding=cp.own_kind(1 << 20))))
        backend.wait_records(count)
        for record in backend.records:
            record.sock.sendall(b"anybody there?")
        for record in backend.records:
            record.read_to_end()
            assert record.ended == "reset"
            record.done.set()
        end.daemon.wait_event("session_close", reason="does not answer|dead|silent|unreachable")
        for client in mute:
            client.close()


def test_one_client_over_its_session_cap_harms_only_itself(site: s.Site, echo_backend: s.Backend) -> None:
    tablet = cp.KeyPair.generate()
    site.know("tablet", tablet.public)
    end = s.udp_server_end(site, echo_backend, {"allow": "laptop, tablet", "sessions_per_peer": 5})
    mine = [end.connect() for _ in range(5)]
    for client in mine:
        assert client.stream.echo(b"in") == b"in"
    for _ in range(3):
        with end.dial() as over:
            over.begin()
            with pytest.raises(TimeoutError):
                over.establish(1)
    end.daemon.wait_event("handshake_reject", reason="too many sessions of this peer")
    with end.connect(keys=tablet) as other:
        assert other.stream.echo(b"in") == b"in"
    for client in mine:
        assert client.stream.echo(b"mine go on") == b"mine go on"
    gone = mine.pop()
    gone.stream.close()
    gone.close()

    def fits() -> bool:
        client = end.dial()
        client.begin()
        try:
            client.establish(1)
        except TimeoutError:
            client.close()
            return False
        mine.append(client)
        return True

    s.until(fits, "room for one more after one has ended")
    for client in mine:
        client.leave()


def test_a_peer_that_never_acknowledges_stops_its_sender_and_nobody_else(site: s.Site) -> None:
    with s.Backend(s.echo_if_asked) as backend:
        end = s.udp_server_end(site, backend)
        end.check_honest()
        front = end.daemon.front_pid
        before = s.status_kib(front, "VmRSS")
        with end.connect() as lazy:
            assert lazy.stream.echo(b"echo") == b"echo"
            lazy.stream.acks = False
            far = backend.wait_records(2)[1].sock
            sent = push_until_stuck(far, 64 << 20)
            grown = s.status_kib(front, "VmRSS") - before
            assert grown < s.scale(24, 96) * 1024, f"{grown} KiB"
            for _ in range(5):
                end.check_honest("127.0.0.3")
            lazy.stream.acks = True
            assert sent > 0
            got = 0
            deadline = time.monotonic() + 60
            while got < sent and time.monotonic() < deadline:
                got += len(lazy.stream.recv_some(30))
            assert got == sent, f"{got} of {sent} bytes"


def push_until_stuck(sock: socket.socket, most: int) -> int:
    """Sends until nothing has gone out for two seconds; fails if `most` bytes went."""
    sent, block = 0, bytes(1 << 16)
    stuck_since = time.monotonic()
    while time.monotonic() - stuck_since < 2:
        # Asked first: a socket with a timeout would wait in send() for that long, whatever the flag says.
        if select.select([], [sock], [], 0.02)[1]:
            sent += sock.send(block, socket.MSG_DONTWAIT)
            stuck_since = time.monotonic()
        assert sent < most, f"{sent} bytes went out and nobody reads"
    return sent


def test_few_descriptors_neither_spin_nor_crash_and_recover(site: s.Site, echo_backend: s.Backend) -> None:
    s.need_tool("prlimit")
    if s.is_sanitized():
        s.skip_loudly("UBSan's check of virtual calls opens a pipe, and reports what is not so when it cannot")
    end = s.udp_server_end(site, echo_backend, workers=1)
    front = end.daemon.front_pid
    s.set_descriptors(front, 24)
    clients = [end.dial() for _ in range(30)]
    for client in clients:
        client.begin()
        client.send(client.initiate())
    end.daemon.wait_event("connect_failed", reason="[Tt]oo many open files")
    before = s.cpu_seconds(front)
    time.sleep(2)
    used = s.cpu_seconds(front) - before
    assert used < 1, f"spins: {used} s of CPU in 2 s"
    for client in clients:  # those that are served end, and leave their descriptors
        try:
            client.establish(1)
            client.stream.close()
        except (TimeoutError, cp.ProtocolError):
            pass
        client.close()
    end.check_honest()
    assert end.daemon.front_pid == front, "the front died of it"


# ---- client role ----


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
