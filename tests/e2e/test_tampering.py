"""A man in the middle of two daemons, and server keys that are not the pinned ones."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import curve_tun as ct
import pytest
import support as s


@dataclass
class Meddler:
    """Edits one direction of the frames after the handshake; message 0 is the first after hello or cookie, vouch."""

    direction: str
    change: Callable[[int, bytes], list[bytes] | None]
    seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, direction: str, index: int, frame: bytes) -> list[bytes] | None:
        if direction != self.direction:
            return [frame]
        message = index - (2 if direction == "up" else 1)
        if message < 0:
            return [frame]
        out = self.change(message, frame)
        with self.lock:
            self.seen = message + 1
        return out


CHUNKS = [b"<record %d>" % i for i in range(6)]


def send_records(meddler: Meddler, sock: socket.socket, chunks: list[bytes]) -> bool:
    """One record a chunk: the next is written when the one before has been seen on the wire, or the end came.
    True: it was a reset, and the socket has told of it, which it does once."""
    for i, chunk in enumerate(chunks):
        deadline = time.monotonic() + s.PATIENCE
        try:
            sock.sendall(chunk)
            while meddler.seen <= i:
                assert time.monotonic() < deadline, f"chunk {i} is not seen on the wire"
                if s.is_readable(sock, 0.005):  # nothing is ever sent this way: it is the end
                    return False
        except ConnectionResetError:
            return True
    return False


def was_reset(sock: socket.socket) -> bool:
    """Nothing more comes, and the end is a reset."""
    record = s.Record(sock)
    record.read_to_end()
    return (record.size, record.ended) == (0, "reset")


class Holding:
    """Swaps messages 2 and 3."""

    def __init__(self) -> None:
        self.held: bytes | None = None

    def __call__(self, message: int, frame: bytes) -> list[bytes] | None:
        if message == 2:
            self.held = frame
            return []
        if message == 3:
            assert self.held is not None
            return [frame, self.held]
        return [frame]


TAMPERING: dict[str, Callable[[], Callable[[int, bytes], list[bytes] | None]]] = {
    "dropped": lambda: lambda message, frame: [] if message == 2 else [frame],
    "repeated": lambda: lambda message, frame: [frame, frame] if message == 1 else [frame],
    "swapped": Holding,
    "repeated later": lambda: RepeatLater(),
    "replaced by an empty frame": lambda: lambda message, frame: [b"\0\0"] if message == 2 else [frame],
}


class RepeatLater:
    """Plays message 0 again in the place of message 2."""

    def __init__(self) -> None:
        self.first = b""

    def __call__(self, message: int, frame: bytes) -> list[bytes] | None:
        if message == 0:
            self.first = frame
        return [self.first] if message == 2 else [frame]


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("how", TAMPERING)
def test_a_record_tampered_with_cuts_the_session_after_what_was_good(
    make_tunnel: Callable[..., s.Tunnel], direction: str, how: str
) -> None:
    meddler = Meddler(direction, TAMPERING[how]())
    with s.Backend(s.hold if direction == "down" else s.sink) as backend:
        tunnel = make_tunnel(backend, edit=meddler)
        with tunnel.open() as local:
            record = backend.wait_records(1)[0]
            sender = local.sock if direction == "up" else record.sock
            told = send_records(meddler, sender, CHUNKS)
            assert told or was_reset(sender), "the sender's side is not told"
            if direction == "up":
                assert record.done.wait(s.PATIENCE)
                got, ended = bytes(record.data), record.ended
            else:
                got, ended = local.read_to_end()
                record.done.set()
        assert (got, ended) == (b"".join(CHUNKS[:2]), "reset")
        victim = tunnel.server.daemon if direction == "up" else tunnel.client.daemon
        empty = how == "replaced by an empty frame"
        reason = "message has an illegal length" if empty else "message does not open or is out of order"
        victim.wait_event("session_close", reason=reason)


def test_a_delayed_record_is_only_late(make_tunnel: Callable[..., s.Tunnel]) -> None:
    def late(message: int, frame: bytes) -> list[bytes]:
        time.sleep(0.3 if message == 1 else 0)
        return [frame]

    with s.Backend(s.sink) as backend:
        meddler = Meddler("up", late)
        tunnel = make_tunnel(backend, edit=meddler)
        with tunnel.open() as local:
            send_records(meddler, local.sock, CHUNKS)
            local.half_close()
            record = backend.wait_done()
            assert (bytes(record.data), record.ended) == (b"".join(CHUNKS), "eof")


@pytest.mark.parametrize("end", ["eof", "reset"])
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_cut_after_record_k_is_a_reset_after_k_records_not_an_end(
    make_tunnel: Callable[..., s.Tunnel], end: str, direction: str, after: int
) -> None:
    meddler = Meddler(direction, lambda message, frame: None if message == after else [frame])
    with s.Backend(s.hold if direction == "down" else s.sink) as backend:
        tunnel = make_tunnel(backend, edit=meddler, end=end)
        with tunnel.open() as local:
            record = backend.wait_records(1)[0]
            sender = local.sock if direction == "up" else record.sock
            told = send_records(meddler, sender, CHUNKS[: after + 1])
            assert told or was_reset(sender), "the sender's side is not told"
            if direction == "up":
                assert record.done.wait(s.PATIENCE)
                got, ended = bytes(record.data), record.ended
            else:
                got, ended = local.read_to_end()
                record.done.set()
        assert (got, ended) == (b"".join(CHUNKS[:after]), "reset")
        for daemon in (tunnel.server.daemon, tunnel.client.daemon):
            daemon.wait_event("session_close", reason="tunnel was cut without an end of stream")


def test_a_cut_within_a_record_delivers_nothing_of_it(gate: s.ServerEnd) -> None:
    for kept in (1, 2, 20, 30 + ct.MESSAGE_OVERHEAD):
        connections = len(gate.backend.records)
        with gate.connect() as client:
            assert client.session is not None
            client.session.send(b"whole")
            client.frames.write(ct.frame(client.session.seal(bytes(40)))[:kept])
            client.frames.half_close()
            client.frames.wait_closed()
        record = gate.backend.wait_done(connections)
        assert (bytes(record.data), record.ended) == (b"whole", "reset")


def test_all_that_was_delivered_before_a_cut_can_be_read_even_late(make_tunnel: Callable[..., s.Tunnel]) -> None:
    """A reset must not destroy what is on its way: the reader starts after the cut."""
    with s.Backend(s.hold) as backend:
        tunnel = make_tunnel(backend)
        data = os.urandom(200_000)
        with tunnel.open() as local:
            record = backend.wait_records(1)[0]
            local.send(data)
            got = record.sock.recv(1000)
            mark = tunnel.server.daemon.mark()
            tunnel.client.daemon.kill()
            tunnel.client.daemon.expected_exits = {-9}
            time.sleep(1)  # the reader is late; a reset sent at once would arrive now and destroy the rest
            record.take(got)
            record.read_to_end()
            assert record.ended == "reset"
            assert bytes(record.data) == data[: record.size]
            closed = tunnel.server.daemon.wait_event("session_close", since=mark, reason="tunnel was cut")
            assert record.size == int(closed.fields["bytes_in"])
            record.done.set()


def test_a_missing_pin_is_named_before_dialling(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        end = s.client_end(site, server.address, server.keys.public, {"peer": "nobody-we-know"})
        with end.open() as local:
            assert local.read_to_end() == (b"", "reset")
        end.daemon.wait_event("connect_failed", reason="nobody-we-know.*known_hosts has no valid key")
        with pytest.raises(TimeoutError):
            server.accept(0.3)


def test_a_changed_server_key_is_refused_and_the_old_pin_kept(site: s.Site) -> None:
    old = ct.KeyPair.generate()
    with ct.Server(ct.KeyPair.generate()) as server:
        end = s.client_end(site, server.address, old.public)
        before = site.known_hosts.read_bytes()
        with end.open() as local:
            connection = server.accept()
            with pytest.raises(ct.ProtocolError):
                connection.take_hello()
            connection.frames.close()
            assert local.read_to_end() == (b"", "reset")
        end.daemon.wait_event("connect_failed", reason="gate.*wrong key for .*, or not a curve_tun server")
        assert site.known_hosts.read_bytes() == before


def test_several_keys_of_one_name_are_tried_in_order(site: s.Site) -> None:
    new = ct.KeyPair.generate()
    site.know("gate", ct.KeyPair.generate().public)
    with ct.Server(new) as server:
        server.serve(ct.echo_handler)
        end = s.client_end(site, server.address, new.public)
        with end.open() as local:
            assert local.echo(b"the second key") == b"the second key"
