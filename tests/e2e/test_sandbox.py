"""What is forbidden is tried from inside: parent, front (both kinds of its threads) and vault of a running daemon are
made to do each call (syscalls.py), and must be refused. A process without a sandbox is made to do the same, so that
nothing counts as refused that would fail anyway. Where processes cannot be traced, tests/unit/os_sandbox.cpp still
tries most of it in processes that call the same confine()."""

from __future__ import annotations

import base64
import ctypes
import errno
import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import curve_tun as ct
import pytest
import support as s
import syscalls
from syscalls import Tracee
from terminal import with_terminal

PARENT, FRONT, WORKER, VAULT = "parent", "front", "worker", "vault"
EVERYBODY = frozenset({PARENT, FRONT, WORKER, VAULT})
NOBODY: frozenset[str] = frozenset()
REFUSED = {-errno.EPERM, -errno.EACCES, -errno.ENOSYS}

AT_FDCWD = -100
O_WRONLY, O_RDWR, O_CREAT = os.O_WRONLY, os.O_RDWR, os.O_CREAT
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE_ANONYMOUS = 0x22
PR_SET_DUMPABLE, PR_SET_PTRACER = 4, 0x59616D61
PTRACE_SEIZE = 0x4206


@dataclass(frozen=True)
class Scene:
    """What the calls are aimed at."""

    other: int  # another process of the daemon
    outsider: int  # a process that has nothing to do with it
    key: bytes  # the server's key file
    inside: bytes  # a file in the daemon's folder
    elsewhere: bytes  # a file in a folder that is not the daemon's
    new: bytes  # beside it, not there


Call = Callable[[Tracee, Scene], int]


@dataclass(frozen=True)
class Attempt:
    name: str
    call: Call
    allowed: frozenset[str] = NOBODY  # who may, by design


def make_executable(t: Tracee, _: Scene) -> int:
    page = t.call("mmap", 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0)
    assert page > 0, page
    return t.call("mprotect", page, 4096, PROT_READ | PROT_EXEC)


def proc(name: str) -> Call:
    return lambda t, at: t.call("open", f"/proc/{at.other}/{name}".encode(), os.O_RDONLY)


