"""The audit file: what is decided stands in it, and a change of it is found; masked addresses in all logs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import curve_tun as ct
import curvecp as cp
import pytest
import support as s

ZEROS = "0" * 64
WIRES = pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])
SEEN = re.compile(r"^(\d+) lines?, from (\d+) \([0-9T:Z-]+\) to (\d+) \([0-9T:Z-]+\), last hash ([0-9a-f]{64})\n$")
Lines = list[dict[str, Any]]
End = s.ServerEnd | s.UdpServerEnd


def audit_of(site: s.Site) -> Path:
    return site.folder / "audit"


def read(*files: Path) -> Lines:
    """The lines of a chain, checked by PROTOCOL 11.5 alone."""
    lines: Lines = []
    for file in files:
        for raw in file.read_bytes().splitlines(keepends=True):
            assert raw.endswith(b'"}\n'), raw
            line = json.loads(raw)
            content = raw[: raw.rindex(b',"hash":')]
            assert line["hash"] == hashlib.blake2b(content, digest_size=32).hexdigest()
            assert line["prev"] == (lines[-1]["hash"] if lines else ZEROS)
            assert line["seq"] == len(lines) + 1
            lines.append(line)
    return lines


def verify(*files: Path) -> subprocess.CompletedProcess[bytes]:
    return s.curvegate("audit", "verify", *files)


def check(*files: Path) -> Lines:
    """As read(), and the command says so too."""
    lines = read(*files)
    done = verify(*files)
    seen = SEEN.match(done.stdout.decode())
    assert done.returncode == 0 and seen, (done.stdout, done.stderr)
    assert seen.groups() == (str(len(lines)), "1", str(len(lines)), lines[-1]["hash"])
    return lines


def having(lines: Lines, event: str, **wanted: Any) -> Lines:
    return [line for line in lines if line["event"] == event and wanted.items() <= line.items()]


def wait_line(path: Path, event: str, **wanted: Any) -> dict[str, Any]:
    found = s.until(lambda: having(read(path), event, **wanted), f"a line {event} {wanted}")
    return found[0]


def start(wire: str, site: s.Site, backend: s.Backend, **more: Any) -> End:
    make = s.udp_server_end if wire == "curvecp" else s.server_end
    return make(site, backend, **({"audit": audit_of(site)} | more))


def control(site: s.Site, *words: str) -> subprocess.CompletedProcess[bytes]:
    return s.curvegate(*words, "--socket", site.folder / "control.sock")


def stranger(gate: End, keys: ct.KeyPair) -> None:
    """Tries to get in, and is not told why not."""
    if isinstance(gate, s.ServerEnd):
        with gate.connect(keys=keys) as client:
            assert client.session is not None
            client.session.frames.wait_closed()
        return
    with gate.dial(keys=keys) as client:
        client.begin()
        client.send(client.initiate())


def open_session(gate: End) -> Any:
    client = gate.connect()
    speaker = client.session if isinstance(gate, s.ServerEnd) else client.stream
    assert speaker.echo(b"echo hello") == b"echo hello"
    return client


# ---- what stands in it ----


@WIRES
def test_decisions_stand_in_their_order(wire: str, site: s.Site, echo_backend: s.Backend) -> None:
    phone = ct.KeyPair.generate()
    site.know("phone", phone.public)
    gate = start(wire, site, echo_backend)
    path = audit_of(site)
    assert path.stat().st_mode & 0o777 == 0o600
    client = open_session(gate)
    stranger(gate, phone)
    nobody = ct.KeyPair.generate()
    stranger(gate, nobody)
    wait_line(path, "handshake_reject", key=s.b64(nobody.public))
    assert control(site, "revoke", "laptop").returncode == 0
    client.close()
    wait_line(path, "session_end")
    site.write_known_hosts()
    site.know("tablet", ct.KeyPair.generate().public)
    assert control(site, "reload").returncode == 0
    config = site.folder / "curvegate.conf"
    good = config.read_text()
    config.write_text(good + "bad\n")
    assert control(site, "reload").returncode != 0
    config.write_text(good)
    gate.daemon.process.send_signal(signal.SIGHUP)
    wait_line(path, "reload_ok", by="signal")
    gate.daemon.stop()

    lines = check(path)
    me = f"uid {os.geteuid()}"
    ours, theirs = s.b64(gate.client.public), s.b64(phone.public)
    assert [line["event"] for line in lines] == [
        "start", "handshake_ok", "handshake_reject", "handshake_reject", "revoke", "session_end",
        "reload_ok", "reload_failed", "reload_ok", "drain", "stop",
    ]  # fmt: skip
    wanted: Lines = [
        {"reason": s.curvegate("--version").stdout.decode().strip(), "generation": 1},
        {"service": "web", "peer": "laptop", "key": ours, "generation": 1},
        {"peer": "phone", "key": theirs, "reason": "the key's name is not in the service's allow list"},
        {"peer": "", "key": s.b64(nobody.public), "reason": "the key is not in known_hosts", "count": 1},
        {"peer": "laptop", "key": ours, "by": me},
        {"service": "web", "peer": "laptop", "key": ours, "reason": "the key is revoked"},
        {"by": me, "generation": 2, "count": 1},
        {"by": me, "generation": 2},
        {"by": "signal", "generation": 3, "count": 0},
        {"by": "signal", "reason": "TERM"},
        {},
    ]
    for line, fields in zip(lines, wanted, strict=True):
        assert fields.items() <= line.items(), line
    assert "curvegate.conf:" in lines[7]["reason"]
    assert all(line["src"].startswith("127.0.0.1:") for line in lines[1:4])


@WIRES
def test_a_client_end_writes_down_which_server_it_trusts(
    wire: str,
    make_tunnel: Callable[..., s.Tunnel],
    make_udp_tunnel: Callable[..., s.UdpTunnel],
    echo_backend: s.Backend,
) -> None:
    make = make_udp_tunnel if wire == "curvecp" else make_tunnel
    tunnel = make(echo_backend, client={"connect_timeout": "3s"})
    near = tunnel.client.site
    path = audit_of(near)
    config = near.folder / "curvegate.conf"
    # A reload adds the file, and later takes it away.
    plain = config.read_text()
    config.write_text(f"audit = {path}\n{plain}")
    assert b"~ audit" in control(near, "reload").stdout
    with tunnel.open() as local:
        assert local.echo(b"echo this") == b"echo this"
    near.peers.clear()
    near.know("gate", ct.KeyPair.generate().public)
    assert control(near, "reload").returncode == 0
    with tunnel.open() as local:
        local.read_to_end()
    wait_line(path, "handshake_reject")
    config.write_text(plain)
    assert control(near, "reload").returncode == 0
    lines = s.until(lambda: (found := read(path)) and len(found) >= 6 and found, "its last line")
    with tunnel.open() as local:
        local.read_to_end()
    check(path)
    assert [line["event"] for line in lines][:3] == ["audit_opened", "reload_ok", "handshake_ok"]
    assert having(lines, "handshake_ok", service="app", peer="gate", key=s.b64(tunnel.server.key))
    assert having(lines, "handshake_reject", service="app", peer="gate")
    assert lines[-1]["event"] == "reload_ok"
    assert read(path) == lines, "lines are written after the file was taken away"


@pytest.mark.parametrize(
    ("known", "service", "reason"),
    [
        ("@revoked", {}, "the key is revoked"),
        ("valid-until=2020-01-01", {}, "the key's line has expired (valid-until=)"),
        ("from=192.0.2.0/24", {}, "the key may not be used from this address (from=)"),
        ("", {"sessions_per_peer": 1}, "too many sessions of this peer (sessions-per-peer)"),
    ],
    ids=["revoked", "expired", "address", "too-many"],
)
@WIRES
def test_a_known_key_that_is_refused_is_named_with_the_reason(
    wire: str, site: s.Site, echo_backend: s.Backend, known: str, service: dict[str, Any], reason: str
) -> None:
    gate = start(wire, site, echo_backend, service=service, known=known, drain_timeout="1s")
    gate.daemon.expected_exits = {0, 1}
    first = open_session(gate) if service else None
    stranger(gate, gate.client)
    wait_line(
        audit_of(site), "handshake_reject", peer="laptop", key=s.b64(gate.client.public), service="web", reason=reason
    )
    assert len(having(read(audit_of(site)), "handshake_ok")) == (1 if service else 0)
    if first:
        first.close()


def test_a_service_that_nobody_has_is_refused_with_the_key(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.udp_server_end(site, echo_backend, audit=audit_of(site))
    with gate.dial(name="other") as client:
        client.begin()
        client.send(client.initiate())
    reason = "no service has the name that was asked for"
    wait_line(audit_of(site), "handshake_reject", key=s.b64(gate.client.public), reason=reason)


def test_an_expiry_that_ends_a_session_stands_there(site: s.Site, echo_backend: s.Backend) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=8)
    gate = start("curve_tun", site, echo_backend, known=f"valid-until={soon:%Y-%m-%dT%H:%M:%SZ}")
    client = open_session(gate)
    wait_line(audit_of(site), "session_end", peer="laptop", reason="the key's line has expired (valid-until=)")
    client.close()


def test_a_reload_that_closes_a_udp_port_writes_down_whom_it_ended(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.udp_server_end(site, echo_backend, audit=audit_of(site))
    client = open_session(gate)
    section = {"accept": f"curvecp:127.0.0.1:{s.free_port()}", "connect": echo_backend.address, "allow": "laptop"}
    site.write_config({"web": section}, audit=audit_of(site))
    assert control(site, "reload").returncode == 0
    line = wait_line(audit_of(site), "session_end", reason="a reload closed its port")
    assert line["peer"] == "laptop" and line["key"] == s.b64(gate.client.public)
    client.close()


def test_a_flood_of_strangers_costs_few_lines_and_every_one_is_counted(site: s.Site, echo_backend: s.Backend) -> None:
    gate = start("curve_tun", site, echo_backend)
    tries = 60
    for _ in range(tries):
        stranger(gate, ct.KeyPair.generate())
    known = s.until(lambda: status(site)["refusals"].get("client is not authorised", 0) == tries, "all were refused")
    assert known
    gate.daemon.stop()
    lines = having(check(audit_of(site)), "handshake_reject")
    assert sum(line["count"] for line in lines) == tries
    assert 20 <= len(lines) < 40


def status(site: s.Site) -> dict[str, Any]:
    return json.loads(control(site, "status", "--json").stdout)


# ---- changes are found ----


@pytest.fixture(scope="module")
def written(module_site: Callable[[str], s.Site]) -> Iterator[Path]:
    """A file of a few lines, of a daemon that has ended."""
    site = module_site("written")
    with s.Backend(s.echo) as backend:
        gate = start("curve_tun", site, backend)
        for _ in range(2):
            gate.check_honest()
        gate.daemon.stop()
    yield audit_of(site)


def test_a_changed_byte_is_named_by_its_line(written: Path, tmp_path: Path) -> None:
    good = written.read_bytes()
    copy = tmp_path / "copy"
    for at in range(0, len(good), s.scale(11, 37)):
        bad = bytearray(good)
        bad[at] ^= 1
        copy.write_bytes(bad)
        done = verify(copy)
        line = good.count(b"\n", 0, at) + 1
        assert done.returncode == 65 and done.stdout == b"", (at, done.stdout)
        assert done.stderr.decode().startswith(f"curvegate: {copy}:{line}: "), (at, done.stderr)


def test_lines_left_out_and_a_torn_end_are_told(written: Path, tmp_path: Path) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    copy = tmp_path / "copy"
    for content, words in [
        (lines[0] + b"".join(lines[2:]), ":2: number 3 after 1: the line's number is not the next one"),
        (b"".join(lines)[:-1], f":{len(lines)}: the last line is incomplete"),
        (b"something else\n", ":1: not a line of an audit file"),
    ]:
        copy.write_bytes(content)
        done = verify(copy)
        assert done.returncode == 65 and words in done.stderr.decode(), done.stderr
    copy.write_bytes(b"".join(lines[1:]))
    assert f"{len(lines) - 1} lines, from 2 " in verify(copy).stdout.decode(), "a rotated file alone"
    assert verify(tmp_path / "missing").returncode == 66
    assert s.curvegate("audit", "verify").returncode == 64
    assert s.curvegate("audit", "show", copy).returncode == 64


# ---- when it cannot be written ----


@contextmanager
def full(pid: int, path: Path, room: int = 0) -> Iterator[None]:
    """No file of the process may become longer than this one is, and `room` bytes."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (path.stat().st_size + room, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def outgrow_the_log(gate: End) -> None:
    """The limit is one for all files of the process: so the log must be the shorter one."""
    path = audit_of(gate.site)
    for _ in range(200):
        if path.stat().st_size > gate.daemon.mark() + 6_000:
            return
        gate.check_honest()
    raise AssertionError("the log grows faster")


