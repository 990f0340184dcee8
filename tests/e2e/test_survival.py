"""Faults inside the pin check, broken reloads, ends and restarts under load, and signals at random to every process:
whoever may not come in stays out, and no byte of anybody else is touched."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import curve_tun as ct
import pytest
import support as s
from control_pair import control, pair, service

# ---- 42: a fault inside the pin check lets nobody in ----


@contextmanager
def faults(pid: int, *rules: str) -> Iterator[None]:
    """strace attached to a running process: what it injects, from now to the end of the block."""
    s.need_root()
    s.need_tool("strace")
    args = ["strace", "-f", "-p", str(pid), "-e", "trace=" + ",".join(rule.split(":")[0] for rule in rules)]
    for rule in rules:
        args += ["-e", f"inject={rule}"]
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    first = process.stderr.readline().decode()
    if "attached" not in first:
        process.wait(s.PATIENCE)
        s.skip_loudly(f"strace cannot attach here: {first.strip()}")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        yield
    finally:
        process.terminate()
        process.wait(s.PATIENCE)


READ_FAULTS = {
    "openat": "openat:error=EIO",
    "openat without memory": "openat:error=ENOMEM",
    "openat without descriptors": "openat:error=EMFILE",
    "fstat": "newfstatat:error=EIO",
    "read": "read:error=EIO",
    "the second read": "read:error=EIO:when=2+",
    "read that ends at once": "read:retval=0",
}


def is_served(end: s.ClientEnd) -> bool:
    with contextlib.suppress(AssertionError, OSError), end.open() as local:
        return local.echo(b"after") == b"after"
    return False


@pytest.mark.parametrize("fault", READ_FAULTS)
def test_a_vault_that_cannot_read_its_pins_vouches_for_nobody(site: s.Site, fault: str) -> None:
    """known_hosts is written anew with the same pin, and reading it fails: what was read before counts no more."""
    if s.is_sanitized("curvegate-vault"):
        s.skip_loudly("a sanitizer does not live with failing system calls")
    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(ct.echo_handler)
        end = s.client_end(site, server.address, server.keys.public)
        assert is_served(end)
        text = site.known_hosts.read_text()
        with faults(end.daemon.vault_pid, READ_FAULTS[fault]):
            site.known_hosts.write_text(text + "# again\n")
            for _ in range(3):
                with end.open() as local:
                    with contextlib.suppress(OSError):
                        local.send(b"must not pass")
                    assert local.read_to_end() == (b"", "reset")
        site.known_hosts.write_text(text)
        s.until(lambda: is_served(end), "it serves again once the file can be read")


@pytest.mark.parametrize("fault", ["brk,mmap:error=ENOMEM", "brk,mmap:error=ENOMEM:when=2+"])
def test_a_vault_without_memory_does_not_go_on_with_the_pins_of_before(site: s.Site, fault: str) -> None:
    """known_hosts says that the server is revoked, and is too long for the memory that there is."""
    if s.is_sanitized("curvegate-vault"):
        s.skip_loudly("a sanitizer does not live with failing system calls")
    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(ct.echo_handler)
        end = s.client_end(site, server.address, server.keys.public)
        assert is_served(end)
        text = site.known_hosts.read_text()
        vault = end.daemon.vault_pid
        with faults(vault, fault):
            site.known_hosts.write_text("".join(f"# {i:0200}\n" for i in range(5_000)) + "@revoked " + text)
            for _ in range(3):
                with end.open() as local:
                    with contextlib.suppress(OSError):
                        local.send(b"must not pass")
                    assert local.read_to_end() == (b"", "reset")
        assert not s.alive(vault), "there was memory enough, so nothing was tried"
        site.known_hosts.write_text(text)
        s.until(lambda: is_served(end), "the next vault serves")
        end.daemon.log.path.write_text(end.daemon.log.text().replace("terminate called", "ended"))  # as it should


@pytest.mark.parametrize("fault", ["openat:error=EIO", "read:error=EIO", "read:error=ENOMEM", "newfstatat:error=EIO"])
def test_a_daemon_that_cannot_read_its_pins_does_not_start_and_says_so(site: s.Site, fault: str) -> None:
    s.need_tool("strace")
    if s.is_sanitized():
        s.skip_loudly("a sanitizer does not live with failing system calls")
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "*"}
    site.know("laptop", ct.KeyPair.generate().public)
    config = site.write_config({"web": section})
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(site.known_hosts)]
    strace += ["-e", f"trace={fault.split(':')[0]}", "-e", f"inject={fault}"]
    done = s.run([*strace, s.binary("curvegated"), "-c", str(config)], timeout=30)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode in (66, 77) and str(site.known_hosts) in said, (done.returncode, said)
    done = s.run([*strace, s.binary("curvegate"), "check", "-c", str(config), "--peer", "laptop", "--service", "web"])
    said = (done.stdout + done.stderr).decode()
    assert done.returncode not in (0, 1) and str(site.known_hosts) in said and "verdict" not in said


@pytest.mark.parametrize("fault", ["openat:error=EIO", "read:error=EIO", "memfd_create:error=ENOMEM"])
def test_a_reload_that_cannot_read_its_pins_keeps_those_in_force(
    tmp_path: Path, echo_backend: s.Backend, fault: str
) -> None:
    if s.is_sanitized():
        s.skip_loudly("a sanitizer does not live with failing system calls")
    with pair("curve_tun", tmp_path, echo_backend) as ends, ends.client.open() as local:
        stranger = ct.KeyPair.generate()
        assert local.echo(b"before") == b"before"
        ends.far.know("phone", stranger.public)
        with faults(ends.server.pid, fault):
            done = control(ends.far, "reload")
        assert done.returncode != 0, done
        ends.server.wait_event("reload_failed")
        assert local.echo(b"after") == b"after"
        assert service(ends.far, "web")["sessions"] == 1
        gate = s.ServerEnd(ends.far, ends.server, ("127.0.0.1", ends.port), echo_backend, stranger)
        with gate.connect() as client:
            assert client.frames.wait_closed()[1] == b""
        ends.server.wait_event("handshake_reject", reason="not in known_hosts")


class FailingMalloc:
    """Tells failing_malloc.c which allocation fails."""

    def __init__(self, folder: Path) -> None:
        s.need_tool("gcc")
        self.path = folder / "order"
        self.path.write_bytes(bytes(8))
        library = folder / "failing_malloc.so"
        source = Path(__file__).parent / "failing_malloc.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True, timeout=60)
        self.environment = os.environ | {"LD_PRELOAD": str(library), "FAILING_MALLOC": str(self.path)}
        with self.path.open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), 8)

    def fail(self, which: int) -> None:
        """The `which`th allocation from now on; 0: none."""
        self.map[:4] = struct.pack("=i", which)

    @property
    def left(self) -> int:
        return int(struct.unpack_from("=i", self.map)[0])

    @property
    def failed(self) -> int:
        return int(struct.unpack_from("=i", self.map, 4)[0])


def test_an_allocation_that_fails_in_the_handshake_lets_nobody_in(
    site: s.Site, echo_backend: s.Backend, tmp_path: Path
) -> None:
    """A stranger and a revoked key knock; of each try another allocation of the daemon fails."""
    if s.is_sanitized():
        s.skip_loudly("sanitizers have a malloc of their own")
    malloc = FailingMalloc(tmp_path)
    keys = [ct.KeyPair.generate(), ct.KeyPair.generate()]
    site.know("gone", keys[0].public, "@revoked")
    section = {"allow": "laptop, gone"}
    gate = s.server_end(site, echo_backend, section, workers=1, popen={"env": malloc.environment})
    many = 1_000_000
    malloc.fail(many)
    assert not is_let_in(gate, keys[0])
    needed = many - malloc.left  # by a whole handshake to its refusal
    assert needed > 20, "the library is not in use"
    tries = s.scale(12, 5)
    for i, which in enumerate(random.Random(42).sample(range(1, needed + 1), tries)):
        malloc.fail(0)  # what of the last try is left would meet the parent, who starts a new front
        s.until(lambda: is_honestly_served(gate), "an honest client is served between the faults")
        before = len(echo_backend.records)
        malloc.fail(which)
        assert not is_let_in(gate, keys[i % 2]), f"allocation {which} of {needed} failed, and it was let in"
        assert len(echo_backend.records) == before, "the application was reached"
    malloc.fail(0)
    assert malloc.failed > tries // 2  # one needs more allocations than the next
    s.until(lambda: is_honestly_served(gate), "an honest client is served afterwards")
    assert gate.daemon.terminate() == 0
    # A front without memory ends, with words that are a defect in any other test.
    gate.daemon.log.path.write_text(gate.daemon.log.text().replace("terminate called", "ended"))


def is_let_in(gate: s.ServerEnd, keys: ct.KeyPair) -> bool:
    with contextlib.suppress(OSError, ct.Closed), gate.connect(keys=keys) as client:
        assert client.session is not None
        client.session.send(b"let me in")
        return client.frames.wait_closed()[1] != b""
    return False


def is_honestly_served(gate: s.ServerEnd) -> bool:
    with contextlib.suppress(OSError, ct.Closed, AssertionError):
        gate.check_honest()
        return True
    return False


# ---- 43: reloads ----


def test_broken_reloads_one_after_the_other_change_nothing_and_end_nobody(
    tmp_path: Path, echo_backend: s.Backend
) -> None:
    """Each kind of broken file, while bytes flow on many sessions."""
    count = s.scale(50, 20)
    with pair("curve_tun", tmp_path, echo_backend) as ends:
        locals_ = [ends.client.open() for _ in range(count)]
        for local in locals_:
            assert local.echo(b"before") == b"before"
        config, hosts = ends.far.folder / "curvegate.conf", ends.far.known_hosts
        good = {path: path.read_bytes() for path in (config, hosts)}
        spoilt: list[tuple[Path, Callable[[bytes], bytes]]] = [
            (config, lambda text: text[: len(text) // 2]),
            (config, lambda text: b""),
            (config, lambda text: text + b"\xff\xfe\x00junk"),
            (config, lambda text: text + b"x" * 1_000_000),
            (config, lambda text: text.replace(b"known-hosts = ", b"known-hosts = /nonexistent")),
            (hosts, lambda text: text.replace(b"curve25519", b"curve448")),
            (hosts, lambda text: text + b"x" * 1_000_000 + b"\n"),
            (hosts, lambda text: text + bytes(100)),
        ]
        for path, spoil in spoilt:
            path.write_bytes(spoil(good[path]))
            done = control(ends.far, "reload") if path == hosts else None
            if done is None:  # the command reads the same file, to find the socket
                mark = ends.server.mark()
                ends.server.process.send_signal(signal.SIGHUP)
                ends.server.wait_event("reload_failed", since=mark)
            else:
                assert done.returncode != 0 and str(path) in done.stdout.decode() + done.stderr.decode()
            path.write_bytes(good[path])
            assert service(ends.far, "web")["sessions"] == count, path
        for i, local in enumerate(locals_):
            assert local.echo(b"after %d" % i) == b"after %d" % i
        assert control(ends.far, "revoke", "phone").returncode == 0
        for local in locals_:
            assert local.read_to_end() == (b"", "reset")
            local.close()
        assert service(ends.far, "web")["sessions"] == 0


# ---- 44: an end and a restart under load ----


@pytest.mark.parametrize("drain", ["30s", "500ms"])
def test_data_in_flight_at_the_end_is_delivered_or_the_cut_is_told(
    make_tunnel: Callable[..., s.Tunnel], drain: str
) -> None:
    """TERM at the server end while every session carries bytes: whole and an orderly end, or a beginning and a reset.
    The exit status and the log say which."""
    may_read = threading.Event()

    def late(record: s.Record) -> None:
        may_read.wait(60)
        record.read_to_end()

    with s.Backend(late) as backend:
        tunnel = make_tunnel(backend, drain_timeout=drain)
        data = [os.urandom(s.scale(8_000_000, 4_000_000)) for _ in range(10)]  # more than all buffers hold
        senders = [threading.Thread(target=send_and_end, args=(tunnel.open(), part)) for part in data]
        for sender in senders:
            sender.start()
        backend.wait_records(len(data))
        s.until(lambda: all(s.is_readable(record.sock, 0) for record in backend.records), "bytes flow")
        daemon = tunnel.server.daemon
        daemon.expected_exits = {0, 1}
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_event("draining")
        if drain == "30s":
            may_read.set()
        code = daemon.wait_exit(60)
        may_read.set()
        for sender in senders:
            sender.join(s.PATIENCE)
        told = 0
        for record in backend.records:
            assert record.done.wait(s.PATIENCE)
            whole = next((part for part in data if part.startswith(bytes(record.data[:1000]))), None)
            assert whole is not None and whole.startswith(bytes(record.data)), "bytes that nobody sent"
            if record.ended == "eof":
                assert record.size == len(whole), "cut, and it looks like an orderly end"
            else:
                assert record.ended == "reset"
                told += 1
        if drain == "30s":
            assert (code, told) == (0, 0)
        else:
            assert (code, told) == (1, len(data))
            daemon.wait_event("drain_timeout", sessions=f"^{len(data)}$")


def send_and_end(local: s.Local, data: bytes) -> None:
    with contextlib.suppress(OSError), local:
        local.send(data)
        local.half_close()
        local.sock.recv(1)  # until the other end has taken it, or cuts


def test_after_a_restart_under_a_thousand_sessions_everybody_gets_their_own_data(
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_tunnel(echo_backend, drain_timeout="1s")
    count = s.scale(1_000, 500)

    def word(i: int, round_: int) -> bytes:
        return b"client %04d in round %d " % (i, round_) * 20

    def open_all(round_: int) -> list[s.Local]:
        made = [tunnel.open() for _ in range(count)]
        for i, local in enumerate(made):
            local.send(word(i, round_))
        for i, local in enumerate(made):
            assert local.recv_exactly(len(word(i, round_))) == word(i, round_)
        return made

    before = open_all(1)
    tunnel.server.daemon.expected_exits = {1}
    assert tunnel.server.daemon.terminate(60) == 1  # they do not end by themselves
    tunnel.server.daemon.wait_event("drain_timeout", sessions=f"^{count}$")
    for local in before:
        assert local.read_to_end() == (b"", "reset")
        local.close()
    tunnel.server.daemon = tunnel.server.site.run(tunnel.server.site.folder / "curvegate.conf")
    for local in open_all(2):
        local.close()


# ---- 45: signals ----

NUISANCE = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGPIPE, signal.SIGWINCH]


def test_random_signals_to_every_process_lose_no_byte_and_end_nothing(
    make_tunnel: Callable[..., s.Tunnel], echo_backend: s.Backend
) -> None:
    tunnel = make_tunnel(echo_backend)
    daemons = (tunnel.server.daemon, tunnel.client.daemon)
    pids = [pid for daemon in daemons for pid in (daemon.pid, daemon.front_pid, daemon.vault_pid)]
    over = threading.Event()
    sent = dict.fromkeys(pids, 0)
    chance = random.Random(4_500)

    def pester() -> None:
        while not over.is_set():
            pid = chance.choice(pids)
            os.kill(pid, chance.choice(NUISANCE))
            sent[pid] += 1
            time.sleep(chance.random() / 200)

    thread = threading.Thread(target=pester)
    thread.start()
    try:
        standing = tunnel.open()
        rounds = 0
        while rounds < s.scale(40, 15) or min(sent.values()) < 5:
            rounds += 1
            assert standing.echo(b"standing %03d" % rounds) == b"standing %03d" % rounds
            with tunnel.open() as local:
                data = os.urandom(s.scale(2_000_000, 500_000))
                sender = threading.Thread(target=local.send, args=(data,))
                sender.start()
                assert local.recv_exactly(len(data)) == data
                sender.join()
                local.half_close()
                assert local.read_to_end() == (b"", "eof")
        standing.half_close()
        assert standing.read_to_end() == (b"", "eof")
    finally:
        over.set()
        thread.join()
    now = [pid for daemon in daemons for pid in (daemon.pid, daemon.front_pid, daemon.vault_pid)]
    assert now == pids, "a process died of it"


def test_no_process_has_a_signal_handler_at_all(site: s.Site, echo_backend: s.Backend) -> None:
    """What must only set a flag is here not even there: signals are read from a descriptor, or ignored. The C library
    has two of its own for its threads (32 and 33)."""
    if s.is_sanitized():
        s.skip_loudly("sanitizers catch SEGV and the like")
    gate = s.server_end(site, echo_backend)
    gate.check_honest()
    for pid in (gate.daemon.pid, gate.daemon.front_pid, gate.daemon.vault_pid):
        for task in Path(f"/proc/{pid}/task").iterdir():
            caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", (task / "status").read_text(), re.MULTILINE)
            assert caught and int(caught[1], 16) & ~(3 << 31) == 0, f"{pid} catches {caught and caught[1]}"


def test_no_source_installs_a_signal_handler() -> None:
    """A handler is nothing but SIG_IGN or SIG_DFL. Of the commands `connect` hears signals through Asio, whose handler
    writes the number into a pipe and no more."""
    offences = []
    for folder in ("src", "vault", "include"):
        for path in (s.ROOT / folder).rglob("*.[ch]pp"):
            text = re.sub(r"//.*", "", path.read_text())
            for match in re.finditer(r"\bsignal\(([^()]*)\)", text):
                if not re.search(r",\s*SIG_(IGN|DFL)$", match[1]) and "," in match[1]:
                    offences.append(f"{path.name}: {match[0]}")
            if path.relative_to(s.ROOT) == Path("src/cli/connect.cpp"):
                text = re.sub(r"\bsignal_set\b", "", text)
            offences += [f"{path.name}: {word}" for word in re.findall(r"\b(?:sigaction\s*\(|signal_set\b)", text)]
    assert not offences
