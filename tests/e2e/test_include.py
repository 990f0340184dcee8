"""Configurations of several files: read, checked and reloaded as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s

CONFIG, OK = 78, 0
LAPTOP = ct.KeyPair.generate()


class Gate:
    """A server end whose services stand in files of a folder."""

    def __init__(self, site: s.Site, backend: s.Backend) -> None:
        self.site, self.backend = site, backend
        site.know("laptop", LAPTOP.public)
        self.folder = site.folder / "conf.d"
        self.folder.mkdir(mode=0o755)
        self.ports: dict[str, int] = {}
        self.add("web")
        self.config = site.write_config({"main": self.section("main")}, include=self.folder)

    def section(self, name: str) -> dict[str, Any]:
        port = self.ports.setdefault(name, s.free_port())
        return {"accept": f"curve_tun:127.0.0.1:{port}", "connect": self.backend.address, "allow": "laptop"}

    def add(self, name: str, more: str = "", head: str = "") -> Path:
        path = self.folder / f"{name}.conf"
        path.write_text(f"{head}[{name}]\n{s.options(self.section(name))}{more}")
        return path

    def works(self, name: str) -> bool:
        server = self.site.key("server").public
        try:
            with ct.Client.connect(("127.0.0.1", self.ports[name]), server, LAPTOP) as client:
                assert client.session is not None
                return client.session.echo(b"hello") == b"hello"
        except ConnectionRefusedError:
            return False

    def command(self, *words: str, code: int = OK) -> str:
        done: subprocess.CompletedProcess[bytes] = s.run(
            [s.binary("curvegate"), *words, "-c", str(self.config)], timeout=30
        )
        text = (done.stdout + done.stderr).decode()
        assert done.returncode == code, (words, done.returncode, text)
        return text

    def services(self) -> list[str]:
        return [one["service"] for one in json.loads(self.command("status", "--json"))["services"]]


@pytest.fixture
def gate(site: s.Site, echo_backend: s.Backend) -> Gate:
    return Gate(site, echo_backend)


def test_a_reload_reads_all_files_anew(gate: Gate) -> None:
    daemon = gate.site.run(gate.config)
    assert gate.services() == ["main", "web"] and gate.works("main") and gate.works("web")
    gate.add("mail")
    (gate.folder / "note.txt").write_text("[no configuration\n")
    assert "+ service mail" in gate.command("reload")
    assert gate.services() == ["main", "mail", "web"] and gate.works("mail")
    gate.add("web", "idle-timeout = 7m\n")
    (gate.folder / "mail.conf").rename(gate.folder / "mail.conf.off")
    told = gate.command("reload")
    assert "~ service web" in told and "- service mail" in told and "service main" not in told, told
    assert not gate.works("mail") and gate.works("web")
    # A line more above a section is no change of it.
    gate.add("web", "idle-timeout = 7m\n", head="; a comment\n")
    assert "nothing has changed" in gate.command("reload")
    mark = daemon.mark()
    os.kill(daemon.front_pid, signal.SIGKILL)
    daemon.wait_event("front_down", since=mark)
    assert gate.works("web") and gate.works("main")


def test_a_mistake_in_an_included_file_is_told_with_its_line_and_changes_nothing(gate: Gate) -> None:
    daemon = gate.site.run(gate.config)
    broken = gate.add("mail", "acept = 1\n")
    expected = f'{broken}:5: unknown key "acept" (did you mean "accept"?)'
    for verb in ("reload", "check"):
        assert expected in gate.command(verb, code=CONFIG)
    assert expected in daemon.wait_event("reload_failed").fields["reason"].replace('\\"', '"')
    code = s.run([s.binary("curvegated"), "-c", str(gate.config)], timeout=30)
    assert code.returncode == CONFIG and expected in code.stderr.decode()
    assert gate.services() == ["main", "web"] and gate.works("web")
    broken.write_text("workers = 3\n")
    assert f'{broken}:1: "workers" stands above the first [section]' in gate.command("check", code=CONFIG)
    broken.write_text(f"include = {gate.folder}\n")
    assert f"{broken}:1: an included file includes no other" in gate.command("reload", code=CONFIG)
    gate.add("mail", "allow = laptop\n")
    assert f'{broken}:5: "allow" stands twice: first in {broken}:4' in gate.command("check", code=CONFIG)
    gate.ports["mail"] = gate.ports["main"]
    gate.add("mail")
    assert f"{broken}:2: accept: " in gate.command("check", code=CONFIG)
    broken.write_text(broken.read_text().replace("laptop", "leptop").replace(str(gate.ports["main"]), "4433"))
    assert f'{broken}:4: allow: "leptop" is not in' in gate.command("check", code=CONFIG)
    broken.unlink()
    assert "is fine: 2 services" in gate.command("check")


def test_an_address_that_is_taken_is_told_with_the_included_file(gate: Gate) -> None:
    path = gate.add("taken", head="\n\n")
    listening, backend = gate.ports["taken"], gate.backend
    with socket.create_server(("127.0.0.1", listening)):
        done = s.run([s.binary("curvegated"), "-c", str(gate.config)], timeout=30)
    assert f"{path}:4: [taken] accept = curve_tun:127.0.0.1:{listening}" in done.stderr.decode(), done
    assert backend.records == []


def test_files_that_others_may_write_are_refused(gate: Gate) -> None:
    path = gate.folder / "web.conf"
    path.chmod(0o664)
    told = gate.command("check", code=CONFIG)
    assert f"{gate.config}:" in told and f"include: {path} has mode 0664; run chmod go-w {path}" in told, told
    path.chmod(0o644)
    gate.folder.chmod(0o777)
    assert f"include: {gate.folder} has mode 0777; run chmod go-w {gate.folder}" in gate.command("check", code=CONFIG)
    code, text = done_of(gate.config)
    assert code == CONFIG and "has mode 0777" in text
    gate.folder.chmod(0o755)
    path.rename(gate.folder.parent / "elsewhere.conf")
    path.symlink_to(gate.folder.parent / "elsewhere.conf")
    assert "is fine: 2 services" in gate.command("check")
    path.unlink()
    path.symlink_to(gate.folder.parent / "nowhere.conf")
    assert f"include: {path}: No such file" in gate.command("check", code=CONFIG)


def done_of(config: Path) -> tuple[int, str]:
    done = s.run([s.binary("curvegated"), "-c", str(config)], timeout=30)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_many_and_long_files_reach_the_front_whole(gate: Gate) -> None:
    daemon = gate.site.run(gate.config)
    names = [f"s{number:02}" for number in range(40)]
    for name in names:
        gate.add(name, head="; a long comment, again and again\n" * 10_000)
    assert gate.command("reload").count("+ service s") == 40
    assert gate.services() == ["main", *names, "web"]
    assert gate.works("s00") and gate.works("s39")
    assert daemon.terminate() == 0


def test_an_included_client_end_can_be_probed(gate: Gate, make_site: Any) -> None:
    near = make_site("near")
    near.know("gate", gate.site.key("server").public)
    gate.site.know("laptop", near.key("client").public)
    gate.site.run(gate.config)
    included = near.folder / "out.conf"
    section = {"client": "yes", "accept": f"127.0.0.1:{s.free_port()}", "peer": "gate"}
    section["connect"] = f"curve_tun:127.0.0.1:{gate.ports['web']}"
    included.write_text(f"[out]\n{s.options(section)}")
    config = near.folder / "curvegate.conf"
    config.write_text(
        s.options({"client_key": near.key("client").path, "known_hosts": near.known_hosts, "include": included})
    )
    done = s.run([s.binary("curvegate"), "probe", "out", "-c", str(config)], timeout=30)
    assert done.returncode == OK, done
