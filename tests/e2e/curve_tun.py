"""An independent peer of curve_tun version 1 over plain TCP sockets.

Written from the description of the wire alone and proven against recorded sessions of the original
implementation (test_peer.py). Every builder takes overrides, so that a test can send any broken packet.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from nacl import bindings as nacl
from nacl.exceptions import CryptoError

HELLO = bytes.fromhex("6c09afb28aa9fafc")
COOKIE = bytes.fromhex("1c45dcb941c0e3f6")
VOUCH = bytes.fromhex("6c09afb28aa9fafd")
MESSAGE = bytes.fromhex("6d1b39cbf65a11b4")

HELLO_SIZE = 128
COOKIE_SIZE = 168
VOUCH_SIZE = 224
MESSAGE_OVERHEAD = 32
LARGEST_MESSAGE = 65535 - MESSAGE_OVERHEAD
FIRST_MESSAGE = 2

CLIENT_HELLO = b"CurveCP-client-H"
CLIENT_VOUCH = b"CurveCP-client-I"
CLIENT_MESSAGE = b"CurveCP-client-M"
SERVER_MESSAGE = b"CurveCP-server-M"
COOKIE_NONCE = b"CurveCPK"
VOUCH_NONCE = b"CurveCPV"
MINUTE_NONCE = b"minute-k"

WAIT = 20.0  # seconds; a bound, not a measure


class Closed(Exception):
    """The other end is gone; `how` is "eof" or "reset"."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class ProtocolError(Exception):
    """The other end sent what curve_tun version 1 does not allow."""


@dataclass(frozen=True)
class KeyPair:
    public: bytes
    secret: bytes

    @staticmethod
    def generate() -> KeyPair:
        return KeyPair(*nacl.crypto_box_keypair())

    @staticmethod
    def from_secret(secret: bytes) -> KeyPair:
        return KeyPair(nacl.crypto_scalarmult_base(secret), secret)


def shared_key(theirs: bytes, ours: bytes) -> bytes:
    return nacl.crypto_box_beforenm(theirs, ours)


def seal(plain: bytes, nonce: bytes, key: bytes) -> bytes:
    return nacl.crypto_box_afternm(plain, nonce, key)


def open_box(box: bytes, nonce: bytes, key: bytes) -> bytes:
    try:
        return nacl.crypto_box_open_afternm(box, nonce, key)
    except (CryptoError, ValueError) as error:
        raise ProtocolError("box does not open") from error


def number(value: int) -> bytes:
    return struct.pack(">Q", value)


# ---- packets ----


def hello_packet(
    server: bytes,
    short: KeyPair,
    *,
    counter: int = 0,
    plain: bytes = bytes(64),
    magic: bytes = HELLO,
    claimed: bytes | None = None,
    extra: bytes = b"",
) -> bytes:
    """`claimed` stands in the packet instead of the key that made the box."""
    box = seal(plain, CLIENT_HELLO + number(counter), shared_key(server, short.secret))
    return magic + (claimed or short.public) + number(counter) + box + extra


def open_hello(packet: bytes, server: KeyPair) -> bytes:
    """Gives the client's short-term key."""
    if len(packet) != HELLO_SIZE or packet[:8] != HELLO:
        raise ProtocolError("not a hello")
    short, counter, box = packet[8:40], packet[40:48], packet[48:]
    if counter != number(0):
        raise ProtocolError("hello counter is not 0")
    if open_box(box, CLIENT_HELLO + counter, shared_key(short, server.secret)) != bytes(64):
        raise ProtocolError("hello does not hold 64 zeros")
    return short


def seal_k(minute_key: bytes, client_short: bytes, server_short_secret: bytes, nonce: bytes) -> bytes:
    """K: what only its maker can open; 96 bytes."""
    return nonce + nacl.crypto_secretbox(client_short + server_short_secret, MINUTE_NONCE + nonce, minute_key)


def open_k(minute_key: bytes, k: bytes) -> tuple[bytes, bytes]:
    try:
        plain = nacl.crypto_secretbox_open(k[16:], MINUTE_NONCE + k[:16], minute_key)
    except CryptoError as error:
        raise ProtocolError("cookie does not open") from error
    return plain[:32], plain[32:]


