"""The Python peer of CurveCP itself: proven against recorded sessions of the reference programs, against the living
ones, and against itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import curvecp as cp
import pytest
import support as s

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "curvecp_udp.json").read_text())
SESSIONS = pytest.mark.parametrize("recorded", VECTORS["sessions"], ids=lambda session: session["name"])


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


class Recorded:
    """A recorded session's keys, and its packets rebuilt."""

    def __init__(self, session: dict[str, Any]) -> None:
        secrets = session["secrets"]
        self.server = cp.KeyPair.from_secret(raw(secrets["server_long_sk"]))
        self.client = cp.KeyPair.from_secret(raw(secrets["client_long_sk"]))
        self.short = cp.KeyPair.from_secret(raw(secrets["client_short_sk"]))
        self.minute_key = raw(secrets["minute_key"])
        self.name = cp.encode_name(session["server_name"])
        assert self.name == raw(session["server_name_encoded"])

    def rebuild(self, packet: dict[str, Any]) -> bytes:
        fields = packet["fields"]
        ext = cp.Extensions(raw(fields["server_ext"]), raw(fields["client_ext"]))
        number = fields.get("nonce_u64", 0)
        kind = raw(packet["hex"])[:8]
        if kind == cp.HELLO:
            return cp.hello_packet(self.server.public, self.short, number, ext)
        if kind == cp.COOKIE:
            secret, nonce = raw(fields["cookie_plain_server_short_sk"]), raw(fields["cookie_nonce16"])
            k = cp.seal_k(self.minute_key, self.short.public, secret, nonce)
            short = cp.KeyPair.from_secret(secret).public
            return cp.cookie_packet(self.server, self.short.public, short, k, raw(fields["nonce16"]), ext)
        message = raw(fields["message"])
        if kind == cp.INITIATE:
            nonce = raw(fields["vouch_nonce16"])
            inner = cp.vouch(self.client, self.server.public, self.short.public, nonce)
            plain = self.client.public + nonce + inner + self.name + message
            k = raw(fields["cookie"])
            return cp.initiate_packet(self.short.public, k, self.session_key(k), plain, number, ext)
        if kind == cp.CLIENT_MESSAGE:
            return cp.client_message_packet(self.short.public, self.key, message, number, ext)
        return cp.server_message_packet(self.key, message, number, ext)

    def session_key(self, k: bytes) -> bytes:
        client_short, server_short_secret = cp.open_k(self.minute_key, k)
        assert client_short == self.short.public
        self.key = cp.shared_key(client_short, server_short_secret)
        return self.key


@SESSIONS
def test_rebuilds_every_recorded_packet_byte_for_byte(recorded: dict[str, Any]) -> None:
    session = Recorded(recorded)
    for packet in recorded["packets"]:
        assert session.rebuild(packet).hex() == packet["hex"], f"packet {packet['n']}"


@SESSIONS
def test_opens_every_recorded_packet(recorded: dict[str, Any]) -> None:
    session = Recorded(recorded)
    for packet in recorded["packets"]:
        data, fields = raw(packet["hex"]), packet["fields"]
        ext = cp.Extensions(raw(fields["server_ext"]), raw(fields["client_ext"]))
        if data[:8] == cp.HELLO:
            assert cp.open_hello(data, session.server) == cp.Hello(ext, session.short.public, fields["nonce_u64"])
        elif data[:8] == cp.COOKIE:
            cookie = cp.open_cookie(data, session.server.public, session.short, ext)
            assert cookie.k == raw(fields["cookie"]) and cookie.server_short == raw(fields["server_short_pk"])
        elif data[:8] == cp.INITIATE:
            initiate = cp.open_initiate(data, session.session_key(data[72:168]))
            assert cp.open_vouch(initiate, session.server) == session.short.public
            assert (initiate.client, initiate.name) == (session.client.public, session.name)
            assert initiate.message == raw(fields["message"])
        elif data[:8] == cp.CLIENT_MESSAGE:
            assert cp.open_client_message(data, session.key) == (fields["nonce_u64"], raw(fields["message"]))
        else:
            assert cp.open_server_message(data, session.key, ext) == (fields["nonce_u64"], raw(fields["message"]))


def decoded_ranges(decoded: dict[str, Any]) -> list[tuple[int, int]]:
    ranges = [(0, decoded["ack_range1_end"])]
    for low in range(1, 6):
        begin = ranges[-1][1] + decoded[f"gap{low}{low + 1}"]
        ranges.append((begin, begin + decoded[f"range{low + 1}"]))
    return [pair for pair in ranges if pair[1] > pair[0]]


@pytest.mark.parametrize("example", VECTORS["message_examples"], ids=lambda example: example["description"][:40])
def test_reads_and_writes_the_example_messages(example: dict[str, Any]) -> None:
    data, decoded = raw(example["hex"]), example["decoded"]
    message = cp.parse_message(data)
    assert (message.id, message.acked_id, list(message.ranges)) == (
        decoded["id"],
        decoded["ack_id"],
        decoded_ranges(decoded),
    )
    assert (message.position, message.block.hex()) == (decoded["block_pos"], decoded["data"])
    assert message.flags == cp.EOF * decoded["eof"] + cp.FAILURE * decoded["failure"]
    assert cp.message_bytes(message, len(data)) == data


@pytest.fixture
def server() -> Iterator[cp.Server]:
    with cp.Server(cp.KeyPair.generate(), "app") as server:
        server.serve(cp.echo_handler)
        yield server


def test_talks_to_itself(server: cp.Server) -> None:
    keys = cp.KeyPair.generate()
    with cp.Client(server.address, server.keys.public, keys, "app") as client:
        stream = client.handshake()
        for size in (1, 511, 512, 513, 1024, 1025, 300_000):
            data = os.urandom(size)
            assert stream.echo(data) == data
        stream.close()
    assert server.accept().client == keys.public
    assert not server.errors


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_talks_to_itself_over_a_bad_line(server: cp.Server, loss: float) -> None:
    with s.UdpRelay(server.address, loss=loss, reorder=0.1, duplicate=0.1, delay_ms=2, seed=7) as relay:
        with cp.Client(relay.address, server.keys.public, cp.KeyPair.generate(), "app") as client:
            stream = client.handshake()
            data = os.urandom(100_000)
            assert stream.echo(data) == data
        counts = relay.counts()
    assert counts["dropped"] > 0 and counts["duplicated"] > 0 and counts["reordered"] > 0


@pytest.mark.parametrize("bit", range(0, cp.HELLO_SIZE * 8, 61))
def test_refuses_a_hello_with_one_bit_flipped(bit: int) -> None:
    server, short = cp.KeyPair.generate(), cp.KeyPair.generate()
    packet = bytearray(cp.hello_packet(server.public, short, 5))
    packet[bit // 8] ^= 1 << bit % 8
    try:
        hello = cp.open_hello(bytes(packet), server)
    except cp.ProtocolError:
        return
    assert 64 <= bit < 320 or bit == 575, "only the extensions and the key's unused bit are outside of the box"
    assert hello.ext != cp.Extensions() or bit == 575
