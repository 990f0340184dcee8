"""Programs on terminals."""

from __future__ import annotations

import os
import pty
import select
import subprocess

import support as s


def with_terminal(args: list[str], answers: list[bytes]) -> subprocess.CompletedProcess[bytes]:
    """Runs a program on a terminal of its own and answers its questions in turn."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(args[0], args)
    output = b""
    while True:
        ready, _, _ = select.select([master], [], [], s.PATIENCE)
        assert ready, f"no question and no end: {output!r}"
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        output += part
        if answers and output.endswith(b": "):
            os.write(master, answers.pop(0))
    _, status = os.waitpid(pid, 0)
    os.close(master)
    return subprocess.CompletedProcess(args, os.waitstatus_to_exitcode(status), output, b"")
