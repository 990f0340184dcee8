"""The control socket: status, reload, revoke, drain, events, on both wires."""

from __future__ import annotations

import grp
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import curve_tun as ct
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


# ---- status ----


def test_status_shows_services_peers_and_sessions(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"x" * 1000)
        shown = status(ends.far)
        assert shown["generation"] == 1 and shown["vault"]["connected"] == 2
        web = shown["services"][0]
        assert (web["service"], web["wire"], web["sessions"]) == ("web", ends.wire, 1)
        assert web["bytes_in"] == web["bytes_out"] == 1000
        phone = next(one for one in shown["peers"] if one["peer"] == "phone")
        assert phone["sessions"] == 1 and phone["peer_key"] == s.b64(ends.near.key("client").public)
        assert [one["peer"] for one in shown["connections"]] == ["phone"]
        text = said(control(ends.far, "status"))
        assert re.search(r"^web +active +1\b", text, re.MULTILINE), text
        assert re.search(r"^phone +up +1\b", text, re.MULTILINE), text
    s.until(lambda: service(ends.far, "web")["sessions"] == 0, "the session's end is shown")
    assert service(ends.near, "app")["handshakes"] == 1


def test_refusals_are_counted_by_reason(tmp_path: Path, backend: s.Backend) -> None:
    site = s.Site(tmp_path)
    end = s.server_end(site, backend)
    stranger = ct.KeyPair.generate()
    with pytest.raises((ct.Closed, OSError)):
        end.connect(keys=stranger).session.recv()
    s.until(lambda: service(site, "web")["refused"] == 1, "the refusal is counted")
    assert sum(status(site)["refusals"].values()) == 1
    site.close()


def test_watch_says_what_it_shows_and_how_it_ends(ends: Pair) -> None:
    command = [s.binary("curvegate"), "status", "--watch", "-c", str(ends.far.folder / "curvegate.conf")]
    pid, master = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown = b""
    try:
        while b"OUT: the other way" not in shown:
            assert select.select([master], [], [], s.PATIENCE)[0], shown
            shown += os.read(master, 65536)
        assert b"Ctrl-C ends this. IN: from the tunnel" in shown and b"web" in shown
        os.write(master, b"\x03")
        while select.select([master], [], [], s.PATIENCE)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
    finally:
        os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert shown.rstrip().endswith(b"\x1b[?25h"), "the cursor stays hidden"


def test_watch_needs_a_terminal(ends: Pair) -> None:
    assert control(ends.far, "status", "--watch").returncode == USAGE


# ---- who may ----


def test_the_socket_is_its_owners_alone(ends: Pair) -> None:
    path = ends.far.folder / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_user_who_may_open_the_socket_is_still_asked_for_by_name(ends: Pair) -> None:
    """Whoever changes the file's mode changes nothing: the kernel says who is there."""
    s.need_root()
    path = ends.far.folder / "control.sock"
    path.chmod(0o666)
    for folder in (ends.far.folder, *ends.far.folder.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o11)
    script = (
        "import socket,sys\nc=socket.socket(socket.AF_UNIX)\nc.connect(sys.argv[1])\n"
        "c.settimeout(10)\nprint(len(c.recv(100)))"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script, str(path)], user=65534, group=65534, extra_groups=[], capture_output=True
    )
    assert done.stdout == b"0\n", done  # it is closed without a word
    ends.server.wait_event("control_refused")
    assert status(ends.far)["generation"] == 1


def ask_as_nobody(path: Path, line: str, groups: dict[str, Any]) -> str:
    """All that the socket says to a process of nobody's with these groups."""
    script = (
        "import socket,sys\nc=socket.socket(socket.AF_UNIX)\nc.connect(sys.argv[1])\n"
        "c.sendall(sys.argv[2].encode()+b'\\n')\nc.settimeout(10)\nprint(c.makefile().read())"
    )
    command = ["/usr/bin/python3", "-c", script, str(path), "curvegate-control 1 " + line]
    done = subprocess.run(command, user=65534, capture_output=True, check=False, **groups)
    return (done.stdout + done.stderr).decode()