def is_refused(gate: End) -> bool:
    if isinstance(gate, s.ServerEnd):
        with gate.connect() as client:
            assert client.session is not None
            try:
                client.session.echo(b"echo")
                return False
            except (ct.Closed, OSError):
                return True
    with gate.dial() as client:
        try:
            client.handshake()
            return False
        except TimeoutError:
            return True


@pytest.mark.parametrize("room", [0, 100], ids=["no-byte", "a-part"])
def test_required_and_full_means_no_new_session(site: s.Site, echo_backend: s.Backend, room: int) -> None:
    gate = start("curve_tun", site, echo_backend, audit_required="yes")
    path = audit_of(site)
    outgrow_the_log(gate)
    before = len(read(path))
    running = open_session(gate)
    with full(gate.daemon.front_pid, path, room):
        assert is_refused(gate) and is_refused(gate)
        assert len(read(path)) == before + 1, "what was begun of a line stands there"
        assert running.session.echo(b"echo on") == b"echo on", "a session that ran is ended"
        gate.daemon.wait_event("handshake_reject", reason="^audit_unavailable$", peer="^laptop$")
        gate.daemon.wait_event("audit_failed")
        shown = status(site)
        assert shown["refusals"] == {"audit_unavailable": 2} and shown["audit_failures"] == 2
    gate.check_honest()
    running.close()
    gate.daemon.wait_event("audit_written_again", lost="^2$")
    assert len(gate.daemon.events("audit_failed")) == 1, "told once, however many lines it costs"
    lines = check(path)
    assert [line["event"] for line in lines[before:]] == ["handshake_ok", "lines_lost", "handshake_ok"]
    assert lines[before + 1]["count"] == 2


