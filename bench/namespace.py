"""A network namespace of our own: nothing reaches it, nothing leaves it, and its settings are ours to change."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSIDE = "CURVEGATE_BENCH_INSIDE"
SIOCGIFMTU, SIOCSIFMTU, SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8921, 0x8922, 0x8913, 0x8914
IFF_UP = 1
PR_SET_CHILD_SUBREAPER = 36
SETTINGS = {  # of /proc/sys/net/ipv4; a range that leaves support.free_port() its own
    "tcp_congestion_control": "reno",
    "ip_local_port_range": "32768 65535",
}
DESCRIPTORS = 1 << 16  # as many as we may have, up to this


def enter() -> None:
    """Runs this program anew in a namespace of its own, unless it is there already."""
    if INSIDE in os.environ:
        return
    # An ordinary user stays who he is, so that sshd lets him in, and may set up his own namespace nevertheless.
    how = ["--net"] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps", "--net"]
    os.environ[INSIDE] = "yes"
    os.execvp("unshare", ["unshare", *how, "--", sys.executable, "-B", *sys.argv])


def prepare() -> list[str]:
    """Loopback, settings and limits. Gives what could not be set, in words."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what a program leaves behind comes to us
    _interface(SIOCSIFFLAGS, struct.pack("h", struct.unpack_from("h", _interface(SIOCGIFFLAGS))[0] | IFF_UP))
    refused = []
    for name, value in SETTINGS.items():
        try:
            Path("/proc/sys/net/ipv4", name).write_text(value)
        except OSError as error:
            refused.append(f"net.ipv4.{name} = {value} is refused: {error.strerror}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, DESCRIPTORS), max(hard, DESCRIPTORS)))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return refused


def setting(name: str) -> str:
    return Path("/proc/sys/net/ipv4", name).read_text().strip()


def mtu() -> int:
    return int(struct.unpack_from("i", _interface(SIOCGIFMTU))[0])


def set_mtu(size: int) -> None:
    _interface(SIOCSIFMTU, struct.pack("i", size))


@contextmanager
def with_mtu(size: int | None) -> Iterator[None]:
    before = mtu()
    if size is not None:
        set_mtu(size)
    try:
        yield
    finally:
        set_mtu(before)


def _interface(request: int, value: bytes = b"") -> bytes:
    """An ioctl of the loopback interface; gives its answer, which begins where the value stands."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, request, struct.pack("16s24s", b"lo", value))
    return answer[16:]
