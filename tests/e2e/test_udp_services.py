"""Addresses and services over UDP: families, names, several keys, several services on one port, both wires at once."""

from __future__ import annotations

from collections.abc import Callable

import curvecp as cp
import pytest
import support as s


def test_ipv6_at_every_place(make_site: Callable[[str], s.Site]) -> None:
    near, far = make_site("near"), make_site("far")
    with s.Backend(s.echo, host="::1") as backend:
        far.know("phone", near.key("client").public, "from=::1")
        port, local_port = s.free_port(), s.free_port()
        server = s.udp_server_end(far, backend, {"allow": "phone", "accept": f"curvecp:[::1]:{port}"})
        s.udp_client_end(near, ("::1", port), server.key, {"accept": f"[::1]:{local_port}"})
        with s.Local(("::1", local_port)) as local:
            assert local.echo(b"six") == b"six"
        opened = server.daemon.wait_event("handshake_ok", peer="phone")
        assert opened.fields["src"].startswith("[::1]:")


def test_two_colons_listen_on_both_families_and_from_sees_the_ipv4_address(
    site: s.Site, echo_backend: s.Backend
) -> None:
    port = s.free_port()
    gate = s.udp_server_end(site, echo_backend, {"accept": f"curvecp:[::]:{port}"}, known="from=127.0.0.0/8,::1")
    for host, source in (("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.3.2.1", "127.0.0.1")):
        gate.address = (host, port)
        gate.check_honest(source)  # the answers come from where the client sent to, or it would not take them


def test_a_host_name_is_resolved_when_dialling(make_site: Callable[[str], s.Site], echo_backend: s.Backend) -> None:
    near, far = make_site("near"), make_site("far")
    far.know("phone", near.key("client").public)
    server = s.udp_server_end(far, echo_backend, {"allow": "phone"})
    client = s.udp_client_end(near, ("localhost", server.address[1]), server.key)
    with client.open() as local:
        assert local.echo(b"by name") == b"by name"


def test_several_keys_of_one_name_are_tried_in_order(make_site: Callable[[str], s.Site]) -> None:
    near, far = make_site("near"), make_site("far")
    with s.Backend(s.echo) as backend:
        far.know("phone", near.key("client").public)
        server = s.udp_server_end(far, backend, {"allow": "phone"})
        near.know("gate", cp.KeyPair.generate().public)  # silent: nobody answers to it
        client = s.udp_client_end(near, server.address, server.key)
        for _ in range(2):
            with client.open() as local:
                assert local.echo(b"the second key") == b"the second key"
        assert not client.daemon.events("front_down")


def two_services(site: s.Site, one: s.Backend, two: s.Backend) -> tuple[s.Daemon, int, cp.KeyPair]:
    """`alpha` and `beta` on one port; `laptop` may use both, `tablet` beta only."""
    port = s.free_port()
    client, tablet = cp.KeyPair.generate(), cp.KeyPair.generate()
    site.know("laptop", client.public)
    site.know("tablet", tablet.public)
    accept = f"curvecp:127.0.0.1:{port}"
    services = {
        "alpha": {"accept": accept, "connect": one.address, "allow": "laptop"},
        "second": {"accept": accept, "connect": two.address, "allow": "laptop, tablet", "server_name": "beta.example"},
    }
    return site.start(services), port, client


def test_services_of_one_port_are_told_apart_by_name(site: s.Site) -> None:
    with s.Backend(s.source(b"one")) as one, s.Backend(s.source(b"two")) as two:
        daemon, port, client = two_services(site, one, two)
        key = site.key("server").public
        for name, expected in (("alpha", b"one"), ("beta.example", b"two"), ("alpha", b"one")):
            with cp.Client(("127.0.0.1", port), key, client, name) as connection:
                stream = connection.handshake()
                assert stream.recv_until_end() == expected
                stream.end()
        daemon.wait_event("handshake_ok", service="^alpha$")
        daemon.wait_event("handshake_ok", service="^second$")


@pytest.mark.parametrize("name", ["gamma", "Alpha", "alph", "alpha.alpha", "second", ""])
def test_an_unknown_name_is_met_by_silence(site: s.Site, echo_backend: s.Backend, name: str) -> None:
    _, port, client = two_services(site, echo_backend, echo_backend)
    with cp.Client(("127.0.0.1", port), site.key("server").public, client, name) as connection:
        connection.begin()
        with pytest.raises(TimeoutError):
            connection.establish(1.5)
    assert echo_backend.records == []
    with cp.Client(("127.0.0.1", port), site.key("server").public, client, "alpha") as connection:
        assert connection.handshake().echo(b"there") == b"there"


