"""Who may not any more: keys that are revoked, taken out, not pinned or out of date; their sessions end."""

from __future__ import annotations

import os
import signal
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import curve_tun as ct
import pytest
import support as s
from control_pair import FAILED, Pair, backend, control, dropped, ends, said  # noqa: F401


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
