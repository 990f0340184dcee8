"""Who may not come in, and what is not there: names, backends, server ends, ports, key files."""

from __future__ import annotations

import os
from collections.abc import Callable

import curve_tun as ct
import pytest
import support as s


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ("@revoked", "revoked"),
        ("valid-until=2020-01-01", "expired"),
        ("valid-until=2020-01-01T00:00:00+02:00", "expired"),
        ("from=10.0.0.0/8", "address"),
        ("from=127.0.0.2,::1", "address"),
    ],
)
def test_a_line_of_known_hosts_that_forbids_is_heeded(
    site: s.Site, echo_backend: s.Backend, known: str, reason: str
) -> None:
    gate = s.server_end(site, echo_backend, known=known)
    with gate.connect() as client:
        assert client.frames.wait_closed()[1] == b""
    gate.daemon.wait_event("handshake_reject", reason=f"{reason}.*client is not authorised")
    assert echo_backend.records == []


def test_from_lets_in_whom_it_names(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, known="from=127.9.0.0/16 valid-until=2999-12-31")
    gate.check_honest(source="127.9.1.1")
    with gate.connect() as client:
        assert client.frames.wait_closed()[1] == b""


def test_a_revoked_line_beats_every_other_line_of_that_key(site: s.Site, echo_backend: s.Backend) -> None:
    gate_client = ct.KeyPair.generate()
    site.know("friend", gate_client.public)
    site.know("gone", gate_client.public, "@revoked")
    gate = s.server_end(site, echo_backend, {"allow": "friend, gone, laptop"})
    with gate.connect(keys=gate_client) as client:
        assert client.frames.wait_closed()[1] == b""
    gate.daemon.wait_event("handshake_reject", reason="revoked")


def test_nobody_is_allowed_unless_named_and_a_star_allows_any_but_the_revoked(
    site: s.Site, echo_backend: s.Backend
) -> None:
    revoked = ct.KeyPair.generate()
    site.know("gone", revoked.public, "@revoked")
    gate = s.server_end(site, echo_backend, {"allow": "*"})
    with gate.connect(keys=ct.KeyPair.generate()) as stranger:
        assert stranger.session is not None
        assert stranger.session.echo(b"in") == b"in"
    with gate.connect(keys=revoked) as client:
        assert client.frames.wait_closed()[1] == b""


# ---- what is not there ----


def test_names_that_do_not_resolve_are_not_fatal_at_start(make_site: Callable[[str], s.Site]) -> None:
    site = make_site("site")
    site.know("gate", ct.KeyPair.generate().public)
    port, tunnel_port = s.free_port(), s.free_port()
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    services = {
        "out": {
            "client": "yes",
            "accept": f"127.0.0.1:{port}",
            "connect": "curve_tun:no-such-host.invalid:4433",
            "peer": "gate",
        },
        "in": {"accept": f"curve_tun:127.0.0.1:{tunnel_port}", "connect": "no-such-host.invalid:80", "allow": "laptop"},
    }
    daemon = site.start(services, connect_timeout="3s")
    reason = "no-such-host.invalid.*(name does not resolve|no connection in time)"
    with s.Local(("127.0.0.1", port)) as local:
        assert local.read_to_end() == (b"", "reset")
        daemon.wait_event("connect_failed", service="^out$", reason=reason)
    with ct.Client.connect(("127.0.0.1", tunnel_port), site.key("server").public, client) as connection:
        assert connection.frames.wait_closed()[1] == b""
        daemon.wait_event("connect_failed", service="^in$", reason=reason)


def test_names_are_resolved_when_dialling(make_site: Callable[[str], s.Site], echo_backend: s.Backend) -> None:
    near, far = make_site("near"), make_site("far")
    far.know("phone", near.key("client").public)
    server = s.server_end(far, echo_backend, {"allow": "phone", "connect": f"localhost:{echo_backend.port}"})
    client = s.client_end(near, ("localhost", server.address[1]), server.key)
    with client.open() as local:
        assert local.echo(b"by name") == b"by name"


def test_a_backend_that_is_down_is_told_and_the_local_side_reset(
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_tunnel(echo_backend)
    with tunnel.open() as local:
        assert local.echo(b"up") == b"up"
    port = echo_backend.port
    echo_backend.close()
    with tunnel.open() as local:
        assert local.read_to_end() == (b"", "reset")
    tunnel.server.daemon.wait_event(
        "connect_failed", service="web", reason=f"127.0.0.1:{port}.*refused.*cannot connect"
    )
    with s.Backend(s.echo, port=port), tunnel.open() as local:
        assert local.echo(b"up again") == b"up again"


def test_a_server_end_that_is_down_is_told_and_the_local_side_reset(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        address = server.address
    end = s.client_end(site, address, server.keys.public)
    with end.open() as local:
        assert local.read_to_end() == (b"", "reset")
    end.daemon.wait_event("connect_failed", service="app", reason="refused.*cannot connect")
    with ct.Server(server.keys, port=address[1]) as again:
        again.serve(ct.echo_handler)
        with end.open() as local:
            assert local.echo(b"there now") == b"there now"


def test_a_port_in_use_refuses_the_start_and_names_it(site: s.Site, echo_backend: s.Backend) -> None:
    service = {"accept": f"curve_tun:127.0.0.1:{echo_backend.port}", "connect": "127.0.0.1:9", "allow": "*"}
    code, said = site.start_refused({"web": service})
    assert code not in (0, 1) and code > 0
    assert f"127.0.0.1:{echo_backend.port}" in said and "in use" in said
    assert "refused.conf:" in said, "the line of the section is not named"


def test_a_port_of_another_curvegate_is_in_use_too(make_site: Callable[[str], s.Site], echo_backend: s.Backend) -> None:
    """Workers share a port among themselves, not with strangers."""
    gate = s.server_end(make_site("first"), echo_backend)
    service = {"accept": f"curve_tun:127.0.0.1:{gate.address[1]}", "connect": "127.0.0.1:9", "allow": "*"}
    code, said = make_site("second").start_refused({"web": service})
    assert code != 0 and "in use" in said
    gate.check_honest()


@pytest.mark.parametrize("fault", ["missing", "open to others", "a folder", "not a key file", "of the other role"])
def test_a_key_file_that_cannot_be_used_refuses_the_start_and_names_it(site: s.Site, fault: str) -> None:
    key = site.key("server").path
    if fault == "missing":
        key.unlink()
    elif fault == "open to others":
        key.chmod(0o644)
    elif fault == "a folder":
        key.unlink()
        key.mkdir()
    elif fault == "not a key file":
        key.write_text("hello\n")
    else:
        key.write_bytes(site.key("client").path.read_bytes())
    service = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "*"}
    code, said = site.start_refused({"web": service})
    assert code in (65, 66, 77, 78), said
    assert str(key) in said
    if fault == "open to others":
        assert "chmod 600" in said


def test_an_unreadable_key_file_refuses_the_start(nobody_site: s.Site) -> None:
    """As another user than the key's owner."""
    service = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "*"}
    config = nobody_site.write_config({"web": service}, control=None)
    config.chmod(0o644)
    os.chown(nobody_site.known_hosts, 65534, 65534)
    done = s.run([*s.AS_NOBODY, s.binary("curvegated"), "-c", str(config)])
    said = done.stderr.decode()
    assert done.returncode in (66, 77), said
    assert str(nobody_site.key("server").path) in said and "ermission denied" in said
