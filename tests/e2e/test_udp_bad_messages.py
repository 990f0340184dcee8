"""Bad messages over UDP, in a session that stands: each is met by silence and changes nothing, and the good one still
works. Those packets of tests/vectors that must be dropped stand here, and in test_udp_bad_handshake.py and
test_udp_bad_server.py, as the same damage to live sessions."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import curvecp as cp
import pytest
import support as s
from bad_input import case_ids
from bad_packets import A_MOMENT, CLIENT_EXTENSION, WINDOW, empty_block, flipped, last_bit, send_paced, server, word  # noqa: F401


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
