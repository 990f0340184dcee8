"""Floods and exhausted limits: honest clients come in, sessions live on."""

from __future__ import annotations

import json
import os
import re
import socket
import time

import curve_tun as ct
import pytest
import support as s


def flood(address: tuple[str, int], count: int, sources: list[str], sent: bytes = b"") -> list[socket.socket]:
    """Opens that many connections, sends the same bytes on each and falls silent."""
    socks = []
    for i in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, ct.IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((sources[i % len(sources)], 0))
        sock.connect_ex(address)
        socks.append(sock)
        if len(socks) % 100 == 0:
            time.sleep(0.002)  # lets the daemon's queue drain
    if sent:
        for sock in socks:
            try:
                sock.send(sent)
            except OSError:
                pass  # refused already, or still on its way: as good as mute
    return socks


STAGES = ["mute", "after half a hello", "after the hello"]


@pytest.mark.parametrize("stage", STAGES)
def test_ten_thousand_silent_connections_do_not_keep_an_honest_client_out(gate: s.ServerEnd, stage: str) -> None:
    count = s.scale(10_000, 2_500)
    hello = ct.frame(ct.hello_packet(gate.key, ct.KeyPair.generate()))
    sent = {"mute": b"", "after half a hello": hello[:60], "after the hello": hello}[stage]
    socks = flood(gate.address, count, ["127.0.0.1"], sent)
    try:
        start = time.monotonic()
        gate.check_honest(source="127.77.0.1")
        print(f"honest client served after {time.monotonic() - start:.2f} s")
    finally:
        for sock in socks:
            sock.close()
    gate.daemon.wait_event(
        "handshake_reject", reason="too many unfinished handshakes from this address|no hello in time|peer closed"
    )
    gate.check_honest()


def test_clients_that_stop_after_half_a_vouch_do_not_keep_an_honest_client_out(gate: s.ServerEnd) -> None:
    clients = []
    try:
        for _ in range(s.scale(2_000, 300)):
            clients.append(gate.dial())
            clients[-1].begin()
            clients[-1].frames.write(ct.frame(clients[-1].vouch())[:100])
        gate.check_honest(source="127.77.0.1")
    finally:
        for client in clients:
            client.close()
    gate.check_honest()


def test_a_full_table_makes_room_for_a_client_of_a_less_crowded_network(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, half_open=200, half_open_per_source=100, hello_timeout="60s")
    crowd = [f"127.1.1.{i}" for i in range(1, 9)]
    socks = flood(gate.address, 400, crowd)
    try:
        gate.daemon.wait_event("handshake_reject", reason="too many unfinished handshakes in all")
        for network in range(2, 12):
            gate.check_honest(source=f"127.2.{network}.1")
    finally:
        for sock in socks:
            sock.close()


def test_refused_for_a_full_table_looks_like_any_refusal(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, half_open_per_source=10, hello_timeout="60s")
    socks = flood(gate.address, 11, ["127.0.0.1"])
    try:
        gate.daemon.wait_event("handshake_reject", reason="too many unfinished handshakes from this address")
        assert not is_served(gate)
    finally:
        for sock in socks:
            sock.close()
    s.until(lambda: is_served(gate), "there is room again")


def is_served(gate: s.ServerEnd) -> bool:
    with gate.dial() as client:
        try:
            client.begin()
            return True
        except ct.Closed:
            assert bytes(client.frames.received) == b""
            return False


def test_established_sessions_live_through_a_flood(gate: s.ServerEnd) -> None:
    with gate.connect() as client:
        assert client.session is not None
        assert client.session.echo(b"echo") == b"echo"
        socks = flood(gate.address, s.scale(4000, 1000), ["127.0.0.1", "127.3.0.1", "127.4.0.1"])
        try:
            for _ in range(20):
                data = os.urandom(5000)
                assert client.session.echo(data) == data
        finally:
            for sock in socks:
                sock.close()


