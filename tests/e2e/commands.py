"""What the tests of the command share: what it ends with and says, the modes of files, and `curvegate check`."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import support as s

OK, NO, USAGE, BAD_DATA, NO_INPUT, UNAVAILABLE, CANNOT_CREATE, NO_PERMISSION, CONFIG = 0, 1, 64, 65, 66, 69, 73, 77, 78


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode()


def check(config: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    return s.curvegate("check", "-c", config, *args)
