"""Where the log goes, what it says as JSON and to the journal, and that a reader who does not read holds nobody up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s
from control_pair import backend, control, status  # noqa: F401

CONNECTIONS = s.scale(300, 60)
F_SETPIPE_SZ = 1031


class Loop:
    """One daemon with both ends of a tunnel, so that each connection to it makes four lines of the log."""

    def __init__(self, site: s.Site, backend: s.Backend, **more: Any) -> None:
        self.site = site
        self.port, tunnel = s.free_port(), s.free_port()
        site.know("back", site.key("server").public)
        site.know("front", site.key("client").public)
        self.config = site.write_config(
            {
                "inner": {"accept": f"curve_tun:127.0.0.1:{tunnel}", "connect": backend.address, "allow": "front"},
                "outer": {
                    "client": "yes",
                    "accept": f"127.0.0.1:{self.port}",
                    "connect": f"curve_tun:127.0.0.1:{tunnel}",
                    "peer": "back",
                },
            },
            log_level="info",
            **more,
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, stderr: int, *, wrap: list[str] | None = None) -> None:
        args = [*(wrap or []), s.binary("curvegated"), "-c", str(self.config)]
        self.process = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
        )
        s.until(self.answers, "the daemon answers", 60)

    def answers(self) -> bool:
        assert self.process and self.process.poll() is None, "it ended"
        return self.status() is not None

    def status(self) -> dict[str, Any] | None:
        done = s.curvegate("status", "--json", "--socket", self.site.folder / "control.sock")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def connect(self, times: int) -> None:
        for _ in range(times):
            with s.Local(("127.0.0.1", self.port)) as local:
                assert local.echo(b"echo") == b"echo"

    def end(self) -> int:
        assert self.process
        family = [process.pid for process in s.descendants(self.process.pid)]
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(s.PATIENCE)
        s.until(lambda: not any(s.alive(pid) for pid in family), "its processes end too")
        return code

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            family = [process.pid for process in s.descendants(self.process.pid)]
            for pid in [self.process.pid, *family]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(s.PATIENCE)


@pytest.fixture
def make_loop(echo_backend: s.Backend) -> Iterator[Callable[..., Loop]]:
    loops: list[Loop] = []

    def make(site: s.Site, **more: Any) -> Loop:
        loops.append(Loop(site, echo_backend, **more))
        return loops[-1]

    yield make
    for loop in loops:
        loop.kill()


def take(fd: int) -> bytes:
    """All that can be read now."""
    data = b""
    while select.select([fd], [], [], 0.3)[0]:
        try:
            part = os.read(fd, 1 << 16)
        except OSError:  # a terminal that nobody has any more
            break
        if not part:
            break
        data += part
    return data


def whole_lines(data: bytes) -> list[str]:
    assert data.endswith(b"\n"), data[-200:]
    lines = data.decode().splitlines()
    assert all(s.Event.parse(line) for line in lines), lines
    return lines


def small_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    return reader, writer


def stopped_terminal() -> tuple[int, int]:
    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)  # as Ctrl-S does
    return master, slave


def small_socket() -> tuple[int, int]:
    near, far = socket.socketpair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return near.detach(), far.detach()


KINDS = {"pipe": small_pipe, "terminal": stopped_terminal, "socket": small_socket}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_who_does_not_read_holds_nobody_up(
    kind: str, site: s.Site, make_loop: Callable[..., Loop]
) -> None:
    reader, writer = KINDS[kind]()
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    loop = make_loop(site)
    loop.start(writer)
    loop.connect(CONNECTIONS)
    status = loop.status()
    assert status and sum(service["handshakes"] for service in status["services"]) == 2 * CONNECTIONS
    assert fcntl.fcntl(writer, fcntl.F_GETFL) == flags, "others who write there would not wait any more"
    if kind == "terminal":
        assert take(reader) == b""
        termios.tcflow(writer, termios.TCOON)
    first = take(reader)
    assert loop.process
    loop.process.send_signal(signal.SIGUSR2)
    later = s.until(lambda: take(reader), "lines after the gap")
    lines = whole_lines((first + later).replace(b"\r", b""))
    assert any("log_lines_lost count=" in line for line in lines) and "name=USR2" in later.decode()
    assert loop.end() == 0
    os.close(writer)
    os.close(reader)


@pytest.mark.timeout(300)
def test_the_pipe_of_another_user_holds_nobody_up(nobody_site: s.Site, make_loop: Callable[..., Loop]) -> None:
    reader, writer = small_pipe()
    loop = make_loop(nobody_site)
    s.give_to_nobody(nobody_site.folder)
    loop.start(writer, wrap=s.AS_NOBODY)
    loop.connect(max(CONNECTIONS, 120))  # such a pipe holds 256 lines
    assert loop.status()
    first = take(reader)
    loop.connect(1)
    lines = whole_lines(first + s.until(lambda: take(reader), "lines after the gap"))
    assert any(" ready " in line for line in lines) and any("log_lines_lost count=" in line for line in lines)
    assert loop.end() == 0
    os.close(writer)
    os.close(reader)


def test_term_and_a_killed_parent_end_all_while_nobody_reads(site: s.Site, make_loop: Callable[..., Loop]) -> None:
    reader, writer = small_pipe()
    loop = make_loop(site, drain_timeout="1s")
    loop.start(writer)
    loop.connect(30)
    assert loop.process
    family = [process.pid for process in s.descendants(loop.process.pid)]
    assert len(family) == 2
    loop.process.kill()
    loop.process.wait(s.PATIENCE)
    s.until(lambda: not any(s.alive(pid) for pid in family), "front and vault end with their parent")
    os.close(writer)
    os.close(reader)


def test_a_fifo_needs_no_reader_and_keeps_lines_for_one(site: s.Site, make_loop: Callable[..., Loop]) -> None:
    fifo = site.folder / "log"
    os.mkfifo(fifo)
    loop = make_loop(site, log_file=fifo)
    loop.start(subprocess.DEVNULL)
    loop.connect(3)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    lines = whole_lines(take(reader))
    assert any(" ready " in line for line in lines)
    loop.connect(CONNECTIONS)
    assert loop.status()
    take(reader)
    assert loop.end() == 0
    os.close(reader)


def test_a_log_file_that_has_become_a_fifo_stops_nobody(site: s.Site, make_loop: Callable[..., Loop]) -> None:
    log = site.folder / "log"
    loop = make_loop(site, log_file=log)
    loop.start(subprocess.DEVNULL)
    log.unlink()
    os.mkfifo(log)
    assert loop.process
    loop.process.send_signal(signal.SIGUSR1)
    loop.process.send_signal(signal.SIGHUP)
    s.until(lambda: (loop.status() or {}).get("generation") == 2, "the parent goes on without a reader")
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    s.until(lambda: b"log_reopened" in take(reader), "the log goes on in the FIFO")
    assert loop.end() == 0
    os.close(reader)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_log_may_be_a_standard_stream_by_name(stream: str, site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, log_file=f"/dev/{stream}")
    gate.daemon.process.send_signal(signal.SIGUSR1)
    gate.daemon.wait_event("signal", action="none: no log-file")
    with gate.connect() as client:
        assert client.session
    gate.daemon.wait_event("handshake_ok")


def test_a_link_of_ours_is_followed_and_another_users_is_not(site: s.Site, echo_backend: s.Backend) -> None:
    s.need_root()
    real, link = site.folder / "elsewhere" / "log", site.folder / "log"
    real.parent.mkdir()
    link.symlink_to(real)
    gate = s.server_end(site, echo_backend, log_file=link, ready=None)
    s.until(lambda: real.exists() and " ready " in real.read_text(), "the log where the link leads")
    real.rename(real.with_suffix(".old"))
    gate.daemon.process.send_signal(signal.SIGUSR1)
    s.until(lambda: real.exists() and "log_reopened" in real.read_text(), "a new file there")
    gate.daemon.terminate()
    os.lchown(link, 65534, 65534)
    services = {"echo": {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": echo_backend.address, "allow": "*"}}
    code, said = site.start_refused(services, log_file=link)
    assert code == 78 and "is a symbolic link of uid 65534" in said
    os.lchown(link, 0, 0)
    real.chmod(0o666)
    code, said = site.start_refused(services, log_file=link)
    assert code == 78 and "which others may write to" in said


def test_a_replaced_folder_needs_a_restart_and_the_log_says_so(tmp_path: Path, echo_backend: s.Backend) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    site = s.Site(folder)
    logs = tmp_path / "logs"
    logs.mkdir()
    gate = s.server_end(site, echo_backend, log_file=logs / "log", ready=None)
    old = tmp_path / "old"
    s.until(lambda: (logs / "log").exists() and " ready " in (logs / "log").read_text(), "ready")
    logs.rename(old)
    logs.mkdir()
    gate.daemon.process.send_signal(signal.SIGUSR1)
    s.until(lambda: "log_not_reopened" in (old / "log").read_text(), "the reason in the old file")
    assert "came later: restart it" in (old / "log").read_text()
    site.close()


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


def journal(log: Path) -> str:
    log.touch()
    info = log.stat()
    return f"{info.st_dev}:{info.st_ino}"


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_journal_gets_priorities_and_no_times(site: s.Site, echo_backend: s.Backend, form: str) -> None:
    where = journal(site.folder / "daemon.log")
    ready = r'"ready"' if form == "json" else r" ready\b"
    env = os.environ | {"JOURNAL_STREAM": where}
    port = s.free_port()
    section = {"accept": f"curve_tun:127.0.0.1:{port}", "connect": echo_backend.address}
    daemon = site.start({"web": section}, log_format=form, popen={"env": env}, ready=ready)
    with ct.Client.connect(("127.0.0.1", port), site.key("server").public, ct.KeyPair.generate()) as client:
        assert client.session is not None
        client.session.frames.wait_closed()
    daemon.wait_log("handshake_reject")
    lines = daemon.log.text().splitlines()
    begins = r'<[3467]>\{"level":"' if form == "json" else r"<[3467]>(info|warning|error|debug) "
    assert all(re.match(begins, line) for line in lines), lines
    assert not any(re.search(r'20\d\d-\d\d-\d\dT|"ts"', line) for line in lines)
    levels = {match[0] for line in lines if (match := re.match(r"<\d>\W*(level\W+)?\w+", line))}
    plain = {re.sub(r"\W*(level\W+)?", "", level, count=0) for level in levels}
    assert {"6info", "4warning"} <= plain <= {"6info", "4warning", "3error", "7debug"}, plain


def test_another_stream_is_no_journal(site: s.Site, echo_backend: s.Backend) -> None:
    where = journal(site.folder / "another")
    env = os.environ | {"JOURNAL_STREAM": where}
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": echo_backend.address}
    daemon = site.start({"web": section}, popen={"env": env})
    assert all(re.match(r"20\d\d-", line) for line in daemon.log.text().splitlines())
