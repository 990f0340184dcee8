"""The PROXY protocol with the real daemon: haproxy, nginx and a reader of our own as the application; haproxy, versions
1 and 2, and a front of our own before the server end."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import curve_tun as ct
import curvecp as cp
import pytest
import support as s

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
GET = b"GET / HTTP/1.0\r\n\r\n"
FRONT = "127.0.0.1"  # from where haproxy, and our own front, reach the daemon
VISITOR = "127.0.0.9"  # a client before them


# ---- a reader of our own ----


@dataclass(frozen=True)
class Header:
    """A header of version 2, taken apart by the words of the protocol's text."""

    source: tuple[str, int]
    destination: tuple[str, int]
    values: dict[int, str]


def take_header(sock: socket.socket) -> Header:
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = sock.recv(size - len(data))
            assert part, f"end after {data!r}"
            data += part
        return data

    fixed = exactly(16)
    assert fixed[:12] == SIGNATURE, fixed
    assert fixed[12] == 0x21, "version 2, PROXY"
    family, size = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}[fixed[13]]
    rest = exactly(int.from_bytes(fixed[14:], "big"))
    hosts = [socket.inet_ntop(family, rest[at : at + size]) for at in (0, size)]
    ports = struct.unpack_from("!HH", rest, 2 * size)
    values: dict[int, str] = {}
    at = 2 * size + 4
    while at < len(rest):
        kind, length = struct.unpack_from("!BH", rest, at)
        assert at + 3 + length <= len(rest) and kind not in values
        values[kind] = rest[at + 3 : at + 3 + length].decode()
        at += 3 + length
    return Header((hosts[0], ports[0]), (hosts[1], ports[1]), values)


class Reader:
    """A handler of a Backend: reads the header, then echoes."""

    def __init__(self) -> None:
        self.headers: list[Header] = []

    def __call__(self, record: s.Record) -> None:
        self.headers.append(take_header(record.sock))
        s.echo(record)


@pytest.fixture
def reader() -> Reader:
    return Reader()


def names(key: bytes, name: str = "laptop", service: str = "web") -> dict[int, str]:
    return {0xE0: name, 0xE1: base64.b64encode(key).decode(), 0xE2: service}


# ---- real programs ----


@dataclass
class Application:
    """What server_end() needs of a backend."""

    address: str


Running = AbstractContextManager[Path]


@contextmanager
def program(args: list[str], log: Path, is_ready: Callable[[], object]) -> Iterator[Path]:
    """Runs it until the end of the block; gives its log."""
    s.need_tool(args[0])
    with log.open("wb") as out:
        process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return bool(is_ready())

        s.until(ready, f"{args[0]} is ready")
        yield log
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def haproxy(folder: Path, sections: str) -> Running:
    """Ready once its control socket is there: that comes after its listeners. Nobody has to knock at these."""
    control = folder / "haproxy.sock"
    config = folder / "haproxy.cfg"
    config.write_text(
        f"global\n    stats socket {control} level admin\n    log stdout format raw daemon\n"
        "defaults\n    log global\n    option dontlognull\n"
        f"    timeout connect 10s\n    timeout client 30s\n    timeout server 30s\n{sections}\n"
    )
    return program(["haproxy", "-db", "-f", str(config)], folder / "haproxy.log", lambda: answers(control))


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True


def haproxy_says(folder: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(folder / "haproxy.sock"))
        sock.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: sock.recv(1 << 16), b"")).decode()


def haproxy_application(folder: Path, bind: str) -> Running:
    """It tells a client what it has learnt of him."""
    return haproxy(
        folder,
        f"frontend application\n    mode http\n    bind {bind} accept-proxy\n"
        "    http-request return status 200 content-type text/plain "
        'lf-string "%[fc_rcvd_proxy] %[src] %[src_port] %[dst] %[dst_port]"',
    )


def nginx_application(folder: Path, listen: str) -> Running:
    paths = " ".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder / 'nginx.pid'}; error_log {folder / 'nginx.err'} info;\n"
        f"events {{ worker_connections 64; }}\nhttp {{ access_log off; {paths}\n"
        f"server {{ listen {listen} proxy_protocol; real_ip_header proxy_protocol;\n"
        "set_real_ip_from 127.0.0.1; set_real_ip_from unix:;\n"
        'location / { return 200 "1 $remote_addr $remote_port '
        '$proxy_protocol_server_addr $proxy_protocol_server_port"; } } }\n'
    )
    args = ["nginx", "-p", str(folder), "-c", str(config)]
    return program(args, folder / "nginx.log", (folder / "nginx.pid").exists)


