"""Runs a guide of docs/guides as a reader would: its marked blocks in their order, in a home folder for each machine.

A mark is an HTML comment right above a fenced block:

    <!-- run: server -->                      run by sh on the machine `server`; it must succeed
    <!-- run: server, gives SERVERKEY -->     and the last line that it prints stands for SERVERKEY from here on
    <!-- run: server, fails -->               it must not succeed
    <!-- run: server, stays on 4433 -->       its last command goes on; what follows waits until the ports are taken
    <!-- run: server, stays at ~/a.sock -->   the same, until the socket is there
    <!-- run: server, needs psql -->          left out, with a warning, where there is no such program
    <!-- run: laptop+phone, gives *KEY -->    on one machine after the other; `*` is the machine's name in capitals
    <!-- prints -->                           what the block above printed: these lines in this order, `...` is anything
    <!-- logs: server curvegate -->           the same for what stays: waits until it has said so
    <!-- file: server ~/old/web.conf -->      a file that is on the machine
    <!-- not run: WHY -->                     the test leaves it out

and one without a block:

    <!-- stop: server curvegate -->           what stays there by this name gets TERM, and ends

Ports and names of machines are replaced by free ones of the loopback. A port that several machines have, each for
itself, is another one for each.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import support as s

FOLDER = s.ROOT / "docs" / "guides"
PROGRAMS = ("curvegate", "curvegated", "curvegate-vault")  # they end in order by TERM
ACCOUNT = "daemon"  # for root: the guides are an ordinary user's. Not nobody, which sshd may hold to be locked
LOOPBACK = {"[::]": "127.0.0.1", "0.0.0.0": "127.0.0.1"}
MARK = re.compile(r"^ *<!-- (run|prints|logs|file|not run|stop)(?:: *(.*?))? -->$")
FENCE = re.compile(r"^( *)```(\w*)$")
LEFT_OUT = "left out"
PORT = re.compile(r"(?<=[:\s/])(?<!sessions          = )(?<!half-open         = )(\d{4,5})(?![\w.]|:db8:)")  # 2001:db8: begins an address


@dataclass(frozen=True)
class Block:
    kind: str
    detail: str
    language: str
    text: str
    line: int

    @property
    def machines(self) -> list[str]:
        return re.split(r"[, ]", self.detail)[0].split("+")

    @property
    def machine(self) -> str:
        return self.machines[0]

    def on(self, machine: str) -> Block:
        """The same, on this one of its machines only."""
        options = self.detail.partition(",")[2].replace("*", machine.upper())
        return replace(self, detail=f"{machine},{options}")

    def option(self, word: str) -> str | None:
        """What follows `word` in the mark; None if it is not there."""
        for part in self.detail.split(",")[1:]:
            first, _, rest = part.strip().partition(" ")
            if first == word:
                return rest
        return None


def parse(text: str) -> list[Block]:
    """All marked blocks, and the unmarked ones with an empty kind."""
    blocks: list[Block] = []
    mark: tuple[str, str] | None = None
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        if found := MARK.match(lines[at]):
            assert mark is None, f"line {at + 1}: a mark without a block stands before it"
            kind, detail = found[1], found[2] or ""
            if kind == "stop":
                blocks.append(Block(kind, detail, "", "", at + 1))
            else:
                mark = (kind, detail)
        elif fence := FENCE.match(lines[at]):
            end = next(i for i in range(at + 1, len(lines)) if lines[i] == f"{fence[1]}```")
            body = "".join(line.removeprefix(fence[1]) + "\n" for line in lines[at + 1 : end])
            blocks.append(Block(*(mark or ("", "")), fence[2], body, at + 1))
            mark, at = None, end
        elif lines[at].strip():
            assert mark is None, f"line {at + 1}: the mark above stands before no block"
        at += 1
    return blocks


def whole_lines(script: str) -> list[str]:
    """The script's lines; one that goes on after a backslash is one line."""
    return script.replace("\\\n", "\0").rstrip("\n").split("\n")


def with_exec(script: str) -> str:
    """The same, but its last command takes the place of the shell."""
    *before, last = whole_lines(script)
    return "\n".join([*before, "exec " + last]).replace("\0", "\\\n") + "\n"


def command_name(script: str) -> str:
    return Path(whole_lines(script)[-1].split()[0]).name


