"""Running processes: what they are, what they use, what they may."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .basics import binary, run


def set_descriptors(pid: int, most: int) -> None:
    """The limit of a running process, which it has not reckoned with."""
    done = run(["prlimit", "--pid", str(pid), f"--nofile={most}:{most}"])
    assert done.returncode == 0, done.stderr.decode()


AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def give_to_nobody(folder: Path) -> None:
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: str


def processes() -> list[Process]:
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = stat.rsplit(")", 1)[1].split()[:2]
        if state != "Z":
            found.append(Process(int(folder.name), int(parent), command))
    return found


def descendants(pid: int) -> list[Process]:
    everyone = processes()
    found: list[Process] = []
    parents = {pid}
    while parents:
        generation = [process for process in everyone if process.parent in parents]
        found += generation
        parents = {process.pid for process in generation}
    return found


def alive(pid: int) -> bool:
    return any(process.pid == pid for process in processes())


def status_kib(pid: int, key: str) -> int:
    """A line of /proc/PID/status in KiB, e.g. VmRSS."""
    match = re.search(rf"^{key}:\s*(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_sanitized(name: str = "curvegated") -> bool:
    """Was the binary built with ASan or TSan? They reserve terabytes and slow everything down."""
    return re.search(rb"__(asan|tsan)_init", Path(binary(name)).read_bytes()) is not None