ATTEMPTS = [
    # programs and processes
    Attempt("execve", lambda t, at: t.call("execve", b"/bin/true", 0, 0)),
    Attempt("execveat", lambda t, at: t.call("execveat", AT_FDCWD, b"/bin/true", 0, 0, 0)),
    Attempt("fork", lambda t, at: t.call("fork")),
    Attempt("vfork", lambda t, at: t.call("vfork")),
    Attempt("clone with a user namespace", lambda t, at: t.call("clone", CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)),
    Attempt("clone3", lambda t, at: t.call("clone3", 0, 0)),
    # other processes
    Attempt("ptrace of a sibling", lambda t, at: t.call("ptrace", PTRACE_SEIZE, at.other, 0, 0)),
    Attempt("ptrace of an outsider", lambda t, at: t.call("ptrace", PTRACE_SEIZE, at.outsider, 0, 0)),
    Attempt("process_vm_readv", lambda t, at: t.call("process_vm_readv", at.other, 0, 0, 0, 0, 0)),
    Attempt("process_vm_writev", lambda t, at: t.call("process_vm_writev", at.outsider, 0, 0, 0, 0, 0)),
    Attempt("/proc/PID/mem of a sibling", proc("mem")),
    Attempt("/proc/PID/environ of a sibling", proc("environ")),
    Attempt("kill of a sibling", lambda t, at: t.call("kill", at.other, 0)),
    Attempt("kill of an outsider", lambda t, at: t.call("kill", at.outsider, signal.SIGKILL)),
    Attempt("tkill of an outsider", lambda t, at: t.call("tkill", at.outsider, signal.SIGCONT)),
    Attempt("pidfd_open", lambda t, at: t.call("pidfd_open", at.other, 0)),
    Attempt("pidfd_getfd", lambda t, at: t.call("pidfd_getfd", -1, 0, 0)),
    # sockets
    Attempt(
        "a route socket", lambda t, at: t.call("socket", socket.AF_NETLINK, socket.SOCK_RAW, 0), frozenset({PARENT})
    ),
    Attempt("a generic netlink socket", lambda t, at: t.call("socket", socket.AF_NETLINK, socket.SOCK_RAW, 16)),
    Attempt("a packet socket", lambda t, at: t.call("socket", socket.AF_PACKET, socket.SOCK_RAW, 0)),
    Attempt("a key socket of the kernel", lambda t, at: t.call("socket", socket.AF_ALG, socket.SOCK_SEQPACKET, 0)),
    Attempt("a tcp socket", lambda t, at: t.call("socket", socket.AF_INET, socket.SOCK_STREAM, 0), EVERYBODY - {VAULT}),
    Attempt("a udp socket", lambda t, at: t.call("socket", socket.AF_INET6, socket.SOCK_DGRAM, 0), EVERYBODY - {VAULT}),
    Attempt(
        "a unix socket", lambda t, at: t.call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0), EVERYBODY - {VAULT}
    ),
    Attempt("connect", lambda t, at: t.call("connect", -1, 0, 0), EVERYBODY - {VAULT}),
    Attempt("bind", lambda t, at: t.call("bind", -1, 0, 0), frozenset({PARENT})),
    Attempt("listen", lambda t, at: t.call("listen", -1, 0), frozenset({PARENT})),
    # files
    Attempt("reading /etc/shadow", lambda t, at: t.call("open", b"/etc/shadow", os.O_RDONLY), frozenset({PARENT})),
    Attempt("reading the key file", lambda t, at: t.call("open", at.key, os.O_RDONLY), frozenset({PARENT, VAULT})),
    Attempt("writing a file of its own folder", lambda t, at: t.call("open", at.inside, O_RDWR), frozenset({PARENT})),
    Attempt("writing elsewhere", lambda t, at: t.call("open", at.elsewhere, O_WRONLY)),
    Attempt("making a file elsewhere", lambda t, at: t.call("openat", AT_FDCWD, at.new, O_WRONLY | O_CREAT, 0o600)),
    Attempt("openat2", lambda t, at: t.call("openat2", AT_FDCWD, at.elsewhere, [os.O_RDONLY, 0, 0], 24)),
    Attempt("open_by_handle_at", lambda t, at: t.call("open_by_handle_at", -1, 0, 0)),
    Attempt("unlink", lambda t, at: t.call("unlink", at.inside), frozenset({PARENT})),
    Attempt("unlink elsewhere", lambda t, at: t.call("unlink", at.elsewhere)),
    Attempt("rename", lambda t, at: t.call("rename", at.inside, at.inside + b".new"), frozenset({PARENT})),
    Attempt("rename elsewhere", lambda t, at: t.call("rename", at.elsewhere, at.new)),
    Attempt("rename out of the folder", lambda t, at: t.call("rename", at.inside, at.new)),
    Attempt("mkdir", lambda t, at: t.call("mkdir", at.new, 0o700)),
    Attempt("mknod", lambda t, at: t.call("mknod", at.new, 0o20600, 0x103)),
    Attempt("link", lambda t, at: t.call("link", at.elsewhere, at.new)),
    Attempt("symlink", lambda t, at: t.call("symlink", b"/etc/shadow", at.new)),
    Attempt("chmod", lambda t, at: t.call("chmod", at.elsewhere, 0o777)),
    # the system
    Attempt("mount", lambda t, at: t.call("mount", 0, 0, 0, 0, 0)),
    Attempt("pivot_root", lambda t, at: t.call("pivot_root", 0, 0)),
    Attempt("chroot", lambda t, at: t.call("chroot", b"/tmp")),
    Attempt("unshare", lambda t, at: t.call("unshare", CLONE_NEWNET)),
    Attempt("setns", lambda t, at: t.call("setns", -1, 0)),
    Attempt("setuid", lambda t, at: t.call("setuid", 0)),
    Attempt("setgid", lambda t, at: t.call("setgid", 0)),
    Attempt("capset", lambda t, at: t.call("capset", 0, 0)),
    Attempt("bpf", lambda t, at: t.call("bpf", 99, 0, 0)),
    Attempt("keyctl", lambda t, at: t.call("keyctl", 0, -1, 1)),
    Attempt("io_uring_setup", lambda t, at: t.call("io_uring_setup", 1, 0)),
    Attempt("userfaultfd", lambda t, at: t.call("userfaultfd", 0)),
    Attempt("perf_event_open", lambda t, at: t.call("perf_event_open", 0, -1, -1, -1, 0)),
    Attempt("init_module", lambda t, at: t.call("init_module", 0, 0, 0)),
    Attempt("personality", lambda t, at: t.call("personality", 0xFFFFFFFF)),
    # its own memory and state
    Attempt(
        "memory that is writable and executable",
        lambda t, at: t.call("mmap", 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE_ANONYMOUS, -1, 0),
    ),
    Attempt("making memory executable", make_executable),
    Attempt("a memory file that can be executed", lambda t, at: t.call("memfd_create", b"x", 0)),
    Attempt("becoming dumpable", lambda t, at: t.call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)),
    Attempt("letting others trace it", lambda t, at: t.call("prctl", PR_SET_PTRACER, -1, 0, 0, 0)),
]