def taken_ports() -> set[int]:
    """TCP ports that somebody listens on and UDP ports that somebody has."""
    ports = set()
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        path = Path(f"/proc/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            _, local, _, status, *_ = line.split()
            if status == state:
                ports.add(int(local.rsplit(":", 1)[1], 16))
    return ports


def expect_lines(text: str, said: str, where: str) -> None:
    """Each line of `text` stands in `said`, one behind the other."""
    lines = iter(line.rstrip() for line in said.splitlines())
    for wanted in text.splitlines():
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("...")))
        assert any(pattern.fullmatch(line) for line in lines), f"{where}: {wanted!r} does not stand in:\n{said}"


def end_group(process: subprocess.Popen[bytes]) -> None:
    """What it has started and left behind ends too."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


@dataclass
class Staying:
    """A command that goes on in the background."""

    machine: str
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        """An orderly end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(s.PATIENCE)
        finally:
            end_group(self.process)
        if self.name in PROGRAMS:
            assert code == 0, f"{self.name} on {self.machine} ended with {code}:\n{self.text()[-3000:]}"
            assert not s.SANITIZER.search(self.text()), self.text()[-6000:]


@dataclass
class Guide:
    """One guide, on its way through its blocks. For root they run as another user, in homes of that user's own."""

    path: Path
    folder: Path  # of the machines' homes; whoever runs the blocks may enter it
    ports: tuple[int, ...]
    words: dict[str, str] = field(default_factory=dict)
    staying: list[Staying] = field(default_factory=list)
    own_ports: tuple[int, ...] = ()  # that several machines have, each for itself
    own: dict[tuple[str, int], int] = field(default_factory=dict)
    said: str = ""  # by what ran latest
    latest: str = ""  # the machine that it ran on
    ran: int = 0

    def __post_init__(self) -> None:
        self.blocks = parse(self.path.read_text())
        self.real = {port: s.free_port() for port in self.ports}
        self.tools = self.folder / "bin"
        self.tools.mkdir(mode=0o755)
        for name in PROGRAMS:
            (self.tools / name).symlink_to(s.binary(name))

    # ---- the machines ----

    def home(self, machine: str) -> Path:
        home = self.folder / machine
        if not home.exists():
            home.mkdir(mode=0o700)
            self.give(home)
        return home

    def give(self, path: Path) -> None:
        """To whom the blocks run as."""
        if os.geteuid() == 0:
            shutil.chown(path, ACCOUNT, ACCOUNT)

    def write(self, machine: str, name: str, text: str | bytes) -> Path:
        """A file on a machine, in a home-relative path; folders on the way are made."""
        path = self.home(machine) / name
        for folder in reversed([p for p in path.parents if self.home(machine) in p.parents]):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                self.give(folder)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o600)
        self.give(path)
        return path

    def popen_options(self, machine: str) -> dict[str, Any]:
        home = self.home(machine)
        environment = {
            "HOME": str(home),
            "PATH": f"{self.tools}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LC_ALL": "C.UTF-8",
            "TMPDIR": str(home),
        }
        who = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []} if os.geteuid() == 0 else {}
        return {"cwd": home, "env": environment, "stdin": subprocess.DEVNULL} | who

    # ---- blocks ----

    def port(self, machine: str, port: int) -> int:
        """The one that stands for it on the machine."""
        if port in self.own_ports:
            return self.own.setdefault((machine, port), s.free_port())
        assert port in self.real, f"{self.path.name}: port {port} is not among those of its test"
        return self.real[port]

    def substitute(self, text: str, machine: str) -> str:
        text = PORT.sub(lambda found: str(self.port(machine, int(found[1]))), text)
        words = LOOPBACK | self.words
        pattern = "|".join(map(re.escape, words))
        return re.sub(rf"(?<![\w./-])({pattern})(?![\w-])", lambda found: words[found[1]], text)

    def shell(self, block: Block, script: str) -> None:
        args = ["sh", "-e", "-c", script]
        process = subprocess.Popen(
            args,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **self.popen_options(block.machine),
        )
        try:
            said, _ = process.communicate(timeout=120)
        finally:
            end_group(process)
        self.said = said.decode(errors="replace")
        wanted = block.option("fails") is not None
        assert (process.returncode != 0) == wanted, f"{self.where(block)}: ended with {process.returncode}:\n{self.said}"

    def start(self, block: Block, script: str) -> None:
        is_up = self.readiness(block)
        name = command_name(script)
        log = self.folder / f"{block.machine}.{name}.{self.ran}.log"
        args = ["sh", "-e", "-c", with_exec(script)]
        with log.open("wb") as out:
            process = subprocess.Popen(
                args, stdout=out, stderr=out, start_new_session=True, **self.popen_options(block.machine)
            )
        stays = Staying(block.machine, name, process, log)
        self.staying.append(stays)

        def look() -> bool:
            assert process.poll() is None, f"{self.where(block)}: ended with {process.returncode}:\n{stays.text()}"
            return is_up()

        try:
            s.until(look, f"{self.where(block)}: it is up")
        except AssertionError as problem:
            raise AssertionError(f"{problem}; it said:\n{stays.text()[-3000:]}") from None

    def readiness(self, block: Block) -> Callable[[], bool]:
        how, _, what = (block.option("stays") or "").partition(" ")
        if how == "at":
            path = self.home(block.machine) / what.removeprefix("~/")
            return path.is_socket
        assert how == "on" and what, f"{self.where(block)}: `stays on PORT` or `stays at PATH` says when it is up"
        ports = {self.port(block.machine, int(port)) for port in what.split()}
        assert not ports & taken_ports(), f"{self.where(block)}: one of {ports} is taken already"
        return lambda: ports <= taken_ports()

    def where(self, block: Block) -> str:
        return f"{self.path.name}:{block.line}"

    def find(self, detail: str) -> Staying:
        machine, name = detail.split()
        found = [one for one in self.staying if (one.machine, one.name) == (machine, name)]
        assert found, f"{self.path.name}: no {name} stays on {machine}"
        return found[-1]

    def wait_log(self, block: Block) -> None:
        stays = self.find(block.detail)
        deadline = time.monotonic() + s.PATIENCE
        while True:
            try:
                return expect_lines(self.substitute(block.text, stays.machine), stays.text(), self.where(block))
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def do_run(self, block: Block) -> None:
        if len(block.machines) > 1:
            for machine in block.machines:
                self.do_run(block.on(machine))
            return None
        script = self.substitute(block.text, block.machine)
        if (program := block.option("needs")) and shutil.which(program) is None:
            warnings.warn(f"{self.where(block)}: left out, since there is no {program}", stacklevel=2)
            self.said = LEFT_OUT
            return None
        self.latest = block.machine
        if block.option("stays") is not None:
            return self.start(block, script)
        self.shell(block, script)
        if name := block.option("gives"):
            self.words[name] = self.said.strip().splitlines()[-1]

    def do(self, block: Block) -> None:
        actions: dict[str, Callable[[], object]] = {
            "run": lambda: self.do_run(block),
            "prints": lambda: self.expect(block),
            "logs": lambda: self.wait_log(block),
            "file": lambda: self.write(
                block.machine,
                block.detail.split()[1].removeprefix("~/"),
                self.substitute(block.text, block.machine),
            ),
            "stop": lambda: self.stop(block.detail),
        }
        if action := actions.get(block.kind):
            action()

    def expect(self, block: Block) -> None:
        if self.said != LEFT_OUT:
            expect_lines(self.substitute(block.text, self.latest), self.said, self.where(block))

    def stop(self, detail: str) -> None:
        stays = self.find(detail)
        self.staying.remove(stays)
        stays.stop()

    def line_of(self, heading: str) -> int:
        lines = self.path.read_text().splitlines()
        return next(i + 1 for i, line in enumerate(lines) if re.match(rf"##+ {re.escape(heading)}", line))

    def run(self, until: str | None = None) -> None:
        """Goes on to the heading that begins with `until`, or to the end."""
        last = self.line_of(until) if until else 1 << 30
        while self.ran < len(self.blocks) and self.blocks[self.ran].line < last:
            self.ran += 1
            self.do(self.blocks[self.ran - 1])

    def close(self) -> None:
        problems: list[Exception] = []
        while self.staying:
            try:
                self.staying.pop().stop()
            except (AssertionError, subprocess.TimeoutExpired) as problem:
                problems.append(problem)
        if problems:
            raise problems[0]
