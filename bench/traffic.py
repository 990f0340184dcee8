"""curvegate-load: it makes the traffic, checks every byte, and tells what it has measured."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import support as s  # found through rig

PATIENCE = 300.0  # seconds until one measurement counts as stuck; the program itself gives up after 60 without progress

Address = tuple[str, int]


class TrafficError(Exception):
    """A measurement that did not come to its end."""


class WrongBytes(Exception):
    """What came out of a tunnel is not what went in. Nothing is worth measuring then."""


class Load:
    """A running curvegate-load."""

    def __init__(self, *args: str | float) -> None:
        command = [s.binary("curvegate-load"), *map(str, args)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def line(self) -> str:
        """The next line of its output; if there is none, why."""
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise TrafficError(f"nothing was measured within {PATIENCE:.0f} s")
        line = self.process.stdout.readline().decode()
        if not line:
            self.raise_error()
        return line

    def result(self) -> dict[str, float]:
        answer: dict[str, float] = json.loads(self.line())
        return answer

    def raise_error(self) -> None:
        """It has ended, or will: why."""
        assert self.process.stderr
        why = self.process.stderr.read().decode().strip().removeprefix("curvegate-load: ")
        raise (WrongBytes if why.endswith("is wrong") else TrafficError)(why or "it ended without a word")

    def end(self) -> None:
        """Lets it close its connections; then it has ended by itself."""
        assert self.process.stdin
        self.process.stdin.close()
        if self.process.wait(PATIENCE) != 0:
            self.raise_error()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Server(Load):
    """A backend or a relay: it runs until it is stopped, and says its port first."""

    def __init__(self, *args: str | int) -> None:
        super().__init__(*args)
        try:
            self.port = int(self.line())
        except BaseException:
            self.kill()
            raise

    def check(self) -> None:
        if self.process.poll() is not None:
            self.raise_error()


def backend() -> Server:
    return Server("serve", 0)


def relay(target: Address, flip: int | None = None) -> Server:
    return Server("relay", 0, *target, *([] if flip is None else [flip]))


def _measure(server: Server, *args: str | int) -> dict[str, float]:
    """A client that ends by itself. If the backend has found a wrong byte, that is the reason of all else."""
    try:
        with Load(*args) as load:
            result = load.result()
            load.end()
            return result
    except TrafficError:
        time.sleep(0.05)
        server.check()
        raise


def stream(server: Server, local: Address, up: int, down: int) -> float:
    """Seconds from the first byte until both ends have everything."""
    return _measure(server, "stream", *local, up, down)["seconds"]


def connects(server: Server, local: Address, count: int, together: int) -> dict[str, float]:
    return _measure(server, "connects", *local, count, together)


@contextmanager
def held(local: Address, count: int) -> Iterator[None]:
    """So many open connections that have had a byte there and back."""
    with Load("hold", *local, count) as load:
        assert load.result()["held"] == count
        yield
        load.end()


class Requests(Load):
    """Request and response on many connections, which stay open until the end of the block."""

    def __init__(self, local: Address, connections: int, size: int, seconds: float) -> None:
        super().__init__("requests", *local, connections, size, seconds)

    def wait_ready(self) -> None:
        """The connections are open, and the time begins."""
        line = self.line()
        assert line == "ready\n", line


def check_that_wrong_bytes_are_seen() -> None:
    """A relay that spoils one byte must end the run, whichever way it goes."""
    for case, args in (("stream", ["1000000", "0"]), ("requests", ["4", "64", "0.1"])):
        with backend() as server, relay(("127.0.0.1", server.port), flip=87) as spoiler:
            try:
                _measure(server, case, "127.0.0.1", spoiler.port, *args)
            except WrongBytes:
                continue
            raise AssertionError(f"{case}: a wrong byte goes through unseen")