def test_required_and_full_over_udp(site: s.Site, echo_backend: s.Backend) -> None:
    gate = start("curvecp", site, echo_backend, audit_required="yes")
    outgrow_the_log(gate)
    with full(gate.daemon.front_pid, audit_of(site)):
        with gate.dial() as client:
            client.begin()
            client.send(client.initiate())
            gate.daemon.wait_event("handshake_reject", reason="^audit_unavailable$")
    gate.check_honest()
    assert having(check(audit_of(site)), "lines_lost")


def test_required_and_full_holds_on_the_client_end_too(
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend, tmp_path: Path
) -> None:
    tunnel = make_tunnel(echo_backend)
    near = tunnel.client.site
    path = audit_of(near)
    config = near.folder / "curvegate.conf"
    config.write_text(f"audit = {path}\naudit-required = yes\n{config.read_text()}")
    assert control(near, "reload").returncode == 0
    path_size = path.stat().st_size
    while path.stat().st_size < tunnel.client.daemon.mark() + 6_000:
        with tunnel.open() as local:
            assert local.echo(b"echo") == b"echo"
    assert path.stat().st_size > path_size
    with full(tunnel.client.daemon.front_pid, path):
        with tunnel.open() as local:
            assert local.read_to_end() == (b"", "reset")
        tunnel.client.daemon.wait_event("connect_failed", reason="^audit_unavailable$")
    with tunnel.open() as local:
        assert local.echo(b"echo again") == b"echo again"
    check(path)