def is_no_answer(told: str) -> bool:
    """Closed without a word, before or after the request was written."""
    return told == "\n" or "ConnectionResetError" in told or "BrokenPipeError" in told


def open_folders(path: Path) -> None:
    for parent in path.parents:
        if not parent.stat().st_mode & 1:
            parent.chmod(parent.stat().st_mode | 0o11)


def as_member(group: str) -> list[dict[str, Any]]:
    """A process may have a group as its primary one, or among many others."""
    gid = grp.getgrnam(group).gr_gid
    return [{"group": gid, "extra_groups": []}, {"group": 65534, "extra_groups": [*range(3000, 3100), gid]}]


def test_control_group_opens_the_socket_to_its_members(tmp_path: Path, backend: s.Backend) -> None:
    s.need_root()
    site = s.Site(tmp_path)
    s.server_end(site, backend, control_group="games")
    path = site.folder / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660 and path.group() == "games"
    open_folders(path)
    for groups in as_member("games"):
        assert "end 0\n" in ask_as_nobody(path, "status json", groups)
    site.close()


@pytest.mark.parametrize("control_group", [None, "games"])
def test_status_group_may_ask_for_the_status_and_no_more(
    tmp_path: Path, backend: s.Backend, control_group: str | None
) -> None:
    s.need_root()
    site = s.Site(tmp_path)
    more = {"control_group": control_group} if control_group else {}
    end = s.server_end(site, backend, status_group="users", **more)
    path = site.folder / "control.sock"
    open_folders(path)
    if control_group:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
    else:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660 and path.group() == "users"
    for groups in as_member("users"):
        told = ask_as_nobody(path, "status json", groups)
        assert '"generation":1' in told and told.endswith("end 0\n\n"), told
        for verb in ("reload", "revoke laptop", "drain", "events"):
            told = ask_as_nobody(path, verb, groups)
            assert "status-group" in told and told.endswith("end 77\n\n"), told
    path.chmod(0o666)
    for groups in as_member("games"):
        told = ask_as_nobody(path, "reload", groups)
        assert told.endswith("end 0\n\n") if control_group else is_no_answer(told), told
    assert is_no_answer(ask_as_nobody(path, "status json", {"group": 65534, "extra_groups": []}))
    end.daemon.wait_event("control_refused")
    end.check_honest()  # no drain, no revocation
    site.close()


def test_a_new_front_lets_in_the_groups_that_the_socket_was_opened_for(tmp_path: Path, backend: s.Backend) -> None:
    """A reload says that control-group changes after a restart: a front that dies does not change it either."""
    s.need_root()
    site = s.Site(tmp_path)
    end = s.server_end(site, backend, control_group="games")
    path = site.folder / "control.sock"
    open_folders(path)
    conf = site.folder / "curvegate.conf"
    conf.write_text(conf.read_text().replace("control-group = games", "control-group = users"))
    told = said(control(site, "reload"))
    assert "! control-group: changes after a restart only" in told, told
    mark = end.daemon.mark()
    os.kill(end.daemon.front_pid, signal.SIGKILL)
    end.daemon.wait_event("ready", since=mark)
    path.chmod(0o666)  # only the front decides now
    for groups in as_member("games"):
        assert "end 0\n" in ask_as_nobody(path, "status json", groups)
    for groups in as_member("users"):
        assert is_no_answer(ask_as_nobody(path, "status json", groups))
    site.close()


def test_an_unknown_group_is_told_at_the_start(tmp_path: Path, backend: s.Backend) -> None:
    site = s.Site(tmp_path)
    code, text = site.start_refused(
        {"web": {"accept": "curve_tun:127.0.0.1:1", "connect": backend.address, "allow": "*"}},
        control_group="no-such-group",
    )
    assert code == UNAVAILABLE and "no-such-group" in text or "Permission" in text


# ---- what is no command ----


