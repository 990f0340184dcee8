"""Several targets in one service: failover, taking turns, passive health, and whose key must answer at which."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s

MakeSite = Callable[[str], s.Site]
WIRES = pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])


def says(name: str) -> s.Handler:
    return s.source(name.encode())


def command(site: s.Site, *words: str) -> tuple[int, str]:
    done = s.curvegate(*words, "-c", site.folder / "curvegate.conf")
    return done.returncode, (done.stdout + done.stderr).decode()


def targets(site: s.Site, service: str) -> dict[str, dict[str, Any]]:
    code, text = command(site, "status", "--json")
    assert code == 0, text
    found = next(one for one in json.loads(text)["services"] if one["service"] == service)
    return {one["target"]: one for one in found["targets"]}


class Web:
    """A server end whose service leads to several backends; each answers by its name."""

    def __init__(self, site: s.Site, connect: str, service: dict[str, Any] | None = None, **more: Any) -> None:
        self.site = site
        self.end = s.server_end(site, s.Backend(says("unused")), {"connect": connect} | (service or {}), **more)
        self.daemon = self.end.daemon

    def ask(self) -> str:
        """Which backend answers; empty if none does."""
        with self.end.connect() as client:
            assert client.session is not None
            try:
                answer = client.session.recv_until_end().decode()
                client.session.end()
            except ct.Closed:
                return ""
            return answer


def test_prio_moves_to_the_second_and_back_to_the_first(site: s.Site, tmp_path: Path) -> None:
    backend_a = s.Backend(says("A"))
    backend_b = s.Backend(says("B"), path=tmp_path / "b.sock")
    first, second = backend_a.address, backend_b.address
    web = Web(site, f"{first}, {second}", metrics=f"unix:{tmp_path}/metrics.sock")
    assert [web.ask() for _ in range(3)] == ["A", "A", "A"]
    assert web.daemon.wait_event("session_close").fields["target"] == first

    port = backend_a.port
    backend_a.close()
    since = web.daemon.mark()
    assert [web.ask() for _ in range(5)] == ["B"] * 5
    failed = web.daemon.wait_event("target_failed", since=since, target=first)
    assert "Connection refused" in failed.fields["reason"] and failed.fields["rests_s"] == "1"
    web.daemon.wait_event("session_close", since=since, target=r"b\.sock$")
    known = targets(site, "web")
    assert not known[first]["up"] and known[second]["up"]
    assert "(down)" in command(site, "status")[1]
    with socket.socket(socket.AF_UNIX) as metrics:
        metrics.connect(str(tmp_path / "metrics.sock"))
        metrics.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        page = b"".join(iter(lambda: metrics.recv(65_536), b"")).decode()
    assert f'curvegate_target_up{{service="web",target="{first}"}} 0' in page
    assert f'curvegate_target_up{{service="web",target="{second}"}} 1' in page

    with s.Backend(says("A"), port=port):
        s.until(lambda: web.ask() == "A", "the first target serves again", 90, 0.1)
        assert [web.ask() for _ in range(3)] == ["A", "A", "A"]
        web.daemon.wait_event("target_back", target=first)
        assert targets(site, "web")[first] == {"target": first, "up": True, "rests_s": 0}
    backend_b.close()


def test_rr_spreads_evenly_over_all_workers(site: s.Site) -> None:
    with s.Backend(says("A")) as a, s.Backend(says("B")) as b, s.Backend(says("C")) as c:
        web = Web(site, f"{a.address}\nconnect = {b.address}, {c.address}", {"failover": "rr"})
        assert Counter(web.ask() for _ in range(30)) == {"A": 10, "B": 10, "C": 10}
        b.close()
        answers = Counter(web.ask() for _ in range(12))
        assert set(answers) == {"A", "C"}, answers


def test_all_down_is_told_in_one_line(site: s.Site, tmp_path: Path) -> None:
    one, two = s.free_port(), s.free_port()
    web = Web(site, f"127.0.0.1:{one}, 127.0.0.1:{two}, unix:{tmp_path}/nobody.sock")
    assert web.ask() == ""
    reason = web.daemon.wait_event("connect_failed", service="web").fields["reason"]
    assert reason == (
        f"127.0.0.1:{one}: Connection refused: cannot connect; 127.0.0.1:{two}: Connection refused: cannot connect; "
        f"unix:{tmp_path}/nobody.sock: No such file or directory: cannot connect: no target answers"
    )
    assert len(web.daemon.events("connect_failed")) == 1


class BlackHole:
    """A listening socket whose queue is full: who connects hears nothing."""

    def __init__(self, path: Path | None) -> None:
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.listener.bind(str(path) if path else ("127.0.0.1", 0))
        self.listener.listen(0)
        name = self.listener.getsockname()
        self.address = f"unix:{path}" if path else f"127.0.0.1:{name[1]}"
        self.fillers = []
        for _ in range(4):
            filler = socket.socket(self.listener.family)
            filler.setblocking(False)
            filler.connect_ex(name)
            self.fillers.append(filler)

    def close(self) -> None:
        for sock in (*self.fillers, self.listener):
            sock.close()


@pytest.fixture(params=["tcp", "unix"])
def black_hole(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlackHole]:
    hole = BlackHole(tmp_path / "hole.sock" if request.param == "unix" else None)
    yield hole
    hole.close()


def test_a_black_hole_does_not_eat_the_time_of_the_others(site: s.Site, black_hole: BlackHole) -> None:
    with s.Backend(says("B")) as good:
        web = Web(site, f"{black_hole.address}, {good.address}", {"connect_timeout": "4s"})
        began = time.monotonic()
        assert web.ask() == "B"
        assert time.monotonic() - began >= 1.9, "it had its share"
        assert "no connection in time" in web.daemon.wait_event("target_failed").fields["reason"]
        # It rests, so the next ones do not ask it.
        since = web.daemon.mark()
        assert web.ask() == "B"
        assert not web.daemon.events("target_failed", since=since)


def test_a_proxy_header_goes_to_the_target_that_answers(site: s.Site) -> None:
    with s.Backend(s.echo) as good:
        web = Web(site, f"127.0.0.1:{s.free_port()}, {good.address}", {"proxy": "v2"})
        with web.end.connect() as client:
            record = good.wait_records(1)[0]
            s.until(lambda: len(record.data) >= 16, "the header")
            assert bytes(record.data[:12]) == b"\r\n\r\n\0\r\nQUIT\n"
            assert client.session is not None


# ---- a client end over two servers ----


class Servers:
    """Two servers on addresses and with keys of their own, and a client end over both."""

    def __init__(self, wire: str, make_site: MakeSite, pins: dict[str, int] | None = None, **more: Any) -> None:
        self.near = make_site("near")
        self.hosts = ["127.0.0.1", "127.0.0.2"]
        self.sites = [make_site("one"), make_site("two")]
        self.ports = [s.free_port(), s.free_port()]
        self.backends = [s.Backend(says("A")), s.Backend(says("B"))]
        self.wire = wire
        self.daemons = [self.start_server(index) for index in range(2)]
        for index, host in enumerate(self.hosts):
            owner = (pins or {}).get(host, index)
            self.near.know(host, self.sites[owner].key("server").public)
        self.plain = s.free_port()
        section = {"client": "yes", "accept": f"127.0.0.1:{self.plain}", "connect": ", ".join(self.targets)}
        section |= {"server_name": "web"} if wire == "curvecp" else {}
        self.client = self.near.start({"app": section}, connect_timeout="4s", **more)

    @property
    def targets(self) -> list[str]:
        return [f"{self.wire}:{host}:{port}" for host, port in zip(self.hosts, self.ports)]

    def start_server(self, index: int) -> s.Daemon:
        site = self.sites[index]
        if "phone" not in site.peers:
            site.know("phone", self.near.key("client").public)
        accept = f"{self.wire}:{self.hosts[index]}:{self.ports[index]}"
        return site.start({"web": {"accept": accept, "connect": self.backends[index].address, "allow": "phone"}})

    def ask(self) -> str:
        with s.Local(("127.0.0.1", self.plain), timeout=60) as local:
            data, _ = local.read_to_end()
            return data.decode()

    def close(self) -> None:
        for backend in self.backends:
            backend.close()


@WIRES
def test_a_client_end_moves_to_the_other_server_and_back(wire: str, make_site: MakeSite) -> None:
    servers = Servers(wire, make_site)
    assert [servers.ask(), servers.ask()] == ["A", "A"]
    assert servers.daemons[0].terminate() == 0
    since = servers.client.mark()
    assert servers.ask() == "B"
    servers.client.wait_event("target_failed", since=since)
    done = servers.client.wait_event("handshake_ok", since=since)
    assert done.fields["peer"] == "127.0.0.2"
    assert done.fields["target"] == servers.targets[1]
    assert [servers.ask() for _ in range(2)] == ["B", "B"]
    servers.start_server(0)
    s.until(lambda: servers.ask() == "A", "the first server serves again", 90, 0.1)
    servers.close()


@WIRES
def test_a_key_is_good_at_its_own_target_only(wire: str, make_site: MakeSite) -> None:
    servers = Servers(wire, make_site, pins={"127.0.0.1": 1, "127.0.0.2": 0})
    assert servers.ask() == ""
    reason = servers.client.wait_event("connect_failed").fields["reason"]
    assert "127.0.0.1" in reason and "127.0.0.2" in reason and reason.endswith("no target answers")
    assert not servers.client.events("handshake_ok")
    for daemon in servers.daemons:
        assert not daemon.events("handshake_ok")
    servers.close()


@WIRES
def test_the_wrong_key_at_one_server_leaves_the_other(wire: str, make_site: MakeSite) -> None:
    servers = Servers(wire, make_site, pins={"127.0.0.1": 1})
    assert [servers.ask() for _ in range(3)] == ["B"] * 3
    assert not servers.daemons[0].events("handshake_ok")

    code, text = command(servers.near, "probe", "app")
    assert code == 0, text
    assert ("wrong key for 127.0.0.1" if wire == "curve_tun" else "no answer: wrong key") in text
    assert "accepted: the server keeps the connection" in text.split("target: ")[2], text
    assert "targets: 1 of 2 serve" in text
    if wire == "curve_tun":  # over udp it would wait for its time once more
        servers.daemons[1].terminate()
        code, text = command(servers.near, "probe", "app")
        assert code == 1 and "targets: 0 of 2 serve" in text, text
    servers.close()


def test_check_tells_each_target_and_whose_key_is_expected(make_site: MakeSite) -> None:
    servers = Servers("curve_tun", make_site)
    code, text = command(servers.near, "check")
    assert code == 0, text
    for target, host in zip(servers.targets, servers.hosts):
        assert f"{target}, where {host} must answer" in text
    for host in servers.hosts:
        code, text = command(servers.near, "check", "--peer", host, "--service", "app")
        assert code == 0 and "allowed to answer" in text, text
    servers.near.peers.pop("127.0.0.2")
    servers.near.write_known_hosts()
    code, text = command(servers.near, "check")
    assert code == 78 and 'peer: "127.0.0.2" is not in' in text, text
    servers.close()


def test_a_reload_changes_targets_and_leaves_sessions(make_site: MakeSite) -> None:
    near = make_site("near")
    one, two = s.Backend(s.echo), s.Backend(says("B"))
    web = Web(near, one.address)
    with web.end.connect() as client:
        assert client.session is not None and client.session.echo(b"before") == b"before"
        section = {"accept": f"curve_tun:127.0.0.1:{web.end.address[1]}", "allow": "laptop"}
        near.write_config({"web": section | {"connect": f"{two.address}, {one.address}"}})
        code, text = command(near, "reload")
        assert code == 0 and "~ service web" in text, text
        assert client.session.echo(b"after") == b"after"
        assert web.ask() == "B"
        assert list(targets(near, "web")) == [two.address, one.address]
    one.close()
    two.close()


def test_datagrams_have_targets_too(make_site: MakeSite) -> None:
    """A flow stays with its server and its backend; the next one goes to the other."""
    near, far = make_site("near"), make_site("far")
    far.know("phone", near.key("client").public)
    near.know("gate", far.key("server").public)
    apps = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for app in apps:
        app.bind(("127.0.0.1", 0))
        app.settimeout(s.PATIENCE)
    port, plain = s.free_port(), s.free_port()
    connect = ", ".join(f"udp:127.0.0.1:{app.getsockname()[1]}" for app in apps)
    far.start({"dns": {"accept": f"curvecp:127.0.0.1:{port}", "connect": connect, "allow": "phone", "failover": "rr"}})
    dead = s.free_port()
    section = {"client": "yes", "accept": f"udp:127.0.0.1:{plain}", "peer": "gate", "connect_timeout": "4s"}
    client = near.start({"dns": section | {"connect": f"curvecp:127.0.0.1:{dead}, curvecp:127.0.0.1:{port}"}})
    users = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for user, app in zip(users, apps):
        user.settimeout(s.PATIENCE)
        for _ in range(2):
            data = os.urandom(100)
            user.sendto(data, ("127.0.0.1", plain))
            got, source = app.recvfrom(65_536)
            assert got == data
            app.sendto(data[::-1], source)
            assert user.recv(65_536) == data[::-1]
    client.wait_event("target_failed", target=f"127.0.0.1:{dead}")
    for sock in (*users, *apps):
        sock.close()