def test_not_required_and_full_costs_lines_alone(site: s.Site, echo_backend: s.Backend) -> None:
    gate = start("curve_tun", site, echo_backend)
    path = audit_of(site)
    outgrow_the_log(gate)
    before = len(read(path))
    with full(gate.daemon.front_pid, path):
        for _ in range(3):
            gate.check_honest()
        assert status(site)["audit_failures"] == 3
        assert b"audit: 3 records were not written" in control(site, "status").stdout
    gate.check_honest()
    lines = check(path)
    assert [line["event"] for line in lines[before:]] == ["lines_lost", "handshake_ok"]
    assert lines[before]["count"] == 3


# ---- its life ----


def test_the_chain_goes_on_after_kills_and_torn_lines(site: s.Site, echo_backend: s.Backend) -> None:
    gate = start("curve_tun", site, echo_backend)
    path = audit_of(site)
    gate.check_honest()
    mark = gate.daemon.mark()
    os.kill(gate.daemon.front_pid, signal.SIGKILL)
    gate.daemon.wait_event("ready", since=mark)
    gate.check_honest()
    family = gate.daemon.family()
    gate.daemon.kill()
    gate.daemon.expected_exits = {-9}
    s.until(lambda: not any(s.alive(process.pid) for process in family), "the front has gone")
    with path.open("ab") as file:
        file.write(b'{"seq":6,"ts":"20' + bytes(5_000))
    assert verify(path).returncode == 65
    gate.daemon = site.run(site.folder / "curvegate.conf")
    gate.check_honest()
    gate.daemon.stop()
    events = [line["event"] for line in check(path)]
    assert events[:4] == ["start", "handshake_ok", "start", "handshake_ok"]
    assert events[-5:] == ["torn_line", "start", "handshake_ok", "drain", "stop"]


