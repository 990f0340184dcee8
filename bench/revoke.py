#!/usr/bin/env python3
"""How long `curvegate revoke` takes with many live sessions of the key, until the last of them has been reset.

    /usr/bin/python3 bench/revoke.py [--sessions 1000] [--rounds 5]      (a build with -DCURVEGATE_BENCH=ON)

The sessions are connections through a client end; their key is that of the client end. The exit status is 1 if a
round takes more than 100 ms until the daemon has ended all of them, as its answer says. What the command's own start
takes (a process, a connection) is in the figure.
"""

from __future__ import annotations

import argparse
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import rig
import support as s  # found through rig
import traffic
from report import Report

GOAL_MS = 100


def one_round(wire: str, sessions: int, report: Report) -> None:
    # The backend is a program of its own: a thousand threads here would delay the one that measures.
    with traffic.backend() as backend, rig.tunnel(wire, f"127.0.0.1:{backend.port}") as tunnel:
        tunnel.server.expected_exits.add(1)  # curvecp: a peer may be gone before it acknowledged the end
        held = [rig.connect(tunnel.local) for _ in range(sessions)]
        for sock in held:
            sock.sendall(b"x")
        for sock in held:
            assert sock.recv(1) == b"x"
        control = Path(tunnel.server.log.path).parent / "control.sock"
        start = time.monotonic()
        command = [s.binary("curvegate"), "revoke", "phone", "--socket", str(control)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            line = process.stdout.readline()
            ended = (time.monotonic() - start) * 1e3
            process.stdout.read()
            written = (time.monotonic() - start) * 1e3
        counted = re.search(rb"sessions ended: (\d+)", line)
        assert counted and int(counted[1]) == sessions and process.returncode == 0, line
        wait_reset(held)
        last = (time.monotonic() - start) * 1e3
        what = f"{wire}: {sessions} sessions"
        report.add("revoke", f"{what}, all ended", "ms", ended, at_most=GOAL_MS)
        report.add("revoke", f"{what}, known_hosts written", "ms", written)
        report.add("revoke", f"{what}, the last seen reset by the application", "ms", last)


def wait_reset(held: list[socket.socket]) -> None:
    """Until every one has come to its end."""
    poll = select.epoll()
    left = {sock.fileno(): sock for sock in held}
    for number in left:
        poll.register(number, select.EPOLLIN)
    while left:
        for number, _ in poll.poll(60):
            try:
                assert left[number].recv(1) == b""
            except ConnectionResetError:
                pass
            left.pop(number).close()
    poll.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    report = Report()
    for _ in range(given.rounds):
        for wire in ("curve_tun", "curvecp"):
            one_round(wire, given.sessions, report)
    print(report.table())
    return 1 if report.missed() else 0


if __name__ == "__main__":
    sys.exit(main())