def test_few_descriptors_neither_spin_nor_crash_and_recover(site: s.Site, echo_backend: s.Backend) -> None:
    s.need_tool("prlimit")
    if s.is_sanitized():
        s.skip_loudly("UBSan's check of virtual calls opens a pipe, and reports what is not so when it cannot")
    gate = s.server_end(site, echo_backend, workers=1)
    s.set_descriptors(gate.daemon.front_pid, 20)
    clients = [gate.dial() for _ in range(40)]
    for client in clients:
        client.frames.send(client.hello())
    gate.daemon.wait_event("accept_failed", reason="[Tt]oo many open files")
    front = gate.daemon.front_pid
    before = s.cpu_seconds(front)
    time.sleep(2)
    used = s.cpu_seconds(front) - before
    assert used < 1, f"spins: {used} s of CPU in 2 s"
    for client in clients:
        client.close()
    s.until(lambda: is_honestly_served(gate), "an honest client after the shortage")
    assert gate.daemon.front_pid == front, "the front died of it"


def test_a_daemon_full_of_sessions_is_still_commanded(site: s.Site, echo_backend: s.Backend) -> None:
    """Descriptors are kept back for control and metrics, and limits that cannot be held are lowered aloud."""
    s.need_tool("prlimit")
    if s.is_sanitized():
        s.skip_loudly("a sanitizer holds descriptors of its own")
    wrap = ["prlimit", "--nofile=120:120"]
    control, metrics = site.folder / "control.sock", site.folder / "metrics.sock"
    more = {"control": control, "metrics": f"unix:{metrics}", "workers": 1, "hello_timeout": "10m"}
    gate = s.server_end(site, echo_backend, wrap=wrap, **more)
    told = gate.daemon.wait_event("limits", reason="limit of descriptors is 120.*set LimitNOFILE=")
    assert told.level == "warning"
    most = int(re.findall(r"sessions is lowered to (\d+)", told.fields["reason"])[0])
    sessions = [gate.connect() for _ in range(most)]
    for client in sessions:
        assert client.session is not None
        assert client.session.echo(b"in") == b"in"
    waiting = [gate.dial() for _ in range(120)]
    gate.daemon.wait_event("accept_failed", reason="kept for control and metrics")
    for _ in range(3):
        done = s.curvegate("status", "--json", "--socket", control)
        assert done.returncode == 0, done.stderr.decode()
        assert json.loads(done.stdout)["services"][0]["sessions"] == most
        with socket.socket(socket.AF_UNIX) as scraper:
            scraper.settimeout(s.PATIENCE)
            scraper.connect(str(metrics))
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert scraper.recv(12) == b"HTTP/1.1 200"
    done = s.curvegate("revoke", "laptop", "--socket", control)
    assert done.returncode == 0 and f"sessions ended: {most}" in done.stdout.decode()
    for client in (*sessions, *waiting):
        client.close()


def is_honestly_served(gate: s.ServerEnd) -> bool:
    try:
        gate.check_honest()
        return True
    except (ct.Closed, OSError):
        return False


def test_one_client_over_its_session_cap_harms_only_itself(site: s.Site, echo_backend: s.Backend) -> None:
    tablet = ct.KeyPair.generate()
    site.know("tablet", tablet.public)
    gate = s.server_end(site, echo_backend, {"allow": "laptop, tablet", "sessions_per_peer": 10})

    def connect(keys: ct.KeyPair | None = None) -> ct.Client:
        client = gate.connect(keys=keys)
        assert client.session is not None
        assert client.session.echo(b"in") == b"in"
        return client

    mine = [connect() for _ in range(10)]
    for _ in range(5):
        with gate.connect() as over:
            assert over.frames.wait_closed()[1] == b""
    gate.daemon.wait_event("handshake_reject", reason="too many sessions of this peer")
    connect(tablet).close()
    for client in mine:
        assert client.session is not None
        assert client.session.echo(b"mine go on") == b"mine go on"
    mine.pop().close()

    def fits() -> bool:
        try:
            mine.append(connect())
            return True
        except ct.Closed:
            return False

    s.until(fits, "room for one more after one has ended")
    for client in mine:
        client.close()
