"""The five packets: built, with overrides for what a test wants broken, and opened."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from curve_tun import KeyPair, ProtocolError, open_box, seal, shared_key

HELLO = b"QvnQ5XlH"
COOKIE = b"RL3aNMXK"
INITIATE = b"QvnQ5XlI"
CLIENT_MESSAGE = b"QvnQ5XlM"
SERVER_MESSAGE = b"RL3aNMXM"

HELLO_SIZE = 224
COOKIE_SIZE = 200

HELLO_NONCE = b"CurveCP-client-H"
INITIATE_NONCE = b"CurveCP-client-I"
CLIENT_NONCE = b"CurveCP-client-M"
SERVER_NONCE = b"CurveCP-server-M"
COOKIE_NONCE = b"CurveCPK"
VOUCH_NONCE = b"CurveCPV"

NO_EXTENSION = bytes(16)


def le64(value: int) -> bytes:
    return struct.pack("<Q", value)


def encode_name(name: str) -> bytes:
    """The server's name as the Initiate carries it: DNS labels, 256 bytes."""
    labels = [label.encode() for label in name.split(".") if label]
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    assert len(wire) <= 256 and all(len(label) < 64 for label in labels), name
    return wire.ljust(256, b"\0")


@dataclass(frozen=True)
class Extensions:
    server: bytes = NO_EXTENSION
    client: bytes = NO_EXTENSION

    def up(self) -> bytes:
        return self.server + self.client

    def down(self) -> bytes:
        return self.client + self.server


def hello_packet(
    server: bytes,
    short: KeyPair,
    number: int,
    ext: Extensions = Extensions(),
    *,
    magic: bytes = HELLO,
    claimed: bytes | None = None,
    plain: bytes = bytes(64),
    zeros: bytes = bytes(64),
    extra: bytes = b"",
) -> bytes:
    """`claimed` stands in the packet instead of the key that made the box."""
    box = seal(plain, HELLO_NONCE + le64(number), shared_key(server, short.secret))
    return magic + ext.up() + (claimed or short.public) + zeros + le64(number) + box + extra


@dataclass(frozen=True)
class Hello:
    ext: Extensions
    short: bytes
    number: int


def open_hello(packet: bytes, server: KeyPair) -> Hello:
    if len(packet) != HELLO_SIZE or packet[:8] != HELLO:
        raise ProtocolError("not a hello")
    short = packet[40:72]
    plain = open_box(packet[144:], HELLO_NONCE + packet[136:144], shared_key(short, server.secret))
    if plain != bytes(64) or packet[72:136] != bytes(64):
        raise ProtocolError("hello does not hold zeros")
    return Hello(Extensions(packet[8:24], packet[24:40]), short, int.from_bytes(packet[136:144], "little"))


def cookie_packet(
    server: KeyPair,
    client_short: bytes,
    server_short: bytes,
    k: bytes,
    nonce: bytes,
    ext: Extensions = Extensions(),
    *,
    magic: bytes = COOKIE,
    extra_plain: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    box = seal(server_short + k + extra_plain, COOKIE_NONCE + nonce, shared_key(client_short, server.secret))
    return magic + ext.down() + nonce + box + extra


@dataclass(frozen=True)
class Cookie:
    nonce: bytes
    server_short: bytes
    k: bytes


def open_cookie(packet: bytes, server: bytes, short: KeyPair, ext: Extensions = Extensions()) -> Cookie:
    if len(packet) != COOKIE_SIZE or packet[:8] != COOKIE or packet[8:40] != ext.down():
        raise ProtocolError("not a cookie for us")
    plain = open_box(packet[56:], COOKIE_NONCE + packet[40:56], shared_key(server, short.secret))
    return Cookie(packet[40:56], plain[:32], plain[32:])


def vouch(client: KeyPair, server: bytes, content: bytes, nonce: bytes) -> bytes:
    """48 bytes; `content` is the client's short-term key if all is well."""
    return seal(content, VOUCH_NONCE + nonce, shared_key(server, client.secret))


def initiate_packet(
    client_short: bytes,
    k: bytes,
    session_key: bytes,
    plain: bytes,
    number: int,
    ext: Extensions = Extensions(),
    *,
    magic: bytes = INITIATE,
    extra: bytes = b"",
) -> bytes:
    """`plain`: C (32), nonce of the vouch (16), vouch (48), name (256), message."""
    box = seal(plain, INITIATE_NONCE + le64(number), session_key)
    return magic + ext.up() + client_short + k + le64(number) + box + extra


@dataclass(frozen=True)
class Initiate:
    ext: Extensions
    client_short: bytes
    k: bytes
    number: int
    client: bytes
    vouch_nonce: bytes
    vouch: bytes
    name: bytes
    message: bytes


def open_initiate(packet: bytes, session_key: bytes) -> Initiate:
    if not 560 <= len(packet) <= 1184 or len(packet) % 16 or packet[:8] != INITIATE:
        raise ProtocolError("not an initiate")
    plain = open_box(packet[176:], INITIATE_NONCE + packet[168:176], session_key)
    ext = Extensions(packet[8:24], packet[24:40])
    number = int.from_bytes(packet[168:176], "little")
    parts = plain[:32], plain[32:48], plain[48:96], plain[96:352], plain[352:]
    return Initiate(ext, packet[40:72], packet[72:168], number, *parts)


def open_vouch(initiate: Initiate, server: KeyPair) -> bytes:
    """Gives the short-term key that the client vouches for."""
    nonce = VOUCH_NONCE + initiate.vouch_nonce
    return open_box(initiate.vouch, nonce, shared_key(initiate.client, server.secret))


def client_message_packet(
    client_short: bytes,
    session_key: bytes,
    message: bytes,
    number: int,
    ext: Extensions = Extensions(),
    *,
    magic: bytes = CLIENT_MESSAGE,
) -> bytes:
    box = seal(message, CLIENT_NONCE + le64(number), session_key)
    return magic + ext.up() + client_short + le64(number) + box


def open_client_message(packet: bytes, session_key: bytes) -> tuple[int, bytes]:
    if not 112 <= len(packet) <= 1184 or len(packet) % 16 or packet[:8] != CLIENT_MESSAGE:
        raise ProtocolError("not a client's message")
    plain = open_box(packet[80:], CLIENT_NONCE + packet[72:80], session_key)
    return int.from_bytes(packet[72:80], "little"), plain


def server_message_packet(
    session_key: bytes, message: bytes, number: int, ext: Extensions = Extensions(), *, magic: bytes = SERVER_MESSAGE
) -> bytes:
    return magic + ext.down() + le64(number) + seal(message, SERVER_NONCE + le64(number), session_key)


def open_server_message(packet: bytes, session_key: bytes, ext: Extensions = Extensions()) -> tuple[int, bytes]:
    if not 80 <= len(packet) <= 1152 or len(packet) % 16 or packet[:8] != SERVER_MESSAGE:
        raise ProtocolError("not a server's message")
    if packet[8:40] != ext.down():
        raise ProtocolError("a message for other extensions")
    plain = open_box(packet[48:], SERVER_NONCE + packet[40:48], session_key)
    return int.from_bytes(packet[40:48], "little"), plain
