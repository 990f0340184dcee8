"""Sockets that systemd opened: by the real systemd-socket-activate, at both ends and for all kinds."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s
from test_udp_datagrams import DatagramBackend

UNAVAILABLE = 69
MakeSite = Callable[[str], s.Site]


@pytest.fixture(autouse=True)
def needs() -> None:
    s.need_tool("systemd-socket-activate")


@dataclass
class Passed:
    """A socket for systemd-socket-activate: `place` as its -l takes it."""

    name: str
    place: str

    def wake(self, datagrams: bool) -> None:
        """The daemon is started by the first that comes."""
        if self.place.startswith("/"):
            with socket.socket(socket.AF_UNIX) as unix:
                unix.connect(self.place)
            return
        host, port = self.place.split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM) as sock:
            sock.connect((host, int(port)))
            if datagrams:
                sock.send(b"wake up")


def passed(name: str) -> Passed:
    return Passed(name, f"127.0.0.1:{s.free_port()}")


def start(
    site: s.Site, sections: dict[str, dict[str, Any]], sockets: list[Passed], *, datagrams: bool = False, ready: bool = True
) -> s.Daemon:
    wrap = ["systemd-socket-activate", *(["-d"] if datagrams else [])]
    for one in sockets:
        wrap += ["-l", one.place]
    wrap += ["--fdname=" + ":".join(one.name for one in sockets)]
    daemon = site.start(sections, wrap=wrap, ready=None)
    for number, one in enumerate(sockets):
        daemon.wait_log(rf"Listening on \S+ as {3 + number}\.")
        if number == len(sockets) - 1:
            one.wake(datagrams)
    if ready:
        daemon.wait_ready(r" ready\b")
    else:
        daemon.expected_exits = {UNAVAILABLE}
        assert daemon.wait_exit() == UNAVAILABLE, daemon.log.text()
    return daemon


def command(site: s.Site, *words: str, code: int = 0) -> str:
    done = s.run([s.binary("curvegate"), *words, "-c", str(site.folder / "curvegate.conf")], timeout=30)
    assert done.returncode == code, done
    return (done.stdout + done.stderr).decode()


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has open."""
    folder = Path(f"/proc/{pid}/fd")
    return {target for fd in folder.iterdir() if (target := os.readlink(fd)).startswith("socket:")}


def inode_of_listener(port: int) -> str:
    """Of the one socket that listens there."""
    wanted = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = {row[9] for row in rows if row[1] == wanted and row[3] == "0A"}
    assert len(found) == 1, found
    return f"socket:[{found.pop()}]"


def test_a_server_end_takes_a_tcp_socket_and_keeps_it(site: s.Site, echo_backend: s.Backend) -> None:
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    web = passed("web")
    port = int(web.place.split(":")[1])
    sections = {"web": {"accept": "curve_tun:systemd:web", "connect": echo_backend.address, "allow": "laptop"}}
    daemon = start(site, sections, [web])
    end = s.ServerEnd(site, daemon, ("127.0.0.1", port), echo_backend, client)
    for _ in range(8):  # whichever worker takes it
        end.check_honest()
    listener = inode_of_listener(port)
    assert listener in sockets_of(daemon.pid) and listener in sockets_of(daemon.front_pid)
    assert listener not in sockets_of(daemon.vault_pid)
    assert b"LISTEN_" not in Path(f"/proc/{daemon.vault_pid}/environ").read_bytes()
    # A reload that takes the service away and brings it back, and a front that dies.
    other = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": echo_backend.address, "allow": "laptop"}
    mark = daemon.mark()
    site.write_config({"other": other})
    assert "- service web" in command(site, "reload")
    daemon.wait_event("socket_unused", since=mark, name="web")
    site.write_config(sections | {"other": other})
    assert "+ service web at curve_tun:systemd:web" in command(site, "reload")
    end.check_honest()
    mark = daemon.mark()
    os.kill(daemon.front_pid, signal.SIGKILL)
    daemon.wait_event("front_down", since=mark)
    end.check_honest()
    assert inode_of_listener(port) == listener
    # What was not passed can't come by a reload.
    site.write_config(sections | {"other": other | {"accept": "curve_tun:systemd:other"}})
    told = command(site, "reload", code=UNAVAILABLE)
    assert "no socket of that name was passed, but: web" in told, told
    end.check_honest()


def test_what_waits_in_the_queue_while_the_daemon_drains_is_not_reset(site: s.Site, sink_backend: s.Backend) -> None:
    """The socket is the service manager's: who comes late is for the next daemon."""
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    web = passed("web")
    port = int(web.place.split(":")[1])
    sections = {"web": {"accept": "curve_tun:systemd:web", "connect": sink_backend.address, "allow": "laptop"}}
    daemon = start(site, sections, [web])
    with ct.Client.connect(("127.0.0.1", port), site.key("server").public, client) as first:
        assert first.session is not None
        first.session.send(b"goes on")
        sink_backend.wait_records(1)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_event("draining")
        with socket.create_connection(("127.0.0.1", port), 10):
            assert daemon.process.poll() is None
            first.session.end()
            assert first.session.recv_until_end() == b""
            assert daemon.wait_exit() == 0