def talk(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        sock.sendall(data)
        answer = b""
        while part := sock.recv(4096):
            answer += part
        return answer


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET / HTTP/1.0\n", b"end 64\n"),
        (b"\n", b"end 64\n"),
        (b"curvegate-control 2 status\n", b"end 76\n"),
        (b"curvegate-control 1 shutdown\n", b"end 64\n"),
        (b"curvegate-control 1 status xml\n", b"end 64\n"),
        (b"curvegate-control 1 revoke\n", b"end 64\n"),
        (b"curvegate-control 1 revoke nobody\n", b"end 1\n"),
        (b"x" * 1_000_000, b""),
    ],
    ids=["http", "nothing", "version", "verb", "form", "no-word", "nobody", "long-line"],
)
def test_what_is_no_command_changes_nothing(ends: Pair, request_: bytes, answer: bytes) -> None:
    path = ends.far.folder / "control.sock"
    try:
        assert talk(path, request_).endswith(answer)
    except ConnectionError:
        assert answer == b""
    with ends.client.open() as local:
        local.echo(b"still there")


def test_a_client_that_says_nothing_is_let_go(ends: Pair) -> None:
    start = time.monotonic()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(ends.far.folder / "control.sock"))
        sock.settimeout(20)
        assert sock.recv(1) == b""
    assert time.monotonic() - start > 3


def test_a_daemon_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = s.run([s.binary("curvegate"), "status", "--socket", str(tmp_path / "none.sock")], timeout=10)
    assert done.returncode == UNAVAILABLE and "is the daemon running" in said(done)


def test_the_rest_of_the_configuration_may_be_broken(ends: Pair) -> None:
    config = ends.far.folder / "curvegate.conf"
    config.write_text(config.read_text() + "\n[broken\nwhat = ever\n")
    assert status(ends.far)["generation"] == 1


def test_a_socket_of_a_dead_daemon_is_taken_over_and_of_a_living_one_left_alone(ends: Pair) -> None:
    path = ends.far.folder / "control.sock"
    ends.server.expected_exits.add(-9)
    ends.server.kill()
    assert path.exists()
    ends.server = ends.far.run(ends.far.folder / "curvegate.conf")
    assert status(ends.far)["generation"] == 1
    second = s.run([s.binary("curvegated"), "-c", str(ends.far.folder / "curvegate.conf")], timeout=30)
    assert second.returncode == UNAVAILABLE
    assert status(ends.far)["generation"] == 1


# ---- reload ----


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


# ---- who may not any more ----


def dropped(local: s.Local) -> None:
    _, end = local.read_to_end()
    assert end == "reset"


def test_revoke_ends_sessions_at_once_and_writes_it_down(ends: Pair) -> None:
    other = ct.KeyPair.generate()
    ends.far.know("other", other.public)
    sections = ends.sections()
    sections["web"]["allow"] = "phone, other"
    ends.rewrite(sections)
    assert control(ends.far, "reload").returncode == 0
    with ends.client.open() as local:
        local.echo(b"before")
        mark = ends.server.mark()
        done = control(ends.far, "revoke", "phone")
        assert done.returncode == 0 and "sessions ended: 1" in said(done)
        dropped(local)
    # First the sessions, then the word of it.
    words = [event.word for event in ends.server.events(since=mark) if event.word in ("session_close", "revoked")]
    assert words == ["session_close", "revoked"]
    lines = ends.far.known_hosts.read_text().splitlines()
    assert lines[-1].startswith("@revoked phone curve25519 ") and lines[0].startswith("phone ")
    with ends.client.open() as local:
        dropped(local)
    ends.server.stop()  # and it is so after a restart
    ends.server = ends.far.run(ends.far.folder / "curvegate.conf")
    with ends.client.open() as local:
        dropped(local)


def test_revoke_takes_a_key_and_other_peers_stay(tmp_path: Path, backend: s.Backend) -> None:
    site = s.Site(tmp_path)
    end = s.server_end(site, backend)
    stolen = ct.KeyPair.generate()
    site.know("laptop", stolen.public)  # a second key of one name
    assert control(site, "reload").returncode == 0
    with end.connect() as honest, end.connect(keys=stolen) as thief:
        for client in (honest, thief):
            client.session.send(b"hello")
            assert client.session.recv() == b"hello"
        done = control(site, "revoke", s.b64(stolen.public))
        assert done.returncode == 0 and "sessions ended: 1" in said(done)
        honest.session.send(b"still here")
        assert honest.session.recv() == b"still here"
        with pytest.raises((ct.Closed, OSError)):
            thief.session.recv()
    site.close()


