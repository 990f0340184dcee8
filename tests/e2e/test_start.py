"""What the programs inherit and what they lack at their start, and what the parent does about a front in trouble."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import select
import signal
import socket
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import curve_tun as ct
import pytest
import support as s
from terminal import with_terminal

MINIMAL = {"accept": "curve_tun:127.0.0.1:1", "connect": "127.0.0.1:1", "allow": "*"}


def descriptors(pid: int) -> dict[int, str]:
    folder = Path(f"/proc/{pid}/fd")
    return {int(entry.name): os.readlink(entry) for entry in folder.iterdir()}


# ---- what is not there ----


def test_a_missing_state_dir_is_told_with_how_to_make_it(site: s.Site) -> None:
    state = site.folder / "state"
    code, said = site.start_refused({"web": MINIMAL}, state_dir=state)
    assert code == 78 and f"{state}: this folder" in said and "install -d -m 0700 -o USER" in said, said
    state.mkdir(0o700)
    code, said = site.start_refused({"web": MINIMAL}, state_dir=state)
    assert code == 78 and "this folder" not in said and f"{state}/nonce." in said, said  # now it is the counter


@pytest.mark.parametrize("program", ["curvegated", "curvegate", "curvegate-vault"])
def test_a_libsodium_that_does_not_start_stops_every_program(program: str, site: s.Site, tmp_path: Path) -> None:
    if s.is_sanitized():
        s.skip_loudly("a sanitizer must be the first library")
    s.need_tool("gcc")
    source, library = tmp_path / "broken.c", tmp_path / "broken.so"
    source.write_text("int sodium_init(void) { return -1; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    config = site.write_config({"web": MINIMAL})
    arguments = {
        "curvegated": ["-c", str(config)],
        "curvegate": ["check", "-c", str(config)],
        "curvegate-vault": ["--server-key", str(site.key("server").path), "--listen", str(tmp_path / "vault.sock")],
    }[program]
    done = s.run([s.binary(program), *arguments], env=os.environ | {"LD_PRELOAD": str(library)}, timeout=60)
    assert done.returncode == 69 and b"libsodium cannot be initialised" in done.stderr, done
    assert not (tmp_path / "vault.sock").exists()


# ---- what is inherited ----


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_become_dev_null(closed: str, site: s.Site, echo_backend: s.Backend) -> None:
    port = s.free_port()
    section = {"accept": f"curve_tun:127.0.0.1:{port}", "connect": echo_backend.address, "allow": "*"}
    config = site.write_config({"web": section})
    shell = ["sh", "-c", f'exec "$0" -c "$1" {closed}', s.binary("curvegated"), str(config)]
    process = subprocess.Popen(shell, start_new_session=True)
    try:
        s.until(lambda: s.curvegate("status", "-c", config).returncode == 0, "the daemon answers")
        for _ in range(3):  # each is refused, and the vault says so on its standard error
            assert s.curvegate("rotate", "finish", "-c", config).returncode != 0
        pids = [process.pid, *(one.pid for one in s.descendants(process.pid))]
        assert len(pids) == 3
        for pid in pids:
            assert descriptors(pid)[2] == "/dev/null"
            if "<&-" in closed:
                assert descriptors(pid)[0] == descriptors(pid)[1] == "/dev/null"
        process.send_signal(signal.SIGTERM)
        assert process.wait(s.PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert site.run(config).terminate() == 0, "the nonce counter is whole"


@pytest.mark.parametrize("name", ["curvegate", "curvegated", "curvegate-vault"])
def test_every_program_fills_them_before_it_opens_anything(name: str, tmp_path: Path) -> None:
    s.need_tool("strace")
    trace = tmp_path / "trace"
    command = f'exec strace -f -e trace=openat,open -o "{trace}" "{s.binary(name)}" --version >&- 2>&- <&-'
    subprocess.run(["sh", "-c", command], check=False, timeout=60)
    opened = [line for line in trace.read_text().splitlines() if "/dev/null" in line]
    assert [line.rsplit(" ", 1)[1] for line in opened] == ["0", "1", "2"], trace.read_text()


def test_the_front_inherits_no_descriptor_and_no_environment(site: s.Site, echo_backend: s.Backend) -> None:
    secret = site.folder / "inherited"
    secret.write_text("x")
    with secret.open() as file:
        popen = {"pass_fds": [file.fileno()], "env": os.environ | {"TOKEN_OF_A_NEIGHBOUR": "0123456789"}}
        gate = s.server_end(site, echo_backend, popen=popen)
    for process in [gate.daemon.pid, gate.daemon.front_pid, gate.daemon.vault_pid]:
        assert str(secret) not in descriptors(process).values()
    for pid in (gate.daemon.front_pid, gate.daemon.vault_pid):
        assert b"TOKEN_OF_A_NEIGHBOUR" not in Path(f"/proc/{pid}/environ").read_bytes()


# ---- signals that come early ----


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_during_the_start_ends_nobody(number: signal.Signals, site: s.Site, echo_backend: s.Backend) -> None:
    path = site.folder / "server.key"
    seal = [s.binary("curvegate"), "keygen", "--role", "server", "-o", str(path), "--passphrase"]
    assert with_terminal(seal, [b"open sesame\r"] * 2).returncode == 0
    site._keys["server"] = s.Key(path, b"")
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": echo_backend.address, "allow": "*"}
    master, slave = pty.openpty()
    try:
        take_terminal = {"preexec_fn": lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0), "pass_fds": (slave,)}
        daemon = site.start({"web": section}, ready=None, popen=take_terminal)
        asked = b""
        while not asked.endswith(b": "):
            assert select.select([master], [], [], s.PATIENCE)[0], f"no question: {asked!r}"
            asked += os.read(master, 1_000)
        for pid in (daemon.pid, daemon.vault_pid):
            os.kill(pid, number)
        os.write(master, b"open sesame\r")
        daemon.wait_ready(r" ready\b")
        daemon.wait_event("signal", name=number.name.removeprefix("SIG"))
        if number == signal.SIGHUP:
            daemon.wait_event("reloaded", generation="^2$")
        daemon.stop()
    finally:
        os.close(master)
        os.close(slave)


# ---- what is lacking ----


def test_without_a_vault_the_start_says_which_program_is_missing(site: s.Site, echo_backend: s.Backend) -> None:
    alone = site.folder / "alone"
    alone.mkdir()
    program = alone / "curvegated"
    program.write_bytes(Path(s.binary("curvegated")).read_bytes())
    program.chmod(0o755)
    config = site.write_config({"web": MINIMAL | {"accept": f"curve_tun:127.0.0.1:{s.free_port()}"}})
    done = s.run([str(program), "-c", str(config)], env={"PATH": "/nonexistent"})
    assert done.returncode == 69
    assert b"start curvegate-vault: No such file or directory" in done.stderr


def test_without_a_thread_the_start_says_so(nobody_site: s.Site) -> None:
    config = nobody_site.write_config(
        {"web": MINIMAL | {"accept": f"curve_tun:127.0.0.1:{s.free_port()}"}}, workers=64, lock_memory="try"
    )
    s.give_to_nobody(nobody_site.folder)
    # Processes and threads of one user: its own and those of others that run as nobody.
    mine = sum(len(list(Path(f"/proc/{p.pid}/task").iterdir())) for p in s.processes() if owner(p.pid) == 65534)
    wrap = [*s.AS_NOBODY, "prlimit", f"--nproc={mine + 20}", s.binary("curvegated"), "-c", str(config)]
    done = s.run(wrap, timeout=60)
    assert done.returncode == 69, done.stderr
    assert b"a thread for each worker" in done.stderr and b"terminate called" not in done.stderr


def owner(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return -1


def test_a_tmpdir_that_is_missing_is_named(make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend) -> None:
    tunnel = make_tunnel(echo_backend)
    config = tunnel.client.site.folder / "curvegate.conf"
    service = next(line[1:-1] for line in config.read_text().splitlines() if line.startswith("["))
    done = s.curvegate("probe", service, "-c", config, env=os.environ | {"TMPDIR": "/nonexistent"})
    assert done.returncode == 73
    assert b"/nonexistent: No such file or directory" in done.stdout + done.stderr
    assert b"TMPDIR" in done.stdout + done.stderr


# ---- others who do not answer ----


def full_queue(path: Path, kind: int) -> list[socket.socket]:
    """A unix socket whose queue takes nobody more: a blocking connect() would wait for ever."""
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(str(path))
    listener.listen(0)
    held = [listener]
    while True:
        held.append(socket.socket(socket.AF_UNIX, kind))
        held[-1].setblocking(False)
        try:
            held[-1].connect(str(path))
        except BlockingIOError:
            return held


def test_a_file_at_a_sockets_path_is_left_alone_and_called_by_its_name(site: s.Site) -> None:
    path = site.folder / "app.sock"
    path.write_text("kept")
    site.know("server", site.key("server").public)
    section = {"client": "yes", "accept": f"unix:{path}", "connect": "curve_tun:127.0.0.1:1", "peer": "server"}
    code, said = site.start_refused({"app": section})
    assert code == 69 and "what lies there is no socket" in said
    assert path.read_text() == "kept"


def test_a_socket_in_use_whose_queue_is_full_is_not_waited_for(site: s.Site, echo_backend: s.Backend) -> None:
    path = site.folder / "app.sock"
    held = full_queue(path, socket.SOCK_STREAM)
    site.know("server", site.key("server").public)
    section = {"client": "yes", "accept": f"unix:{path}", "connect": "curve_tun:127.0.0.1:1", "peer": "server"}
    code, said = site.start_refused({"app": section})
    assert code == 69 and "another program has it" in said
    for one in held:
        one.close()


def test_term_is_heard_while_the_queue_of_the_vault_is_full(site: s.Site, echo_backend: s.Backend) -> None:
    path = site.folder / "vault.sock"
    held = full_queue(path, socket.SOCK_SEQPACKET)
    gate = s.server_end(site, echo_backend, vault=f"unix:{path}")
    gate.daemon.wait_event("vault_failed", reason="Resource temporarily unavailable")
    assert gate.daemon.terminate() == 0
    for one in held:
        one.close()


# ---- known_hosts behind a link ----


def test_known_hosts_may_be_a_link_as_a_config_map_makes_it(site: s.Site, echo_backend: s.Backend) -> None:
    first, second, data = (site.folder / name for name in ("..first", "..second", "..data"))
    first.mkdir()
    data.symlink_to(first.name)
    gate = s.server_end(site, echo_backend)
    site.known_hosts.rename(first / "known_hosts")
    site.known_hosts.symlink_to("..data/known_hosts")
    gate.daemon.process.send_signal(signal.SIGHUP)
    gate.daemon.wait_event("reloaded", generation="^2$")
    second.mkdir()
    (second / "known_hosts").write_text("# nobody\n")
    link = site.folder / "..data_tmp"
    link.symlink_to(second.name)
    link.rename(data)
    gate.daemon.process.send_signal(signal.SIGHUP)
    gate.daemon.wait_event("reloaded", generation="^3$")
    added = s.curvegate("peers", "add", "tablet", s.b64(gate.client.public), "--known-hosts", site.known_hosts)
    assert added.returncode == 0, added.stderr
    assert site.known_hosts.is_symlink() and "tablet" in (second / "known_hosts").read_text()
    (second / "known_hosts").chmod(0o666)
    refused = s.curvegate("reload", "-c", site.folder / "curvegate.conf")
    assert refused.returncode == 77 and b"run chmod go-w" in refused.stdout + refused.stderr
    (second / "known_hosts").chmod(0o600)


# ---- a front in trouble ----


def test_a_front_that_hangs_is_ended_after_the_drain(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, drain_timeout="1s")
    os.kill(gate.daemon.front_pid, signal.SIGSTOP)
    gate.daemon.process.send_signal(signal.SIGTERM)
    gate.daemon.expected_exits = {1}
    gate.daemon.wait_event("front_hangs", reason="drain-timeout")
    assert gate.daemon.wait_exit() == 1


def raise_to_limit(pid: int) -> None:
    """Leaves the process no descriptor: its limit becomes what it has."""
    most = max(descriptors(pid)) + 1
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))


def hold_more(gate: s.ServerEnd, pid: int, count: int) -> list[socket.socket]:
    most = len(descriptors(pid)) + count
    held = [ct.open_socket(gate.address) for _ in range(count)]
    s.until(lambda: len(descriptors(pid)) >= most, "the front takes them")
    return held


def fill_gaps(gate: s.ServerEnd, pid: int) -> list[socket.socket]:
    """Connections until every number below the front's highest descriptor is taken."""
    held = []
    while len(descriptors(pid)) <= max(descriptors(pid)):
        before = len(descriptors(pid))
        held.append(ct.open_socket(gate.address))
        s.until(lambda: len(descriptors(pid)) > before, "the front takes it")  # noqa: B023
    return held