def test_usr1_goes_on_in_a_new_file(site: s.Site, echo_backend: s.Backend) -> None:
    gate = start("curve_tun", site, echo_backend)
    path, old = audit_of(site), site.folder / "audit.1"
    gate.check_honest()
    mark = gate.daemon.mark()
    gate.daemon.process.send_signal(signal.SIGUSR1)
    gate.daemon.wait_event("signal", since=mark, action="^open audit again$")
    gate.check_honest()
    assert len(read(path)) == 3, "a file that nobody moved is begun again"
    path.rename(old)
    gate.daemon.process.send_signal(signal.SIGUSR1)
    gate.daemon.wait_event("audit_reopened", since=mark)
    gate.check_honest()
    gate.daemon.stop()
    lines = check(old, path)
    assert [line["event"] for line in lines[3:]] == ["audit_opened", "handshake_ok", "drain", "stop"]
    assert json.loads(path.read_text().splitlines()[0])["prev"] == read(old)[-1]["hash"]
    assert verify(path, old).returncode == 65


def test_what_cannot_be_a_chain_is_refused_and_left_alone(site: s.Site, echo_backend: s.Backend) -> None:
    gate = start("curve_tun", site, echo_backend)
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": echo_backend.address, "allow": "laptop"}
    refused: dict[str, Any] = {"control": site.folder / "other.sock", "audit": audit_of(site)}
    code, told = site.start_refused({"web": section}, **refused)
    assert code == 69 and "another daemon writes it" in told
    gate.daemon.stop()
    alien = site.folder / "alien"
    for content, mode, words in [
        (b"words\n", 0o600, "not a line of an audit file"),
        (b"words", 0o600, "not a line of an audit file"),
        (audit_of(site).read_bytes().replace(b"stop", b"stup"), 0o600, "hash"),
        (b"", 0o622, "chmod go-w"),
    ]:
        alien.write_bytes(content)
        alien.chmod(mode)
        code, told = site.start_refused({"web": section}, **(refused | {"audit": alien}))
        assert code == 69 and words in told, told
        assert alien.read_bytes() == content
    config = site.write_config({"web": section}, audit_required="yes")
    done = s.curvegate("check", "-c", config)
    assert done.returncode == 78 and b"audit-required needs audit = PATH" in done.stderr


