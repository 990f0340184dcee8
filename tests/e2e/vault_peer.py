"""Both ends of the vault's socket protocol, and the nonce permutation, written from PROTOCOL.md section 6."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import curve_tun as ct
from nacl import bindings as nacl

VERSION = 1
ANSWER_HELLO, MAKE_VOUCH, OPEN_VOUCH, PUBLIC_KEY = 1, 2, 3, 4
SERVER, CLIENT = 0, 128
OK, NO_SUCH_KEY, BOX_DOES_NOT_OPEN, UNKNOWN_PEER, OVER_RATE, NO_NONCE, VOUCH_IS_WRONG, WEAK_KEY = range(8)

HELLO_BODY = 32 + 8 + 80 + 128
BODY_SIZES = {ANSWER_HELLO: HELLO_BODY, MAKE_VOUCH: 64, OPEN_VOUCH: 32 + 16 + 48 + 32, PUBLIC_KEY: 0}


def message(
    verb: int, detail: int, number: int, body: bytes = b"", *, version: int = VERSION, reserved: int = 0
) -> bytes:
    """A request (detail: slot) or a reply (detail: status)."""
    return struct.pack(">BBBBI", version, verb, detail, reserved, number) + body


@dataclass(frozen=True)
class Reply:
    verb: int
    status: int
    number: int
    body: bytes


class VaultConnection:
    """A client of a vault's unix socket."""

    def __init__(self, path: Path | str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(ct.WAIT)
        self.sock.connect(str(path))
        self.number = 0
        self.seen = bytearray()  # every byte that the vault ever said

    def send(self, data: bytes) -> None:
        self.sock.send(data)

    def recv(self) -> Reply:
        data = self.sock.recv(4096)
        if not data:
            raise ct.Closed("eof")
        self.seen += data
        version, verb, status, reserved, number = struct.unpack(">BBBBI", data[:8])
        assert (version, reserved) == (VERSION, 0)
        return Reply(verb, status, number, data[8:])

    def ask(self, verb: int, slot: int, body: bytes = b"") -> Reply:
        self.number += 1
        self.send(message(verb, slot, self.number, body))
        reply = self.recv()
        assert (reply.verb, reply.number) == (verb, self.number)
        return reply

    def answer_hello(self, server: bytes, payload: bytes | None = None) -> tuple[bytes, bytes]:
        """An honest Hello of a fresh client: the nonce of the answer, and what it holds."""
        short = ct.KeyPair.generate()
        hello = ct.hello_packet(server, short)
        reply = self.ask(ANSWER_HELLO, SERVER, hello[8:] + (payload or bytes(128)))
        assert reply.status == OK, reply.status
        nonce, box = reply.body[:16], reply.body[16:]
        return nonce, ct.open_box(box, ct.COOKIE_NONCE + nonce, ct.shared_key(server, short.secret))

    def is_closed(self) -> bool:
        try:
            while self.sock.recv(4096):
                pass
            return True
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> VaultConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- a vault of ours ----


class FakeVault:
    """A vault in Python. `tamper(reply, request)` may change, hold back or multiply the replies to send."""

    Tamper = Callable[[bytes, bytes], "list[bytes]"]

    def __init__(self, path: Path, server: ct.KeyPair) -> None:
        self.server = server
        self.tamper: FakeVault.Tamper = lambda reply, request: [reply]
        self.requests: list[bytes] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen(64)
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                while request := sock.recv(4096):
                    self.requests.append(request)
                    for reply in self.tamper(self.reply(request), request):
                        if not reply:
                            return
                        sock.send(reply)
            except OSError:
                pass

    def reply(self, request: bytes) -> bytes:
        _, verb, _, _, number = struct.unpack(">BBBBI", request[:8])
        body = request[8:]
        if verb == PUBLIC_KEY:
            return message(verb, OK, number, self.server.public)
        if verb == ANSWER_HELLO:
            key = ct.shared_key(body[:32], self.server.secret)
            nonce = os.urandom(16)
            return message(verb, OK, number, nonce + ct.seal(body[120:], ct.COOKIE_NONCE + nonce, key))
        if verb == OPEN_VOUCH:
            client, nonce, vouch, short = body[:32], body[32:48], body[48:96], body[96:]
            opened = ct.open_inner_vouch(ct.OpenedVouch(client, nonce, vouch), self.server)
            return message(verb, OK if opened == short else VOUCH_IS_WRONG, number)
        return message(verb, NO_SUCH_KEY, number)

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def __enter__(self) -> FakeVault:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- nonces ----


@dataclass(frozen=True)
class CounterSlot:
    """One record of a counter file."""

    magic: bytes
    version: int
    public: bytes
    salt: bytes
    sequence: int
    reserved: int

    SIZE = 128
    DISTANCE = 4096
    MAGIC = b"cgnonce\n"

    def encode(self) -> bytes:
        head = self.magic + struct.pack(">II", self.version, 0) + self.public + self.salt
        head += struct.pack(">QQ", self.sequence, self.reserved)
        head = head.ljust(self.SIZE - 32, b"\0")
        return head + hashlib.blake2b(head, digest_size=32).digest()

    @staticmethod
    def decode(data: bytes) -> CounterSlot:
        version, _ = struct.unpack(">II", data[8:16])
        sequence, reserved = struct.unpack(">QQ", data[64:80])
        slot = CounterSlot(data[:8], version, data[16:48], data[48:64], sequence, reserved)
        assert slot.encode() == data, "the slot is damaged"
        return slot


def read_slots(path: Path) -> list[CounterSlot]:
    data = path.read_bytes()
    return [CounterSlot.decode(data[at : at + CounterSlot.SIZE]) for at in (0, CounterSlot.DISTANCE)]


def write_slots(path: Path, *slots: CounterSlot) -> None:
    data = b"".join(slot.encode().ljust(CounterSlot.DISTANCE, b"\0") for slot in slots)
    path.write_bytes(data)


def counter_path(folder: Path, public: bytes) -> Path:
    return folder / f"nonce.{public.hex()[:16]}"


class Permutation:
    """The Feistel network that hides the counter in a long-term nonce."""

    def __init__(self, secret: bytes, salt: bytes) -> None:
        key = hashlib.blake2b(b"curvegate nonce" + salt, key=secret, digest_size=32).digest()
        self.keys = [self._derive(key, i) for i in range(8)]

    @staticmethod
    def _derive(key: bytes, number: int) -> bytes:
        """crypto_kdf of libsodium."""
        salt = struct.pack("<Q", number).ljust(16, b"\0")
        person = b"cgnonce1".ljust(16, b"\0")
        return hashlib.blake2b(b"", key=key, salt=salt, person=person, digest_size=16).digest()

    def _round(self, i: int, half: int) -> int:
        return int.from_bytes(nacl.crypto_shorthash_siphash24(struct.pack(">Q", half), self.keys[i]), "big")

    def apply(self, counter: int, random: int) -> bytes:
        left, right = counter, random
        for i in range(8):
            left, right = right, left ^ self._round(i, right)
        return struct.pack(">QQ", left, right)

    def counter_of(self, nonce: bytes) -> int:
        left, right = struct.unpack(">QQ", nonce)
        for i in reversed(range(8)):
            left, right = right ^ self._round(i, left), left
        return left

    @staticmethod
    def of(pair: ct.KeyPair, counter_file: Path) -> Permutation:
        return Permutation(pair.secret, read_slots(counter_file)[0].salt)
