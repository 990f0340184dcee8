"""Secret keys in memory: where they stand, and who may look there. Parent, front and vault are confined."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import curve_tun as ct
import support as s


@dataclass(frozen=True)
class Found:
    pid: int
    address: int
    flags: set[str]


def mappings(pid: int) -> Iterator[tuple[int, int, int, set[str]]]:
    """Start, end, resident KiB and flags of each mapping."""
    start = end = resident = 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            start, end = int(match[1], 16), int(match[2], 16)
        elif line.startswith("Rss:"):
            resident = int(line.split()[1])
        elif line.startswith("VmFlags:"):
            yield start, end, resident, set(line.split()[1:])


SHADOW = 1 << 32  # a mapping this large is a sanitizer's shadow memory: terabytes of notes, no data


def scan(pid: int, needles: list[bytes]) -> dict[bytes, list[Found]]:
    """Where in a process's memory the needles stand."""
    found: dict[bytes, list[Found]] = {needle: [] for needle in needles}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, resident, flags in mappings(pid):
            if resident == 0 or end - start >= SHADOW:
                continue
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue  # not memory that can be read (vvar, secret memory)
            for needle in needles:
                at = data.find(needle)
                while at >= 0:
                    found[needle].append(Found(pid, start + at, flags))
                    at = data.find(needle, at + 1)
    return found


def locked_flags() -> set[str]:
    """Of locked pages that no core dump takes; sanitizers turn mlock() into nothing."""
    return {"dd"} if s.is_sanitized() else {"lo", "dd"}


def test_secret_keys_stand_once_in_locked_pages_of_the_vault_and_nowhere_else(
    site: s.Site, echo_backend: s.Backend
) -> None:
    s.need_root()
    client_key = site.key("client")
    site.know("me", client_key.public)
    site.know("gate", site.key("server").public)
    laptop = ct.KeyPair.generate()
    site.know("laptop", laptop.public)
    ports = [s.free_port(), s.free_port()]
    daemon = site.start(
        {
            "in": {"accept": f"curve_tun:127.0.0.1:{ports[0]}", "connect": echo_backend.address, "allow": "me, laptop"},
            "out": {
                "client": "yes",
                "accept": f"127.0.0.1:{ports[1]}",
                "connect": f"curve_tun:127.0.0.1:{ports[0]}",
                "peer": "gate",
            },
        }
    )
    gate = s.ServerEnd(site, daemon, ("127.0.0.1", ports[0]), echo_backend, laptop)
    for _ in range(s.scale(800, 100)):
        with gate.dial() as one:
            one.begin()
    locals_ = [s.Local(("127.0.0.1", ports[1])) for _ in range(s.scale(100, 20))]
    for local in locals_:
        assert local.echo(b"through both") == b"through both"
    gate.check_honest()

    secrets = [site.key("server").secret(), client_key.secret()]
    texts = [s.b64(secret).encode() for secret in secrets] + [secret.hex().encode() for secret in secrets]
    vault = daemon.vault_pid
    for pid in (daemon.pid, *(process.pid for process in daemon.family())):
        for needle, places in scan(pid, secrets + texts).items():
            if pid == vault and needle in secrets:
                assert len(places) == 1, f"{len(places)} copies in the vault: {places}"
                assert locked_flags() <= places[0].flags, places[0]
            else:
                assert places == [], f"a secret key in process {pid}: {places}"
    for local in locals_:
        local.close()


def test_the_scan_itself_finds_what_is_there() -> None:
    needle = os.urandom(32)
    keep = bytearray(needle)
    assert len(scan(os.getpid(), [needle])[needle]) >= 2
    assert keep == needle


def test_session_and_minute_keys_stand_in_locked_pages_of_the_front_only(site: s.Site, echo_backend: s.Backend) -> None:
    """The session key is known to the test; it must not stand in any page that is not locked."""
    s.need_root()
    gate = s.server_end(site, echo_backend)
    with gate.connect() as client:
        assert client.session is not None
        assert client.session.echo(b"x") == b"x"
        key = client.session.key
        for pid in (gate.daemon.pid, *(process.pid for process in gate.daemon.family())):
            places = scan(pid, [key])[key]
            if pid != gate.daemon.front_pid:
                assert places == []
            for place in places:
                assert locked_flags() <= place.flags, place
        client.session.end()
        client.session.recv_until_end()
    gate.daemon.wait_event("session_close")
    assert scan(gate.daemon.front_pid, [key])[key] == [], "the session key outlives its session"