def test_revoked_stays_so_without_the_file_until_restart(ends: Pair) -> None:
    """known_hosts cannot be written: the command says so, and neither a reload nor a new front forgets."""
    ends.far.known_hosts.rename(ends.far.folder / "known_hosts.real")
    (ends.far.folder / "known_hosts").mkdir()
    done = control(ends.far, "revoke", "phone")
    assert done.returncode == FAILED and "until restart" in said(done)
    (ends.far.folder / "known_hosts").rmdir()
    (ends.far.folder / "known_hosts.real").rename(ends.far.known_hosts)
    assert control(ends.far, "reload").returncode == 0
    with ends.client.open() as local:
        dropped(local)
    mark = ends.server.mark()
    os.kill(ends.server.front_pid, signal.SIGKILL)
    ends.server.wait_log(r" ready\b", since=mark)
    with ends.client.open() as local:
        dropped(local)


def test_revoke_says_what_is_wrong_with_a_key_and_does_not_repeat_it(ends: Pair) -> None:
    text = ends.near.key("client").public.hex()[:40]
    done = control(ends.far, "revoke", text)
    assert done.returncode == FAILED and "40 hexadecimal digits, cut short" in said(done), said(done)
    assert text not in said(done)


def test_root_writes_what_the_daemon_may_not(nobody_site: s.Site, backend: s.Backend) -> None:
    """The package's layout: known_hosts is root's, in a folder of root's, and the daemon is not root."""
    site = nobody_site
    etc = site.folder / "etc"
    etc.mkdir()
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    known_hosts = site.known_hosts.rename(etc / "known_hosts")
    known_hosts.chmod(0o644)
    before = known_hosts.read_text()
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": backend.address, "allow": "laptop"}
    config = site.write_config({"web": section}, known_hosts=known_hosts)
    s.give_to_nobody(site.folder)
    for path in (etc, config):
        os.chown(path, 0, 0)
    config.chmod(0o644)
    daemon = site.run(config, wrap=s.AS_NOBODY)
    # Its own user may end the sessions, but not write there either.
    done = s.run([*s.AS_NOBODY, s.binary("curvegate"), "revoke", "laptop", "-c", str(config)], timeout=30)
    assert done.returncode == FAILED and "until the daemon is restarted" in said(done), said(done)
    assert f"curvegate peers revoke KEY|NAME --known-hosts {known_hosts}" in said(done)
    assert known_hosts.read_text() == before
    done = control(site, "revoke", "laptop")
    assert done.returncode == 0 and f"written to {known_hosts}" in said(done), said(done)
    lines = known_hosts.read_text().splitlines()
    assert lines[0] + "\n" == before and lines[1].startswith(f"@revoked laptop curve25519 {s.b64(client.public)}")
    now = known_hosts.stat()
    assert (now.st_uid, stat.S_IMODE(now.st_mode)) == (0, 0o644)
    assert control(site, "reload").returncode == 0  # the daemon can still read it
    assert daemon.events("revoke_not_written")


@pytest.mark.parametrize("how", ["removed", "revoked", "not allowed"])
def test_a_reload_ends_the_sessions_of_a_key_that_may_not_any_more(ends: Pair, how: str) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        line = ends.far.known_hosts.read_text()
        sections = ends.sections()
        if how == "removed":
            ends.far.known_hosts.write_text("other curve25519 " + s.b64(ct.KeyPair.generate().public) + "\n")
            sections["web"]["allow"] = "other"
        elif how == "revoked":
            ends.far.known_hosts.write_text(line + "@revoked " + line)
        else:
            ends.far.known_hosts.write_text(line + "other curve25519 " + s.b64(ct.KeyPair.generate().public) + "\n")
            sections["web"]["allow"] = "other"
        ends.rewrite(sections)
        done = control(ends.far, "reload")
        assert done.returncode == 0 and "sessions ended: 1" in said(done)
        dropped(local)


