"""An independent peer of CurveCP over plain UDP sockets: packets, messages, and a small reliable stream.

Written from the description of the wire alone and proven against recorded sessions and the living reference
programs (test_udp_nacl.py). Every builder takes overrides, so that a test can send any broken packet.
"""

from __future__ import annotations

import os
import queue
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from curve_tun import KeyPair, ProtocolError, open_box, open_k, seal, seal_k, shared_key

__all__ = ["KeyPair", "ProtocolError", "shared_key"]

HELLO = b"QvnQ5XlH"
COOKIE = b"RL3aNMXK"
INITIATE = b"QvnQ5XlI"
CLIENT_MESSAGE = b"QvnQ5XlM"
SERVER_MESSAGE = b"RL3aNMXM"

HELLO_SIZE = 224
COOKIE_SIZE = 200
LARGEST_MESSAGE = 1088
LARGEST_FIRST_MESSAGE = 640  # in an Initiate
LARGEST_BLOCK = 1024
LARGEST_FIRST_BLOCK = 512  # until the server was heard
USUAL_SIZES = (192, 320, 576, 1088)

HELLO_NONCE = b"CurveCP-client-H"
INITIATE_NONCE = b"CurveCP-client-I"
CLIENT_NONCE = b"CurveCP-client-M"
SERVER_NONCE = b"CurveCP-server-M"
COOKIE_NONCE = b"CurveCPK"
VOUCH_NONCE = b"CurveCPV"

NO_EXTENSION = bytes(16)
WAIT = 20.0  # seconds; a bound, not a measure

Address = tuple[str, int]


def le64(value: int) -> bytes:
    return struct.pack("<Q", value)


def encode_name(name: str) -> bytes:
    """The server's name as the Initiate carries it: DNS labels, 256 bytes."""
    labels = [label.encode() for label in name.split(".") if label]
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    assert len(wire) <= 256 and all(len(label) < 64 for label in labels), name
    return wire.ljust(256, b"\0")


# ---- packets ----


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


# ---- messages ----

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


# ---- sockets ----


