"""What the end-to-end tests share: files, daemons, logs, local servers and clients. Every wait has a bound."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import curve_tun as ct
import curvecp as cp
import pytest

ROOT = Path(__file__).resolve().parents[2]
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


def set_descriptors(pid: int, most: int) -> None:
    """The limit of a running process, which it has not reckoned with."""
    done = run(["prlimit", "--pid", str(pid), f"--nofile={most}:{most}"])
    assert done.returncode == 0, done.stderr.decode()


AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def give_to_nobody(folder: Path) -> None:
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)


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


# ---- ports ----

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


# ---- keys ----


def b64(key: bytes) -> str:
    return base64.b64encode(key).decode()


@dataclass(frozen=True)
class Key:
    """A key file made by `curvegate keygen`."""

    path: Path
    public: bytes

    @property
    def text(self) -> str:
        return b64(self.public)

    def secret(self) -> bytes:
        match = re.search(r"^secret:\s*(\S+)\s*$", self.path.read_text(), re.MULTILINE)
        assert match, f"{self.path} holds no secret in the clear"
        return base64.b64decode(match[1])

    def pair(self) -> ct.KeyPair:
        return ct.KeyPair(self.public, self.secret())


def keygen(path: Path, role: str, *more: str) -> Key:
    done = curvegate("keygen", "--role", role, "-o", path, *more)
    assert done.returncode == 0, done.stderr.decode()
    return Key(path, base64.b64decode(done.stdout.strip(), validate=True))


# ---- processes ----


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


# ---- logs ----

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


# ---- daemons ----

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


def options(pairs: dict[str, Any]) -> str:
    """`hello_timeout="1s"` as the line `hello-timeout = 1s`."""
    return "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in pairs.items() if value is not None)


class Site:
    """A folder with keys, a known_hosts, configurations and the daemons that run from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[Daemon] = []
        self.peers: dict[str, list[str]] = {}
        self._keys: dict[str, Key] = {}

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def key(self, role: str) -> Key:
        """The site's own key of that role, made on first use."""
        if role not in self._keys:
            self._keys[role] = keygen(self.folder / f"{role}.key", role)
        return self._keys[role]

    def know(self, name: str, key: bytes, prefix: str = "") -> None:
        """Adds a line to known_hosts; it is read at the daemon's start."""
        self.peers.setdefault(name, []).append(f"{prefix} {name} curve25519 {b64(key)}".strip())
        self.write_known_hosts()

    def write_known_hosts(self) -> None:
        lines = [line for lines in self.peers.values() for line in lines]
        self.known_hosts.write_text("\n".join(lines) + "\n")
        self.known_hosts.chmod(0o600)

    def write_config(
        self, services: dict[str, dict[str, Any]], name: str = "curvegate.conf", **global_options: Any
    ) -> Path:
        roles = {"client" if service.get("client") == "yes" else "server" for service in services.values()}
        defaults: dict[str, Any] = {f"{role}_key": self.key(role).path for role in sorted(roles)}
        if not self.known_hosts.exists():
            self.write_known_hosts()
        defaults |= {"known_hosts": self.known_hosts, "control": self.folder / "control.sock", "workers": 2}
        text = options(defaults | global_options)
        for service, pairs in services.items():
            text += f"\n[{service}]\n{options(pairs)}"
        path = self.folder / name
        path.write_text(text)
        return path

    def start(
        self,
        services: dict[str, dict[str, Any]],
        *,
        wrap: list[str] | None = None,
        ready: str | None = r" ready\b",
        popen: dict[str, Any] | None = None,
        **global_options: Any,
    ) -> Daemon:
        """Writes a configuration and runs curvegated with it; `wrap` stands before the command."""
        config = self.write_config(services, **global_options)
        return self.run(config, wrap=wrap, ready=ready, popen=popen)

    def run(
        self,
        config: Path,
        *,
        wrap: list[str] | None = None,
        ready: str | None = r" ready\b",
        popen: dict[str, Any] | None = None,
    ) -> Daemon:
        args = [*(wrap or []), binary("curvegated"), "-c", str(config)]
        daemon = Daemon(args, self.folder / "daemon.log", ready=ready, **(popen or {}))
        self.daemons.append(daemon)
        return daemon

    def start_refused(
        self, services: dict[str, dict[str, Any]], *, name: str = "refused.conf", **global_options: Any
    ) -> tuple[int, str]:
        """Runs a daemon that must not come up: its exit status and what it said."""
        config = self.write_config(services, name, **global_options)
        done = run([binary("curvegated"), "-c", str(config)], timeout=60)
        return done.returncode, (done.stdout + done.stderr).decode()

    def secrets(self) -> list[bytes]:
        found = []
        for path in self.folder.glob("*.key"):
            match = re.search(r"^secret:\s*(\S+)", path.read_text(), re.MULTILINE)
            if match:
                found.append(base64.b64decode(match[1]))
        return found

    def close(self) -> None:
        """Stops what runs, then checks what must hold after every test: clean ends, no secret in any log."""
        problems: list[AssertionError] = []
        for daemon in self.daemons:
            try:
                daemon.stop()
            except AssertionError as problem:
                problems.append(problem)
        for log in {daemon.log.path for daemon in self.daemons}:
            text = log.read_text(errors="replace")
            for secret in self.secrets():
                assert b64(secret) not in text and secret.hex() not in text, f"a secret key stands in {log}"
        if problems:
            raise problems[0]


