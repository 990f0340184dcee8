"""How many sessions may be at once: of an address, of a service and in all, on both wires and at both ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import curve_tun as ct
import curvecp as cp
import pytest
import support as s

LAPTOP, TABLET = ct.KeyPair.generate(), ct.KeyPair.generate()


@dataclass
class Gate:
    """A server end with the services `web` and `mail`, and clients of our own that stay."""

    site: s.Site
    wire: str
    backend: s.Backend
    ports: dict[str, int]
    options: dict[str, Any] = field(default_factory=dict)
    inside: list[ct.Client | cp.Client] = field(default_factory=list)

    def sections(self) -> dict[str, dict[str, Any]]:
        common = {"connect": self.backend.address, "allow": "laptop, tablet"}
        return {
            "web": {"accept": f"{self.wire}:127.0.0.1:{self.ports['web']}"} | common | self.options,
            "mail": {"accept": f"{self.wire}:127.0.0.1:{self.ports['mail']}"} | common,
        }

    def comes(self, keys: ct.KeyPair = LAPTOP, source: str = "127.0.0.1", service: str = "web") -> bool:
        """Is one more client let in? Then it stays."""
        address, server = ("127.0.0.1", self.ports[service]), self.site.key("server").public
        if self.wire == "curvecp":
            return self._comes_over_udp(cp.Client(address, server, keys, service, source=source))
        client = ct.Client.connect(address, server, keys, source)
        try:
            assert client.session is not None
            assert client.session.echo(b"in") == b"in"
        except (ct.Closed, OSError):
            client.close()
            return False
        self.inside.append(client)
        return True

    def _comes_over_udp(self, client: cp.Client) -> bool:
        client.begin()
        try:
            client.establish(1)
            assert client.stream.echo(b"in") == b"in"
        except (TimeoutError, ct.ProtocolError):  # silence; or a failure, where the application is not there
            client.close()
            return False
        self.inside.append(client)
        return True

    def goes(self) -> None:
        """The last that came ends its session."""
        client = self.inside.pop()
        if isinstance(client, cp.Client):
            client.stream.close()
        client.close()

    def command(self, *words: str) -> str:
        done = s.run([s.binary("curvegate"), *words, "-c", str(self.site.folder / "curvegate.conf")], timeout=30)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.command("status", "--json"))
        return found

    def reload(self, **more: Any) -> None:
        self.site.write_config(self.sections(), **more)
        self.command("reload")


MakeGate = Callable[..., Gate]


@pytest.fixture(params=["curve_tun", "curvecp"])
def make_gate(request: pytest.FixtureRequest, site: s.Site, echo_backend: s.Backend) -> Iterator[MakeGate]:
    site.know("laptop", LAPTOP.public)
    site.know("tablet", TABLET.public)
    made: list[Gate] = []

    def make(options: dict[str, Any] | None = None, **more: Any) -> Gate:
        ports = {"web": s.free_port(), "mail": s.free_port()}
        made.append(Gate(site, request.param, echo_backend, ports, options or {}))
        site.start(made[0].sections(), drain_timeout="300ms", **more)
        return made[0]

    yield make
    for client in made[0].inside:
        client.close()
    site.daemons[0].expected_exits = {0, 1}  # over UDP nobody says goodbye


def refused_by(gate: Gate, key: str) -> None:
    daemon = gate.site.daemons[0]
    daemon.wait_event("handshake_reject", reason=rf"\({key}\)")
    assert any(key in reason for reason in gate.status()["refusals"]), gate.status()["refusals"]


def test_an_address_has_so_many_sessions_whatever_its_keys(make_gate: MakeGate) -> None:
    gate = make_gate(sessions_per_source=3)
    assert gate.comes(LAPTOP) and gate.comes(TABLET) and gate.comes(LAPTOP, service="mail")
    assert not gate.comes(TABLET)
    assert not gate.comes(LAPTOP, service="mail")
    refused_by(gate, "sessions-per-source")
    assert gate.comes(TABLET, "127.0.0.2")
    gate.goes()
    gate.goes()
    s.until(lambda: gate.comes(TABLET), "room for one more after one has ended")
    assert not gate.comes(TABLET)


def test_a_service_has_so_many_sessions(make_gate: MakeGate) -> None:
    gate = make_gate({"sessions_per_service": 2})
    assert gate.comes(LAPTOP) and gate.comes(TABLET, "127.0.0.2")
    assert not gate.comes(LAPTOP, "127.0.0.3")
    refused_by(gate, "sessions-per-service")
    assert all(gate.comes(LAPTOP, service="mail") for _ in range(3))
    for _ in range(4):
        gate.goes()
    s.until(gate.comes, "room for one more after one has ended")


def test_all_services_have_so_many_sessions_together_and_a_reload_sets_how_many(make_gate: MakeGate) -> None:
    gate = make_gate(sessions=2)
    assert gate.comes(LAPTOP) and gate.comes(TABLET, "127.0.0.2", "mail")
    assert not gate.comes(LAPTOP, "127.0.0.3", "mail")
    refused_by(gate, "sessions")
    gate.reload(sessions=3)
    assert gate.comes(LAPTOP, "127.0.0.3", "mail")
    assert not gate.comes(LAPTOP)
    gate.reload(sessions=1)  # those who are in stay
    assert gate.status()["limits"]["sessions"] == 1
    assert sum(service["sessions"] for service in gate.status()["services"]) == 3


def test_who_is_refused_leaves_nothing_counted(make_gate: MakeGate) -> None:
    """Strangers, and those who are let in and find no application."""
    gate = make_gate({"sessions_per_service": 1}, sessions_per_source=1)
    assert not gate.comes(ct.KeyPair.generate())
    gate.options["connect"] = f"127.0.0.1:{s.free_port()}"
    gate.reload(sessions_per_source=1)
    assert not gate.comes()
    gate.site.daemons[0].wait_event("connect_failed")
    gate.options.pop("connect")
    gate.reload(sessions_per_source=1)
    s.until(gate.comes, "the place is free again")
    assert not gate.comes()


def test_a_client_that_moves_keeps_the_place_of_the_address_that_it_came_with(
    site: s.Site, echo_backend: s.Backend
) -> None:
    site.know("laptop", LAPTOP.public)
    gate = Gate(site, "curvecp", echo_backend, {"web": s.free_port(), "mail": s.free_port()})
    site.know("tablet", TABLET.public)
    site.start(gate.sections(), sessions_per_source=1, drain_timeout="300ms").expected_exits = {0, 1}
    assert gate.comes(LAPTOP, "127.0.0.1")
    moved = gate.inside[0]
    assert isinstance(moved, cp.Client)
    moved.move("127.0.0.2")
    assert moved.stream.echo(b"from elsewhere") == b"from elsewhere"
    assert not gate.comes(TABLET, "127.0.0.1")
    assert gate.comes(TABLET, "127.0.0.2")
    for client in gate.inside:
        client.close()


@pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])
@pytest.mark.parametrize("key", ["sessions_per_service", "sessions"])
def test_a_client_end_resets_one_local_connection_too_many(
    make_tunnel: Any, make_udp_tunnel: Any, echo_backend: s.Backend, wire: str, key: str
) -> None:
    make = make_udp_tunnel if wire == "curvecp" else make_tunnel
    tunnel = make(echo_backend)
    site, port = tunnel.client.site, tunnel.client.address[1]
    config = site.folder / "curvegate.conf"
    line = f"{key.replace('_', '-')} = 2\n"
    text = config.read_text()
    config.write_text(line + text if key == "sessions" else text + "\n" + line)
    done = s.run([s.binary("curvegate"), "reload", "-c", str(config)], timeout=30)
    assert done.returncode == 0, done
    with tunnel.open() as first:
        assert first.echo(b"one") == b"one"
        with tunnel.open() as second:
            assert second.echo(b"two") == b"two"
            with s.Local(("127.0.0.1", port)) as third:
                assert third.read_to_end() == (b"", "reset")
        tunnel.client.daemon.wait_event("connect_failed", reason=rf"\({key.replace('_', '-')}\)")
        status = json.loads(s.run([s.binary("curvegate"), "status", "--json", "-c", str(config)], timeout=30).stdout)
        assert status["services"][0]["refused"] == 1

        def fits() -> bool:
            with tunnel.open() as other:
                try:
                    return other.echo(b"three") == b"three"
                except (OSError, AssertionError):
                    return False

        s.until(fits, "room for one more after one has ended")
        assert first.echo(b"still here") == b"still here"


def test_the_limits_in_force_are_shown(site: s.Site, echo_backend: s.Backend) -> None:
    site.know("laptop", LAPTOP.public)
    site.know("tablet", TABLET.public)
    gate = Gate(site, "curve_tun", echo_backend, {"web": s.free_port(), "mail": s.free_port()}, {"sessions_per_service": 7})
    site.start(gate.sections(), sessions_per_source=8, sessions=2_000, half_open=2_500)
    status = gate.status()
    assert status["limits"] == {"sessions": 2000, "half_open": 2500, "half_open_per_source": 2048}
    expected = {"sessions_per_service": 7, "sessions_per_peer": 16384, "sessions_per_source": 8}
    assert [service["limits"] for service in status["services"]] == [
        expected,
        expected | {"sessions_per_service": 131072},
    ]
    assert "sessions     0 of 2,000" in gate.command("status")
    told = gate.command("check", "-v")
    assert "sessions-per-service = 7, sessions-per-peer = 16384, sessions-per-source = 8" in told
    assert "in all: sessions = 2000, half-open = 2500, half-open-per-source = 2048" in told
    assert "sessions" not in gate.command("check")
