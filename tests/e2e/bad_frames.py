"""What the tests of bad input over TCP share: one daemon for the cases of a file, the reasons in its log, and bad
messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import curve_tun as ct
import pytest
import support as s


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
