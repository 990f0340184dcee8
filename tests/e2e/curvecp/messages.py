"""What stands inside the boxes: messages of the stream."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from curve_tun import ProtocolError

LARGEST_MESSAGE = 1088
LARGEST_FIRST_MESSAGE = 640  # in an Initiate
LARGEST_BLOCK = 1024
LARGEST_FIRST_BLOCK = 512  # until the server was heard
USUAL_SIZES = (192, 320, 576, 1088)

EOF = 2048
FAILURE = 4096


@dataclass(frozen=True)
class Message:
    """What stands inside the box of an Initiate or a Message."""

    id: int = 0
    acked_id: int = 0
    ranges: tuple[tuple[int, int], ...] = ()  # [begin, end) of the stream; the first begins at 0
    position: int = 0
    block: bytes = b""
    flags: int = 0  # EOF, FAILURE

    @property
    def end(self) -> int:
        return self.position + len(self.block)

    def covers(self, begin: int, end: int) -> bool:
        return any(low <= begin and end <= high for low, high in self.ranges)


def usual_size(block: int) -> int:
    return next(size for size in USUAL_SIZES if size >= 64 + block)


def smallest_size(block: int) -> int:
    return (48 + block + 15) // 16 * 16


def own_kind(limit: int) -> bytes:
    """Padding by which curvegate tells its own kind, and how much the peer may send."""
    return b"cgf1" + struct.pack("<IQ", 0, limit)


def message_bytes(
    message: Message, size: int | None = None, *, block_length: int | None = None, padding: bytes = b""
) -> bytes:
    """`block_length` stands in the message instead of the block's own length."""
    ranges = [*message.ranges, *[(0, 0)] * 6][:6]
    assert ranges[0][0] == 0
    out = struct.pack("<IIQ", message.id, message.acked_id, ranges[0][1])
    last = ranges[0][1]
    for i, (begin, end) in enumerate(ranges[1:]):
        gap, length = (begin - last, end - begin) if end else (0, 0)
        out += struct.pack("<IH" if i == 0 else "<HH", gap, length)
        last = end if end else last
    length = len(message.block) if block_length is None else block_length
    out += struct.pack("<HQ", length + message.flags, message.position)
    out += padding
    size = size or usual_size(len(message.block))
    return out + bytes(size - len(out) - len(message.block)) + message.block


def parse_message(data: bytes) -> Message:
    if not 48 <= len(data) <= LARGEST_MESSAGE or len(data) % 16:
        raise ProtocolError(f"a message of {len(data)} bytes")
    number, acked, first, gap, length = struct.unpack_from("<IIQIH", data)
    ranges = [(0, first), (first + gap, first + gap + length)]
    for offset in (22, 26, 30, 34):
        gap, length = struct.unpack_from("<HH", data, offset)
        begin = ranges[-1][1] + gap
        ranges.append((begin, begin + length))
    flags, position = struct.unpack_from("<HQ", data, 38)
    size = flags & 2047
    if flags >= 8192 or size > LARGEST_BLOCK or len(data) < 48 + size:
        raise ProtocolError(f"flags {flags} in a message of {len(data)} bytes")
    used = tuple(pair for pair in ranges if pair[1] > pair[0])
    return Message(number, acked, used, position, data[len(data) - size :] if size else b"", flags & (EOF | FAILURE))