APPLICATIONS = {"haproxy": haproxy_application, "nginx": nginx_application}


# ---- towards the application ----


def body_over_tcp(end: s.ServerEnd, source: str) -> tuple[list[str], int]:
    """What the application says of us, and from which port we came."""
    with end.connect(source) as client:
        assert client.session is not None
        client.session.send(GET)
        answer = client.session.recv_until_end()
        return answer.decode().split("\r\n\r\n")[1].split(), client.port


def body_over_udp(end: s.UdpServerEnd, source: str) -> tuple[list[str], int]:
    with end.connect(source) as client:
        client.stream.write(GET)
        answer = client.stream.recv_until_end()
        return answer.decode().split("\r\n\r\n")[1].split(), client.port.address[1]


@pytest.mark.parametrize("application", APPLICATIONS)
@pytest.mark.parametrize("over", ["tcp", "udp", "unix"])
def test_a_real_application_sees_the_clients_address(site: s.Site, tmp_path: Path, application: str, over: str) -> None:
    port = s.free_port()
    path = tmp_path / "app.sock"
    unix = over == "unix"
    listen = {"haproxy": f"unix@{path}", "nginx": f"unix:{path}"}[application] if unix else f"127.0.0.1:{port}"
    with APPLICATIONS[application](tmp_path, listen):
        behind: Any = Application(f"unix:{path}" if unix else f"127.0.0.1:{port}")
        if over == "udp":
            udp_end = s.udp_server_end(site, behind, {"proxy": "v2"})
            seen, source_port = body_over_udp(udp_end, "127.0.0.7")
            address = udp_end.address
        else:
            end = s.server_end(site, behind, {"proxy": "v2"})
            seen, source_port = body_over_tcp(end, "127.0.0.7")
            address = end.address
    assert seen == ["1", "127.0.0.7", str(source_port), "127.0.0.1", str(address[1])]


def test_name_key_and_service_come_with_it(site: s.Site, reader: Reader) -> None:
    with s.Backend(reader) as backend:
        end = s.server_end(site, backend, {"proxy": "v2"})
        ports = []
        for source in ("127.0.0.7", "127.0.0.8"):
            with end.connect(source) as client:
                assert client.session is not None
                ports.append(client.port)
                data = os.urandom(5_000)
                assert client.session.echo(data) == data  # what follows the header is the client's, whole
    expected = [
        Header((f"127.0.0.{7 + i}", port), end.address, names(end.client.public)) for i, port in enumerate(ports)
    ]
    assert reader.headers == expected


def test_the_same_over_udp(site: s.Site, reader: Reader) -> None:
    with s.Backend(reader) as backend:
        end = s.udp_server_end(site, backend, {"proxy": "v2"})
        with end.connect("127.0.0.7") as client:
            port = client.port.address[1]
            data = os.urandom(5_000)
            assert client.stream.echo(data) == data
            client.stream.close()
    assert reader.headers == [Header(("127.0.0.7", port), end.address, names(end.client.public))]


def test_ipv6_clients_are_told_as_ipv6(site: s.Site, reader: Reader) -> None:
    port = s.free_port()
    with s.Backend(reader) as backend:
        end = s.server_end(site, backend, {"proxy": "v2", "accept": f"curve_tun:[::]:{port}"})
        for host in ("::1", "127.0.0.1"):
            with ct.Client.connect((host, port), end.key, end.client) as client:
                assert client.session is not None
                assert client.session.echo(b"hello") == b"hello"
    hosts = [(header.source[0], header.destination) for header in reader.headers]
    assert hosts == [("::1", ("::1", port)), ("127.0.0.1", ("127.0.0.1", port))]


def test_a_key_without_a_name_has_none(site: s.Site, reader: Reader) -> None:
    with s.Backend(reader) as backend:
        end = s.server_end(site, backend, {"proxy": "v2", "allow": "*"})
        stranger = ct.KeyPair.generate()
        with end.connect(keys=stranger) as client:
            assert client.session is not None
            assert client.session.echo(b"hello") == b"hello"
    [header] = reader.headers
    assert header.values == {kind: text for kind, text in names(stranger.public).items() if kind != 0xE0}