def test_a_client_end_takes_tcp_and_unix_sockets_of_one_name(make_site: MakeSite, echo_backend: s.Backend) -> None:
    far, near = make_site("far"), make_site("near")
    far.know("laptop", near.key("client").public)
    end = s.server_end(far, echo_backend)
    near.know("gate", end.key)
    sockets = [passed("app"), Passed("app", str(near.folder / "app.sock")), passed("spare")]
    section = {"client": "yes", "accept": "systemd:app", "connect": f"curve_tun:127.0.0.1:{end.address[1]}", "peer": "gate"}
    daemon = start(near, {"app": section}, sockets)
    daemon.wait_event("socket_unused", name="spare")
    port = int(sockets[0].place.split(":")[1])
    for _ in range(4):
        for place in (("127.0.0.1", port), sockets[1].place):
            with s.Local(place) as local:
                assert local.echo(b"hello") == b"hello"
    assert daemon.terminate() == 0
    assert Path(sockets[1].place).exists()  # it is not ours


@pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])
def test_a_client_end_takes_a_socket_of_datagrams(make_site: MakeSite, wire: str) -> None:
    far, near = make_site("far"), make_site("near")
    far.know("phone", near.key("client").public)
    near.know("gate", far.key("server").public)
    accept = f"{wire}:127.0.0.1:{s.free_port()}"
    with DatagramBackend() as backend:
        far.start({"web": {"accept": accept, "connect": backend.address, "allow": "phone"}})
        dns = passed("dns")
        section = {"client": "yes", "accept": "udp:systemd:dns", "connect": accept, "peer": "gate", "flows": 3}
        section |= {"server_name": "web"} if wire == "curvecp" else {}
        start(near, {"app": section}, [dns], datagrams=True)
        host, port = dns.place.split(":")
        for round_ in range(2):
            for number in range(6):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as local:
                    local.settimeout(s.PATIENCE)
                    local.connect((host, int(port)))
                    for part in range(3):  # all of a source come to one tunnel
                        data = f"{round_} {number} {part}".encode()
                        local.send(data)
                        assert local.recv(100) == data
        assert len(backend.sources()) == 13  # with the one that woke the daemon up


UNIX, TCP = "unix", "tcp"


@pytest.mark.parametrize(
    ("section", "kind", "told"),
    [
        ({"accept": "curve_tun:systemd:web"}, UNIX, "what was passed is a listening unix stream socket; wanted is a listening TCP"),
        ({"accept": "curve_tun:systemd:wep"}, TCP, "no socket of that name was passed, but: web"),
        ({"client": "yes", "accept": "udp:systemd:web"}, TCP, "a listening TCP socket; wanted is a UDP socket"),
        ({"client": "yes", "accept": "systemd:web"}, "udp", r"a UDP socket; wanted is a listening TCP or unix"),
    ],
)
def test_a_socket_that_does_not_fit_is_told(
    site: s.Site, tmp_path: Path, section: dict[str, Any], kind: str, told: str
) -> None:
    if "client" in section:
        section = section | {"connect": "curve_tun:127.0.0.1:1", "peer": "gate"}
    else:
        section = section | {"connect": "127.0.0.1:1", "allow": "laptop"}
    one = Passed("web", str(tmp_path / "web.sock")) if kind == UNIX else passed("web")
    daemon = start(site, {"web": section}, [one], datagrams=kind == "udp", ready=False)
    reason = daemon.events("listen_failed")[0].fields["reason"]
    assert told in reason and "curvegate.conf:" in reason and "[web] accept = " in reason, reason


def test_a_reload_that_turns_the_end_round_looks_at_the_socket_again(site: s.Site, tmp_path: Path) -> None:
    """A unix socket is good for a client end; a server end knows its clients by their addresses."""
    site.know("gate", ct.KeyPair.generate().public)
    site.key("server")
    place = tmp_path / "web.sock"
    client = {"client": "yes", "accept": "systemd:web", "connect": "curve_tun:127.0.0.1:1", "peer": "gate"}
    start(site, {"web": client}, [Passed("web", str(place))])
    site.write_config({"web": {"accept": "curve_tun:systemd:web", "connect": "127.0.0.1:1", "allow": "gate"}})
    told = command(site, "reload", code=UNAVAILABLE)
    assert "what was passed is a listening unix stream socket; wanted is a listening TCP" in told, told
    assert '"generation":1' in command(site, "status", "--json")
    site.write_config({"web": client | {"connect": "curve_tun:127.0.0.1:2"}})
    assert "~ service web" in command(site, "reload")


def test_without_a_socket_unit_it_is_told_what_to_do(site: s.Site) -> None:
    section = {"accept": "curve_tun:systemd:web", "connect": "127.0.0.1:1", "allow": "*"}
    code, text = site.start_refused({"web": section})
    assert code == UNAVAILABLE and "no socket was passed" in text and "FileDescriptorName=web" in text, text


def test_a_list_of_sockets_that_cannot_be_is_refused(site: s.Site) -> None:
    config = site.write_config({"web": {"accept": "curve_tun:systemd:web", "connect": "127.0.0.1:1", "allow": "*"}})
    script = 'LISTEN_PID=$$ LISTEN_FDS=many exec "$0" -c "$1"'
    done = s.run(["sh", "-c", script, s.binary("curvegated"), str(config)], timeout=30)
    assert done.returncode == UNAVAILABLE and b"LISTEN_FDS" in done.stderr, done
