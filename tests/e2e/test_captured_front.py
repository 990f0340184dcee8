"""A front that somebody took over, by ptrace: it has the daemon's uid, may connect to unix sockets and knows every path.
It must not get at the server keys by the vault's control socket, nor keep `curvegate rotate` from its work."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import support as s
import syscalls
from syscalls import Tracee
from test_rotate import parts, rotate

STATUS, START, SWITCH, FINISH, COMPROMISED, CANCEL = range(1, 7)
REFUSED = {-errno.EPERM, -errno.EACCES, -errno.ENOSYS}


def request(verb: int, path: bytes = b"") -> bytes:
    return struct.pack(">BBHHH", 2, verb, len(path), 0, 0) + path


def connected(front: Tracee, path: Path, kind: int = socket.SOCK_SEQPACKET) -> int:
    fd = front.call("socket", socket.AF_UNIX, kind, 0)
    assert fd >= 0, fd
    address = struct.pack("<H", socket.AF_UNIX) + bytes(path)
    assert front.call("connect", fd, address, len(address) + 1) == 0
    return fd


def asked(front: Tracee, control: Path, message: bytes, descriptors: list[int]) -> bytes:
    """The vault's reply, or nothing if it ended the connection."""
    fd = connected(front, control)
    try:
        sent = front.send(fd, message, descriptors)
        assert sent == len(message), sent
        return front.receive(fd)
    finally:
        front.call("close", fd)


class Rotating:
    """A daemon with a vault of its own and a rotation under way, so that every step has its place."""

    def __init__(self, site: s.Site, backend: s.Backend) -> None:
        self.gate = s.server_end(site, backend)
        self.control = site.folder / "vault-control.sock"
        rotate(self.control, "start", "--generate")
        self.before = parts(self.control)
        assert set(self.before) == {"current", "next"}
        self.state = next(site.folder.glob("rotation.*"))
        self.front = self.gate.daemon.front_pid


@pytest.fixture
def rotating(site: s.Site, echo_backend: s.Backend) -> Iterator[Rotating]:
    s.need_root()
    if why := syscalls.why_not():
        s.skip_loudly(f"cannot try system calls from inside ({why})")
    if s.is_sanitized():
        s.skip_loudly("builds with sanitizers leave open what those need, ptrace among it")
    made = Rotating(site, echo_backend)
    yield made
    assert (made.gate.daemon.front_pid, made.gate.daemon.vault_pid) and parts(made.control)
    made.gate.check_honest()


def test_a_captured_front_may_ask_for_the_status_and_for_no_step_of_a_rotation(rotating: Rotating) -> None:
    with syscalls.attached(rotating.front) as front:
        told = asked(front, rotating.control, request(STATUS), [])
        assert told[:4] == bytes([2, STATUS, 0, 2]), told  # it can connect: what follows is refused, not out of reach
    for verb in (START, SWITCH, FINISH, COMPROMISED, CANCEL):
        message = request(verb, b"/any/path" if verb == START else b"")
        # Nothing, every descriptor that it has, and those four at once that `start` wants.
        held = sorted(int(name) for name in os.listdir(f"/proc/{rotating.front}/fd"))
        with syscalls.attached(rotating.front) as front:
            for descriptors in [[], *([fd] for fd in held), *([fd] * 4 for fd in held)]:
                told = asked(front, rotating.control, message, descriptors)
                assert told[:3] == bytes([2, verb, 1]), (verb, descriptors, told)
    assert parts(rotating.control) == rotating.before


def test_a_captured_front_gets_no_descriptor_of_the_state_file(rotating: Rotating) -> None:
    state = bytes(rotating.state)
    vault = rotating.gate.daemon.vault_pid
    theirs = [f"/proc/{vault}/fd/{name}".encode() for name in os.listdir(f"/proc/{vault}/fd")]
    with syscalls.attached(rotating.front) as front:
        for path in (state, *theirs):
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT):
                assert front.call("open", path, flags, 0o600) in REFUSED, (path, flags)
        # A descriptor that only names the file opens nothing and proves nothing.
        named = front.call("open", state, os.O_PATH)
        if named >= 0:
            assert front.call("open", f"/proc/self/fd/{named}".encode(), os.O_RDWR) in REFUSED
            told = asked(front, rotating.control, request(SWITCH), [named])
            assert told[:3] == bytes([2, SWITCH, 1]), told
            front.call("close", named)
    assert parts(rotating.control) == rotating.before


def test_a_captured_front_cannot_keep_the_command_out(rotating: Rotating) -> None:
    address = struct.pack("<H", socket.AF_UNIX) + bytes(rotating.control)
    with syscalls.attached(rotating.front) as front:
        for _ in range(100):
            fd = front.call("socket", socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK, 0)
            assert fd >= 0
            if front.call("connect", fd, address, len(address) + 1) == 0:
                front.send(fd, request(STATUS), [])
    rotate(rotating.control, "switch")
    after = parts(rotating.control)
    assert after == {"current": rotating.before["next"], "previous": rotating.before["current"]}