# What a kernel before this ABI of Landlock, or before memory files that are never executable, cannot refuse.
NEEDS_LANDLOCK_ABI = {("kill of an outsider", PARENT): 6}


def landlock_abi() -> int:
    return max(0, int(ctypes.CDLL(None).syscall(444, None, 0, 1)))


def has_sealed_memory_files() -> bool:
    try:
        os.close(os.memfd_create("probe", 0x8))
        return True
    except OSError:
        return False


@contextmanager
def outsider() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        # It waits once its program runs.
        s.until(lambda: Path(f"/proc/{process.pid}/syscall").read_text().split()[0] in {"35", "230"}, "it sleeps")
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with what it may have forked
        process.wait(s.PATIENCE)


@pytest.fixture
def scene(site: s.Site, tmp_path: Path) -> Iterator[Scene]:
    with outsider() as pid:
        away = tmp_path / "elsewhere"
        away.mkdir()
        yield Scene(
            0,
            pid,
            bytes(site.key("server").path),
            bytes(site.folder / "known_hosts.tmp"),
            bytes(away / "file"),
            bytes(away / "new"),
        )


def set_up(at: Scene) -> None:
    """Each call finds the same files."""
    for path in (at.inside, at.elsewhere):
        Path(os.fsdecode(path)).write_text("x")
    new = Path(os.fsdecode(at.new))
    if new.is_dir():
        new.rmdir()
    new.unlink(missing_ok=True)


def aimed(at: Scene, other: int) -> Scene:
    return Scene(other, at.outsider, at.key, at.inside, at.elsewhere, at.new)


def try_all(who: str, pid: int, at: Scene) -> dict[str, int]:
    results = {}
    for attempt in ATTEMPTS:
        set_up(at)
        with syscalls.attached(pid) as tracee:
            results[attempt.name] = attempt.call(tracee, at)
        print(f"{who}: {attempt.name}: {results[attempt.name]}")
    return results


def unconfined(at: Scene) -> dict[str, int]:
    """The same calls in a process without a sandbox, a fresh one for each: some of them succeed."""
    results = {}
    for attempt in ATTEMPTS:
        set_up(at)
        with outsider() as victim, outsider() as pid, syscalls.attached(pid) as tracee:
            try:
                results[attempt.name] = attempt.call(
                    tracee, Scene(victim, victim, at.key, at.inside, at.elsewhere, at.new)
                )
            except (OSError, AssertionError):
                results[attempt.name] = 0  # a new program, or an end: it was not refused
    return results


