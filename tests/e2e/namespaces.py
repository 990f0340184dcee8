"""Network namespaces as machines of their own, each with its own files in /etc."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import support as s

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNET = 0x40000000


def ip(*args: str) -> None:
    done = s.run(["ip", *args])
    assert done.returncode == 0, f"ip {' '.join(args)}: {done.stderr.decode()}"


def enter(fd: int) -> None:
    if LIBC.setns(fd, NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass(frozen=True)
class Host:
    """A network namespace."""

    name: str

    @property
    def wrap(self) -> list[str]:
        """Stands before a command that shall run there."""
        return ["ip", "netns", "exec", self.name]

    def ip(self, *args: str) -> None:
        ip("-n", self.name, *args)

    def write(self, file: str, text: str) -> None:
        """That file of /etc, for programs that are started there afterwards."""
        folder = Path("/etc/netns") / self.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)

    def curvegate(self, *args: str | Path) -> subprocess.CompletedProcess[bytes]:
        return s.run([*self.wrap, s.binary("curvegate"), *map(str, args)], stdin=b"")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets made by this thread meanwhile belong to that host, for good."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            enter(there)
            yield
        finally:
            enter(home)
            os.close(home)
            os.close(there)


@contextmanager
def made_hosts(count: int) -> Iterator[list[Host]]:
    """That many hosts, each with its loopback alone. Skips the test where they cannot be made."""
    s.need_root()
    s.need_tool("ip")
    tag = os.urandom(3).hex()
    made = [Host(f"cg{tag}{number}") for number in range(count)]
    try:
        try:
            for host in made:
                ip("netns", "add", host.name)
                host.ip("link", "set", "lo", "up")
                ip("netns", "exec", host.name, "true")
        except AssertionError as error:  # in a chroot: it mounts /sys anew, below a root that is a mount point
            s.skip_loudly(f"no network namespaces here: {error}")
        yield made
    finally:
        for host in made:
            subprocess.run(["ip", "netns", "del", host.name], check=False, stderr=subprocess.DEVNULL)
            shutil.rmtree(Path("/etc/netns") / host.name, ignore_errors=True)
