"""What a reload changes, and what changes nothing."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s
from control_pair import CONFIG, UNAVAILABLE, Pair, backend, control, dropped, ends, pair, said, service, status  # noqa: F401


def test_a_reload_without_a_change_keeps_everything(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        done = control(ends.far, "reload")
        assert done.returncode == 0 and "nothing has changed" in said(done)
        assert status(ends.far)["generation"] == 2
        local.echo(b"after")


def test_a_reload_adds_changes_and_removes_services(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        port = s.free_port()
        more = {"accept": f"curve_tun:127.0.0.1:{port}", "connect": ends.backend.address, "allow": "phone"}
        ends.rewrite(ends.sections() | {"second": more})
        done = control(ends.far, "reload")
        assert done.returncode == 0 and f"+ service second at curve_tun:127.0.0.1:{port}" in said(done)
        keys = ends.near.key("client").pair()
        with ct.Client.connect(("127.0.0.1", port), ends.far.key("server").public, keys) as client:
            client.session.send(b"hello")
            assert client.session.recv() == b"hello"
        changed = ends.sections()
        changed["web"]["idle_timeout"] = "77s"
        ends.rewrite(changed)
        text = said(control(ends.far, "reload"))
        assert "~ service web" in text and "- service second" in text
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
        local.echo(b"after")
    with ends.client.open() as local:
        local.echo(b"new ones too")


def test_a_service_that_goes_and_comes_back(ends: Pair) -> None:
    """Its sessions end, and both sides are told."""
    other = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": ends.backend.address, "allow": "phone"}
    with ends.client.open() as local:
        local.echo(b"before")
        ends.rewrite({"other": other})
        assert "- service web" in said(control(ends.far, "reload"))
        dropped(local)
        s.until(lambda: status(ends.far)["connections"] == [], "nothing is left of it")
    ends.rewrite(ends.sections() | {"other": other})
    assert control(ends.far, "reload").returncode == 0
    with ends.client.open() as local:
        local.echo(b"back again")
    assert ends.server.terminate() == 0  # nothing waits for an end that cannot come


def test_a_service_of_datagrams_that_goes_leaves_no_session_behind(tmp_path: Path) -> None:
    with s.Backend(s.echo) as backend, pair("curvecp", tmp_path, backend) as ends:
        plain = s.free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as app:
            app.settimeout(20)
            app.bind(("127.0.0.1", 0))
            port = app.getsockname()[1]
            sections = ends.sections()
            sections["web"]["connect"] = f"udp:127.0.0.1:{port}"
            ends.rewrite(sections)
            assert control(ends.far, "reload").returncode == 0
            accept = {"client": "yes", "accept": f"udp:127.0.0.1:{plain}", "peer": "gate", "server_name": "web"}
            flow = accept | {"connect": f"curvecp:127.0.0.1:{ends.port}"}
            keep = {"client": "yes", "accept": f"127.0.0.1:{s.free_port()}", "peer": "gate"}
            keep |= {"connect": f"curvecp:127.0.0.1:{ends.port}", "server_name": "web"}
            ends.near.write_config({"keep": keep, "flow": flow})
            assert control(ends.near, "reload").returncode == 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as local:
                local.sendto(b"hello", ("127.0.0.1", plain))
                assert app.recv(100) == b"hello"
            assert service(ends.near, "flow")["sessions"] == 1
            ends.near.write_config({"keep": keep})
            assert control(ends.near, "reload").returncode == 0
            ends.near.write_config({"keep": keep, "flow": flow})
            assert control(ends.near, "reload").returncode == 0
            assert service(ends.near, "flow")["sessions"] == 0


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"connect": None}, "connect"),
        ({"accept": "curve_tun:127.0.0.1:99999"}, "99999"),
        ({"no_such_key": "1"}, "no-such-key"),
        ({"connect": "x" * 1_000_000}, "curvegate.conf:"),
    ],
)
def test_a_broken_configuration_changes_nothing(ends: Pair, broken: dict[str, Any], told: str) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        sections = ends.sections()
        sections["web"] |= broken
        ends.rewrite(sections)
        done = control(ends.far, "reload")
        assert done.returncode == CONFIG and told in said(done) and "curvegate.conf:" in said(done)
        ends.server.wait_event("reload_failed")
        assert status(ends.far)["generation"] == 1
        local.echo(b"after")
    with ends.client.open() as local:
        local.echo(b"new ones too")
    ends.rewrite()
    assert control(ends.far, "reload").returncode == 0


def test_a_broken_known_hosts_changes_nothing(ends: Pair) -> None:
    good = ends.far.known_hosts.read_text()
    ends.far.known_hosts.write_text(good + "phone curve25519 nonsense\n")
    done = control(ends.far, "reload")
    assert done.returncode == CONFIG and "known_hosts:2" in said(done)
    with ends.client.open() as local:
        local.echo(b"still allowed")


def test_an_address_that_is_taken_changes_nothing(ends: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        more = {"accept": f"curve_tun:127.0.0.1:{port}", "connect": ends.backend.address, "allow": "phone"}
        other = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": ends.backend.address, "allow": "phone"}
        ends.rewrite(ends.sections() | {"fine": other, "taken": more})
        done = control(ends.far, "reload")
        assert done.returncode == UNAVAILABLE and str(port) in said(done)
        with pytest.raises(ConnectionRefusedError):  # the other one was not kept open
            socket.create_connection(("127.0.0.1", int(other["accept"].rsplit(":", 1)[1])), 5)
        assert status(ends.far)["generation"] == 1


def test_hup_reloads_too(ends: Pair) -> None:
    ends.rewrite(ends.sections() | {"more": {"accept": f"curve_tun:127.0.0.1:{s.free_port()}"} | {"connect": "127.0.0.1:9", "allow": "phone"}})
    os.kill(ends.server.pid, signal.SIGHUP)
    ends.server.wait_event("reloaded", generation="2")
    assert len(status(ends.far)["services"]) == 2


def test_what_takes_a_restart_is_told(ends: Pair) -> None:
    ends.rewrite(workers=1)
    assert "! workers: changes after a restart only" in said(control(ends.far, "reload"))
    assert status(ends.far)["workers"] == 2


def test_a_front_that_dies_comes_back_with_the_configuration_in_force(ends: Pair) -> None:
    ends.rewrite(ends.sections() | {"more": {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "phone"}})
    assert control(ends.far, "reload").returncode == 0
    mark = ends.server.mark()
    os.kill(ends.server.front_pid, signal.SIGKILL)
    ends.server.wait_log(r" ready\b", since=mark)
    shown = status(ends.far)
    assert shown["generation"] == 2 and len(shown["services"]) == 2


def test_a_reload_under_many_connections_drops_none(tmp_path: Path, backend: s.Backend) -> None:
    count = s.scale(1000, 100)
    with pair("curve_tun", tmp_path, backend) as ends:
        locals_ = [ends.client.open() for _ in range(count)]
        for local in locals_:
            local.echo(b"before")
        for site in (ends.far, ends.near):
            assert control(site, "reload").returncode == 0
        for local in locals_:
            local.echo(b"after")
        assert service(ends.far, "web")["sessions"] == count
        for local in locals_:
            local.close()
