"""The plain sides of tunnels: resets, urgent bytes, unix sockets, addresses, several services in one daemon."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import curve_tun as ct
import pytest
import support as s


@pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])
def test_a_reply_that_comes_before_a_reset_is_not_lost(
    make_tunnel: Callable[..., s.Tunnel], make_udp_tunnel: Callable[..., s.UdpTunnel], wire: str
) -> None:
    """A web server that answers 413 in the midst of an upload, and closes."""
    reply = b"HTTP/1.1 413 Content Too Large\r\n\r\n" + os.urandom(20_000)

    def refuse(record: s.Record) -> None:
        record.take(record.sock.recv(1_000))
        record.sock.sendall(reply)
        record.sock.close()  # a reset: most of what has come is unread

    def upload(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.sendall(bytes(8 << 20))

    with s.Backend(refuse) as backend:
        tunnel = make_tunnel(backend) if wire == "curve_tun" else make_udp_tunnel(backend)
        for _ in range(20):
            with tunnel.open() as local:
                sender = threading.Thread(target=upload, args=(local.sock,))
                sender.start()
                got, _ = local.read_to_end()
                sender.join(s.PATIENCE)
                assert got == reply


@pytest.mark.parametrize("side", ["local", "backend"])
def test_an_urgent_byte_stays_where_it_is(make_tunnel: Callable[..., s.Tunnel], side: str) -> None:
    with s.Backend(s.hold) as backend:
        tunnel = make_tunnel(backend)
        with tunnel.open() as local:
            far = backend.wait_records(1)[0]
            first, second = (local.sock, far.sock) if side == "local" else (far.sock, local.sock)
            second.settimeout(s.PATIENCE)
            first.sendall(b"before ")
            first.send(b"!", socket.MSG_OOB)
            first.sendall(b" after")
            first.shutdown(socket.SHUT_WR)
            got = b""
            while part := second.recv(100):
                got += part
            assert got == b"before ! after"
        far.done.set()


def test_unix_sockets_on_both_plain_sides(make_site: Callable[[str], s.Site], tmp_path: Path) -> None:
    near, far = make_site("near"), make_site("far")
    with s.Backend(s.echo, path=tmp_path / "back.sock") as backend:
        far.know("phone", near.key("client").public)
        server = s.server_end(far, backend, {"allow": "phone"})
        path = tmp_path / "front.sock"
        client = s.client_end(near, server.address, server.key, {"accept": f"unix:{path}"})
        with s.Local(str(path)) as local:
            data = os.urandom(300_000)
            sender = threading.Thread(target=local.send, args=(data,))
            sender.start()
            assert local.recv_exactly(len(data)) == data
            sender.join()
            local.half_close()
            assert local.read_to_end() == (b"", "eof")
        client.daemon.stop()
        assert not path.exists(), "the socket file stays behind"


def test_a_second_daemon_leaves_the_socket_file_of_a_living_one_alone(
    make_site: Callable[[str], s.Site], tmp_path: Path
) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(ct.echo_handler)
        path = tmp_path / "app.sock"
        first = make_site("first")
        s.client_end(first, server.address, server.keys.public, {"accept": f"unix:{path}"})
        second = make_site("second")
        second.know("gate", server.keys.public)
        target = f"curve_tun:127.0.0.1:{server.address[1]}"
        services = {
            "other": {"client": "yes", "accept": f"127.0.0.1:{s.free_port()}", "connect": target, "peer": "gate"},
            "app": {"client": "yes", "accept": f"unix:{path}", "connect": target, "peer": "gate"},
        }
        code, said = second.start_refused(services)
        assert code != 0 and str(path) in said and "in use" in said
        with s.Local(str(path)) as local:
            assert local.echo(b"still mine") == b"still mine"


def test_a_socket_file_left_by_a_crash_is_taken_over(make_site: Callable[[str], s.Site], tmp_path: Path) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(ct.echo_handler)
        path = tmp_path / "app.sock"
        leftover = socket.socket(socket.AF_UNIX)
        leftover.bind(str(path))
        leftover.close()
        s.client_end(make_site("site"), server.address, server.keys.public, {"accept": f"unix:{path}"})
        with s.Local(str(path)) as local:
            assert local.echo(b"taken over") == b"taken over"


def test_a_file_that_is_no_socket_is_not_removed(make_site: Callable[[str], s.Site], tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    site = make_site("site")
    site.know("gate", ct.KeyPair.generate().public)
    service = {"client": "yes", "accept": f"unix:{path}", "connect": "curve_tun:127.0.0.1:9", "peer": "gate"}
    code, said = site.start_refused({"app": service})
    assert code != 0 and str(path) in said
    assert path.read_text() == "data"


def test_ipv6_at_every_place(make_site: Callable[[str], s.Site]) -> None:
    near, far = make_site("near"), make_site("far")
    with s.Backend(s.echo, host="::1") as backend:
        far.know("phone", near.key("client").public, "from=::1")
        port = s.free_port()
        server = s.server_end(far, backend, {"allow": "phone", "accept": f"curve_tun:[::1]:{port}"})
        local_port = s.free_port()
        s.client_end(near, ("::1", port), server.key, {"accept": f"[::1]:{local_port}"})
        with s.Local(("::1", local_port)) as local:
            assert local.echo(b"six") == b"six"
        opened = server.daemon.wait_event("handshake_ok", peer="phone")
        assert opened.fields["src"].startswith("[::1]:")


def test_two_colons_listen_on_both_families_and_from_sees_the_ipv4_address(
    site: s.Site, echo_backend: s.Backend
) -> None:
    port = s.free_port()
    gate = s.server_end(site, echo_backend, {"accept": f"curve_tun:[::]:{port}"}, known="from=127.0.0.0/8,::1")
    for host in ("127.0.0.1", "::1"):
        gate.address = (host, port)
        gate.check_honest()


def test_several_services_in_one_daemon(make_site: Callable[[str], s.Site]) -> None:
    """Two server ends, a client end to each, all in one process family, with one key of each role."""
    site = make_site("site")
    with s.Backend(s.source(b"one")) as one, s.Backend(s.source(b"two")) as two:
        site.know("me", site.key("client").public)
        site.know("gate", site.key("server").public)
        ports = [s.free_port() for _ in range(4)]
        services = {}
        for i, backend in enumerate((one, two)):
            services[f"in{i}"] = {"accept": f"curve_tun:127.0.0.1:{ports[i]}", "connect": backend.address, "allow": "me"}
            services[f"out{i}"] = {
                "client": "yes",
                "accept": f"127.0.0.1:{ports[2 + i]}",
                "connect": f"curve_tun:127.0.0.1:{ports[i]}",
                "peer": "gate",
            }
        daemon = site.start(services)
        assert len(daemon.events("listening")) == 4
        for i, expected in enumerate((b"one", b"two")):
            with s.Local(("127.0.0.1", ports[2 + i])) as local:
                local.half_close()
                assert local.read_to_end() == (expected, "eof")


def test_a_client_of_one_service_is_not_let_into_another(
    make_site: Callable[[str], s.Site], echo_backend: s.Backend
) -> None:
    site = make_site("site")
    tablet = ct.KeyPair.generate()
    site.know("tablet", tablet.public)
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    ports = [s.free_port(), s.free_port()]
    accept = [{"accept": f"curve_tun:127.0.0.1:{port}", "connect": echo_backend.address} for port in ports]
    daemon = site.start({"a": accept[0] | {"allow": "laptop"}, "b": accept[1] | {"allow": "tablet"}})
    server = site.key("server").public
    for port, keys, good in ((ports[0], client, True), (ports[1], client, False), (ports[1], tablet, True)):
        with ct.Client.connect(("127.0.0.1", port), server, keys) as connection:
            assert connection.session is not None
            if good:
                assert connection.session.echo(b"in") == b"in"
            else:
                assert connection.frames.wait_closed()[1] == b""
    daemon.wait_event("handshake_reject", service="b", reason="laptop.*client is not authorised")
