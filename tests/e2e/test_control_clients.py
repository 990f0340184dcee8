"""The control socket and the metrics page, and clients of theirs that are silent, slow or many."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import support as s
from control_pair import UNAVAILABLE, Pair, backend, ends, said  # noqa: F401

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
