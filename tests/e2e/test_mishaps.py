"""What goes wrong on a machine: full disks, files that vanish, lines without an end. Each time a clear message with
what to do, nothing lost, nobody let in. Ports in use, broken configurations, backends that are down, expired peers and
second daemons stand where those features are tested."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import curve_tun as ct
import pytest
import support as s
from control_pair import control, pair, said, service
from test_survival import faults

FULL = "No space left on device"
MILLION = "x" * 1_000_000


def on_full_disk(call: str, *args: str | Path) -> tuple[int, str]:
    """A command whose `call` finds the disk full."""
    s.need_tool("strace")
    if s.is_sanitized("curvegate"):
        s.skip_loudly("a sanitizer does not live with failing system calls")
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error=ENOSPC"]
    done = s.run([*strace, s.binary("curvegate"), *map(str, args)], timeout=60)
    return done.returncode, said(done)


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("verb", ["add", "revoke", "remove"])
def test_a_full_disk_leaves_known_hosts_as_it_was(site: s.Site, verb: str, call: str) -> None:
    site.know("other", ct.KeyPair.generate().public)
    site.know("laptop", ct.KeyPair.generate().public)
    before = site.known_hosts.read_bytes()
    who = ["phone", s.b64(ct.KeyPair.generate().public)] if verb == "add" else ["laptop"]
    code, words = on_full_disk(call, "peers", verb, *who, "--known-hosts", site.known_hosts)
    assert code not in (0, 64), words
    if call != "write":  # with that it cannot be told, either
        assert FULL in words and "known_hosts" in words, words
    assert site.known_hosts.read_bytes() == before
    assert {path.name for path in site.folder.iterdir()} <= {"known_hosts", "known_hosts.lock"}


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_a_full_disk_leaves_no_half_of_a_key(site: s.Site, call: str) -> None:
    key = site.folder / "new.key"
    code, words = on_full_disk(call, "keygen", "--role", "server", "-o", key)
    if code == 0:  # that call is none of it
        assert call == "fdatasync" and key.exists()
        return
    assert FULL in words and str(site.folder) in words, words
    assert not key.exists()
    assert s.keygen(key, "server").public, "and it works once there is room"


def test_revoke_that_the_daemon_cannot_write_is_written_by_the_command(tmp_path: Path, echo_backend: s.Backend) -> None:
    if s.is_sanitized():
        s.skip_loudly("a sanitizer does not live with failing system calls")
    with pair("curve_tun", tmp_path, echo_backend) as ends, ends.client.open() as local:
        assert local.echo(b"before") == b"before"
        before = ends.far.known_hosts.read_bytes()
        with faults(ends.server.pid, "fsync:error=ENOSPC"):
            done = control(ends.far, "revoke", "phone")
        assert done.returncode == 0 and FULL in said(done), said(done)
        assert "revoked until restart" in said(done) and f"written to {ends.far.known_hosts}" in said(done)
        assert local.read_to_end() == (b"", "reset")
        text = ends.far.known_hosts.read_bytes()
        assert text.startswith(before) and text[len(before) :].startswith(b"@revoked phone ")
        assert not list(ends.far.folder.glob("known_hosts.new*")), "a piece of a file is left"
        with ends.client.open() as again:
            assert again.read_to_end() == (b"", "reset")


def test_a_log_that_cannot_be_written_stops_nothing(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, log_file="/dev/full", ready=None)

    def serves() -> bool:
        try:
            gate.check_honest()
            return True
        except (OSError, ct.Closed, AssertionError):
            return False

    s.until(serves, "it serves")
    gate.daemon.process.send_signal(signal.SIGUSR1)  # and the file can be opened again
    for _ in range(20):
        gate.check_honest()
        with gate.connect(keys=ct.KeyPair.generate()) as stranger:
            assert stranger.frames.wait_closed()[1] == b""
    assert control(site, "status").returncode == 0


def test_a_control_socket_that_vanished_is_told_and_only_control_is_lost(
    tmp_path: Path, echo_backend: s.Backend
) -> None:
    with pair("curve_tun", tmp_path, echo_backend) as ends, ends.client.open() as local:
        assert local.echo(b"before") == b"before"
        path = ends.far.folder / "control.sock"
        path.unlink()
        for words in (["status"], ["reload"], ["revoke", "phone"], ["drain"]):
            done = control(ends.far, *words)
            assert done.returncode != 0 and str(path) in said(done), said(done)
        assert local.echo(b"after") == b"after"
        with ends.client.open() as another:
            assert another.echo(b"new ones too") == b"new ones too"
        mark = ends.server.mark()
        ends.server.process.send_signal(signal.SIGHUP)  # what signals do, they still do
        ends.server.wait_event("reloaded", since=mark)
        local.half_close()
        assert local.read_to_end() == (b"", "eof")
        assert ends.server.terminate() == 0
        ends.server = ends.far.run(ends.far.folder / "curvegate.conf")
        assert service(ends.far, "web")["sessions"] == 0, "it is there again"


def test_end_and_reload_leave_what_others_put_where_a_socket_was(site: s.Site) -> None:
    site.know("gate", site.key("server").public)
    first, second, metrics, own = (site.folder / f"{name}.sock" for name in ("first", "second", "metrics", "control"))
    plain = {"client": "yes", "connect": "curve_tun:127.0.0.1:9", "peer": "gate"}
    sections = {path.stem: plain | {"accept": f"unix:{path}"} for path in (first, second)}
    options = {"metrics": f"unix:{metrics}"}
    daemon = site.start(sections, **options)

    with contextlib.ExitStack() as stack:

        def another_program_listens(path: Path) -> None:
            path.unlink()
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.bind(str(path))
            sock.listen()

        another_program_listens(first)
        site.write_config({"second": sections["second"]}, **options)
        assert control(site, "reload").returncode == 0
        another_program_listens(own)
        second.unlink()
        second.write_text("not a socket")
        assert daemon.terminate() == 0
        for path in (first, own):
            s.Local(str(path)).close()  # it is there and answers
        assert second.read_text() == "not a socket"
        assert not metrics.exists(), "its own it removes"


def with_a_long_line(path: Path) -> None:
    path.write_text(path.read_text() + MILLION + "\n")


LONG_LINES: dict[str, Callable[[s.Site, Path], Path]] = {
    "configuration": lambda site, config: config,
    "known_hosts": lambda site, config: site.known_hosts,
    "key file": lambda site, config: site.key("server").path,
}


@pytest.mark.parametrize("which", LONG_LINES)
def test_a_line_of_a_megabyte_is_named_in_few_words(site: s.Site, which: str) -> None:
    site.know("laptop", ct.KeyPair.generate().public)
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "laptop"}
    config = site.write_config({"web": section})
    path = LONG_LINES[which](site, config)
    with_a_long_line(path)
    lines = path.read_text().count("\n")
    for args in ([s.binary("curvegated"), "-c", str(config)], [s.binary("curvegate"), "check", "-c", str(config)]):
        done = s.run(args, timeout=30)
        words = said(done)
        assert done.returncode not in (0, 1, 64) and str(path) in words, (done.returncode, words[:1000])
        if which != "key file":
            assert f"{path}:{lines}:" in words, words[:1000]
        assert len(words) < 2_000, f"{len(words)} bytes of message"


def test_a_value_of_a_megabyte_is_named_in_few_words(site: s.Site) -> None:
    site.know("laptop", ct.KeyPair.generate().public)
    good = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "laptop"}
    for option in (*good, "idle_timeout", "proxy_from", MILLION[:100_000]):
        config = site.write_config({"web": good | {option: MILLION}})
        done = s.run([s.binary("curvegated"), "-c", str(config)], timeout=30)
        words = said(done)
        assert done.returncode == 78 and f"{config}:" in words, (option[:20], words[:500])
        assert len(words) < 2_000, f"{option[:20]}: {len(words)} bytes of message"


def test_a_reload_that_needs_another_folder_says_what_to_do(tmp_path: Path, echo_backend: s.Backend) -> None:
    """The sandbox was set at the start. A folder that is in it already is good for more."""
    with pair("curve_tun", tmp_path, echo_backend) as ends, ends.client.open() as local:
        away = tmp_path / "away"
        away.mkdir()
        plain = {"client": "yes", "connect": "curve_tun:127.0.0.1:9", "peer": "phone"}
        inside, outside = ends.far.folder / "app.sock", away / "app.sock"
        ends.rewrite(
            ends.sections() | {"app": plain | {"accept": f"unix:{inside}"}}, client_key=ends.far.key("client").path
        )
        done = control(ends.far, "reload")
        assert done.returncode == 0 and inside.is_socket() and "sandbox" not in said(done), said(done)
        ends.rewrite(
            ends.sections() | {"app": plain | {"accept": f"unix:{outside}"}}, client_key=ends.far.key("client").path
        )
        done = control(ends.far, "reload")
        assert done.returncode == 69 and str(outside) in said(done), said(done)
        assert f"! {away}: the sandbox keeps the daemon from writing there until a restart" in said(done)
        assert local.echo(b"nothing has changed") == b"nothing has changed" and inside.is_socket()
        ends.server.expected_exits = {0, 1}
        ends.server.terminate()
        ends.server = ends.far.run(ends.far.folder / "curvegate.conf")
        assert outside.is_socket() and not inside.exists()