def test_no_descriptor_left_is_not_the_end_and_what_was_lost_comes_again(
    site: s.Site, echo_backend: s.Backend
) -> None:
    if s.is_sanitized():
        s.skip_loudly("UBSan's check of virtual calls opens a pipe, and reports what is not so when it cannot")
    s.need_root()
    log, audit = site.folder / "log", site.folder / "audit"
    gate = s.server_end(
        site,
        echo_backend,
        log_file=log,
        audit=audit,
        audit_required="yes",
        hello_timeout="60s",
        half_open=1000,
        half_open_per_source=1000,
        ready=None,
    )

    def logged(what: str) -> None:
        s.until(lambda: log.exists() and what in log.read_text(), what)

    logged(" ready ")
    front = gate.daemon.front_pid
    held = fill_gaps(gate, front)
    held += hold_more(gate, front, 20)  # what will be free again, for all that is sent
    raise_to_limit(front)
    log.rename(site.folder / "log.old")
    audit.rename(site.folder / "audit.old")
    gate.daemon.process.send_signal(signal.SIGUSR1)
    config = site.folder / "curvegate.conf"
    with config.open("a") as file:
        file.write(f"\n[more]\naccept = curve_tun:127.0.0.1:{s.free_port()}\nconnect = 127.0.0.1:1\nallow = laptop\n")
    gate.daemon.process.send_signal(signal.SIGHUP)
    for what in ("for=log-file", "for=audit", 'for="the configuration"'):
        logged(what)
    held += [ct.open_socket(gate.address) for _ in range(20)]  # they take what an old vault's end leaves free
    os.kill(gate.daemon.vault_pid, signal.SIGKILL)
    logged('for="a connection to the vault"')
    assert gate.daemon.front_pid == front, "it lives"
    for sock in held:
        sock.close()
    logged("reloaded generation=2")  # by the front, in the new file
    s.until(lambda: "audit_opened" in audit.read_text(), "the new audit")
    with gate.connect() as client:
        assert client.session and client.session.echo(b"echo") == b"echo"
    s.until(lambda: "handshake_ok" in audit.read_text(), "lines in the new audit")
    assert gate.daemon.front_pid == front
