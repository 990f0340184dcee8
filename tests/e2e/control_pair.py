"""What the tests of the control socket share: two ends of a tunnel on either wire, and commands to them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import support as s

CONFIG, FAILED, USAGE, UNAVAILABLE, PROTOCOL, NO_PERMISSION = 78, 1, 64, 69, 76, 77


@pytest.fixture
def backend() -> Iterator[s.Backend]:
    with s.Backend(s.echo) as made:
        yield made


def control(site: s.Site, *words: str) -> subprocess.CompletedProcess[bytes]:
    return s.run([s.binary("curvegate"), *words, "-c", str(site.folder / "curvegate.conf")], timeout=30)


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stdout + done.stderr).decode()


def status(site: s.Site) -> dict[str, Any]:
    done = control(site, "status", "--json")
    assert done.returncode == 0, said(done)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def service(site: s.Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in status(site)["services"] if one["service"] == name)
    return found


@pytest.fixture(params=["curve_tun", "curvecp"])
def ends(request: pytest.FixtureRequest, tmp_path: Path, backend: s.Backend) -> Iterator[Any]:
    """A server end and a client end over it, each in a folder of its own."""
    with pair(request.param, tmp_path, backend) as made:
        yield made


class Pair:
    def __init__(self, wire: str, folder: Path, backend: s.Backend) -> None:
        for name in ("far", "near"):
            (folder / name).mkdir()
        self.wire, self.backend = wire, backend
        self.far, self.near = s.Site(folder / "far"), s.Site(folder / "near")
        self.port = s.free_port()
        self.far.know("phone", self.near.key("client").public)
        self.server = self.far.start(self.sections())
        make = s.udp_client_end if wire == "curvecp" else s.client_end
        self.client = make(self.near, ("127.0.0.1", self.port), self.far.key("server").public)

    def sections(self) -> dict[str, dict[str, Any]]:
        accept = f"{self.wire}:127.0.0.1:{self.port}"
        return {"web": {"accept": accept, "connect": self.backend.address, "allow": "phone"}}

    def rewrite(self, sections: dict[str, dict[str, Any]] | None = None, **more: Any) -> None:
        self.far.write_config(sections if sections is not None else self.sections(), **more)

    def close(self) -> None:
        self.near.close()
        self.far.close()


@contextmanager
def pair(wire: str, folder: Path, backend: s.Backend) -> Iterator[Pair]:
    made = Pair(wire, folder, backend)
    try:
        yield made
    finally:
        made.close()


def dropped(local: s.Local) -> None:
    _, end = local.read_to_end()
    assert end == "reset"
