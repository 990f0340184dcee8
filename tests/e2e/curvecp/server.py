"""A server and its conversations."""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from curve_tun import KeyPair, ProtocolError, open_k, seal_k, shared_key

from .messages import FAILURE, LARGEST_BLOCK
from .packets import (
    HELLO,
    INITIATE,
    NO_EXTENSION,
    Extensions,
    Hello,
    Initiate,
    cookie_packet,
    encode_name,
    open_client_message,
    open_hello,
    open_initiate,
    open_vouch,
    server_message_packet,
)
from .port import WAIT, Address, Port
from .stream import Stream


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
