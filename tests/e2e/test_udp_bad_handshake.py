"""Bad hellos and initiates over UDP: each is met by silence and changes nothing, and the good one still works. What a
stranger or a thief of packets may not get stands below them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import curvecp as cp
import pytest
import support as s
from bad_input import LOW_ORDER, P, as_key, case_ids, with_top_bit
from bad_packets import A_MOMENT, CLIENT_EXTENSION, OTHER_EXT, empty_block, flipped, last_bit, send_paced, server  # noqa: F401


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
