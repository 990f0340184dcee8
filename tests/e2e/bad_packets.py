"""What the tests of bad packets over UDP share: one daemon for the cases of a file, and ways to damage a packet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import curvecp as cp
import pytest
import support as s

A_MOMENT = 0.15  # silence for that long is silence

WINDOW = 8192

CLIENT_EXTENSION = range(24 * 8, 40 * 8)  # the one field that no box covers

OTHER_EXT = cp.Extensions(b"\x01" + bytes(15))


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


def empty_block() -> bytes:
    return cp.message_bytes(cp.Message(id=1))


def send_paced(client: cp.Client, packets: Iterator[bytes]) -> None:
    """Not faster than a server can look at them."""
    for i, packet in enumerate(packets):
        client.send(packet)
        if i % 25 == 24:
            time.sleep(0.02)


def word(index: int) -> bytes:
    return b"%07d\n" % index
