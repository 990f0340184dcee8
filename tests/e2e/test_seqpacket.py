"""Records of unix SOCK_SEQPACKET sockets through a tunnel: each is a message, none is lost, cut or joined."""

from __future__ import annotations

import os
import random
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s

LONGEST = ct.LARGEST_MESSAGE
ROOM = 70_000
WIRES = pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])
Handler = Callable[[socket.socket], object]


def records_of(seed: int, count: int) -> list[bytes]:
    """Mostly short ones; none is empty."""
    chance = random.Random(seed)
    blob = chance.randbytes(LONGEST + 256)
    sizes = [chance.choice((1, 17, 300, 1_400, chance.randint(1, 5_000))) for _ in range(count - 3)]
    sizes += [LONGEST, 1, LONGEST - 1]
    chance.shuffle(sizes)
    return [blob[at : at + size] for size in sizes for at in (chance.randrange(256),)]


def receive_all(sock: socket.socket) -> list[bytes]:
    """Every record until the end."""
    return list(iter(lambda: sock.recv(ROOM), b""))


def send_all(sock: socket.socket, records: list[bytes]) -> None:
    for record in records:
        assert sock.send(record) == len(record)
    sock.shutdown(socket.SHUT_WR)


def echo(sock: socket.socket) -> None:
    while record := sock.recv(ROOM):
        sock.send(record)
    sock.shutdown(socket.SHUT_WR)


class Application:
    """A local server of records; each connection has a thread."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.handler = handler
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
            sock.settimeout(s.PATIENCE)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                self.handler(sock)
            except OSError:
                pass

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()


class Ends:
    """Both ends of a tunnel with records on both sides."""

    def __init__(self, wire: str, make_site: Callable[[str], s.Site], handler: Handler, **more: Any) -> None:
        self.near, self.far = make_site("near"), make_site("far")
        self.far.know("phone", self.near.key("client").public)
        self.near.know("gate", self.far.key("server").public)
        self.port = s.free_port()
        self.path = self.near.folder / "plain.sock"
        self.application = Application(self.far.folder / "app.sock", handler)
        tunnel = f"{wire}:127.0.0.1:{self.port}"
        web = {"accept": tunnel, "connect": f"seqpacket:{self.far.folder}/app.sock", "allow": "phone"}
        self.client_section = {"client": "yes", "accept": f"seqpacket:{self.path}", "connect": tunnel, "peer": "gate"}
        self.server = self.far.start({"web": web}, **more)
        self.client = self.near.start({"web": self.client_section}, **more)

    def open(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(s.PATIENCE)
        sock.connect(str(self.path))
        return sock

    def closes(self) -> list[str]:
        """The reasons of both ends' last session."""
        return [daemon.wait_event("session_close").fields["reason"] for daemon in (self.client, self.server)]


MakeEnds = Callable[..., Ends]


@pytest.fixture
def make_ends(make_site: Callable[[str], s.Site]) -> Iterator[MakeEnds]:
    made: list[Ends] = []

    def make(wire: str, handler: Handler = echo, **more: Any) -> Ends:
        made.append(Ends(wire, make_site, handler, **more))
        return made[-1]

    yield make
    for ends in made:
        ends.application.close()


@WIRES
def test_records_of_any_size_arrive_whole_and_in_order_both_ways(wire: str, make_ends: MakeEnds) -> None:
    up, down = records_of(1, 10_000), records_of(2, 10_000)
    got: list[list[bytes]] = []
    done = threading.Event()

    def both(sock: socket.socket) -> None:
        sender = threading.Thread(target=send_all, args=(sock, down), daemon=True)
        sender.start()
        got.append(receive_all(sock))
        sender.join()
        done.set()

    ends = make_ends(wire, both)
    with ends.open() as local:
        sender = threading.Thread(target=send_all, args=(local, up), daemon=True)
        sender.start()
        assert receive_all(local) == down
        sender.join()
        assert done.wait(s.PATIENCE)
    assert got == [up]
    assert ends.closes() == ["end of stream"] * 2
    closed = ends.client.wait_event("session_close").fields
    assert closed["bytes_out"] == str(sum(map(len, up))) and closed["bytes_in"] == str(sum(map(len, down)))


