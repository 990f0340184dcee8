"""Where the programs are, how long a wait may be, and what a machine may lack."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHORT = os.environ.get("CURVEGATE_E2E") == "short"
PATIENCE = 30.0  # seconds until something that should happen at once counts as not happening

T = TypeVar("T")


def scale(full: T, short: T) -> T:
    """The size of a case in the full lane and in the short one (sanitizers)."""
    return short if SHORT else full


def binary(name: str) -> str:
    folder = os.environ.get("CURVEGATE_BIN")
    folders = [Path(folder)] if folder else [ROOT / "build" / preset / "bin" for preset in ("release", "dev")]
    for candidate in folders:
        if (candidate / name).exists():
            return str((candidate / name).resolve())
    raise FileNotFoundError(f"{name} is in none of {', '.join(map(str, folders))}: build it or set CURVEGATE_BIN")


def skip_loudly(why: str) -> None:
    """CI has all that the tests need, so there this never happens."""
    print(f"SKIPPED: {why}")
    pytest.skip(why)


def need_root() -> None:
    if os.geteuid() != 0:
        skip_loudly("needs root")


def need_tool(name: str) -> None:
    if not any((Path(folder) / name).exists() for folder in os.environ["PATH"].split(":")):
        skip_loudly(f"needs {name}: apt-get install it (tests/e2e/packages.txt)")


def until(condition: Callable[[], T], what: str, seconds: float = PATIENCE, pause: float = 0.02) -> T:
    """Asks `condition` until it gives something true, and gives that."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)


def run(
    args: Iterable[str], *, stdin: bytes = b"", timeout: float = 60, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(list(args), input=stdin, capture_output=True, timeout=timeout, check=False, **more)


def curvegate(
    *args: str | Path, stdin: bytes = b"", timeout: float = 60, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    return run([binary("curvegate"), *map(str, args)], stdin=stdin, timeout=timeout, **more)