def proc_status(pid: int, key: str) -> str:
    match = re.search(rf"^{key}:\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return match[1] if match else ""


def test_front_and_vault_are_confined(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    for pid in (gate.daemon.vault_pid, gate.daemon.front_pid):
        assert proc_status(pid, "NoNewPrivs") == "1"
        assert proc_status(pid, "Seccomp") == "2"
        assert re.search(r"^Max core file size\s+0\s+0", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    assert Path(f"/proc/{gate.daemon.vault_pid}/environ").read_bytes().count(b"=") <= 1, "the vault got an environment"
    kinds = [
        os.readlink(f"/proc/{gate.daemon.vault_pid}/fd/{fd}") for fd in os.listdir(f"/proc/{gate.daemon.vault_pid}/fd")
    ]
    sockets = socket_inodes_of_networks()
    assert not [
        kind for kind in kinds if (m := re.match(r"socket:\[(\d+)\]", kind)) and m[1] in sockets
    ], "a network socket in the vault"


def socket_inodes_of_networks() -> set[str]:
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            found.add(line.split()[9])
    return found


SNOOP = """
import ctypes, errno, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, call):
    try:
        print(name, 'refused' if call() is False else 'ALLOWED')
    except PermissionError:
        print(name, 'refused')
def ptrace():
    return libc.ptrace(16, pid, None, None) == 0
def readv():
    class Vec(ctypes.Structure):
        _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
    buffer = ctypes.create_string_buffer(16)
    mine, theirs = Vec(ctypes.addressof(buffer), 16), Vec(0x400000, 16)
    got = libc.process_vm_readv(pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)
    return not (got < 0 and ctypes.get_errno() == errno.EPERM)
attempt('mem', lambda: open(f'/proc/{pid}/mem', 'rb').close())
attempt('environ', lambda: open(f'/proc/{pid}/environ', 'rb').read() and None)
attempt('maps', lambda: open(f'/proc/{pid}/maps', 'rb').read() and None)
attempt('ptrace', ptrace)
attempt('process_vm_readv', readv)
"""


def start_as_nobody(site: s.Site, backend: s.Backend, *limits: str, **more: Any) -> s.ServerEnd:
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    port = s.free_port()
    section = {"accept": f"curve_tun:127.0.0.1:{port}", "connect": backend.address, "allow": "laptop"}
    config = site.write_config({"web": section}, **more)
    s.give_to_nobody(site.folder)
    drop = [*s.AS_NOBODY, *limits]
    return s.ServerEnd(site, site.run(config, wrap=drop), ("127.0.0.1", port), backend, client)


def test_everything_runs_without_root_and_the_same_user_cannot_look_into_vault_or_front(
    nobody_site: s.Site, echo_backend: s.Backend
) -> None:
    gate = start_as_nobody(nobody_site, echo_backend)
    gate.check_honest()
    for pid in (gate.daemon.vault_pid, gate.daemon.front_pid):
        done = s.run([*s.AS_NOBODY, "/usr/bin/python3", "-c", SNOOP, str(pid)])
        lines = done.stdout.decode().splitlines()
        assert len(lines) == 5 and all(line.endswith("refused") for line in lines), (lines, done.stderr)
    gate.check_honest()


def test_without_lockable_memory_it_refuses_or_warns_as_configured(
    nobody_site: s.Site, echo_backend: s.Backend
) -> None:
    s.need_tool("prlimit")
    if s.is_sanitized():
        s.skip_loudly("sanitizers turn mlock() into nothing")
    client = ct.KeyPair.generate()
    nobody_site.know("laptop", client.public)
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": echo_backend.address, "allow": "laptop"}
    config = nobody_site.write_config({"web": section})
    s.give_to_nobody(nobody_site.folder)
    none = [*s.AS_NOBODY, "prlimit", "--memlock=0:0"]
    done = s.run([*none, s.binary("curvegated"), "-c", str(config)])
    assert done.returncode == 69, done.stderr
    assert b"cannot be locked" in done.stderr and b"lock-memory = try" in done.stderr
    gate = start_as_nobody(nobody_site, echo_backend, "prlimit", "--memlock=0:0", lock_memory="try")
    gate.daemon.wait_log("WARNING.*not locked|not locked")
    gate.check_honest()