# ---- local servers and clients ----


@dataclass
class Record:
    """One connection that a Backend served."""

    sock: socket.socket
    data: bytearray = field(default_factory=bytearray)  # the first KEEP bytes
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    ended: str = ""  # "eof", "reset" or "timeout", once it has ended
    done: threading.Event = field(default_factory=threading.Event)

    KEEP = 8 << 20

    def take(self, data: bytes) -> None:
        if self.size < self.KEEP:
            self.data += data
        self.digest.update(data)
        self.size += len(data)

    def read_to_end(self, timeout: float = PATIENCE) -> None:
        self.sock.settimeout(timeout)
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionResetError:
                self.ended = "reset"
                return
            except TimeoutError:
                self.ended = "timeout"
                return
            if not data:
                self.ended = "eof"
                return
            self.take(data)


Handler = Callable[[Record], None]


def echo(record: Record) -> None:
    """Sends back what comes; ends when the other side has ended."""
    record.sock.settimeout(None)
    try:
        while data := record.sock.recv(1 << 17):
            record.take(data)
            record.sock.sendall(data)
        record.ended = "eof"
        record.sock.shutdown(socket.SHUT_WR)
    except OSError:
        record.ended = record.ended or "reset"


def echo_if_asked(record: Record) -> None:
    """Echoes what begins with "echo", takes the rest in silence."""
    record.sock.settimeout(600)
    try:
        while data := record.sock.recv(1 << 17):
            record.take(data)
            if record.data.startswith(b"echo"):
                record.sock.sendall(data)
        record.ended = "eof"
        record.sock.shutdown(socket.SHUT_WR)
    except OSError:
        record.ended = record.ended or "reset"


def sink(record: Record) -> None:
    record.read_to_end(timeout=600)


def source(data: bytes) -> Handler:
    """Sends `data`, ends its direction, then reads to the end."""

    def handler(record: Record) -> None:
        try:
            record.sock.sendall(data)
            record.sock.shutdown(socket.SHUT_WR)
        except OSError:
            record.ended = "reset"
            return
        record.read_to_end(timeout=600)

    return handler


def hold(record: Record) -> None:
    """Reads nothing and says nothing until the test sets `done` itself."""
    record.done.wait(600)