def test_a_client_end_drops_a_server_that_is_not_pinned_any_more(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        text = ends.near.known_hosts.read_text()
        ends.near.known_hosts.write_text(text + "@revoked " + text)
        done = control(ends.near, "reload")
        assert done.returncode == 0 and "sessions ended: 1" in said(done)
        dropped(local)


def test_valid_until_ends_a_session_when_its_time_comes(tmp_path: Path, backend: s.Backend) -> None:
    site = s.Site(tmp_path)
    moment = datetime.now(timezone.utc) + timedelta(seconds=4)
    end = s.server_end(site, backend, known=f"valid-until={moment.strftime('%Y-%m-%dT%H:%M:%SZ')}")
    with end.connect() as client:
        client.session.send(b"hello")
        assert client.session.recv() == b"hello"
        with pytest.raises((ct.Closed, OSError)):
            client.session.recv()
    late = (datetime.now(timezone.utc) - moment).total_seconds()
    assert -1.1 < late < 3
    site.close()


# ---- clients that are silent, slow or many ----

MANY = s.scale(40_000, 4_000)  # names; in the full size a status and a metrics page of more than 4 MiB


@pytest.fixture
def crowd(tmp_path: Path, backend: s.Backend) -> Iterator[s.ServerEnd]:
    """A server end with very many peers, a control socket and a metrics page."""
    site = s.Site(tmp_path)
    for number in range(MANY):
        name, key = f"peer-with-a-long-name-{number}", os.urandom(31) + b"\x01"
        site.peers[name] = [f"{name} curve25519 {s.b64(key)}"]
    end = s.server_end(site, backend, metrics=f"unix:{tmp_path}/metrics.sock", control=tmp_path / "control.sock")
    yield end
    site.close()


def connect_to(path: Path, request: bytes = b"") -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(s.PATIENCE)
    sock.connect(str(path))
    if request:
        sock.sendall(request)
    return sock


def is_let_go(sock: socket.socket) -> bool:
    """The other end is closed; what it sent before is thrown away."""
    try:
        while sock.recv(1 << 20):
            pass
        return True
    except ConnectionResetError:
        return True


def test_an_answer_of_any_length_comes_whole(crowd: s.ServerEnd) -> None:
    done = s.curvegate("status", "--json", "--socket", crowd.site.folder / "control.sock")
    assert done.returncode == 0, said(done)[-300:]
    assert len(json.loads(done.stdout)["peers"]) >= MANY
    assert len(done.stdout) > 4 << 20 or s.SHORT
    done = s.curvegate("status", "--socket", crowd.site.folder / "control.sock")
    assert done.returncode == 0 and done.stdout.count(b"peer-with-a-long-name-") >= MANY


@pytest.mark.parametrize("request_", [b"", b"curvegate-control 1 status json\n"], ids=["asks nothing", "takes nothing"])
def test_silent_control_clients_do_not_keep_others_out_and_are_let_go(crowd: s.ServerEnd, request_: bytes) -> None:
    path = crowd.site.folder / "control.sock"
    silent = [connect_to(path, request_) for _ in range(64)]
    done = s.curvegate("status", "--json", "--socket", path)
    assert done.returncode == 0, said(done)[-300:]
    crowd.check_honest()
    open_before = len(os.listdir(f"/proc/{crowd.daemon.front_pid}/fd"))
    s.until(lambda: len(os.listdir(f"/proc/{crowd.daemon.front_pid}/fd")) <= open_before - 60, "they are let go")
    assert all(is_let_go(sock) for sock in silent)
    for sock in silent:
        sock.close()


def test_a_listener_that_pauses_loses_no_event(ends: Pair) -> None:
    """Longer than others may be silent, with more events than the kernel keeps."""
    listener = connect_to(ends.far.folder / "control.sock", b"curvegate-control 1 events\n")
    reloads = s.scale(400, 100)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for number in range(reloads):
        with ends.client.open() as local:
            local.echo(b"x" * number)
    time.sleep(6)  # what is shown is that time alone changes nothing
    got = b""
    while got.count(b'"session_close"') < reloads:
        part = listener.recv(1 << 20)
        assert part, "it was let go"
        got += part
    listener.close()


def series_of(answer: bytes) -> set[bytes]:
    """The names and labels on a metrics page that has come whole; their values go on changing."""
    head, _, page = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(page)}".encode() in head.split(b"\r\n")
    return {line.rpartition(b" ")[0] for line in page.splitlines() if not line.startswith(b"#")}


