"""Running daemons."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .basics import PATIENCE, until
from .logs import Event, Log
from .processes import Process, alive, descendants

SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|terminate called")


class Daemon:
    """A running curvegated (or another server program) and its log."""

    def __init__(self, args: list[str], log: Path, *, ready: str | None = r" ready\b", **popen: Any) -> None:
        self.log = Log(log)
        self.started_at = self.log.mark()
        self.expected_exits = {0}
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True, **popen
            )
        if ready:
            self.wait_ready(ready)

    def wait_ready(self, pattern: str) -> None:
        def look() -> bool:
            text = self.log.text(self.started_at)
            if re.search(pattern, text):
                return True
            assert self.process.poll() is None, f"ended with {self.process.returncode} before it was ready:\n{text}"
            return False

        try:
            until(look, "ready", 60)
        except AssertionError:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def family(self) -> list[Process]:
        """The processes under the one that was started."""
        return descendants(self.pid)

    @property
    def vault_pid(self) -> int:
        return until(lambda: self._find(lambda p: "curvegate-vault" in p.command) or 0, "a vault process")

    @property
    def front_pid(self) -> int:
        return until(lambda: self._find(lambda p: "curvegated" in p.command) or 0, "a front process")

    def _find(self, wanted: Callable[[Process], bool]) -> int | None:
        return next((process.pid for process in self.family() if wanted(process)), None)

    def mark(self) -> int:
        return self.log.mark()

    def wait_event(self, word: str, seconds: float = PATIENCE, since: int = 0, **wanted: str) -> Event:
        return self.log.wait_event(word, seconds, since or self.started_at, **wanted)

    def wait_log(self, pattern: str, seconds: float = PATIENCE, since: int = 0) -> str:
        return self.log.wait(pattern, seconds, since or self.started_at)

    def events(self, word: str | None = None, since: int = 0, **wanted: str) -> list[Event]:
        return self.log.events(since or self.started_at, word, **wanted)

    def wait_exit(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(seconds)

    def terminate(self, seconds: float = PATIENCE) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(seconds)

    def kill(self) -> None:
        """Ends it and what it started, whatever state they are in."""
        family = [process.pid for process in self.family()]
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        until(lambda: not any(alive(pid) for pid in family), "its processes and their sockets go", 20)

    def stop(self) -> None:
        """The end of a test: an orderly end with nothing left behind, and no sanitizer complaint in the log."""
        family = [process.pid for process in self.family()]
        if self.process.poll() is None:
            try:
                self.terminate(60)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"does not end on TERM; the log:\n{self.log.text()[-3000:]}") from None
        self.check_log()
        code = self.process.returncode
        assert code in self.expected_exits, f"exit status {code}; the log:\n{self.log.text()[-3000:]}"
        until(lambda: not any(alive(pid) for pid in family), "its processes end too", 20)

    def check_log(self) -> None:
        found = SANITIZER.search(self.log.text())
        assert not found, self.log.text()[max(0, found.start() - 500) : found.start() + 4000] if found else ""