def test_without_the_key_nothing_is_added(site: s.Site, echo_backend: s.Backend) -> None:
    end = s.server_end(site, echo_backend)
    end.check_honest()
    assert bytes(echo_backend.wait_done(0).data).startswith(b"echo")


# ---- from a front ----


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_behind_haproxy_the_clients_own_address_counts(
    site: s.Site, tmp_path: Path, reader: Reader, version: str
) -> None:
    port = s.free_port()
    with s.Backend(reader) as backend:
        end = s.server_end(site, backend, {"proxy": "v2", "proxy_from": FRONT})
        front = f"listen front\n    mode tcp\n    bind 127.0.0.1:{port}\n    server gate 127.0.0.1:{end.address[1]} "
        with haproxy(tmp_path, front + version):
            with ct.Client.connect(("127.0.0.1", port), end.key, end.client, VISITOR) as client:
                assert client.session is not None
                data = os.urandom(5_000)
                assert client.session.echo(data) == data
                visitor = f"{VISITOR}:{client.port}"
                end.daemon.wait_event("handshake_ok", src=f"^{re.escape(visitor)}$")
                # The application hears of the client, not of the front.
                assert reader.headers == [Header((VISITOR, client.port), ("127.0.0.1", port), names(end.client.public))]


def test_a_fronts_check_of_health_is_answered(site: s.Site, tmp_path: Path, echo_backend: s.Backend) -> None:
    port = s.free_port()
    end = s.server_end(site, echo_backend, {"proxy_from": FRONT})
    gate = f"server gate 127.0.0.1:{end.address[1]} send-proxy-v2 check inter 100ms"

    with haproxy(tmp_path, f"listen front\n    mode tcp\n    bind 127.0.0.1:{port}\n    {gate}"):
        time.sleep(0.5)  # some checks
        state = haproxy_says(tmp_path, "show servers state front").splitlines()[2].split()
        assert state[5] == "2", state  # up
        with ct.Client.connect(("127.0.0.1", port), end.key, end.client, VISITOR) as client:
            assert client.session is not None
            assert client.session.echo(b"hello") == b"hello"
    end.daemon.process.send_signal(signal.SIGUSR2)
    status = end.daemon.wait_event("status").fields
    assert int(status["accepted"]) >= 4, "the checks came"
    assert status["handshakes"] == "1" and not status["refused"], status  # and are no failures
    assert not end.daemon.events("handshake_reject")


def v2_header(source: tuple[str, int], destination: tuple[str, int] = ("127.0.0.1", 443)) -> bytes:
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    rest = addresses + struct.pack("!HH", source[1], destination[1])
    return SIGNATURE + b"\x21\x11" + struct.pack("!H", len(rest)) + rest


def v1_header(source: tuple[str, int]) -> bytes:
    return f"PROXY TCP4 {source[0]} 127.0.0.1 {source[1]} 443\r\n".encode()


def test_known_hosts_from_is_asked_about_the_client(site: s.Site, echo_backend: s.Backend) -> None:
    end = s.server_end(site, echo_backend, {"proxy_from": FRONT}, known=f"from={VISITOR}")
    for source, is_let_in in ((VISITOR, True), ("127.0.0.10", False), (FRONT, False)):
        since = end.daemon.mark()
        client = end.dial()
        client.frames.write(v2_header((source, 4_711)))
        client.handshake()
        assert client.session is not None
        if is_let_in:
            assert client.session.echo(b"hello") == b"hello"
        else:
            assert client.frames.wait_closed()[0]
            end.daemon.wait_event("handshake_reject", since=since, src=f"{source}:4711", reason="address")
        client.close()


def test_budgets_and_cookies_are_those_of_the_client(site: s.Site, echo_backend: s.Backend) -> None:
    end = s.server_end(site, echo_backend, {"proxy_from": FRONT}, half_open_per_source=2)

    def arrive(source: str) -> ct.Client:
        client = end.dial()
        client.frames.write(v1_header((source, 4_711)))
        client.frames.send(client.hello())
        return client

    waiting = [arrive(VISITOR) for _ in range(2)]
    for client in waiting:
        client.take_cookie()
    refused = arrive(VISITOR)
    assert refused.frames.wait_closed()[0]
    end.daemon.wait_event("handshake_reject", src=VISITOR, reason="too many unfinished handshakes from this address")
    other = arrive("127.0.0.10")
    other.take_cookie()
    other.frames.send(other.vouch())
    assert other.establish().echo(b"hello") == b"hello"
    for client in [*waiting, refused, other]:
        client.close()