# ---- masked addresses ----


@WIRES
def test_masked_addresses_stand_nowhere(wire: str, site: s.Site, echo_backend: s.Backend) -> None:
    metrics = site.folder / "metrics.sock"
    gate = start(wire, site, echo_backend, log_addresses="masked", metrics=f"unix:{metrics}", log_level="trace")
    source = "127.0.0.77"
    events = subprocess.Popen(
        [s.binary("curvegate"), "events", "--socket", str(site.folder / "control.sock")], stdout=subprocess.PIPE
    )
    try:
        client = gate.connect(source)
        shown = s.until(lambda: status(site)["connections"], "the session")
        assert shown[0]["src"] == "127.0.0.0/24"
        outputs = [json.dumps(status(site)), control(site, "status").stdout.decode()]
        if isinstance(client, cp.Client):
            client.leave()
        else:
            client.close()
        nobody = ct.KeyPair.generate()
        if isinstance(gate, s.ServerEnd):
            with gate.connect(source, nobody) as refused:
                assert refused.session is not None
                refused.session.frames.wait_closed()
        else:
            with gate.dial(source, nobody) as knocking:
                knocking.begin()
                knocking.send(knocking.initiate())
            junk = cp.Client(gate.address, gate.key, nobody, "web", source=source)
            junk.begin()
            junk.send(junk.initiate(k=os.urandom(96)))
            gate.daemon.wait_event("packet_drop", src="^127.0.0.0/24$")
            junk.close()
        gate.daemon.wait_event("handshake_reject", src="^127.0.0.0/24$")
        wait_line(audit_of(site), "handshake_reject", src="127.0.0.0/24")
        page = s.run(["curl", "-s", "--unix-socket", str(metrics), "http://localhost/metrics"])
        outputs.append(page.stdout.decode())
        gate.daemon.stop()
    finally:
        events.terminate()
        outputs.append(events.communicate()[0].decode())
    assert "handshake_reject" in outputs[-1]
    outputs += [gate.daemon.log.text(), audit_of(site).read_text()]
    for output in outputs:
        assert output and source not in output


def test_a_flow_of_datagrams_is_masked_too(site: s.Site) -> None:
    port = s.free_port()
    server = ct.KeyPair.generate()
    with ct.Server(server) as tunnel:
        tunnel.serve(ct.echo_handler)
        section = {"accept": f"udp:127.0.0.1:{port}"}
        end = s.client_end(site, tunnel.address, server.public, section, log_addresses="masked", audit=audit_of(site))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.78", 0))
            sock.settimeout(s.PATIENCE)
            sock.sendto(b"echo", ("127.0.0.1", port))
            assert sock.recv(100) == b"echo"
            assert status(site)["connections"][0]["src"] == "127.0.0.0/24"
        end.daemon.stop()
    assert having(check(audit_of(site)), "handshake_ok", src="127.0.0.0/24")
    assert "127.0.0.78" not in end.daemon.log.text() + audit_of(site).read_text()
