"""The control socket: status, who may use it, drain, events, on both wires; and what the service manager hears."""

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
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s
from control_pair import UNAVAILABLE, USAGE, Pair, backend, control, ends, said, service, status  # noqa: F401


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