def test_a_client_of_one_service_is_not_let_into_its_neighbour(site: s.Site, echo_backend: s.Backend) -> None:
    port = s.free_port()
    tablet = cp.KeyPair.generate()
    site.know("laptop", cp.KeyPair.generate().public)
    site.know("tablet", tablet.public)
    accept, connect = f"curvecp:127.0.0.1:{port}", echo_backend.address
    services = {
        "alpha": {"accept": accept, "connect": connect, "allow": "laptop"},
        "beta": {"accept": accept, "connect": connect, "allow": "tablet"},
    }
    daemon = site.start(services)
    key = site.key("server").public
    with cp.Client(("127.0.0.1", port), key, tablet, "alpha") as connection:
        connection.begin()
        with pytest.raises(TimeoutError):
            connection.establish(1.5)
    assert echo_backend.records == []
    daemon.wait_event("handshake_reject", reason="client is not authorised")
    with cp.Client(("127.0.0.1", port), key, tablet, "beta") as connection:
        assert connection.handshake().echo(b"mine") == b"mine"


def test_a_star_as_server_name_takes_any_name(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.udp_server_end(site, echo_backend, {"server_name": "*"})
    for name in ("web", "anything.example", "x"):
        with gate.connect(name=name) as client:
            assert client.stream.echo(b"in") == b"in"


def test_extensions_are_checked_and_answered(make_site: Callable[[str], s.Site], echo_backend: s.Backend) -> None:
    site = make_site("site")
    server_ext, client_ext = bytes(range(16)), bytes(range(16, 32))
    gate = s.udp_server_end(site, echo_backend, {"server_extension": server_ext.hex()})
    with gate.dial() as client:
        client.send(client.hello())
        assert client.port.is_silent(0.5), "a hello without the server's extension is answered"
        client.ext = cp.Extensions(server_ext, client_ext)
        assert client.handshake().echo(b"in") == b"in"
    far = make_site("far")
    with cp.Server(cp.KeyPair.generate(), "web", server_ext) as server:
        server.serve(cp.echo_handler)
        both = {"server_extension": server_ext.hex(), "client_extension": client_ext.hex()}
        end = s.udp_client_end(far, server.address, server.keys.public, both)
        with end.open() as local:
            assert local.echo(b"out") == b"out"
            local.half_close()
            assert local.read_to_end() == (b"", "eof")
        assert server.accept().ext == cp.Extensions(server_ext, client_ext)


def test_tcp_and_udp_tunnels_live_in_one_daemon(site: s.Site, echo_backend: s.Backend) -> None:
    port = s.free_port()
    site.know("me", site.key("client").public)
    site.know("gate", site.key("server").public)
    services: dict[str, dict[str, object]] = {}
    for i, wire in enumerate(("curve_tun", "curvecp")):
        accept = f"{wire}:127.0.0.1:{port}"  # one number, two ports
        services[wire] = {"accept": accept, "connect": echo_backend.address, "allow": "me"}
        services[f"out-{wire}"] = {
            "client": "yes",
            "accept": f"127.0.0.1:{s.free_port()}",
            "connect": accept,
            "peer": "gate",
            "server_name": wire if wire == "curvecp" else None,
        }
    site.start(services)
    for wire in ("curve_tun", "curvecp"):
        local_port = int(str(services[f"out-{wire}"]["accept"]).rpartition(":")[2])
        with s.Local(("127.0.0.1", local_port)) as local:
            assert local.echo(wire.encode()) == wire.encode()


def test_a_udp_port_in_use_refuses_the_start_and_names_it(site: s.Site, echo_backend: s.Backend) -> None:
    with cp.Port() as taken:
        port = taken.address[1]
        service = {"accept": f"curvecp:127.0.0.1:{port}", "connect": echo_backend.address, "allow": "*"}
        code, said = site.start_refused({"web": service})
    assert code not in (0, 1) and code > 0
    assert f"127.0.0.1:{port}" in said and "in use" in said
    assert "refused.conf:" in said, "the line of the section is not named"
