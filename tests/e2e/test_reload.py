"""Whose the sessions are after a reload, and by what they and those who are about to come are judged."""

from __future__ import annotations

import socket
import struct
from datetime import datetime, timedelta, timezone
from typing import Any

import curve_tun as ct
import curvecp as cp
import pytest
import support as s
from control_pair import Pair, backend, control, dropped, ends, said, service, status  # noqa: F401


def reload(site: s.Site, ended: int) -> str:
    done = control(site, "reload")
    assert done.returncode == 0 and f"sessions ended: {ended}" in said(done), said(done)
    return said(done)


def only(peer: str, ends: Pair) -> dict[str, Any]:
    """Adds a peer that nobody is, and gives the section's option that lets in that one alone."""
    ends.far.know(peer, ct.KeyPair.generate().public)
    return {"allow": peer}


def renamed(ends: Pair, **more: Any) -> dict[str, dict[str, Any]]:
    """The section `web` under the name `www`; who comes over udp still asks for `web`."""
    asked = {"server_name": "web"} if ends.wire == "curvecp" else {}
    return {"www": ends.sections()["web"] | asked | more}


def sections_of_client(ends: Pair, name: str = "app", **more: Any) -> dict[str, dict[str, Any]]:
    asked = {"server_name": "web"} if ends.wire == "curvecp" else {}
    accept = f"127.0.0.1:{ends.client.address[1]}"
    section = {"client": "yes", "accept": accept, "connect": f"{ends.wire}:127.0.0.1:{ends.port}", "peer": "gate"}
    return {name: section | asked | more}


def other_section(ends: Pair) -> dict[str, dict[str, Any]]:
    """So that a configuration without `web` still has a service."""
    accept = f"curve_tun:127.0.0.1:{s.free_port()}"
    return {"other": {"accept": accept, "connect": ends.backend.address, "allow": "phone"}}


# ---- a server end ----


