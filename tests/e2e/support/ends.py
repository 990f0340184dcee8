"""Ends of tunnels with what is needed around them, and whole tunnels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import curve_tun as ct
import curvecp as cp

from .daemons import Daemon
from .plain_sides import Backend, Local
from .ports import free_port
from .relays import Relay, UdpRelay
from .sites import Site


@dataclass
class ServerEnd:
    """A daemon whose service `web` lets our Python client in, before a backend."""

    site: Site
    daemon: Daemon
    address: tuple[str, int]
    backend: Backend
    client: ct.KeyPair

    @property
    def key(self) -> bytes:
        return self.site.key("server").public

    def dial(self, source: str | None = None, keys: ct.KeyPair | None = None) -> ct.Client:
        return ct.Client.dial(self.address, self.key, keys or self.client, source)

    def connect(self, source: str | None = None, keys: ct.KeyPair | None = None) -> ct.Client:
        return ct.Client.connect(self.address, self.key, keys or self.client, source)

    def restart(self) -> None:
        self.daemon.stop()
        self.daemon = self.site.run(self.site.folder / "curvegate.conf")

    def check_honest(self, source: str | None = None) -> None:
        """An honest client is served."""
        with self.connect(source) as client:
            assert client.session is not None
            data = b"echo" + os.urandom(96)
            assert client.session.echo(data) == data
            client.session.end()
            assert client.session.recv_until_end() == b""


def server_end(
    site: Site, backend: Backend, service: dict[str, Any] | None = None, *, known: str = "", **more: Any
) -> ServerEnd:
    """Starts it; `service` adds options to the section, `known` stands before the client's line in known_hosts."""
    client = ct.KeyPair.generate()
    site.know("laptop", client.public, known)
    port = free_port()
    section = {"accept": f"curve_tun:127.0.0.1:{port}", "connect": backend.address, "allow": "laptop"} | (service or {})
    daemon = site.start({"web": section}, **more)
    return ServerEnd(site, daemon, ("127.0.0.1", port), backend, client)


@dataclass
class UdpServerEnd:
    """As ServerEnd, over UDP."""

    site: Site
    daemon: Daemon
    address: tuple[str, int]
    backend: Backend
    client: ct.KeyPair

    @property
    def key(self) -> bytes:
        return self.site.key("server").public

    def dial(self, source: str = "127.0.0.1", keys: ct.KeyPair | None = None, name: str = "web") -> cp.Client:
        return cp.Client(self.address, self.key, keys or self.client, name, source=source)

    def connect(self, source: str = "127.0.0.1", keys: ct.KeyPair | None = None, name: str = "web") -> cp.Client:
        client = self.dial(source, keys, name)
        client.handshake()
        return client

    def restart(self) -> None:
        self.daemon.stop()
        self.daemon = self.site.run(self.site.folder / "curvegate.conf")

    def check_honest(self, source: str = "127.0.0.1") -> None:
        """An honest client is served."""
        with self.connect(source) as client:
            data = b"echo" + os.urandom(96)
            assert client.stream.echo(data) == data
            client.stream.close()


def udp_server_end(
    site: Site, backend: Backend, service: dict[str, Any] | None = None, *, known: str = "", **more: Any
) -> UdpServerEnd:
    client = ct.KeyPair.generate()
    site.know("laptop", client.public, known)
    port = free_port()
    section = {"accept": f"curvecp:127.0.0.1:{port}", "connect": backend.address, "allow": "laptop"} | (service or {})
    daemon = site.start({"web": section}, **more)
    return UdpServerEnd(site, daemon, ("127.0.0.1", port), backend, client)


@dataclass
class ClientEnd:
    """A daemon whose plain service `app` leads to a tunnel server at `target`."""

    site: Site
    daemon: Daemon
    address: tuple[str, int]

    def open(self) -> Local:
        return Local(self.address)


def client_end(
    site: Site, target: tuple[str, int], server: bytes, service: dict[str, Any] | None = None, **more: Any
) -> ClientEnd:
    site.know("gate", server)
    port = free_port()
    host = f"[{target[0]}]" if ":" in target[0] else target[0]
    section = {"client": "yes", "accept": f"127.0.0.1:{port}", "connect": f"curve_tun:{host}:{target[1]}", "peer": "gate"}
    daemon = site.start({"app": section | (service or {})}, **more)
    return ClientEnd(site, daemon, ("127.0.0.1", port))


def udp_client_end(
    site: Site, target: tuple[str, int], server: bytes, service: dict[str, Any] | None = None, **more: Any
) -> ClientEnd:
    """A plain service `app` that asks the CurveCP server at `target` for its service `web`."""
    host = f"[{target[0]}]" if ":" in target[0] else target[0]
    section = {"connect": f"curvecp:{host}:{target[1]}", "server_name": "web"} | (service or {})
    return client_end(site, target, server, section, **more)


@dataclass
class UdpTunnel:
    """As Tunnel, over UDP."""

    server: UdpServerEnd
    client: ClientEnd
    relay: UdpRelay | None

    def open(self) -> Local:
        return self.client.open()

    @property
    def daemons(self) -> tuple[Daemon, Daemon]:
        return self.client.daemon, self.server.daemon


@dataclass
class Tunnel:
    """Two daemons: local application, client end, (relay,) server end, backend."""

    server: ServerEnd
    client: ClientEnd
    relay: Relay | None

    def open(self) -> Local:
        return self.client.open()