@WIRES
def test_a_reader_that_stops_stops_the_sender_and_nothing_is_lost(wire: str, make_ends: MakeEnds) -> None:
    go_on = threading.Event()
    got: list[bytes] = []
    done = threading.Event()

    def slow(sock: socket.socket) -> None:
        go_on.wait(s.PATIENCE * 2)
        got.extend(receive_all(sock))
        sock.shutdown(socket.SHUT_WR)
        done.set()

    ends = make_ends(wire, slow)
    with ends.open() as local:
        local.settimeout(1.5)  # so long nothing moves: everybody waits
        said = 0
        with pytest.raises(TimeoutError):
            while True:
                local.send(said.to_bytes(4, "big") * 5_000)
                said += 1
        assert 10 < said < 64 * 1024 * 1024 / 20_000, "it stops, and soon"
        go_on.set()
        local.settimeout(s.PATIENCE)
        local.shutdown(socket.SHUT_WR)
        assert done.wait(s.PATIENCE)
        assert local.recv(ROOM) == b""
    assert got == [index.to_bytes(4, "big") * 5_000 for index in range(said)]
    assert ends.closes() == ["end of stream"] * 2


@WIRES
def test_each_direction_ends_by_itself(wire: str, make_ends: MakeEnds) -> None:
    def answers_at_the_end(sock: socket.socket) -> None:
        asked = receive_all(sock)
        send_all(sock, [b"%d records" % len(asked), b"bye"])

    def ends_first(sock: socket.socket) -> None:
        send_all(sock, [b"hello"])
        got.append(receive_all(sock))

    got: list[list[bytes]] = []
    ends = make_ends(wire, answers_at_the_end)
    with ends.open() as local:
        send_all(local, [b"a", b"b", b"c"])
        assert receive_all(local) == [b"3 records", b"bye"]
    ends.application.handler = ends_first
    with ends.open() as local:
        assert receive_all(local) == [b"hello"]
        time.sleep(0.2)  # the other direction goes on, for as long as it likes
        send_all(local, [b"late", b"r"])
        s.until(lambda: got, "the application has it")
    assert got == [[b"late", b"r"]]
    s.until(lambda: len(ends.client.events("session_close", reason="^end of stream$")) == 2, "both ended in order")


@WIRES
def test_the_longest_record_passes_and_a_longer_one_ends_the_session(wire: str, make_ends: MakeEnds) -> None:
    ends = make_ends(wire)
    longest = os.urandom(LONGEST)
    with ends.open() as local:
        local.send(longest)
        assert local.recv(ROOM) == longest
        local.send(longest + b"x")
        assert local.recv(ROOM) == b"", "closed, and nothing was cut"
    closed = ends.client.wait_event("session_close")
    assert closed.level == "warning"
    assert closed.fields["reason"] == "a record is longer than a message may be (65,503 bytes)"
    assert closed.fields["bytes_out"] == str(LONGEST)
    assert ends.server.wait_event("session_close").fields["reason"] == "tunnel was cut without an end of stream"


@WIRES
def test_a_cut_tunnel_gives_what_came_and_then_a_close(wire: str, make_ends: MakeEnds) -> None:
    ends = make_ends(wire, dead_peer="1s")
    ends.server.expected_exits = {0, -signal.SIGKILL}
    with ends.open() as local:
        for record in (b"one", b"two"):
            local.send(record)
            assert local.recv(ROOM) == record
        ends.server.kill()
        if wire == "curvecp":
            local.send(b"three")  # which nobody acknowledges
        assert local.recv(ROOM) == b""
    reason = "tunnel was cut without an end of stream" if wire == "curve_tun" else "peer does not answer"
    assert ends.client.wait_event("session_close").fields["reason"] == reason


def test_the_socket_is_ours_alone_and_a_leftover_is_taken_over(make_ends: MakeEnds) -> None:
    ends = make_ends("curve_tun")
    assert stat.S_IMODE(ends.path.stat().st_mode) == 0o600
    code, text = ends.near.start_refused({"web": ends.client_section}, control=ends.near.folder / "other.sock")
    assert code != 0 and "another program has it" in text
    ends.client.expected_exits = {0, -signal.SIGKILL}
    ends.client.kill()
    assert ends.path.is_socket()
    again = ends.near.start({"web": ends.client_section})
    with ends.open() as local:
        local.send(b"hello")
        assert local.recv(ROOM) == b"hello"
    with socket.socket(socket.AF_UNIX) as stream, pytest.raises(OSError):
        stream.connect(str(ends.path))
    assert again.terminate() == 0
    assert not ends.path.exists()