class Port:
    """A UDP socket that counts what goes out and what comes in."""

    def __init__(self, source: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        try:  # root may have more than the system's bound
            self.sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        except PermissionError:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.sock.bind((source, port))
        self.sock.setblocking(False)
        self.sent = self.received = 0  # bytes
        self.record: list[bytes] | None = None  # a list given here gets every packet that goes out

    @property
    def address(self) -> Address:
        return self.sock.getsockname()[:2]

    def send(self, packet: bytes, to: Address) -> None:
        try:
            self.sock.sendto(packet, to)
        except (BlockingIOError, ConnectionRefusedError):
            return  # lost, as datagrams are
        self.sent += len(packet)
        if self.record is not None:
            self.record.append(packet)

    def recv(self, timeout: float) -> tuple[bytes, Address] | None:
        """The next datagram; None: none came in time."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                packet, peer = self.sock.recvfrom(65536)
            except ConnectionRefusedError:
                continue
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                    return None
                continue
            self.received += len(packet)
            return packet, peer[:2]

    def is_silent(self, seconds: float) -> bool:
        return self.recv(seconds) is None

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- the stream ----


@dataclass
class Block:
    begin: int
    end: int
    flags: int
    id: int = 0
    sent_at: float = 0.0
    sendings: int = 0


class Stream:
    """Both directions of one session: a window of blocks, acknowledgments at once, ends. One thread.

    `send` takes a message's bytes; `recv` waits at most that many seconds and gives a message's bytes or None.
    """

    def __init__(self, send: Callable[[bytes], None], recv: Callable[[float], bytes | None], first_block: int) -> None:
        self._send, self._recv = send, recv
        self.block_size = first_block
        self.window = 16  # blocks; the reference keeps 64 messages, and drops more
        self.acks = True  # False: takes what comes and says nothing
        self.selective = True  # ranges beyond the first are sent
        self.out = bytearray()  # from self.acked on
        self.acked = 0
        self.queued = 0  # bytes of the stream that are in blocks
        self.finish_flags = 0
        self.blocks: list[Block] = []
        self.end_sent = self.end_acked = False
        self.next_id = 1
        self.rto = 0.3
        self.inbox = bytearray()
        self.taken = 0  # bytes in order
        self.early: dict[int, bytes] = {}
        self.end_position: int | None = None
        self.end_flags = 0
        self.received = 0  # messages

    # the local side

    @property
    def ended(self) -> str:
        """How the other direction ended: "", "eof" or "failure"."""
        if self.end_position is None or self.taken < self.end_position:
            return ""
        return "failure" if self.end_flags & FAILURE else "eof"

    @property
    def unacked(self) -> int:
        return len(self.out)

    def write(self, data: bytes) -> None:
        self.out += data

    def finish(self, flags: int = EOF) -> None:
        self.finish_flags = flags

    def send(self, data: bytes, timeout: float = WAIT) -> None:
        """Returns when all of it is acknowledged."""
        self.write(data)
        self.wait(lambda: not self.out, f"{len(data)} bytes acknowledged", timeout)

    def end(self, flags: int = EOF, timeout: float = WAIT) -> None:
        """Returns when the end of our direction is acknowledged."""
        self.finish(flags)
        self.wait(lambda: self.end_acked, "the end acknowledged", timeout)

    def recv_exactly(self, size: int, timeout: float = WAIT) -> bytes:
        self.wait(lambda: len(self.inbox) >= size or self.ended, f"{size} bytes", timeout)
        if len(self.inbox) < size:
            raise ProtocolError(f"{self.ended} after {len(self.inbox)} of {size} bytes")
        return self._take(size)

    def recv_some(self, timeout: float = WAIT) -> bytes:
        self.wait(lambda: self.inbox or self.ended, "anything", timeout)
        return self._take(len(self.inbox))

    def recv_until_end(self, timeout: float = WAIT) -> bytes:
        self.wait(lambda: self.ended, "the end", timeout)
        return self._take(len(self.inbox))

    def echo(self, data: bytes, timeout: float = WAIT) -> bytes:
        self.write(data)
        return self.recv_exactly(len(data), timeout)

    def close(self) -> None:
        """Ends in order, and stays a little, for a peer whose last word is lost."""
        self.end()
        self.recv_until_end()
        self.linger(0.1)

    def linger(self, seconds: float) -> None:
        """Goes on answering for that long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.turn(left)

    def wait(self, condition: Callable[[], object], what: str, timeout: float = WAIT) -> None:
        """Fails if nothing of either stream moves for that long."""
        before, deadline = (self.taken, self.acked), time.monotonic() + timeout
        self.push()
        while not condition():
            if (self.taken, self.acked) != before:
                before, deadline = (self.taken, self.acked), time.monotonic() + timeout
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{what}: nothing for {timeout} s; {self.taken} bytes came, {self.acked} are acked")
            self.turn(min(left, 1.0))

    def _take(self, size: int) -> bytes:
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    # the network

    def turn(self, timeout: float) -> None:
        """Sends what may go and takes what comes within that time."""
        self.push()
        due = min((block.sent_at + self.rto for block in self.blocks), default=None)
        if due is not None:
            timeout = min(timeout, max(0.001, due - time.monotonic()))
        data = self._recv(timeout)
        while data is not None:
            self.take(data)
            data = self._recv(0)
        self.push()

    def push(self) -> None:
        now = time.monotonic()
        for block in self.blocks:
            if now >= block.sent_at + self.rto:
                self.rto = min(self.rto * 1.3, 2.0) if block.sendings > 1 else self.rto
                self._send_block(block, now)
        while len(self.blocks) < self.window and self.queued < self.acked + len(self.out):
            begin = self.queued
            end = min(begin + self.block_size, self.acked + len(self.out), (begin // 131072 + 1) * 131072)
            last = end == self.acked + len(self.out)
            self._add(Block(begin, end, self.finish_flags if last else 0), now)
        if self.finish_flags and not self.end_sent and self.queued == self.acked + len(self.out):
            self._add(Block(self.queued, self.queued, self.finish_flags), now)

    def _add(self, block: Block, now: float) -> None:
        self.queued = block.end
        self.end_sent = self.end_sent or block.flags != 0
        self.blocks.append(block)
        self._send_block(block, now)

    def skip(self, position: int) -> None:
        """The bytes before were sent by the test itself; the stream goes on there."""
        self.queued = self.acked = position

    def ping(self) -> None:
        """An empty block, which the peer answers; a server's program starts by it."""
        self._send(message_bytes(Message(id=self._take_id())))

    def _take_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _send_block(self, block: Block, now: float) -> None:
        block.id, block.sent_at, block.sendings = self._take_id(), now, block.sendings + 1
        data = bytes(self.out[block.begin - self.acked : block.end - self.acked])
        self._send(message_bytes(Message(block.id, 0, (), block.begin, data, block.flags)))

    def ranges(self) -> tuple[tuple[int, int], ...]:
        first = self.taken + (1 if self.ended else 0)
        ranges = [(0, first)]
        if self.selective:
            for position in sorted(self.early):
                end = position + len(self.early[position])
                if position == ranges[-1][1] and len(ranges) > 1 and end - ranges[-1][0] < 65536:
                    ranges[-1] = (ranges[-1][0], end)
                elif position - ranges[-1][1] < 65536 and position >= ranges[-1][1]:
                    ranges.append((position, end))
        return tuple(ranges[:6])

    def take(self, data: bytes) -> None:
        message = parse_message(data)
        self.received += 1
        if message.ranges or message.acked_id:
            self._take_acks(message)
        if message.id:
            self._store(message)
            if self.acks:
                self._send(message_bytes(Message(0, message.id, self.ranges())))

    def _take_acks(self, message: Message) -> None:
        now = time.monotonic()
        total = self.acked + len(self.out)
        if message.ranges and message.ranges[0][1] > total + 1:
            raise ProtocolError("acknowledges what was never sent")
        left = []
        for block in self.blocks:
            if block.id == message.acked_id:
                self.rto = max(0.1, min(2.0, 3 * (now - block.sent_at)))
            if block.flags:
                done = bool(message.ranges) and message.ranges[0][1] > block.end
                self.end_acked = self.end_acked or done
            else:
                done = message.covers(block.begin, block.end)
            if not done:
                left.append(block)
        self.blocks = left
        head = min((block.begin for block in left), default=self.queued)
        del self.out[: head - self.acked]
        self.acked = head

    def _store(self, message: Message) -> None:
        if message.flags:
            self.end_position, self.end_flags = message.end, message.flags
        if message.end > self.taken and message.block:
            if message.position <= self.taken:
                self.inbox += message.block[self.taken - message.position :]
                self.taken = message.end
            elif len(message.block) > len(self.early.get(message.position, b"")):
                self.early[message.position] = message.block
        while ready := [position for position in self.early if position <= self.taken]:
            for position in ready:
                block = self.early.pop(position)
                if position + len(block) > self.taken:
                    self.inbox += block[self.taken - position :]
                    self.taken = position + len(block)


# ---- client ----


@dataclass
class Client:
    """The client's end, step by step. `server` is the key that it expects to answer."""

    address: Address
    server: bytes
    keys: KeyPair
    name: str = "web"
    ext: Extensions = Extensions()
    source: str = "127.0.0.1"
    short: KeyPair = field(default_factory=KeyPair.generate)
    number: int = field(default_factory=lambda: random.randrange(1 << 48))
    cookie: Cookie | None = None
    port: Port = None  # type: ignore[assignment]
    last_received: int = -1
    heard: bool = False  # an authentic Message has come
    other: list[bytes] = field(default_factory=list)  # what came and was no message for us

    def __post_init__(self) -> None:
        if ":" in self.address[0] and self.source == "127.0.0.1":
            self.source = "::1"
        self.port = self.port or Port(self.source)
        self.stream = Stream(self.send_message, self.recv_message, LARGEST_FIRST_BLOCK)

    def move(self, source: str | None = None) -> None:
        """Goes on from another port, as after a change of the network."""
        self.port.close()
        self.port = Port(source or self.source)

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def send(self, packet: bytes) -> None:
        self.port.send(packet, self.address)

    def hello(self, *, number: int | None = None, ext: Extensions | None = None, **overrides: object) -> bytes:
        number = self.next_number() if number is None else number
        return hello_packet(self.server, self.short, number, ext or self.ext, **overrides)  # type: ignore[arg-type]

    def take_cookie(self, timeout: float = WAIT) -> Cookie:
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            came = self.port.recv(left)
            if came and came[0][:8] == COOKIE:
                self.cookie = open_cookie(came[0], self.server, self.short, self.ext)
                return self.cookie
        raise TimeoutError("no cookie")

    def begin(self, timeout: float = WAIT, again: float = 1.0) -> Cookie:
        """Hello, again and again, and cookie."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.send(self.hello())
            try:
                return self.take_cookie(again)
            except TimeoutError:
                continue
        raise TimeoutError("no cookie")

    def session_key(self) -> bytes:
        assert self.cookie is not None
        return shared_key(self.cookie.server_short, self.short.secret)

    def initiate(
        self,
        message: bytes | None = None,
        *,
        number: int | None = None,
        k: bytes | None = None,
        signer: KeyPair | None = None,
        claimed: bytes | None = None,
        content: bytes | None = None,
        inner: bytes | None = None,
        vouch_nonce: bytes | None = None,
        name: bytes | None = None,
        clear_short: bytes | None = None,
        ext: Extensions | None = None,
        plain: Callable[[bytes], bytes] = lambda whole: whole,
        **overrides: object,
    ) -> bytes:
        """`signer` makes the vouch, `claimed` stands as C, `content` is what is vouched for, `plain` may edit all.

        Without a message it carries an empty block, which makes the server answer."""
        assert self.cookie is not None
        if message is None:
            message = message_bytes(Message(id=self.stream._take_id()))
        nonce = vouch_nonce or os.urandom(16)
        if inner is None:
            content = self.short.public if content is None else content
            inner = vouch(signer or self.keys, self.server, content, nonce)
        c = self.keys.public if claimed is None else claimed
        whole = c + nonce + inner + (encode_name(self.name) if name is None else name) + message
        number = self.next_number() if number is None else number
        short, k = clear_short or self.short.public, k or self.cookie.k
        key, ext = self.session_key(), ext or self.ext
        return initiate_packet(short, k, key, plain(whole), number, ext, **overrides)  # type: ignore[arg-type]

    def message(
        self, message: bytes, *, number: int | None = None, ext: Extensions | None = None, **overrides: object
    ) -> bytes:
        number = self.next_number() if number is None else number
        short, key, ext = self.short.public, self.session_key(), ext or self.ext
        return client_message_packet(short, key, message, number, ext, **overrides)  # type: ignore[arg-type]

    def block(self, data: bytes, position: int, **overrides: object) -> bytes:
        """A Message packet with one block, outside of the stream's own counting."""
        body = message_bytes(Message(self.stream._take_id(), 0, (), position, data))
        return self.message(body, **overrides)  # type: ignore[arg-type]

    def send_message(self, message: bytes) -> None:
        self.send(self.message(message) if self.heard else self.initiate(message))

    def recv_message(self, timeout: float) -> bytes | None:
        deadline = time.monotonic() + timeout
        while True:
            came = self.port.recv(max(0.0, deadline - time.monotonic()))
            if came is None:
                return None
            try:
                number, message = open_server_message(came[0], self.session_key(), self.ext)
            except ProtocolError:
                self.other.append(came[0])
                continue
            if number <= self.last_received:
                continue  # overtaken: lost, as the reference takes it
            self.last_received = number
            if not self.heard:
                self.heard, self.stream.block_size = True, LARGEST_BLOCK
            return message

    def establish(self, timeout: float = WAIT) -> Stream:
        """Initiates until the server is heard."""
        deadline = time.monotonic() + timeout
        while not self.heard:
            if time.monotonic() > deadline:
                raise TimeoutError("the server says nothing to the initiate")
            if not self.stream.out and not self.stream.finish_flags:
                self.stream.ping()
            self.stream.turn(0.3)
        return self.stream

    def handshake(self, timeout: float = WAIT) -> Stream:
        self.begin(timeout)
        return self.establish(timeout)

    def quiet(self, seconds: float = 0.3) -> None:
        """Answers until nothing has come for that long."""
        heard = -1
        while heard != self.stream.received:
            heard = self.stream.received
            self.stream.turn(seconds)

    def close(self) -> None:
        self.port.close()

    def leave(self) -> None:
        """Ends the session, if one stands, so that the server need not wait for a dead peer."""
        stream = self.stream
        try:
            if self.heard and not (stream.end_acked and stream.ended):
                stream.finish_flags = stream.finish_flags or FAILURE
                stream.wait(lambda: stream.end_acked and stream.ended, "the end", 1.0)
        except (TimeoutError, ProtocolError, OSError):
            pass
        self.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


# ---- server ----


@dataclass
class Conversation:
    """The server's end of one session."""

    server: Server
    peer: Address
    hello: Hello
    short: KeyPair = field(default_factory=KeyPair.generate)
    number: int = field(default_factory=lambda: random.randrange(1 << 48))
    initiate: Initiate | None = None
    last_received: int = -1
    packets: queue.SimpleQueue[tuple[bytes, Address]] = field(default_factory=queue.SimpleQueue)
    next_packet: Callable[[float], tuple[bytes, Address] | None] | None = None  # instead of `packets`

    def __post_init__(self) -> None:
        self.key = shared_key(self.hello.short, self.short.secret)
        self.ext = self.hello.ext
        self.stream = Stream(self.send_message, self.recv_message, LARGEST_BLOCK)

    @property
    def client(self) -> bytes:
        assert self.initiate is not None
        return self.initiate.client

    def k(self, nonce: bytes) -> bytes:
        return seal_k(self.server.minute_key, self.hello.short, self.short.secret, nonce)

    def cookie(
        self, *, server_short: bytes | None = None, ext: Extensions | None = None, **overrides: object
    ) -> bytes:
        nonce = os.urandom(16)
        short = server_short or self.short.public
        k = self.k(nonce)
        keys, ext = self.server.keys, ext or self.ext
        return cookie_packet(keys, self.hello.short, short, k, nonce, ext, **overrides)  # type: ignore[arg-type]

    def send(self, packet: bytes) -> None:
        self.server.port.send(packet, self.peer)

    def message(
        self, message: bytes, *, number: int | None = None, ext: Extensions | None = None, **overrides: object
    ) -> bytes:
        if number is None:
            self.number += 1
            number = self.number
        return server_message_packet(self.key, message, number, ext or self.ext, **overrides)  # type: ignore[arg-type]

    def send_message(self, message: bytes) -> None:
        self.send(self.message(message))

    def recv_message(self, timeout: float) -> bytes | None:
        deadline = time.monotonic() + timeout
        while came := (self.next_packet or self._from_queue)(max(0.0, deadline - time.monotonic())):
            if came[0][40:72] == self.hello.short and (message := self.open(*came)) is not None:
                return message
        return None

    def _from_queue(self, timeout: float) -> tuple[bytes, Address] | None:
        try:
            return self.packets.get(timeout=timeout) if timeout > 0 else self.packets.get_nowait()
        except queue.Empty:
            return None

    def leave(self) -> None:
        """Ends the session, if one stands."""
        stream = self.stream
        try:
            stream.finish_flags = stream.finish_flags or FAILURE
            stream.wait(lambda: stream.end_acked and stream.ended, "the end", 1.0)
        except (TimeoutError, ProtocolError, OSError):
            pass

    def open(self, packet: bytes, peer: Address) -> bytes | None:
        """The message of an authentic new packet; the peer has moved to where it came from."""
        try:
            if packet[:8] == INITIATE:
                initiate = open_initiate(packet, self.key)
                number, message = initiate.number, initiate.message
            else:
                number, message = open_client_message(packet, self.key)
        except ProtocolError:
            return None
        if number <= self.last_received:
            return None
        self.last_received, self.peer = number, peer
        return message


class Server:
    """A CurveCP server on one socket; a thread of its own answers Hellos and hands packets to conversations.

    With `by_hand` there is no thread: `recv` gives packets, and the test answers.
    """

    def __init__(
        self,
        keys: KeyPair,
        name: str = "app",
        extension: bytes = NO_EXTENSION,
        host: str = "127.0.0.1",
        port: int = 0,
        by_hand: bool = False,
    ) -> None:
        self.keys, self.name, self.extension = keys, name, extension
        self.port = Port(host, port)
        self.address = self.port.address
        self.minute_key = os.urandom(32)
        self.talks: dict[bytes, Conversation] = {}
        self.begun: queue.SimpleQueue[Conversation] = queue.SimpleQueue()
        self.hellos = self.refused = 0
        self.met: set[bytes] = set()  # short-term keys that take_hello() has given
        self.errors: list[BaseException] = []
        self.handler: Callable[[Conversation], None] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        if not by_hand:
            self._thread.start()

    def recv(self, magic: bytes, timeout: float = WAIT) -> tuple[bytes, Address]:
        """By hand: the next packet of that kind; others are skipped."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            came = self.port.recv(left)
            if came and came[0][:8] == magic:
                return came
        raise TimeoutError(f"no {magic!r}")

    def take_hello(self, timeout: float = WAIT) -> Conversation:
        """By hand: the next Hello of a client that is new, not answered yet."""
        deadline = time.monotonic() + timeout
        while True:
            packet, peer = self.recv(HELLO, deadline - time.monotonic())
            if packet[40:72] not in self.met:
                self.met.add(packet[40:72])
                return Conversation(self, peer, open_hello(packet, self.keys))

    def take_initiate(self, talk: Conversation, timeout: float = WAIT) -> Initiate:
        """By hand: the Initiate of that conversation, checked."""
        deadline = time.monotonic() + timeout
        while True:
            packet, peer = self.recv(INITIATE, deadline - time.monotonic())
            if packet[40:72] == talk.hello.short:
                self._check(talk, packet, peer)
                assert talk.initiate is not None
                return talk.initiate

    def _check(self, talk: Conversation, packet: bytes, peer: Address) -> None:
        initiate = open_initiate(packet, talk.key)
        if open_vouch(initiate, self.keys) != initiate.client_short:
            raise ProtocolError("the vouch is for another short-term key")
        if initiate.name != encode_name(self.name):
            raise ProtocolError("another server's name")
        talk.initiate, talk.ext, talk.peer = initiate, initiate.ext, peer

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                came = self.port.recv(0.2)
            except (OSError, ValueError):
                return
            if came is None:
                continue
            try:
                self._handle(*came)
            except (ProtocolError, ValueError, OSError):
                self.refused += 1

    def _handle(self, packet: bytes, peer: Address) -> None:
        if packet[8:24] != self.extension or not 80 <= len(packet) <= 1184 or len(packet) % 16:
            raise ProtocolError("not for us")
        talk = self.talks.get(packet[40:72])
        if packet[:8] == HELLO:
            fresh = Conversation(self, peer, open_hello(packet, self.keys))
            self.hellos += 1
            fresh.send(fresh.cookie())
        elif talk:
            talk.packets.put((packet, peer))
        elif packet[:8] == INITIATE:
            self._begin(packet, peer)

    def _begin(self, packet: bytes, peer: Address) -> None:
        client_short, short_secret = open_k(self.minute_key, packet[72:168])
        if client_short != packet[40:72]:
            raise ProtocolError("the cookie of another short-term key")
        hello = Hello(Extensions(packet[8:24], packet[24:40]), client_short, 0)
        talk = Conversation(self, peer, hello, KeyPair.from_secret(short_secret))
        self._check(talk, packet, peer)
        talk.packets.put((packet, peer))
        self.talks[client_short] = talk
        self.begun.put(talk)
        if self.handler:
            threading.Thread(target=self._run, args=(talk,), daemon=True).start()

    def _run(self, talk: Conversation) -> None:
        try:
            assert self.handler is not None
            self.handler(talk)
        except (ProtocolError, OSError, AssertionError) as error:
            self.errors.append(error)

    def accept(self, timeout: float = WAIT) -> Conversation:
        try:
            return self.begun.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("no session begins") from None

    def serve(self, handler: Callable[[Conversation], None]) -> None:
        """Each session runs `handler` in a thread; what it raises is kept in `errors`."""
        self.handler = handler

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self.port.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def echo_handler(talk: Conversation) -> None:
    """Echoes until the end, then says its own."""
    stream = talk.stream
    while True:
        data = stream.recv_some()
        stream.write(data)
        if stream.ended and not stream.inbox:
            break
    stream.end()
    stream.linger(1)