def cookie_packet(
    server: KeyPair,
    client_short: bytes,
    server_short: bytes,
    k: bytes,
    nonce: bytes,
    *,
    magic: bytes = COOKIE,
    extra_plain: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    key = shared_key(client_short, server.secret)
    return magic + nonce + seal(server_short + k + extra_plain, COOKIE_NONCE + nonce, key) + extra


@dataclass(frozen=True)
class Cookie:
    nonce: bytes
    server_short: bytes
    k: bytes


def open_cookie(packet: bytes, server: bytes, short: KeyPair) -> Cookie:
    if len(packet) != COOKIE_SIZE or packet[:8] != COOKIE:
        raise ProtocolError("not a cookie")
    nonce = packet[8:24]
    plain = open_box(packet[24:], COOKIE_NONCE + nonce, shared_key(server, short.secret))
    return Cookie(nonce, plain[:32], plain[32:])


def inner_vouch(client: KeyPair, server: bytes, content: bytes, nonce: bytes) -> bytes:
    """V: `content` is the client's short-term key if all is well; 48 bytes then."""
    return seal(content, VOUCH_NONCE + nonce, shared_key(server, client.secret))


def vouch_packet(
    k: bytes,
    session_key: bytes,
    client: bytes,
    nonce: bytes,
    vouch: bytes,
    *,
    counter: int = 1,
    magic: bytes = VOUCH,
    extra_plain: bytes = b"",
    cut_plain: int = 0,
    extra: bytes = b"",
) -> bytes:
    plain = client + nonce + vouch + extra_plain
    plain = plain[: len(plain) - cut_plain]
    return magic + k + number(counter) + seal(plain, CLIENT_VOUCH + number(counter), session_key) + extra


@dataclass(frozen=True)
class OpenedVouch:
    client: bytes
    nonce: bytes
    vouch: bytes


def open_vouch_packet(packet: bytes, k: bytes, session_key: bytes) -> OpenedVouch:
    if len(packet) != VOUCH_SIZE or packet[:8] != VOUCH:
        raise ProtocolError("not a vouch")
    if packet[8:104] != k or packet[104:112] != number(1):
        raise ProtocolError("vouch with another cookie or counter")
    plain = open_box(packet[112:], CLIENT_VOUCH + packet[104:112], session_key)
    return OpenedVouch(plain[:32], plain[32:48], plain[48:])


def open_inner_vouch(opened: OpenedVouch, server: KeyPair) -> bytes:
    """Gives the short-term key that the client vouches for."""
    return open_box(opened.vouch, VOUCH_NONCE + opened.nonce, shared_key(opened.client, server.secret))


def message_packet(prefix: bytes, session_key: bytes, counter: int, plain: bytes, *, magic: bytes = MESSAGE) -> bytes:
    return magic + number(counter) + seal(plain, prefix + number(counter), session_key)


def open_message(packet: bytes, prefix: bytes, session_key: bytes) -> tuple[int, bytes]:
    if len(packet) < MESSAGE_OVERHEAD or packet[:8] != MESSAGE:
        raise ProtocolError("not a message")
    return int.from_bytes(packet[8:16], "big"), open_box(packet[16:], prefix + packet[8:16], session_key)


def frame(packet: bytes) -> bytes:
    return struct.pack(">H", len(packet)) + packet


# ---- frames on a socket ----


@dataclass
class Frames:
    """A TCP socket that carries frames, with a record of the bytes each way."""

    sock: socket.socket
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    pending: bytearray = field(default_factory=bytearray)

    @property
    def local_port(self) -> int:
        return self.sock.getsockname()[1]

    def write(self, data: bytes) -> None:
        """Bytes as they are, without a length in front."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed("reset") from error
        self.sent += data

    def send(self, packet: bytes) -> None:
        self.write(frame(packet))

    def fill(self, timeout: float) -> None:
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError as error:
            raise Closed("reset") from error
        finally:
            self.sock.settimeout(WAIT)
        if not data:
            raise Closed("eof")
        self.pending += data
        self.received += data

    def recv(self, timeout: float = WAIT) -> bytes:
        """The next whole packet."""
        while len(self.pending) < 2 or len(self.pending) < 2 + int.from_bytes(self.pending[:2], "big"):
            self.fill(timeout)
        size = 2 + int.from_bytes(self.pending[:2], "big")
        packet = bytes(self.pending[2:size])
        del self.pending[:size]
        return packet

    def wait_closed(self, timeout: float = WAIT) -> tuple[str, bytes]:
        """Reads until the other end is gone: how it went, and what it still sent."""
        try:
            while True:
                self.fill(timeout)
        except Closed as end:
            rest = bytes(self.pending)
            self.pending.clear()
            return end.how, rest

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Ends with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


IP_BIND_ADDRESS_NO_PORT = 24  # the port is chosen by connect(): ports that other connections use are free again


def open_socket(address: tuple[str, int], source: str | None = None, timeout: float = WAIT) -> socket.socket:
    family, *_, resolved = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        sock.connect(resolved)
    except OSError:
        sock.close()
        raise
    return sock


# ---- sessions ----


@dataclass
class Session:
    """One end of an established session."""

    frames: Frames
    key: bytes
    send_prefix: bytes
    recv_prefix: bytes
    next_send: int = FIRST_MESSAGE
    next_recv: int = FIRST_MESSAGE

    def seal(self, plain: bytes, *, counter: int | None = None) -> bytes:
        """The packet of the next message, or one under a counter of the test's choice."""
        if counter is None:
            counter, self.next_send = self.next_send, self.next_send + 1
        return message_packet(self.send_prefix, self.key, counter, plain)

    def send(self, plain: bytes, *, counter: int | None = None) -> None:
        self.frames.send(self.seal(plain, counter=counter))

    def send_all(self, data: bytes, size: int = LARGEST_MESSAGE) -> None:
        for start in range(0, len(data), size):
            self.send(data[start : start + size])

    def end(self) -> None:
        """End of stream, as curvegate says it to its own kind: an empty message."""
        self.send(b"")

    def recv(self, timeout: float = WAIT) -> bytes:
        counter, plain = open_message(self.frames.recv(timeout), self.recv_prefix, self.key)
        if counter != self.next_recv:
            raise ProtocolError(f"message number {counter}, expected {self.next_recv}")
        self.next_recv += 1
        return plain

    def recv_exactly(self, size: int, timeout: float = WAIT) -> bytes:
        data = bytearray()
        while len(data) < size:
            plain = self.recv(timeout)
            if not plain:
                raise ProtocolError(f"end of stream after {len(data)} of {size} bytes")
            data += plain
        if len(data) != size:
            raise ProtocolError(f"{len(data)} bytes, expected {size}")
        return bytes(data)

    def recv_until_end(self, timeout: float = WAIT) -> bytes:
        data = bytearray()
        while plain := self.recv(timeout):
            data += plain
        return bytes(data)

    def echo(self, data: bytes) -> bytes:
        self.send_all(data)
        return self.recv_exactly(len(data))


@dataclass
class Client:
    """The client's end, step by step. `server` is the key that it expects to answer."""

    frames: Frames
    server: bytes
    keys: KeyPair
    short: KeyPair = field(default_factory=KeyPair.generate)
    cookie: Cookie | None = None
    session: Session | None = None

    @staticmethod
    def dial(address: tuple[str, int], server: bytes, keys: KeyPair, source: str | None = None) -> Client:
        return Client(Frames(open_socket(address, source)), server, keys)

    @staticmethod
    def connect(address: tuple[str, int], server: bytes, keys: KeyPair, source: str | None = None) -> Client:
        client = Client.dial(address, server, keys, source)
        client.handshake()
        return client

    def hello(self, **overrides: object) -> bytes:
        return hello_packet(self.server, self.short, **overrides)  # type: ignore[arg-type]

    def take_cookie(self, timeout: float = WAIT) -> Cookie:
        self.cookie = open_cookie(self.frames.recv(timeout), self.server, self.short)
        return self.cookie

    def begin(self) -> Cookie:
        """Hello and cookie."""
        self.frames.send(self.hello())
        return self.take_cookie()

    def session_key(self) -> bytes:
        assert self.cookie is not None
        return shared_key(self.cookie.server_short, self.short.secret)

    def vouch(
        self,
        *,
        k: bytes | None = None,
        signer: KeyPair | None = None,
        claimed: bytes | None = None,
        content: bytes | None = None,
        inner: bytes | None = None,
        nonce: bytes | None = None,
        **overrides: object,
    ) -> bytes:
        """The vouch packet. `signer` makes V, `claimed` stands as C, `content` is what V vouches for."""
        assert self.cookie is not None
        nonce = nonce or os.urandom(16)
        signer = signer or self.keys
        if inner is None:
            inner = inner_vouch(signer, self.server, self.short.public if content is None else content, nonce)
        c = self.keys.public if claimed is None else claimed
        key = self.session_key()
        return vouch_packet(k or self.cookie.k, key, c, nonce, inner, **overrides)  # type: ignore[arg-type]

    def establish(self) -> Session:
        """As after the vouch: version 1 confirms nothing."""
        self.session = Session(self.frames, self.session_key(), CLIENT_MESSAGE, SERVER_MESSAGE)
        return self.session

    def handshake(self) -> Session:
        self.begin()
        self.frames.send(self.vouch())
        return self.establish()

    @property
    def port(self) -> int:
        return self.frames.local_port

    def close(self) -> None:
        self.frames.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class ServerConnection:
    """The server's end of one connection, step by step."""

    frames: Frames
    keys: KeyPair
    short: KeyPair = field(default_factory=KeyPair.generate)
    minute_key: bytes = field(default_factory=lambda: os.urandom(32))
    client_short: bytes = b""
    k: bytes = b""
    client: bytes = b""
    vouch_nonce: bytes = b""
    session: Session | None = None

    def take_hello(self, timeout: float = WAIT) -> None:
        self.client_short = open_hello(self.frames.recv(timeout), self.keys)

    def cookie(self, *, server_short: bytes | None = None, nonce: bytes | None = None, **overrides: object) -> bytes:
        nonce = nonce or os.urandom(16)
        self.k = seal_k(self.minute_key, self.client_short, self.short.secret, nonce)
        short = server_short or self.short.public
        return cookie_packet(self.keys, self.client_short, short, self.k, nonce, **overrides)  # type: ignore[arg-type]

    def take_vouch(self, timeout: float = WAIT) -> Session:
        key = shared_key(self.client_short, self.short.secret)
        opened = open_vouch_packet(self.frames.recv(timeout), self.k, key)
        if open_inner_vouch(opened, self.keys) != self.client_short:
            raise ProtocolError("the vouch is for another short-term key")
        self.client, self.vouch_nonce = opened.client, opened.nonce
        self.session = Session(self.frames, key, SERVER_MESSAGE, CLIENT_MESSAGE)
        return self.session

    def handshake(self) -> Session:
        self.take_hello()
        self.frames.send(self.cookie())
        return self.take_vouch()


class Server:
    """A listening curve_tun server: `accept()` by hand, or `serve(handler)` in threads of its own."""

    def __init__(self, keys: KeyPair, host: str = "127.0.0.1", port: int = 0) -> None:
        self.keys = keys
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family, backlog=1024)
        self.address: tuple[str, int] = self.listener.getsockname()[:2]
        self.errors: list[BaseException] = []

    def accept(self, timeout: float = WAIT) -> ServerConnection:
        self.listener.settimeout(timeout)
        sock, _ = self.listener.accept()
        sock.settimeout(WAIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ServerConnection(Frames(sock), self.keys)

    def serve(self, handler: Callable[[ServerConnection], None]) -> None:
        """Each connection runs `handler` in a thread; what it raises is kept in `errors`."""

        def run(connection: ServerConnection) -> None:
            try:
                handler(connection)
            except (Closed, ProtocolError, OSError, AssertionError) as error:
                self.errors.append(error)
            finally:
                connection.frames.close()

        def loop() -> None:
            while True:
                try:
                    connection = self.accept(timeout=3600)
                except OSError:
                    return
                threading.Thread(target=run, args=(connection,), daemon=True).start()

        threading.Thread(target=loop, daemon=True).start()

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in accept()
        except OSError:
            pass
        self.listener.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def echo_handler(connection: ServerConnection) -> None:
    """Echoes messages until the end of stream, then says its own."""
    session = connection.handshake()
    while plain := session.recv():
        session.send(plain)
    session.end()
    connection.frames.wait_closed()
