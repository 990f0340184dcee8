"""The daemon's life: signals, draining, restarts, the log."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable

import curve_tun as ct
import pytest
import support as s


def open_session(gate: s.ServerEnd) -> ct.Client:
    client = gate.connect()
    assert client.session is not None
    assert client.session.echo(b"echo") == b"echo"
    return client


# ---- the end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_at_once_with_0(site: s.Site, echo_backend: s.Backend, number: signal.Signals) -> None:
    gate = s.server_end(site, echo_backend, drain_timeout="60s")
    family = gate.daemon.family()
    assert len(family) == 2, family
    start = time.monotonic()
    gate.daemon.process.send_signal(number)
    assert gate.daemon.wait_exit() == 0
    assert time.monotonic() - start < 20
    s.until(lambda: not any(s.alive(process.pid) for process in family), "vault and front end too")


def socket_files(site: s.Site) -> set[str]:
    return {path.name for path in site.folder.iterdir() if path.is_socket()}


def test_an_orderly_end_leaves_no_socket_file(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    assert socket_files(site) == {"control.sock", "vault-control.sock"}
    gate.daemon.stop()
    assert socket_files(site) == set()


def test_the_socket_file_of_a_later_vault_is_removed_too(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    mark = gate.daemon.mark()
    os.kill(gate.daemon.vault_pid, signal.SIGKILL)
    gate.daemon.wait_event("vault_up", since=mark)
    gate.check_honest()
    gate.daemon.stop()
    assert socket_files(site) == set()


def test_a_socket_file_that_took_the_place_of_the_vaults_is_left_alone(
    site: s.Site, echo_backend: s.Backend
) -> None:
    gate = s.server_end(site, echo_backend)
    path = site.folder / "vault-control.sock"
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(str(path))
        gate.daemon.stop()
        assert socket_files(site) == {"vault-control.sock"}


def test_sessions_that_end_within_the_drain_are_served_to_their_end(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, drain_timeout="60s")
    client = open_session(gate)
    gate.daemon.process.send_signal(signal.SIGTERM)
    gate.daemon.wait_event("draining", sessions="^1$")
    s.until(lambda: not accepts(gate), "no new connection is taken")
    assert client.session is not None
    data = os.urandom(500_000)
    client.session.send_all(data)
    assert client.session.recv_exactly(len(data)) == data
    client.session.end()
    assert client.session.recv_until_end() == b""
    assert gate.daemon.wait_exit() == 0


def accepts(gate: s.ServerEnd) -> bool:
    try:
        gate.dial().close()
        return True
    except OSError:
        return False


def test_the_drain_ends_at_its_deadline_with_1_and_cuts_what_is_left(make_tunnel: Callable[..., s.Tunnel]) -> None:
    with s.Backend(s.echo) as backend:
        tunnel = make_tunnel(backend, drain_timeout="1s")
        with tunnel.open() as local:
            assert local.echo(b"open") == b"open"
            daemon = tunnel.server.daemon
            daemon.expected_exits = {1}
            start = time.monotonic()
            assert daemon.terminate() == 1
            assert 0.8 < time.monotonic() - start < 20
            daemon.wait_event("drain_timeout", sessions="^1$")
            assert local.read_to_end() == (b"", "reset"), "the cut looks like an orderly end to the client's side"
            assert backend.wait_done().ended == "reset", "the cut looks like an orderly end to the backend"


def test_a_second_term_ends_at_once(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, drain_timeout="60s")
    client = open_session(gate)
    family = gate.daemon.family()
    gate.daemon.process.send_signal(signal.SIGTERM)
    gate.daemon.wait_event("draining")
    assert gate.daemon.process.poll() is None
    gate.daemon.process.send_signal(signal.SIGTERM)
    gate.daemon.expected_exits = {1}
    assert gate.daemon.wait_exit(20) == 1
    s.until(lambda: not any(s.alive(process.pid) for process in family), "vault and front end too")
    client.close()


def test_term_ends_a_daemon_whose_vault_is_stopped(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, drain_timeout="1s")
    vault = gate.daemon.vault_pid
    os.kill(vault, signal.SIGSTOP)
    try:
        gate.daemon.expected_exits = {0, 1}
        gate.daemon.terminate(25)
    finally:
        with contextlib.suppress(ProcessLookupError):  # killed with the daemon, as it should be
            os.kill(vault, signal.SIGCONT)


def test_term_ends_a_daemon_that_half_open_handshakes_hold(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, drain_timeout="1s", hello_timeout="60s", vouch_timeout="60s")
    mute, half = gate.dial(), gate.dial()
    half.begin()
    gate.daemon.expected_exits = {0, 1}
    start = time.monotonic()
    gate.daemon.terminate()
    assert time.monotonic() - start < 20
    for client in (mute, half):
        assert client.frames.wait_closed()[1] == b""


# ---- the start ----


def test_whoever_connects_while_the_daemon_starts_is_served(site: s.Site, echo_backend: s.Backend) -> None:
    """The listening sockets are there before the vault is: nobody who got through may be refused for that."""
    gate = s.server_end(site, echo_backend)
    for _ in range(s.scale(10, 5)):
        gate.daemon.stop()
        gate.daemon = site.run(site.folder / "curvegate.conf", ready=None)
        s.until(lambda: accepts(gate), "it listens", pause=0.001)
        clients = [open_session(gate) for _ in range(4)]
        for client in clients:
            client.close()
        gate.daemon.wait_event("ready")


# ---- other signals ----


def test_hup_usr1_and_usr2_are_logged_and_harmless(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    client = open_session(gate)
    for number, name in ((signal.SIGHUP, "HUP"), (signal.SIGUSR1, "USR1"), (signal.SIGUSR2, "USR2")):
        mark = gate.daemon.mark()
        gate.daemon.process.send_signal(number)
        gate.daemon.wait_event("signal", since=mark, name=f"^{name}$")
    status = gate.daemon.wait_event("status")
    assert status.fields["sessions"] == "1"
    assert client.session is not None
    assert client.session.echo(b"echo on") == b"echo on"
    gate.check_honest()
    client.close()


def test_signals_to_vault_and_front_from_the_terminal_are_left_to_the_parent(
    site: s.Site, echo_backend: s.Backend
) -> None:
    gate = s.server_end(site, echo_backend)
    for pid in (gate.daemon.vault_pid, gate.daemon.front_pid):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            os.kill(pid, number)
    gate.check_honest()
    assert len(gate.daemon.family()) == 2


def test_random_signals_during_traffic_change_nothing(
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_tunnel(echo_backend)
    over = threading.Event()
    chance = random.Random(45)

    def pester() -> None:
        while not over.is_set():
            daemon = chance.choice([tunnel.client.daemon, tunnel.server.daemon])
            daemon.process.send_signal(chance.choice([signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]))
            time.sleep(0.01)

    thread = threading.Thread(target=pester)
    thread.start()
    try:
        for _ in range(s.scale(30, 8)):
            with tunnel.open() as local:
                data = os.urandom(200_000)
                sender = threading.Thread(target=local.send, args=(data,))
                sender.start()
                assert local.recv_exactly(len(data)) == data
                sender.join()
    finally:
        over.set()
        thread.join()


# ---- deaths ----


def test_kill_of_the_parent_leaves_nothing_running_and_a_restart_works(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    client = open_session(gate)
    family = gate.daemon.family()
    gate.daemon.expected_exits = {-9}
    os.kill(gate.daemon.pid, signal.SIGKILL)
    gate.daemon.wait_exit()
    s.until(lambda: not any(s.alive(process.pid) for process in family), "vault and front end with it")
    client.frames.wait_closed()
    gate.daemon = site.run(site.folder / "curvegate.conf")
    gate.check_honest()


def test_kill_of_the_front_ends_its_sessions_and_a_new_one_serves(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    client = open_session(gate)
    mark = gate.daemon.mark()
    old = gate.daemon.front_pid
    os.kill(old, signal.SIGKILL)
    client.frames.wait_closed()
    gate.daemon.wait_event("front_down", since=mark)
    gate.daemon.wait_event("ready", since=mark)
    assert gate.daemon.front_pid != old
    gate.check_honest()
    assert len(gate.daemon.family()) == 2


def test_after_a_restart_everybody_gets_their_own_data(
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_tunnel(echo_backend)
    count = s.scale(200, 50)

    def open_all(word: bytes) -> list[s.Local]:
        locals_ = [tunnel.open() for _ in range(count)]
        for i, local in enumerate(locals_):
            local.send(word + b"%04d" % i)
        for i, local in enumerate(locals_):
            assert local.recv_exactly(len(word) + 4) == word + b"%04d" % i
        return locals_

    before = open_all(b"before")
    tunnel.server.daemon.kill()
    tunnel.server.daemon.expected_exits = {-9}
    for local in before:
        assert local.read_to_end() == (b"", "reset")
        local.close()
    tunnel.server.daemon = tunnel.server.site.run(tunnel.server.site.folder / "curvegate.conf")
    for local in open_all(b"after"):
        local.close()


# ---- timeouts of sessions ----


def test_an_idle_session_is_ended_and_a_busy_one_is_not(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, {"idle_timeout": "2s"})
    idle, busy = open_session(gate), open_session(gate)
    assert busy.session is not None
    deadline = time.monotonic() + s.PATIENCE
    while not s.is_readable(idle.frames.sock, 0.3):
        assert busy.session.echo(b"busy") == b"busy"
        assert time.monotonic() < deadline, "the idle session goes on"
    assert idle.frames.wait_closed()[1] == b""
    gate.daemon.wait_event("session_close", reason="idle-timeout")
    assert busy.session.echo(b"still") == b"still"
    busy.close()


def test_max_session_bounds_a_busy_session_too(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, {"max_session": "2s"})
    client = open_session(gate)
    assert client.session is not None
    start = time.monotonic()
    with pytest.raises(ct.Closed):
        while time.monotonic() - start < s.PATIENCE:
            client.session.echo(b"busy")
            time.sleep(0.05)
    gate.daemon.wait_event("session_close", reason="max-session")


# ---- the log ----


def test_what_strangers_cause_is_rate_limited_in_the_log(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    count = s.scale(1000, 300)
    start = time.monotonic()
    for _ in range(count):
        with gate.dial() as client:
            client.frames.send(b"")
            client.frames.wait_closed()
    seconds = time.monotonic() - start
    time.sleep(1.5)
    with gate.dial() as client:
        client.frames.send(b"")
        client.frames.wait_closed()
        last = gate.daemon.wait_event("handshake_reject", src=f":{client.port}$")
    assert "suppressed" in last.fields, "what was left out is not told"
    lines = gate.daemon.events("handshake_reject")
    assert len(lines) <= 50 + 10 * (seconds + 4)
    assert len(lines) + sum(int(event.fields.get("suppressed", 0)) for event in lines) >= count
    mark = gate.daemon.mark()
    gate.daemon.process.send_signal(signal.SIGUSR2)
    status = gate.daemon.wait_event("status", since=mark)
    assert f"packet has the wrong length: {count + 1}" in status.fields["refused"]


def test_a_session_is_told_from_its_beginning_to_its_end(
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_tunnel(echo_backend)
    with tunnel.open() as local:
        assert local.echo(b"twelve bytes") == b"twelve bytes"
        local.half_close()
        assert local.read_to_end() == (b"", "eof")
    for daemon, service, peer in ((tunnel.server.daemon, "web", "phone"), (tunnel.client.daemon, "app", "gate")):
        opened = daemon.wait_event("handshake_ok", service=service)
        closed = daemon.wait_event("session_close", service=service)
        assert opened.fields["peer"] == closed.fields["peer"] == peer
        assert closed.fields["src"].startswith("127.0.0.1:")
        assert (closed.fields["bytes_out"], closed.fields["bytes_in"]) == ("12", "12")
        assert float(closed.fields["duration_s"]) < 60


def test_the_log_can_be_json(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, log_format="json", ready=r'"event":"ready"')
    gate.check_honest()
    with gate.connect(keys=ct.KeyPair.generate()) as stranger:
        stranger.frames.wait_closed()
    s.until(lambda: "handshake_reject" in gate.daemon.log.text(), "the refusal is logged")
    for line in gate.daemon.log.text().splitlines():
        fields = json.loads(line)
        assert {"ts", "level", "event"} <= fields.keys()


def test_the_log_goes_to_a_private_file_if_wanted(site: s.Site, echo_backend: s.Backend) -> None:
    path = site.folder / "curvegate.log"
    gate = s.server_end(site, echo_backend, log_file=path, ready=None)
    log = s.Log(path)
    log.wait_event("ready")
    gate.check_honest()
    log.wait_event("session_close")
    assert path.stat().st_mode & 0o007 == 0


def test_no_payload_and_no_session_secret_stands_in_the_log(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, log_level="trace")
    client = open_session(gate)
    assert client.session is not None and client.cookie is not None
    marker = b"PAYLOAD-THAT-NOBODY-LOGS"
    assert client.session.echo(marker) == marker
    client.session.send(marker, counter=99)
    client.frames.wait_closed()
    gate.daemon.wait_event("session_close")
    text = gate.daemon.log.text()
    for secret in (client.session.key, client.short.secret, client.keys.secret, client.cookie.k):
        assert secret.hex() not in text and s.b64(secret) not in text
    assert marker.decode() not in text and marker.hex() not in text