def test_a_header_may_come_in_pieces(site: s.Site, echo_backend: s.Backend) -> None:
    end = s.server_end(site, echo_backend, {"proxy_from": FRONT})
    for header in (v1_header((VISITOR, 4_711)), v2_header((VISITOR, 4_711))):
        with end.dial() as client:
            for at in range(len(header)):
                client.frames.write(header[at : at + 1])
                time.sleep(0.002)
            assert client.handshake().echo(b"hello") == b"hello"
    assert len(end.daemon.events("handshake_ok", src=f"{VISITOR}:4711")) == 2


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"", "no whole PROXY header, or nothing after it, in time"),
        (v1_header((VISITOR, 1))[:-1], "no whole PROXY header, or nothing after it, in time"),
        (b"GET / HTTP/1.0\r\n\r\n", "does not begin with a PROXY header"),
        (b"PROXY TCP4 127.0.0.9 127.0.0.1 1\r\n", "PROXY header is malformed"),
        (SIGNATURE + b"\x21\x11\xff\xff", "PROXY header is too long"),
    ],
    ids=["nothing", "half", "http", "malformed", "long"],
)
def test_from_a_front_nothing_is_served_without_a_header(
    site: s.Site, echo_backend: s.Backend, first: bytes, reason: str
) -> None:
    end = s.server_end(site, echo_backend, {"proxy_from": FRONT}, hello_timeout="1s")
    with end.dial() as client:
        client.frames.write(first)
        assert client.frames.wait_closed()[1] == b""
        source = re.escape(f"{FRONT}:{client.port}")
    end.daemon.wait_event("handshake_reject", src=f"^{source}$", reason=reason)


def test_a_front_that_only_says_hello_is_refused(site: s.Site, echo_backend: s.Backend) -> None:
    end = s.server_end(site, echo_backend, {"proxy_from": FRONT})
    with end.dial() as client:
        client.frames.send(client.hello())
        assert client.frames.wait_closed()[1] == b""
    end.daemon.wait_event("handshake_reject", reason="does not begin with a PROXY header")


def test_others_are_served_without_a_header_and_cannot_bring_one(site: s.Site, echo_backend: s.Backend) -> None:
    end = s.server_end(site, echo_backend, {"proxy_from": f"{FRONT}, 192.0.2.0/24"})
    end.check_honest("127.0.0.8")
    since = end.daemon.mark()
    with end.dial("127.0.0.8") as liar:
        liar.frames.write(v2_header((VISITOR, 4_711)))
        liar.frames.send(liar.hello())
        assert liar.frames.wait_closed()[1] == b""
    rejected = end.daemon.wait_event("handshake_reject", since=since)
    assert rejected.fields["src"].startswith("127.0.0.8:")


# ---- the configuration ----


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"proxy": "v3"}, "proxy: .*v3.* is not none or v2"),
        ({"proxy": "v2", "connect": "udp:127.0.0.1:53"}, "proxy begins a stream"),
        ({"proxy_from": "127.0.0.1", "accept": "curvecp:127.0.0.1:4433"}, "proxy-from belongs to curve_tun:"),
        ({"proxy_from": "127.0.0.1, front.example"}, "front.example.* is not an address"),
        ({"proxy_from": "10.0.0.1/8"}, "10.0.0.1/8.* is not an address"),
        ({"proxy_from": ""}, "proxy-from"),
    ],
)
def test_what_makes_no_sense_is_refused(site: s.Site, more: dict[str, str], words: str) -> None:
    section = {"accept": "curve_tun:127.0.0.1:4433", "connect": "127.0.0.1:80", "allow": "laptop"} | more
    status, said = site.start_refused({"web": section})
    assert status == 78, said
    assert re.search(words, said), said


@pytest.mark.parametrize("key", ["proxy = v2", "proxy-from = 127.0.0.1"])
def test_a_client_end_has_neither(site: s.Site, key: str) -> None:
    name, value = key.split(" = ")
    section = {"client": "yes", "accept": "127.0.0.1:4711", "connect": "curve_tun:gate.example:4433", name: value}
    status, said = site.start_refused({"app": section})
    assert status == 78, said
    assert f"{name} belongs to a server end" in said
