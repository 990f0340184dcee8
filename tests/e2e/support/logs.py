"""The log of a daemon, line by line."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from .basics import PATIENCE, until

_FIELD = re.compile(r'([\w.-]+)=("(?:[^"\\]|\\.)*"|\S*)')


@dataclass(frozen=True)
class Event:
    """One line of the log: time, level, word, fields."""

    level: str
    word: str
    fields: dict[str, str]
    line: str

    @staticmethod
    def parse(line: str) -> Event | None:
        parts = line.split(" ", 3)
        if len(parts) < 3 or not parts[0][:2] == "20":
            return None
        fields = {}
        for key, value in _FIELD.findall(parts[3] if len(parts) == 4 else ""):
            fields[key] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        return Event(parts[1], parts[2], fields, line)

    def matches(self, word: str, wanted: dict[str, str]) -> bool:
        """Each wanted field is a regular expression that must be found in the field's value."""
        if self.word != word:
            return False
        return all(re.search(pattern, self.fields.get(key, "")) for key, pattern in wanted.items())


class Log:
    """The standard error of a process, kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def text(self, since: int = 0) -> str:
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def events(self, since: int = 0, word: str | None = None, **wanted: str) -> list[Event]:
        lines = self.text(since).splitlines()
        parsed = [event for event in map(Event.parse, lines) if event]
        return [event for event in parsed if word is None or event.matches(word, wanted)]

    def wait(self, pattern: str, seconds: float = PATIENCE, since: int = 0) -> str:
        """The first line in which `pattern` is found."""

        def look() -> str | None:
            lines = self.text(since).splitlines()
            return next((line for line in lines if re.search(pattern, line)), None)

        try:
            return until(look, pattern, seconds)  # type: ignore[return-value]
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.text(since)[-3000:]}") from None

    def wait_event(self, word: str, seconds: float = PATIENCE, since: int = 0, **wanted: str) -> Event:
        def look() -> Event | None:
            return next(iter(self.events(since, word, **wanted)), None)

        try:
            return until(look, f"{word} {wanted}", seconds)  # type: ignore[return-value]
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.text(since)[-3000:]}") from None


class Pace:
    """Keeps a test below the daemon's log rate limit (10 lines a second of one word, burst 50)."""

    def __init__(self, rate: float = 9, burst: float = 40) -> None:
        self.rate, self.burst, self.tokens, self.at = rate, burst, burst, time.monotonic()

    def take(self) -> None:
        while True:
            now = time.monotonic()
            self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
            self.at = now
            if self.tokens >= 1:
                self.tokens -= 1
                return
            time.sleep((1 - self.tokens) / self.rate)
