"""A client."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from curve_tun import KeyPair, ProtocolError, shared_key

from .messages import FAILURE, LARGEST_BLOCK, LARGEST_FIRST_BLOCK, Message, message_bytes
from .packets import (
    COOKIE,
    Cookie,
    Extensions,
    client_message_packet,
    encode_name,
    hello_packet,
    initiate_packet,
    open_cookie,
    open_server_message,
    vouch,
)
from .port import WAIT, Address, Port
from .stream import Stream


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