@WIRES
def test_sessions_live_through_a_reload_and_end_in_peace_in_a_drain(wire: str, make_ends: MakeEnds) -> None:
    ends = make_ends(wire, drain_timeout="30s")
    with ends.open() as local:
        local.send(b"before")
        assert local.recv(ROOM) == b"before"
        ends.near.write_config({"web": ends.client_section | {"idle_timeout": "1h"}})
        done = s.curvegate("reload", "-c", ends.near.folder / "curvegate.conf")
        assert done.returncode == 0 and b"~ service web" in done.stdout, done.stderr
        local.send(b"after")
        assert local.recv(ROOM) == b"after"
        for daemon in (ends.client, ends.server):
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_event("draining")
        local.send(b"still")
        assert local.recv(ROOM) == b"still"
        send_all(local, [b"bye"])
        assert receive_all(local) == [b"bye"]
    assert [ends.client.wait_exit(), ends.server.wait_exit()] == [0, 0]
    assert ends.closes() == ["end of stream"] * 2


def test_a_revoked_peer_is_cut(make_ends: MakeEnds) -> None:
    ends = make_ends("curve_tun")
    with ends.open() as local:
        local.send(b"hello")
        assert local.recv(ROOM) == b"hello"
        assert s.curvegate("revoke", "phone", "-c", ends.far.folder / "curvegate.conf").returncode == 0
        assert local.recv(ROOM) == b""
    assert ends.closes() == ["tunnel was cut without an end of stream", "the key may not be used any more"]


def test_on_the_wire_a_record_is_a_message_and_an_empty_one_the_end(site: s.Site, tmp_path: Path) -> None:
    """The independent peer of curve_tun.py over tcp (PROTOCOL 10.3)."""
    application = Application(tmp_path / "app.sock", echo)
    backend = s.Backend(s.echo)  # not used
    end = s.server_end(site, backend, {"connect": f"seqpacket:{tmp_path}/app.sock"})
    with end.connect() as client:
        assert client.session is not None
        for size in (1, LONGEST, 5):
            record = os.urandom(size)
            client.session.send(record)
            assert client.session.recv() == record
        client.session.end()
        assert client.session.recv() == b""
        assert client.frames.wait_closed()[0]
    assert end.daemon.wait_event("session_close").fields["reason"] == "end of stream"
    over = threading.Event()
    application.handler = lambda _sock: over.wait(s.PATIENCE * 2)  # it does not end, so the session goes on
    with end.connect() as client:
        assert client.session is not None
        client.session.end()
        client.session.send(b"more")
        end.daemon.wait_event("session_close", reason="message after the end of stream")
    over.set()
    backend.close()
    application.close()


def test_records_on_one_side_and_a_program_with_channels_on_the_other(site: s.Site, tmp_path: Path) -> None:
    """docs/examples/echo.cpp sends every message back, the empty one too, which is the end here."""
    server = s.keygen(tmp_path / "server.key", "server")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"phone curve25519 {site.key('client').text}\n")
    hosts.chmod(0o600)
    port = s.free_port()
    args = [s.binary("curvegate-echo"), "--listen", f"127.0.0.1:{port}", "--key", str(server.path)]
    program = s.Daemon([*args, "--known-hosts", str(hosts)], tmp_path / "echo.log", ready=None)
    site.know("gate", server.public)
    path = tmp_path / "plain.sock"
    section = {"client": "yes", "accept": f"seqpacket:{path}", "connect": f"curve_tun:127.0.0.1:{port}", "peer": "gate"}
    daemon = site.start({"app": section})

    def talk() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as local:
            local.settimeout(s.PATIENCE)
            local.connect(str(path))
            records = [b"a", os.urandom(LONGEST), b"z"]
            try:
                for record in records:
                    local.send(record)
                local.shutdown(socket.SHUT_WR)
                return receive_all(local) == records
            except OSError:
                return False

    s.until(talk, "the program listens and echoes")
    daemon.wait_event("session_close", reason="^end of stream$")
    program.expected_exits = {0, -15, 143}
    program.stop()