def test_silent_scrapers_share_a_page_and_do_not_keep_others_out(crowd: s.ServerEnd) -> None:
    path = crowd.site.folder / "metrics.sock"
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    page = ask_metrics(str(path), request)
    before = s.status_kib(crowd.daemon.front_pid, "VmRSS")
    silent = [connect_to(path, request) for _ in range(16)]
    for sock in silent:
        assert sock.recv(12) == b"HTTP/1.1 200"
    # Rendering takes some copies; each of them holding one would take sixteen.
    assert s.is_sanitized() or s.status_kib(crowd.daemon.front_pid, "VmRSS") - before < 8 * len(page) // 1024
    silent += [connect_to(path) for _ in range(16)]  # and some that ask for nothing
    series = series_of(page)
    assert len(series) > MANY
    assert series_of(ask_metrics(str(path), request)) == series
    for sock in silent:
        sock.close()


def test_a_command_does_not_wait_for_ever_for_a_daemon_that_hangs(tmp_path: Path) -> None:
    """One that accepts nothing, with its queue full; one that answers nothing. `events` may be silent for ever."""
    mute, full = tmp_path / "mute.sock", tmp_path / "full.sock"
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as stuck:
        silent.bind(str(mute))
        silent.listen(8)
        stuck.bind(str(full))
        stuck.listen(0)
        with connect_to(full):
            asked = subprocess.Popen([s.binary("curvegate"), "status", "--socket", str(mute)], stderr=subprocess.PIPE)
            listening = subprocess.Popen([s.binary("curvegate"), "events", "--socket", str(mute)])
            done = s.curvegate("status", "--socket", full)
            assert done.returncode == UNAVAILABLE and "takes no connection" in said(done)
            _, words = asked.communicate(timeout=60)
            assert asked.returncode == UNAVAILABLE and b"no answer for" in words
            assert listening.poll() is None
            listening.kill()
            listening.wait(10)


# ---- drain and events ----


