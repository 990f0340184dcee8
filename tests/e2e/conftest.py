"""Fixtures of the end-to-end tests; what they give is described in the package support."""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))

pytest.register_assert_rewrite("control_pair", "support", "udp_transfers", "vault_unit")  # they assert too

import support  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def many_descriptors() -> None:
    """Thousands of sockets are open at once in some tests; the daemons get the limit from here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[str], support.Site]]:
    """Sites by name; closed, and checked, at the end of the test."""
    sites: list[support.Site] = []

    def make(name: str) -> support.Site:
        folder = tmp_path / name
        folder.mkdir()
        sites.append(support.Site(folder))
        return sites[-1]

    yield make
    close_all(sites)


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], support.Site]]:
    """As make_site, for daemons that all tests of a file share."""
    sites: list[support.Site] = []

    def make(name: str) -> support.Site:
        sites.append(support.Site(tmp_path_factory.mktemp(name)))
        return sites[-1]

    yield make
    close_all(sites)


def close_all(sites: list[support.Site]) -> None:
    problems = []
    for site in sites:
        try:
            site.close()
        except AssertionError as problem:
            problems.append(problem)
    if problems:
        raise problems[0]


@pytest.fixture
def site(make_site: Callable[[str], support.Site]) -> support.Site:
    return make_site("site")


@pytest.fixture
def nobody_site() -> Iterator[support.Site]:
    """A site in a folder that other users may enter, for daemons that run as nobody."""
    support.need_root()
    support.need_tool("setpriv")
    folder = Path(tempfile.mkdtemp(prefix="curvegate-e2e-"))
    folder.chmod(0o755)
    site = support.Site(folder)
    try:
        yield site
        site.close()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def make_tunnel(make_site: Callable[[str], support.Site]) -> Iterator[Callable[..., support.Tunnel]]:
    """Two daemons with a backend behind them; `edit` puts a man in the middle."""
    relays: list[support.Relay] = []

    def make(
        backend: support.Backend,
        *,
        edit: support.Relay.Edit | None = None,
        end: str = "reset",
        server: dict[str, Any] | None = None,
        client: dict[str, Any] | None = None,
        **more: Any,
    ) -> support.Tunnel:
        near, far = make_site("near"), make_site("far")
        far.know("phone", near.key("client").public)
        end_of_server = support.server_end(far, backend, {"allow": "laptop, phone"} | (server or {}), **more)
        relay = support.Relay(end_of_server.address, edit, end) if edit else None
        if relay:
            relays.append(relay)
        target = relay.address if relay else end_of_server.address
        end_of_client = support.client_end(near, target, end_of_server.key, client, **more)
        return support.Tunnel(end_of_server, end_of_client, relay)

    yield make
    for relay in relays:
        relay.close()


@pytest.fixture
def udp_relays() -> Iterator[list[support.UdpRelay]]:
    """Relays that end after the daemons of make_udp_tunnel: a drain may still need its line."""
    relays: list[support.UdpRelay] = []
    yield relays
    for relay in relays:
        relay.close()


@pytest.fixture
def make_udp_tunnel(
    udp_relays: list[support.UdpRelay], make_site: Callable[[str], support.Site]
) -> Callable[..., support.UdpTunnel]:
    """Two daemons over UDP with a backend behind them; `line` puts a bad line in the middle."""

    def make(
        backend: support.Backend,
        *,
        line: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        client: dict[str, Any] | None = None,
        **more: Any,
    ) -> support.UdpTunnel:
        near, far = make_site("near"), make_site("far")
        far.know("phone", near.key("client").public)
        end_of_server = support.udp_server_end(far, backend, {"allow": "laptop, phone"} | (server or {}), **more)
        relay = support.UdpRelay(end_of_server.address, **line) if line is not None else None
        if relay:
            udp_relays.append(relay)
        target = relay.address if relay else end_of_server.address
        end_of_client = support.udp_client_end(near, target, end_of_server.key, client, **more)
        return support.UdpTunnel(end_of_server, end_of_client, relay)

    return make


@pytest.fixture
def echo_backend() -> Iterator[support.Backend]:
    with support.Backend(support.echo) as backend:
        yield backend


@pytest.fixture
def sink_backend() -> Iterator[support.Backend]:
    with support.Backend(support.sink) as backend:
        yield backend


@pytest.fixture
def gate(site: support.Site) -> support.ServerEnd:
    """A server end for our Python client; its backend echoes what begins with "echo"."""
    backend = support.Backend(support.echo_if_asked)
    return support.server_end(site, backend)