def test_what_is_forbidden_is_refused_inside_every_process(site: s.Site, echo_backend: s.Backend, scene: Scene) -> None:
    s.need_root()
    if why := syscalls.why_not():
        s.skip_loudly(f"cannot try system calls from inside ({why}); tests/unit/os_sandbox.cpp tries most of them")
    if s.is_sanitized():
        s.skip_loudly("builds with sanitizers leave open what those need, ptrace among it")
    gate = s.server_end(site, echo_backend)
    gate.check_honest()
    parent, front, vault = gate.daemon.pid, gate.daemon.front_pid, gate.daemon.vault_pid
    worker = max(int(tid) for tid in os.listdir(f"/proc/{front}/task"))
    assert worker != front
    others = {PARENT: (parent, vault), FRONT: (front, vault), WORKER: (worker, vault), VAULT: (vault, parent)}
    free = unconfined(scene)
    wrong = []
    for who, (pid, other) in others.items():
        for name, result in try_all(who, pid, aimed(scene, other)).items():
            attempt = next(one for one in ATTEMPTS if one.name == name)
            if landlock_abi() < NEEDS_LANDLOCK_ABI.get((name, who), 0):
                print(f"SKIPPED: {who}: {name}: this kernel's Landlock cannot refuse it")
            elif name.startswith("a memory file") and who == PARENT and not has_sealed_memory_files():
                print("SKIPPED: this kernel's memory files can all be executed")
            elif (result in REFUSED) == (who in attempt.allowed):
                wrong.append(f"{who}: {name}: {result}")
            elif result in REFUSED and free[name] in REFUSED:
                print(f"UNPROVEN here: {name}: a process without a sandbox is refused it too")
    assert not wrong, wrong
    unproven = [name for name, result in free.items() if result in REFUSED]
    assert len(unproven) <= len(ATTEMPTS) // 3, f"refused without a sandbox too: {unproven}"
    assert s.alive(scene.outsider)
    # And all three still do their work.
    gate.check_honest()
    assert (gate.daemon.front_pid, gate.daemon.vault_pid) == (front, vault)


def test_the_sandbox_is_in_force_in_every_thread(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    for process in (gate.daemon.pid, gate.daemon.front_pid, gate.daemon.vault_pid):
        for task in Path(f"/proc/{process}/task").iterdir():
            status = (task / "status").read_text()
            assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status, status
        filters = [
            line for line in Path(f"/proc/{process}/status").read_text().splitlines() if "Seccomp_filters" in line
        ]
        assert int(filters[0].split()[1]) >= (1 if process == gate.daemon.pid else 2), filters


def test_the_vault_asks_for_a_passphrase_at_the_terminal(site: s.Site, echo_backend: s.Backend) -> None:
    """A terminal is the one device that the sandbox leaves: a sealed key is opened there, without an echo."""
    path = site.folder / "server.key"
    seal = [s.binary("curvegate"), "keygen", "--role", "server", "-o", str(path), "--passphrase"]
    assert with_terminal(seal, [b"open sesame\r"] * 2).returncode == 0
    public = s.curvegate("pubkey", path).stdout.decode().strip()
    site._keys["server"] = s.Key(path, base64.b64decode(public))
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    port = s.free_port()
    section = {"accept": f"curve_tun:127.0.0.1:{port}", "connect": echo_backend.address, "allow": "laptop"}
    master, slave = pty.openpty()
    try:
        take_terminal = {"preexec_fn": lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0), "pass_fds": (slave,)}
        daemon = site.start({"web": section}, ready=None, popen=take_terminal)
        asked = b""
        while not asked.endswith(b": "):
            assert select.select([master], [], [], s.PATIENCE)[0], f"no question: {asked!r}; {daemon.log.text()}"
            asked += os.read(master, 1_000)
        os.write(master, b"open sesame\r")
        daemon.wait_ready(r" ready\b")
        assert not select.select([master], [], [], 0)[0] or b"sesame" not in os.read(master, 1_000)
        s.ServerEnd(site, daemon, ("127.0.0.1", port), echo_backend, client).check_honest()
        daemon.stop()
    finally:
        os.close(master)
        os.close(slave)