def test_a_renamed_section_keeps_its_sessions_and_judges_them(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        ends.rewrite(renamed(ends))
        reload(ends.far, ended=0)
        local.echo(b"after")
        shown = status(ends.far)
        assert [(one["service"], one["sessions"], one["handshakes"]) for one in shown["services"]] == [("www", 1, 1)]
        assert [one["service"] for one in shown["connections"]] == ["www"]
        ends.rewrite(renamed(ends, **only("other", ends)))
        reload(ends.far, ended=1)
        dropped(local)
    ends.server.wait_event("session_close", service="www", reason="the key may not be used any more")
    s.until(lambda: service(ends.far, "www")["sessions"] == 0, "the session is counted no more")


def test_a_session_is_revoked_under_its_new_name_too(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        ends.rewrite(renamed(ends))
        reload(ends.far, ended=0)
        assert "sessions ended: 1" in said(control(ends.far, "revoke", "phone"))
        dropped(local)


def test_who_asks_for_a_name_that_is_gone_loses_the_session(ends: Pair) -> None:
    """Over udp clients ask for the section's name: renaming it turns them away. Over tcp they ask for nothing."""
    with ends.client.open() as local:
        local.echo(b"before")
        ends.rewrite({"www": ends.sections()["web"]})
        if ends.wire == "curve_tun":
            reload(ends.far, ended=0)
            local.echo(b"after")
        else:
            reload(ends.far, ended=1)
            dropped(local)


def test_a_section_that_goes_takes_its_sessions_with_it(ends: Pair) -> None:
    other = other_section(ends)
    ends.rewrite(ends.sections() | other)
    reload(ends.far, ended=0)
    with ends.client.open() as local:
        local.echo(b"before")
        ends.rewrite(other)
        reload(ends.far, ended=1)
        dropped(local)
    ends.server.wait_event("session_close", service="web", reason="a reload removed its service")
    s.until(lambda: status(ends.far)["connections"] == [], "nothing is left of it")


def test_the_places_of_sessions_that_a_reload_ended_go_back_once(ends: Pair) -> None:
    one = {"sessions_per_service": 1, "sessions_per_peer": 1, "sessions_per_source": 1}
    web = {"web": ends.sections()["web"] | one}
    other = other_section(ends)
    ends.rewrite(web | other, sessions=1)
    reload(ends.far, ended=0)
    for _ in range(3):
        with ends.client.open() as local:
            local.echo(b"the only one")
            with ends.client.open() as second:
                dropped(second)
            ends.rewrite(other, sessions=1)
            reload(ends.far, ended=1)
            dropped(local)
        ends.rewrite(web | other, sessions=1)
        reload(ends.far, ended=0)
    with ends.client.open() as local:
        local.echo(b"there is a place")
        assert service(ends.far, "web")["sessions"] == 1


def test_a_section_that_moves_keeps_its_sessions_over_tcp(ends: Pair) -> None:
    """Over udp the packets of a session come by the port that is closed."""
    with ends.client.open() as local:
        local.echo(b"before")
        moved = ends.sections()["web"] | {"accept": f"{ends.wire}:127.0.0.1:{s.free_port()}"}
        ends.rewrite({"web": moved})
        reload(ends.far, ended=0 if ends.wire == "curve_tun" else 1)
        if ends.wire == "curvecp":
            dropped(local)
            ends.server.wait_event("session_close", service="web", reason="a reload closed its port")
            return
        local.echo(b"after")
        ends.rewrite({"web": moved | only("other", ends)})
        reload(ends.far, ended=1)
        dropped(local)


def test_two_sections_that_change_places_keep_their_own_sessions(ends: Pair) -> None:
    if ends.wire == "curvecp":
        return  # a session cannot follow its section to another port
    other = other_section(ends)
    ends.rewrite(ends.sections() | other)
    reload(ends.far, ended=0)
    with ends.client.open() as local:
        local.echo(b"before")
        web, other_one = ends.sections()["web"], other["other"]
        swapped = {"web": web | {"accept": other_one["accept"]}, "other": other_one | {"accept": web["accept"]}}
        ends.rewrite(swapped)
        reload(ends.far, ended=0)
        local.echo(b"after")
        swapped["other"] |= only("stranger", ends)
        ends.rewrite(swapped)
        reload(ends.far, ended=0)
        local.echo(b"still of web")
        swapped["web"] |= {"allow": "stranger"}
        ends.rewrite(swapped)
        reload(ends.far, ended=1)
        dropped(local)


def test_a_udp_port_that_closes_leaves_the_sessions_over_tcp_of_its_section_alone(ends: Pair) -> None:
    if ends.wire == "curvecp":
        return  # it is about sessions over tcp
    with ends.client.open() as local:
        local.echo(b"before")
        web = ends.sections()["web"]
        for port in (s.free_port(), s.free_port()):
            ends.rewrite({"web": web | {"accept": f"curvecp:127.0.0.1:{port}"}})
            reload(ends.far, ended=0)
            local.echo(b"after")


# ---- a client end ----


def test_a_client_end_keeps_and_judges_the_sessions_of_a_renamed_section(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        ends.near.write_config(sections_of_client(ends, "renamed"))
        reload(ends.near, ended=0)
        local.echo(b"after")
        assert service(ends.near, "renamed")["sessions"] == 1
        ends.near.know("other", ct.KeyPair.generate().public)
        ends.near.write_config(sections_of_client(ends, "renamed", peer="other"))
        reload(ends.near, ended=1)
        dropped(local)
    ends.client.daemon.wait_event("session_close", service="renamed", reason="the key may not be used any more")


def test_a_client_end_that_goes_takes_its_sessions_with_it(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        keep = sections_of_client(ends, "keep", accept=f"127.0.0.1:{s.free_port()}")
        ends.near.write_config(keep)
        reload(ends.near, ended=1)
        dropped(local)
    ends.client.daemon.wait_event("session_close", service="app", reason="a reload removed its service")
    assert status(ends.near)["connections"] == []


def test_a_section_that_becomes_the_other_end_is_another_service(ends: Pair) -> None:
    """`client = yes` turned round: the sessions of the old end are not judged by a list of the new one."""
    with ends.client.open() as local:
        local.echo(b"before")
        port = ends.client.address[1]
        turned = {"accept": f"{ends.wire}:127.0.0.1:{port}", "connect": ends.backend.address, "allow": "*"}
        ends.near.key("server")
        keep = sections_of_client(ends, "keep", accept=f"127.0.0.1:{s.free_port()}")
        ends.near.write_config({"app": turned} | keep)
        reload(ends.near, ended=1)
        dropped(local)


# ---- those who are about to come ----


def test_a_pending_handshake_is_judged_by_the_section_as_it_is(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    site.know("other", ct.KeyPair.generate().public)
    section = {"accept": f"curve_tun:127.0.0.1:{gate.address[1]}", "connect": echo_backend.address}
    clients = [gate.dial() for _ in range(3)]
    for client in clients:
        client.begin()  # it has the cookie, and has not said yet who it is

    def refused(client: ct.Client) -> None:
        mark = gate.daemon.mark()
        client.frames.send(client.vouch())
        with pytest.raises((ct.Closed, OSError)):
            client.establish().recv()
        gate.daemon.wait_event("handshake_reject", since=mark, reason="client is not authorised")

    site.write_config({"web": section | {"allow": "other"}})
    reload(site, ended=0)
    refused(clients[0])
    site.write_config({"else": section | {"allow": "laptop", "accept": f"curve_tun:127.0.0.1:{s.free_port()}"}})
    reload(site, ended=0)
    refused(clients[1])
    assert echo_backend.records == []
    # A section that comes back is another one, but a renamed one is the same.
    site.write_config({"web": section | {"allow": "laptop"}})
    reload(site, ended=0)
    refused(clients[2])
    renamed = gate.dial()
    renamed.begin()
    site.write_config({"www": section | {"allow": "laptop"}})
    reload(site, ended=0)
    renamed.frames.send(renamed.vouch())
    session = renamed.establish()
    session.send(b"hello")
    assert session.recv() == b"hello"
    renamed.close()


def proxy_header(source: str) -> bytes:
    body = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 4000, 443)
    return b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11" + struct.pack("!H", len(body)) + body


@pytest.mark.parametrize("how", ["out of allow", "out of proxy-from", "removed"])
def test_a_proxy_header_that_is_awaited_is_judged_by_the_section_as_it_is(
    site: s.Site, echo_backend: s.Backend, how: str
) -> None:
    section: dict[str, Any] = {"proxy_from": "127.0.0.1"}
    gate = s.server_end(site, echo_backend, section, known="from=192.0.2.7")
    section |= {"accept": f"curve_tun:127.0.0.1:{gate.address[1]}", "connect": echo_backend.address, "allow": "laptop"}
    site.know("other", ct.KeyPair.generate().public)
    with socket.create_connection(gate.address) as plain:
        plain.sendall(proxy_header("192.0.2.7")[:10])
        s.until(lambda: service(site, "web")["accepted"] == 1, "the connection is accepted")
        if how == "out of allow":
            site.write_config({"web": section | {"allow": "other"}})
        elif how == "out of proxy-from":
            site.write_config({"web": section | {"proxy_from": "192.0.2.1"}})
        else:
            site.write_config({"else": section | {"accept": f"curve_tun:127.0.0.1:{s.free_port()}"}})
        reload(site, ended=0)
        plain.sendall(proxy_header("192.0.2.7")[10:])
        client = ct.Client(ct.Frames(plain), gate.key, gate.client)
        with pytest.raises((ct.Closed, OSError)):
            client.handshake().recv()
    why = {"out of allow": "allow list"}.get(how, "^the front is not in proxy-from any more$")
    gate.daemon.wait_event("handshake_reject", reason=why)
    assert echo_backend.records == []


def test_an_expiry_that_a_reload_brings_is_kept_in_time(site: s.Site, echo_backend: s.Backend) -> None:
    """Sessions are looked at every 5 s, the first time 5 s after this one began; an expiry does not wait."""
    gate = s.server_end(site, echo_backend)
    with gate.connect() as client:
        assert client.session is not None and client.session.echo(b"hello") == b"hello"
        moment = datetime.now(timezone.utc) + timedelta(seconds=1.5)
        line = f"valid-until={moment:%Y-%m-%dT%H:%M:%SZ} laptop curve25519 {s.b64(gate.client.public)}\n"
        site.known_hosts.write_text(line)
        reload(site, ended=0)
        with pytest.raises((ct.Closed, OSError)):
            client.session.recv()
        late = datetime.now(timezone.utc) - moment
        assert timedelta(seconds=-1.6) < late < timedelta(seconds=2.5)


# ---- flows of datagrams ----


def test_flows_go_on_under_a_new_name_and_end_with_their_section(ends: Pair) -> None:
    plain = s.free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as app, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as local:
        for sock in (app, local):
            sock.settimeout(s.PATIENCE)
            sock.bind(("127.0.0.1", 0))
        ends.rewrite({"web": ends.sections()["web"] | {"connect": f"udp:127.0.0.1:{app.getsockname()[1]}"}})
        reload(ends.far, ended=0)

        def near(name: str, **more: Any) -> None:
            keep = sections_of_client(ends, "keep")
            flow = sections_of_client(ends, name, accept=f"udp:127.0.0.1:{plain}", **more) if name else {}
            ends.near.write_config(keep | flow)

        def pass_one(data: bytes) -> None:
            local.sendto(data, ("127.0.0.1", plain))
            got, source = app.recvfrom(100)
            assert got == data
            app.sendto(data, source)
            assert local.recv(100) == data

        near("flow")
        reload(ends.near, ended=0)
        pass_one(b"before")
        near("renamed")
        reload(ends.near, ended=0)
        pass_one(b"after")
        assert service(ends.near, "renamed")["sessions"] == 1
        ends.near.know("other", ct.KeyPair.generate().public)
        near("renamed", peer="other")
        reload(ends.near, ended=1)
        assert service(ends.near, "renamed")["sessions"] == 0
        near("renamed")
        reload(ends.near, ended=0)
        pass_one(b"again")
        near("")
        reload(ends.near, ended=1)
        near("renamed")
        reload(ends.near, ended=0)
        assert service(ends.near, "renamed")["sessions"] == 0


# ---- keys of a port that services share ----


def test_the_extension_of_a_udp_port_is_changed_by_a_reload(site: s.Site, echo_backend: s.Backend) -> None:
    one, two = "11" * 16, "22" * 16
    gate = s.udp_server_end(site, echo_backend, {"server_extension": one})

    def client(extension: str) -> cp.Client:
        return cp.Client(
            gate.address, gate.key, gate.client, "web", cp.Extensions(bytes.fromhex(extension), bytes(16))
        )

    with client(one) as before:
        before.handshake()
        assert before.stream.echo(b"before") == b"before"
        section = {"accept": f"curvecp:127.0.0.1:{gate.address[1]}", "connect": echo_backend.address, "allow": "laptop"}
        site.write_config({"web": section | {"server_extension": two}})
        assert "~ service web" in reload(site, ended=0)
        kept = b"a session keeps the one that it began with"
        assert before.stream.echo(kept) == kept
        with client(two) as after:
            after.handshake()
            assert after.stream.echo(b"after") == b"after"
