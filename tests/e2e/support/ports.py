"""Ports that nobody has."""

from __future__ import annotations

import os
import random
import socket

# Below the range from which the kernel takes ports for outgoing connections, so that nobody takes one between
# the moment it is chosen here and the moment a daemon listens on it. Test processes that run side by side
# (gw0, gw1, ...) have a share each.
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = iter(random.sample(range(12000 + _PROCESS, 32000, _PROCESSES), 19000 // _PROCESSES))


def free_port() -> int:
    for port in _ports:
        try:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(family, kind) as probe:
                        if kind == socket.SOCK_STREAM:
                            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        if family == socket.AF_INET6:
                            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                        probe.bind((host, port))
            return port
        except OSError:
            continue
    raise AssertionError("no free port")