def test_drain_waits_for_sessions_and_ends(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        assert control(ends.far, "drain").returncode == 0
        ends.server.wait_event("draining")
        local.echo(b"in the drain")
        local.half_close()
        assert local.read_to_end()[1] == "eof"
    assert ends.server.wait_exit() == 0


def test_events_come_as_json_lines(ends: Pair) -> None:
    listener = subprocess.Popen(
        [s.binary("curvegate"), "events", "-c", str(ends.far.folder / "curvegate.conf")], stdout=subprocess.PIPE
    )
    try:
        assert listener.stdout
        time.sleep(0.5)
        with ends.client.open() as local:
            local.echo(b"hello")
        events = [json.loads(listener.stdout.readline()) for _ in range(2)]
        assert [event["event"] for event in events] == ["handshake_ok", "session_close"]
        # Numbers are numbers, and one says which session it is.
        assert events[1]["bytes_in"] == 5 and events[1]["duration_s"] >= 0 and events[1]["peer"] == "phone"
        assert events[0]["session"] == events[1]["session"] > 0
    finally:
        listener.kill()
        listener.wait(10)
    with ends.client.open() as local:  # nobody listens any more, and nobody minds
        local.echo(b"hello")


# ---- logs ----


def test_a_log_of_json_has_numbers_as_numbers_and_the_sessions_of_the_status(tmp_path: Path, backend: s.Backend) -> None:
    site = s.Site(tmp_path)
    end = s.server_end(site, backend, log_format="json", ready='"event":"ready"')
    with end.connect() as client:
        client.session.send(b"hello")
        assert client.session.recv() == b"hello"
        number = status(site)["connections"][0]["session"]

    def lines(word: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in end.daemon.log.text().splitlines()]
        return [line for line in found if line["event"] == word]

    closed = s.until(lambda: lines("session_close"), "the end of the session")[0]
    assert closed["session"] == lines("handshake_ok")[0]["session"] == number
    assert (closed["bytes_in"], closed["bytes_out"]) == (5, 5)
    assert lines("ready")[0]["workers"] == 2 and lines("limits")[0]["descriptors"] > 0
    assert isinstance(lines("vault_up")[0]["pid"], int)
    site.close()


def test_usr1_opens_the_log_file_again(tmp_path: Path, backend: s.Backend) -> None:
    site = s.Site(tmp_path)
    log = tmp_path / "file.log"
    site.know("laptop", ct.KeyPair.generate().public)
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": backend.address, "allow": "laptop"}
    daemon = site.start({"web": section}, ready=None, log_file=log)
    s.until(lambda: log.exists() and " ready" in log.read_text(), "ready")
    log.rename(tmp_path / "file.log.1")
    os.kill(daemon.pid, signal.SIGUSR1)
    s.until(lambda: log.exists() and "log_reopened" in log.read_text(), "the new file is in use")
    assert control(site, "reload").returncode == 0  # the front's word of it goes there too
    s.until(lambda: "reloaded" in log.read_text(), "the front writes there")
    assert "reloaded" not in (tmp_path / "file.log.1").read_text()
    site.close()


# ---- metrics ----


def ask_metrics(address: tuple[str, int] | str, request: bytes) -> bytes:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(20)
        sock.connect(address)
        sock.sendall(request)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return answer


@pytest.mark.parametrize("where", ["port", "unix"])
def test_metrics_are_served_to_this_machine_and_checked_by_promtool(
    tmp_path: Path, backend: s.Backend, where: str
) -> None:
    site = s.Site(tmp_path)
    path, port = tmp_path / "metrics.sock", s.free_port()
    address: tuple[str, int] | str = str(path) if where == "unix" else ("127.0.0.1", port)
    end = s.server_end(site, backend, metrics=f"unix:{path}" if where == "unix" else f"127.0.0.1:{port}")
    with end.connect() as client:
        client.session.send(b"hello")
        assert client.session.recv() == b"hello"
        answer = ask_metrics(address, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head, _, page = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and b"version=0.0.4" in head
    assert re.search(rb'^curvegate_\w+\{[^}]*service="web"[^}]*\} 1$', page, re.MULTILINE), page.decode()
    others = page.replace(f'target="{backend.address}"'.encode(), b"")  # what connect says, and nothing else
    assert s.b64(end.client.public).encode() not in page and b"127.0.0.1:" not in others
    for request, code in (
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"403"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
    ):
        try:
            assert ask_metrics(address, request).split(b" ")[1] == code
        except ConnectionResetError:
            assert code == b"431"  # more was on its way than was read
    s.need_tool("promtool")
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    assert done.returncode == 0 and not done.stdout + done.stderr, done
    site.close()


# ---- the service manager ----


def test_the_service_manager_hears_how_the_daemon_is(tmp_path: Path, backend: s.Backend) -> None:
    site = s.Site(tmp_path)
    site.know("laptop", ct.KeyPair.generate().public)
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": backend.address, "allow": "laptop"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "900000"}
        daemon = site.start({"web": section}, popen={"env": environment})
        assert manager.recv(4096).startswith(b"READY=1\n")
        beats = [manager.recv(4096) for _ in range(3)]
        assert beats == [b"WATCHDOG=1"] * 3
        assert control(site, "reload").returncode == 0
        words: list[bytes] = []
        while not words or not words[-1].startswith(b"READY=1"):
            words.append(manager.recv(4096))
        assert any(re.match(rb"RELOADING=1\nMONOTONIC_USEC=\d+$", word) for word in words)
        # A front that hangs is not spoken for.
        os.kill(daemon.front_pid, signal.SIGSTOP)
        manager.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while True:
                manager.recv(4096)  # what was on its way
        manager.settimeout(1.5)
        with pytest.raises(TimeoutError):
            manager.recv(4096)
        os.kill(daemon.front_pid, signal.SIGCONT)
        manager.settimeout(20)
        assert manager.recv(4096) == b"WATCHDOG=1"
        os.kill(daemon.pid, signal.SIGTERM)
        while manager.recv(4096) != b"STOPPING=1":
            pass
        assert daemon.wait_exit() == 0
    site.close()