class Backend:
    """A local server, TCP or unix; each connection has a thread and a Record."""

    def __init__(
        self, handler: Handler = echo, *, host: str = "127.0.0.1", path: Path | None = None, port: int = 0
    ) -> None:
        self.handler = handler
        self.records: list[Record] = []
        self.path = path
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
            self.listener.listen(1024)
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.listener = socket.create_server((host, port), family=family, backlog=4096)
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            record = Record(sock)
            self.records.append(record)
            threading.Thread(target=self._serve, args=(record,), daemon=True).start()

    def _serve(self, record: Record) -> None:
        try:
            self.handler(record)
        finally:
            record.sock.close()
            record.done.set()

    @property
    def address(self) -> str:
        """As a configuration writes it."""
        if self.path:
            return f"unix:{self.path}"
        host, port = self.listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def wait_records(self, count: int, seconds: float = PATIENCE) -> list[Record]:
        until(lambda: len(self.records) >= count, f"{count} connections at the backend", seconds)
        return self.records

    def wait_done(self, index: int = -1, seconds: float = PATIENCE) -> Record:
        """Waits until that connection exists and has ended."""
        self.wait_records(index + 1 if index >= 0 else 1, seconds)
        record = self.records[index]
        assert record.done.wait(seconds), f"the backend's connection does not end; {record.size} bytes so far"
        return record

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for record in self.records:
            record.done.set()

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Local:
    """A local application's connection to the plain side of a client end."""

    reset_early = False

    def __init__(self, address: tuple[str, int] | str, source: str | None = None, timeout: float = PATIENCE) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(address)
        else:
            try:
                self.sock = ct.open_socket(address, source, timeout)
            except ConnectionResetError:  # the daemon was quicker than connect()
                self.sock = socket.socket()
                self.reset_early = True

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise AssertionError(f"end of stream after {len(data)} of {size} bytes")
            data += part
        return bytes(data)

    def echo(self, data: bytes) -> bytes:
        self.send(data)
        return self.recv_exactly(len(data))

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def read_to_end(self) -> tuple[bytes, str]:
        """All that comes, and how it ended: "eof" or "reset"."""
        if self.reset_early:
            return b"", "reset"
        record = Record(self.sock)
        record.read_to_end(self.sock.gettimeout() or PATIENCE)
        assert record.ended != "timeout", f"no end within the wait; {record.size} bytes so far"
        return bytes(record.data), record.ended

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Relay:
    """A man in the middle between two daemons who sees whole frames and may change what he passes on.

    `edit(direction, index, frame)` gives the frames to pass on instead (None: end the relay there); direction is
    "up" (client to server) or "down"; index counts the frames of a direction from 0. A frame includes its length.
    """

    Edit = Callable[[str, int, bytes], "list[bytes] | None"]

    def __init__(self, target: tuple[str, int], edit: Relay.Edit | None = None, end: str = "reset") -> None:
        self.target = target
        self.edit = edit or (lambda _direction, _index, data: [data])
        self.end = end
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address: tuple[str, int] = self.listener.getsockname()[:2]
        self.passed: list[tuple[str, bytes]] = []
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = ct.open_socket(self.target)
        except OSError:
            near.close()
            return
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cut = threading.Event()
        ways = (("up", near, far), ("down", far, near))
        threads = [threading.Thread(target=self._pass, args=(*way, cut), daemon=True) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        near.close()
        far.close()

    def _pass(self, direction: str, near: socket.socket, far: socket.socket, cut: threading.Event) -> None:
        """One direction, until its end or until the relay cuts."""
        near.settimeout(None)
        try:
            if self._pass_frames(direction, near, far):
                if not cut.is_set():
                    far.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass
        self._cut((near, far), cut)

    def _pass_frames(self, direction: str, near: socket.socket, far: socket.socket) -> bool:
        """False: `edit` wants the end now."""
        buffer = bytearray()
        index = 0
        while data := near.recv(1 << 18):
            buffer += data
            while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
                size = 2 + int.from_bytes(buffer[:2], "big")
                out = self.edit(direction, index, bytes(buffer[:size]))
                del buffer[:size]
                index += 1
                if out is None:
                    return False
                for item in out:
                    self.passed.append((direction, item))
                    far.sendall(item)
        return True

    def _cut(self, socks: tuple[socket.socket, socket.socket], cut: threading.Event) -> None:
        """Ends both connections: the other thread wakes up, then _serve() closes them."""
        cut.set()
        for sock in socks:
            try:
                if self.end == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.shutdown(socket.SHUT_RD)
                else:
                    sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class UdpRelay:
    """udp_relay.py in a process of its own: a bad line to a UDP server, by seed. `line` are its settings."""

    def __init__(
        self,
        target: tuple[str, int],
        *,
        seed: int = 1,
        source: str = "",
        record: Path | None = None,
        wrap: list[str] | None = None,
        listen: str = "127.0.0.1:0",
        **line: float,
    ) -> None:
        args = [*(wrap or []), sys.executable, "-B", str(Path(__file__).parent / "udp_relay.py")]
        args += ["--listen", listen, "--to", f"{target[0]}:{target[1]}", "--seed", str(seed)]
        args += ["--source", source] if source else []
        args += ["--record", str(record)] if record else []
        for name, value in line.items():
            args += ["--" + name.replace("_", "-"), str(value)]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin and self.process.stdout
        self.record = record
        host, port = json.loads(self.process.stdout.readline())[:2]
        self.address: tuple[str, int] = (host, port)

    def _ask(self, command: str) -> bytes:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the relay has died"
        return answer

    def set(self, **line: float) -> None:
        self._ask("set " + " ".join(f"{name}={value}" for name, value in line.items()))

    def outage(self, seconds: float) -> None:
        self._ask(f"outage {seconds}")

    def rebind(self, source: str = "") -> None:
        """The server sees all clients come from new ports (of another address) from now on."""
        self._ask(f"rebind {source}".strip())

    def counts(self) -> dict[str, int]:
        return json.loads(self._ask("counts"))

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def __enter__(self) -> UdpRelay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- a server end with a client of ours ----


@dataclass
class ServerEnd:
    """A daemon whose service `web` lets our Python client in, before a backend."""

    site: Site
    daemon: Daemon
    address: tuple[str, int]
    backend: Backend
    client: ct.KeyPair

    @property
    def key(self) -> bytes:
        return self.site.key("server").public

    def dial(self, source: str | None = None, keys: ct.KeyPair | None = None) -> ct.Client:
        return ct.Client.dial(self.address, self.key, keys or self.client, source)

    def connect(self, source: str | None = None, keys: ct.KeyPair | None = None) -> ct.Client:
        return ct.Client.connect(self.address, self.key, keys or self.client, source)

    def restart(self) -> None:
        self.daemon.stop()
        self.daemon = self.site.run(self.site.folder / "curvegate.conf")

    def check_honest(self, source: str | None = None) -> None:
        """An honest client is served."""
        with self.connect(source) as client:
            assert client.session is not None
            data = b"echo" + os.urandom(96)
            assert client.session.echo(data) == data
            client.session.end()
            assert client.session.recv_until_end() == b""


def server_end(
    site: Site, backend: Backend, service: dict[str, Any] | None = None, *, known: str = "", **more: Any
) -> ServerEnd:
    """Starts it; `service` adds options to the section, `known` stands before the client's line in known_hosts."""
    client = ct.KeyPair.generate()
    site.know("laptop", client.public, known)
    port = free_port()
    section = {"accept": f"curve_tun:127.0.0.1:{port}", "connect": backend.address, "allow": "laptop"} | (service or {})
    daemon = site.start({"web": section}, **more)
    return ServerEnd(site, daemon, ("127.0.0.1", port), backend, client)


@dataclass
class UdpServerEnd:
    """As ServerEnd, over UDP."""

    site: Site
    daemon: Daemon
    address: tuple[str, int]
    backend: Backend
    client: ct.KeyPair

    @property
    def key(self) -> bytes:
        return self.site.key("server").public

    def dial(self, source: str = "127.0.0.1", keys: ct.KeyPair | None = None, name: str = "web") -> cp.Client:
        return cp.Client(self.address, self.key, keys or self.client, name, source=source)

    def connect(self, source: str = "127.0.0.1", keys: ct.KeyPair | None = None, name: str = "web") -> cp.Client:
        client = self.dial(source, keys, name)
        client.handshake()
        return client

    def restart(self) -> None:
        self.daemon.stop()
        self.daemon = self.site.run(self.site.folder / "curvegate.conf")

    def check_honest(self, source: str = "127.0.0.1") -> None:
        """An honest client is served."""
        with self.connect(source) as client:
            data = b"echo" + os.urandom(96)
            assert client.stream.echo(data) == data
            client.stream.close()


def udp_server_end(
    site: Site, backend: Backend, service: dict[str, Any] | None = None, *, known: str = "", **more: Any
) -> UdpServerEnd:
    client = ct.KeyPair.generate()
    site.know("laptop", client.public, known)
    port = free_port()
    section = {"accept": f"curvecp:127.0.0.1:{port}", "connect": backend.address, "allow": "laptop"} | (service or {})
    daemon = site.start({"web": section}, **more)
    return UdpServerEnd(site, daemon, ("127.0.0.1", port), backend, client)


@dataclass
class ClientEnd:
    """A daemon whose plain service `app` leads to a tunnel server at `target`."""

    site: Site
    daemon: Daemon
    address: tuple[str, int]

    def open(self) -> Local:
        return Local(self.address)


def client_end(
    site: Site, target: tuple[str, int], server: bytes, service: dict[str, Any] | None = None, **more: Any
) -> ClientEnd:
    site.know("gate", server)
    port = free_port()
    host = f"[{target[0]}]" if ":" in target[0] else target[0]
    section = {"client": "yes", "accept": f"127.0.0.1:{port}", "connect": f"curve_tun:{host}:{target[1]}", "peer": "gate"}
    daemon = site.start({"app": section | (service or {})}, **more)
    return ClientEnd(site, daemon, ("127.0.0.1", port))


def udp_client_end(
    site: Site, target: tuple[str, int], server: bytes, service: dict[str, Any] | None = None, **more: Any
) -> ClientEnd:
    """A plain service `app` that asks the CurveCP server at `target` for its service `web`."""
    host = f"[{target[0]}]" if ":" in target[0] else target[0]
    section = {"connect": f"curvecp:{host}:{target[1]}", "server_name": "web"} | (service or {})
    return client_end(site, target, server, section, **more)


@dataclass
class UdpTunnel:
    """As Tunnel, over UDP."""

    server: UdpServerEnd
    client: ClientEnd
    relay: UdpRelay | None

    def open(self) -> Local:
        return self.client.open()

    @property
    def daemons(self) -> tuple[Daemon, Daemon]:
        return self.client.daemon, self.server.daemon


@dataclass
class Tunnel:
    """Two daemons: local application, client end, (relay,) server end, backend."""

    server: ServerEnd
    client: ClientEnd
    relay: Relay | None

    def open(self) -> Local:
        return self.client.open()


def is_readable(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])
