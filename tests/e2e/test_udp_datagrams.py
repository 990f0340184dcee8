"""A plain side of datagrams, in a tunnel over either wire: sources stay apart, datagrams stay whole."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import curvecp as cp
import pytest
import support as s

WIRES = pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])


class DatagramBackend:
    """A UDP server in a thread: `answer` gives what goes back for each datagram (None: nothing)."""

    def __init__(self, answer: Callable[[bytes], bytes | None] = lambda data: data, host: str = "127.0.0.1") -> None:
        self.port = cp.Port(host)
        self.answer = answer
        self.seen: list[tuple[bytes, cp.Address]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stop.is_set():
            came = self.port.recv(0.1)
            if came is None:
                continue
            self.seen.append(came)
            data = self.answer(came[0])
            if data is not None:
                self.port.send(data, came[1])

    @property
    def address(self) -> str:
        host, port = self.port.address
        return f"udp:[{host}]:{port}" if ":" in host else f"udp:{host}:{port}"

    def sources(self) -> set[cp.Address]:
        return {peer for _, peer in self.seen}

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self.port.close()

    def __enter__(self) -> DatagramBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tunnel:
    """Both ends, datagrams at both plain sides."""

    def __init__(
        self,
        make_site: Callable[[str], s.Site],
        backend: str,
        wire: str,
        client: dict[str, object] | None = None,
        server: dict[str, object] | None = None,
        workers: int = 2,
        drain: str = "5s",
    ) -> None:
        near, far = make_site("near"), make_site("far")
        far.know("phone", near.key("client").public)
        near.know("gate", far.key("server").public)
        port, plain = s.free_port(), s.free_port()
        accept = f"{wire}:127.0.0.1:{port}"
        service = {"accept": accept, "connect": backend, "allow": "phone"} | (server or {})
        self.server = far.start({"web": service}, drain_timeout=drain)
        section: dict[str, object] = {
            "client": "yes",
            "accept": f"udp:127.0.0.1:{plain}",
            "connect": accept,
            "peer": "gate",
            "server_name": "web" if wire == "curvecp" else None,
        }
        self.client = near.start({"app": section | (client or {})}, workers=workers)
        self.address = ("127.0.0.1", plain)
        self.far_address = ("127.0.0.1", port)
        self.key = far.key("server").public

    def ask(self, port: cp.Port, data: bytes, timeout: float = 5) -> bytes | None:
        """One datagram there and one back."""
        port.send(data, self.address)
        came = port.recv(timeout)
        return came[0] if came else None


MakeTunnel = Callable[..., Tunnel]


@pytest.fixture
def make_tunnel(make_site: Callable[[str], s.Site]) -> MakeTunnel:
    return lambda backend, wire, **more: Tunnel(make_site, backend, wire, **more)


@pytest.fixture
def echo() -> Iterator[DatagramBackend]:
    with DatagramBackend() as backend:
        yield backend


@WIRES
def test_datagrams_of_every_size_come_back_whole(
    make_tunnel: MakeTunnel, echo: DatagramBackend, wire: str
) -> None:
    tunnel = make_tunnel(echo.address, wire)
    with cp.Port() as port:
        for size in (0, 1, 512, 1452, 9000, 0, 1, 30_000, 65_000):
            data = os.urandom(size)
            assert tunnel.ask(port, data) == data, f"{size} bytes"
        assert port.is_silent(0.2)
    assert len(echo.sources()) == 1, "one source is one flow"


@WIRES
def test_a_burst_stays_in_order_and_whole(make_tunnel: MakeTunnel, echo: DatagramBackend, wire: str) -> None:
    tunnel = make_tunnel(echo.address, wire)
    with cp.Port() as port:
        assert tunnel.ask(port, b"first") == b"first"
        sent = [struct.pack(">I", i) + os.urandom(random.Random(i).randrange(1400)) for i in range(100)]
        for data in sent:
            port.send(data, tunnel.address)
        got: list[bytes] = []
        while len(got) < len(sent) and (came := port.recv(3)):
            got.append(came[0])
    assert got == sent


@WIRES
def test_several_sources_are_kept_apart(make_tunnel: MakeTunnel, echo: DatagramBackend, wire: str) -> None:
    tunnel = make_tunnel(echo.address, wire)
    ports = [cp.Port(f"127.0.0.{1 + i % 3}") for i in range(s.scale(30, 10))]
    for turn in range(3):
        for i, port in enumerate(ports):
            port.send(b"%d:%d" % (i, turn), tunnel.address)
        for i, port in enumerate(ports):
            came = port.recv(5)
            assert came is not None and came[0] == b"%d:%d" % (i, turn)
    for port in ports:
        assert port.is_silent(0)
        port.close()
    assert len(echo.sources()) == len(ports)


@WIRES
def test_the_cap_on_flows_ends_the_one_that_was_used_least_lately(
    make_tunnel: MakeTunnel, echo: DatagramBackend, wire: str
) -> None:
    tunnel = make_tunnel(echo.address, wire, client={"flows": 3}, workers=1)
    ports = [cp.Port() for _ in range(4)]

    def far_port(index: int) -> cp.Address:
        word = os.urandom(8)
        assert tunnel.ask(ports[index], word) == word
        return next(peer for data, peer in reversed(echo.seen) if data == word)

    first = [far_port(i) for i in range(3)]
    assert far_port(0) == first[0]  # now 1 is the one that was used least lately
    assert far_port(3) not in first
    assert (far_port(0), far_port(2)) == (first[0], first[2]), "a flow in use was ended"
    assert far_port(1) != first[1], "the flow over the cap goes on"
    for port in ports:
        port.close()


@WIRES
def test_flows_that_carry_nothing_end_and_come_again(
    make_tunnel: MakeTunnel, echo: DatagramBackend, wire: str
) -> None:
    tunnel = make_tunnel(echo.address, wire, client={"flow_idle": "1s"})
    with cp.Port() as busy, cp.Port() as idle:
        assert tunnel.ask(idle, b"idle") == b"idle"
        for _ in range(8):
            assert tunnel.ask(busy, b"busy") == b"busy"
            time.sleep(0.4)
        s.until(lambda: tunnel.server.events("session_close"), "the idle flow's session ends")
        assert len({peer for data, peer in echo.seen if data == b"busy"}) == 1, "the busy one was ended too"
        assert tunnel.ask(idle, b"idle") == b"idle"
    assert len({peer for data, peer in echo.seen if data == b"idle"}) == 2


@WIRES
def test_answers_without_a_question_come_through(make_tunnel: MakeTunnel, wire: str) -> None:
    """Nobody counts questions: one may have many answers, and none."""
    with DatagramBackend(lambda data: None) as backend:
        tunnel = make_tunnel(backend.address, wire)
        with cp.Port() as port:
            port.send(b"subscribe", tunnel.address)
            s.until(lambda: backend.seen, "the question")
            peer = backend.seen[0][1]
            for i in range(20):
                backend.port.send(b"news %d" % i, peer)
                came = port.recv(5)
                assert came is not None and came[0] == b"news %d" % i


@WIRES
def test_a_backend_that_is_not_there_yet_is_reached_later(make_tunnel: MakeTunnel, wire: str) -> None:
    """ICMP says that nobody listens; the flow survives it, or the next datagram makes another."""
    with cp.Port() as reserved:
        port_number = reserved.address[1]
    tunnel = make_tunnel(f"udp:127.0.0.1:{port_number}", wire)
    with cp.Port() as port:
        for _ in range(3):
            assert tunnel.ask(port, b"anybody?", 0.3) is None
        late = cp.Port("127.0.0.1", port_number)

        def is_served() -> bool:
            port.send(b"now?", tunnel.address)
            came = late.recv(0.5)
            if came is None:
                return False
            late.send(b"yes", came[1])
            return port.recv(2) is not None

        s.until(is_served, "an answer once the backend is there")
        late.close()


@WIRES
def test_a_server_end_that_comes_back_is_used_again(
    make_tunnel: MakeTunnel, echo: DatagramBackend, wire: str
) -> None:
    tunnel = make_tunnel(echo.address, wire, client={"dead_peer": "2s"})
    with cp.Port() as port:
        assert tunnel.ask(port, b"before") == b"before"
        config = tunnel.server.process.args[-1]  # type: ignore[index]
        tunnel.server.stop()
        tunnel.ask(port, b"lost", 0.2)
        args = [s.binary("curvegated"), "-c", str(config)]
        again = s.Daemon(args, tunnel.server.log.path)
        try:
            s.until(lambda: tunnel.ask(port, b"after", 0.5) == b"after", "an answer from the next daemon")
        finally:
            again.stop()


def test_datagrams_over_a_bad_line_come_late_and_whole(
    udp_relays: list[s.UdpRelay], make_site: Callable[[str], s.Site]
) -> None:
    """The tunnel is a stream: what the line loses is sent again. It is never behind here, so nothing is dropped."""
    with DatagramBackend() as backend:
        near, far = make_site("near"), make_site("far")
        far.know("phone", near.key("client").public)
        near.know("gate", far.key("server").public)
        port, plain = s.free_port(), s.free_port()
        service = {"accept": f"curvecp:127.0.0.1:{port}", "connect": backend.address, "allow": "phone"}
        far.start({"web": service})
        relay = s.UdpRelay(("127.0.0.1", port), loss=0.05, reorder=0.05, delay_ms=5, seed=9)
        udp_relays.append(relay)
        section = {
            "client": "yes",
            "accept": f"udp:127.0.0.1:{plain}",
            "connect": f"curvecp:127.0.0.1:{relay.address[1]}",
            "peer": "gate",
            "server_name": "web",
        }
        near.start({"app": section})
        for site in (near, far):  # the last acknowledgment may be lost when the other one has gone
            site.daemons[0].expected_exits = {0, 1}
        with cp.Port() as client:
            sent = [os.urandom(1 + 10 * i) for i in range(s.scale(100, 30))]
            for data in sent:
                client.send(data, ("127.0.0.1", plain))
                time.sleep(0.02)
            got: list[bytes] = []
            while len(got) < len(sent) and (came := client.recv(10)):
                got.append(came[0])
    assert got == sent


# ---- a name server ----


def dns_query(number: int, name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 16, 1)


def dns_answer(query: bytes) -> bytes | None:
    """A TXT answer that fills 1,452 bytes."""
    if len(query) < 17 or query[2] & 0x80:
        return None
    head = query[:2] + struct.pack(">HHHHH", 0x8580, 1, 1, 0, 0)
    room = 1452 - len(query) - 12
    text = b""
    while len(text) < room:
        piece = min(255, room - len(text) - 1)
        text += bytes([piece]) + b"t" * piece
    return head + query[12:] + b"\xc0\x0c" + struct.pack(">HHIH", 16, 1, 60, len(text)) + text


@WIRES
def test_a_name_server_is_asked_through_the_tunnel(make_tunnel: MakeTunnel, wire: str) -> None:
    with DatagramBackend(dns_answer) as backend:
        tunnel = make_tunnel(backend.address, wire)
        for number in range(s.scale(50, 10)):  # each question from a port of its own, as resolvers ask
            with cp.Port() as resolver:
                query = dns_query(number, f"host{number}.example.org")
                answer = tunnel.ask(resolver, query)
                assert answer is not None and answer == dns_answer(query) and len(answer) == 1452


# ---- what a peer may send ----


def lengths_and_datagrams(*datagrams: bytes) -> bytes:
    """As datagrams travel in a stream: four bytes of length, then the datagram (PROTOCOL 10.1)."""
    return b"".join(struct.pack("<I", len(data)) + data for data in datagrams)


def datagram_server(site: s.Site, backend: DatagramBackend) -> tuple[cp.Client, s.Daemon]:
    """Our server before that backend, and a Python client that is connected to it."""
    client = cp.KeyPair.generate()
    site.know("laptop", client.public)
    port = s.free_port()
    daemon = site.start({"web": {"accept": f"curvecp:127.0.0.1:{port}", "connect": backend.address, "allow": "laptop"}})
    return cp.Client(("127.0.0.1", port), site.key("server").public, client), daemon


def test_datagrams_in_a_stream_are_taken_apart_wherever_it_is_cut(site: s.Site, echo: DatagramBackend) -> None:
    client, _ = datagram_server(site, echo)
    with client:
        stream = client.handshake()
        for datagrams in ([b"one", b"", b"three" * 300], [os.urandom(1452)] * 5, [b""]):
            data = lengths_and_datagrams(*datagrams)
            assert stream.echo(data) == data
        for byte in lengths_and_datagrams(b"slowly"):
            stream.send(bytes([byte]))
        assert stream.recv_exactly(10) == lengths_and_datagrams(b"slowly")


@pytest.mark.parametrize("length", [65_504, 1 << 16, 1 << 24, 2**32 - 1])
def test_a_length_over_the_most_ends_the_flow(site: s.Site, echo: DatagramBackend, length: int) -> None:
    client, daemon = datagram_server(site, echo)
    with client:
        stream = client.handshake()
        good = lengths_and_datagrams(b"good")
        assert stream.echo(good) == good
        stream.write(struct.pack("<I", length) + bytes(2000))
        stream.wait(lambda: stream.ended, "the server's end")
        daemon.wait_event("session_close", service="web")
    s.until(lambda: echo.seen, "the datagram that was whole")
    assert [data for data, _ in echo.seen] == [b"good"]


def test_a_stream_that_ends_within_a_datagram_drops_its_piece(site: s.Site, echo: DatagramBackend) -> None:
    client, daemon = datagram_server(site, echo)
    with client:
        stream = client.handshake()
        stream.send(lengths_and_datagrams(b"whole") + struct.pack("<I", 100) + b"only a piece")
        stream.end()
        daemon.wait_event("session_close", service="web")
    s.until(lambda: echo.seen, "the datagram that was whole")
    assert [data for data, _ in echo.seen] == [b"whole"]


def test_flows_end_with_the_daemon(make_tunnel: MakeTunnel, echo: DatagramBackend) -> None:
    tunnel = make_tunnel(echo.address, "curvecp")
    with cp.Port() as port:
        assert tunnel.ask(port, b"here") == b"here"
    start = time.monotonic()
    tunnel.client.stop()
    tunnel.server.stop()
    assert time.monotonic() - start < 20, "a flow is not waited for: datagrams have no end"


@WIRES
def test_flows_that_had_to_go_while_they_were_dialled_leave_nothing_open(site: s.Site, wire: str) -> None:
    """Any local program may send from as many sources as there are ports."""
    flows, sources = 8, 300
    with socket.create_server(("127.0.0.1", 0)) as silent, cp.Port() as deaf:
        port = silent.getsockname()[1] if wire == "curve_tun" else deaf.address[1]
        site.know("gate", site.key("server").public)
        plain = s.free_port()
        section = {
            "client": "yes",
            "accept": f"udp:127.0.0.1:{plain}",
            "connect": f"{wire}:127.0.0.1:{port}",
            "peer": "gate",
            "server_name": "web" if wire == "curvecp" else None,
            "flows": flows,
            "connect_timeout": "60s",
        }
        daemon = site.start({"app": section}, workers=1)
        front = f"/proc/{daemon.front_pid}/fd"
        before = len(os.listdir(front))
        for number in range(sources):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
                source.bind((f"127.2.{number // 250}.{number % 250 + 1}", 0))
                source.sendto(b"here I am", ("127.0.0.1", plain))
            assert len(os.listdir(front)) <= before + sources // 4, "dials are kept"
        s.until(lambda: len(os.listdir(front)) <= before + flows, "only the flows that live have a descriptor")
        assert not daemon.events("handshake_ok")
        assert not daemon.events("connect_failed"), "nothing has failed"


@WIRES
def test_a_server_end_whose_clients_have_vanished_does_not_wait_for_them(
    make_tunnel: MakeTunnel, echo: DatagramBackend, wire: str
) -> None:
    tunnel = make_tunnel(echo.address, wire, server={"dead_peer": "10m"}, drain="10m")
    with cp.Port() as port:
        assert tunnel.ask(port, b"here I am") == b"here I am"
        time.sleep(0.2)  # the answer is acknowledged 5 ms after it came: bytes that are owed would be waited for
        tunnel.client.kill()
        tunnel.client.expected_exits = (-9,)
        assert tunnel.server.terminate() == 0  # long before its drain-timeout


def test_a_udp_port_of_the_plain_side_in_use_refuses_the_start(site: s.Site) -> None:
    site.know("gate", cp.KeyPair.generate().public)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"udp:127.0.0.1:{taken.getsockname()[1]}"
        service = {"client": "yes", "accept": address, "connect": "curvecp:127.0.0.1:9", "peer": "gate"}
        code, said = site.start_refused({"app": service})
    assert code != 0 and "in use" in said and address.removeprefix("udp:") in said
