"""The Python peer itself: proven against recorded sessions of the original implementation, then against itself."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "curve_tun_v1.json").read_text())
SESSIONS = pytest.mark.parametrize("recorded", VECTORS["sessions"], ids=lambda session: session["name"])


def keys(recorded: dict[str, Any]) -> ct.KeyPair:
    return ct.KeyPair(bytes.fromhex(recorded["public"]), bytes.fromhex(recorded["secret"]))


def plaintext(message: dict[str, Any]) -> bytes:
    if message["plaintext_source"]["rule"] == "literal":
        return bytes.fromhex(message["plaintext"]["hex"])
    length = message["plaintext"]["length"]
    return bytes((31 * i + length) % 251 for i in range(length))


def same(built: bytes, recorded: dict[str, Any]) -> bool:
    if len(built) != recorded["length"]:
        return False
    if "hex" in recorded:
        return built.hex() == recorded["hex"]
    return hashlib.sha256(built).hexdigest() == recorded["sha256"]


@SESSIONS
def test_rebuilds_every_recorded_packet_byte_for_byte(recorded: dict[str, Any]) -> None:
    client, server = keys(recorded["long_term_keys"]["client"]), keys(recorded["long_term_keys"]["server"])
    short, server_short = keys(recorded["ephemeral_keys"]["client"]), keys(recorded["ephemeral_keys"]["server"])
    nonce = bytes.fromhex(recorded["cookie"]["safe_nonce"])
    vouch_nonce = bytes.fromhex(recorded["vouch"]["inner_vouch"]["safe_nonce"])
    session_key = ct.shared_key(server_short.public, short.secret)

    hello = ct.hello_packet(server.public, short)
    k = ct.seal_k(bytes.fromhex(recorded["minute_key"]), short.public, server_short.secret, nonce)
    cookie = ct.cookie_packet(server, short.public, server_short.public, k, nonce)
    inner = ct.inner_vouch(client, server.public, short.public, vouch_nonce)
    vouch = ct.vouch_packet(k, session_key, client.public, vouch_nonce, inner)

    assert same(hello, recorded["hello"]["packet"]) and same(ct.frame(hello), recorded["hello"]["frame"])
    assert same(cookie, recorded["cookie"]["packet"]) and same(ct.frame(cookie), recorded["cookie"]["frame"])
    assert same(vouch, recorded["vouch"]["packet"]) and same(ct.frame(vouch), recorded["vouch"]["frame"])
    streams = {"client_to_server": ct.frame(hello) + ct.frame(vouch), "server_to_client": ct.frame(cookie)}
    for message in recorded["messages"]:
        to_server = message["direction"] == "client_to_server"
        prefix = ct.CLIENT_MESSAGE if to_server else ct.SERVER_MESSAGE
        packet = ct.message_packet(prefix, session_key, message["counter"], plaintext(message))
        assert same(packet, message["packet"])
        streams[message["direction"]] += ct.frame(packet)
    for direction, total in recorded["stream_totals"].items():
        assert len(streams[direction]) == total["length"]
        assert hashlib.sha256(streams[direction]).hexdigest() == total["sha256"]


@SESSIONS
def test_opens_every_recorded_packet(recorded: dict[str, Any]) -> None:
    server = keys(recorded["long_term_keys"]["server"])
    short, server_short = keys(recorded["ephemeral_keys"]["client"]), keys(recorded["ephemeral_keys"]["server"])
    session_key = ct.shared_key(short.public, server_short.secret)

    assert ct.open_hello(bytes.fromhex(recorded["hello"]["packet"]["hex"]), server) == short.public
    cookie = ct.open_cookie(bytes.fromhex(recorded["cookie"]["packet"]["hex"]), server.public, short)
    assert cookie.server_short == server_short.public
    assert ct.open_k(bytes.fromhex(recorded["minute_key"]), cookie.k) == (short.public, server_short.secret)
    opened = ct.open_vouch_packet(bytes.fromhex(recorded["vouch"]["packet"]["hex"]), cookie.k, session_key)
    assert opened.client == keys(recorded["long_term_keys"]["client"]).public
    assert ct.open_inner_vouch(opened, server) == short.public
    for message in (m for m in recorded["messages"] if "hex" in m["packet"]):
        prefix = ct.CLIENT_MESSAGE if message["direction"] == "client_to_server" else ct.SERVER_MESSAGE
        packet = bytes.fromhex(message["packet"]["hex"])
        assert ct.open_message(packet, prefix, session_key) == (message["counter"], plaintext(message))


def test_talks_to_itself_over_a_socket() -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(ct.echo_handler)
        with ct.Client.connect(server.address, server.keys.public, ct.KeyPair.generate()) as client:
            assert client.session is not None
            for size in (1, 1000, ct.LARGEST_MESSAGE, 200_000):
                data = os.urandom(size)
                assert client.session.echo(data) == data
            client.session.end()
            assert client.session.recv_until_end() == b""
    assert not server.errors


@pytest.mark.parametrize("bit", range(0, ct.HELLO_SIZE * 8, 37))
def test_refuses_a_hello_with_one_bit_flipped(bit: int) -> None:
    server, short = ct.KeyPair.generate(), ct.KeyPair.generate()
    packet = bytearray(ct.hello_packet(server.public, short))
    packet[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ct.ProtocolError):
        ct.open_hello(bytes(packet), server)
