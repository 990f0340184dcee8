"""`curvegate check --production`: each item of docs/guides/production.md, broken on purpose, one by one."""

from __future__ import annotations

import datetime
import os
import re
import resource
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s

# Items that a test's machine, user and folder decide: whoever runs the tests need not be root, a container's disk may
# be an overlay, its kernel old, its clock not set, its limit of descriptors low.
ABOUT_THE_MACHINE = {2, 3, 9, 10, 11, 13, 19, 26}
OPEN = {6, 29, 30, 33}  # no daemon runs or has written an audit file, nothing is dialled
ADVICE_NOT = {5, 7}  # a key in the clear, and a vault that the daemon starts
LINE = re.compile(r"(\d+) ([a-z0-9-]+): (ok|NO \((must|advice)\), [^,]*.*, .+|not checked, .+)")
COUNTS = re.compile(r"(\d+) must, (\d+) advice not met; (\d+) not checked")


@dataclass
class Setup:
    """A configuration that passes, to be spoilt."""

    site: s.Site
    globals: dict[str, Any] = field(default_factory=dict)
    web: dict[str, Any] = field(default_factory=dict)
    app: dict[str, Any] = field(default_factory=dict)

    @property
    def known_hosts(self) -> Path:
        return self.site.known_hosts

    def add_line(self, line: str) -> None:
        with self.known_hosts.open("a") as file:
            file.write(line + "\n")

    def write(self) -> Path:
        sections = {"web": self.web, "app": self.app}
        defaults: dict[str, Any] = {"control": None, "workers": None}
        path = self.site.write_config(sections, **(defaults | self.globals))
        path.chmod(0o600)
        return path


@pytest.fixture
def setup(site: s.Site) -> Setup:
    site.know("laptop", ct.KeyPair.generate().public)
    site.know("gate", ct.KeyPair.generate().public)
    out = Setup(site, {"max_session": "1d", "sessions_per_peer": 200, "drain_timeout": "20s"})
    out.globals |= {"audit": site.folder / "audit", "audit_required": "yes"}
    out.web = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "laptop"}
    out.app = {"client": "yes", "accept": f"unix:{site.folder}/app.sock", "peer": "gate"}
    out.app |= {"connect": f"curve_tun:127.0.0.1:{s.free_port()}"}
    return out


@dataclass
class Answer:
    status: int
    lines: dict[int, str]

    def bad(self) -> set[int]:
        return {number for number, text in self.lines.items() if text.startswith("NO")}

    def open(self) -> set[int]:
        return {number for number, text in self.lines.items() if text.startswith("not checked")}


def ask(config: Path, *more: str, **popen: Any) -> Answer:
    done = s.curvegate("check", "--production", "-c", config, *more, **popen)
    assert done.stderr == b"" and done.returncode in (0, 1), done.stderr.decode()
    *items, last = done.stdout.decode().splitlines()
    lines = {}
    for line in items:
        found = LINE.fullmatch(line)
        assert found, line
        lines[int(found[1])] = found[3]
        assert found[4] in (None, levels()[int(found[1])])
    assert list(lines) == list(range(1, 34))
    counts = COUNTS.fullmatch(last)
    assert counts, last
    starts = ("NO (must)", "NO (advice)", "not checked")
    assert [int(count) for count in counts.groups()] == [
        sum(text.startswith(start) for text in lines.values()) for start in starts
    ]
    return Answer(done.returncode, lines)


def levels() -> dict[int, str]:
    table = (s.ROOT / "src/cli/production.cpp").read_text()
    return {int(number): level for number, level in re.findall(r'\{(\d+), "[a-z0-9-]+", (must|advice),', table)}


def test_guide_and_program_have_the_same_items() -> None:
    guide = (s.ROOT / "docs/guides/production.md").read_text()
    wanted = re.findall(r"^\| (\d+) \| `([a-z0-9-]+)` \| (must|advice) \|", guide, re.MULTILINE)
    table = (s.ROOT / "src/cli/production.cpp").read_text()
    assert re.findall(r'\{(\d+), "([a-z0-9-]+)", (must|advice), rules::', table) == wanted
    assert len(wanted) == 33
    functions = re.findall(r"rules::(\w+)\}", table)
    assert functions == [name.replace("-", "_") for _, name, _ in wanted]


def test_a_good_configuration_passes_and_nothing_is_changed(setup: Setup) -> None:
    config = setup.write()
    before = {path: (path.stat(), path.read_bytes()) for path in setup.site.folder.iterdir()}
    answer = ask(config)
    assert answer.bad() - ABOUT_THE_MACHINE == ADVICE_NOT
    assert answer.open() == OPEN
    assert answer.status == int(any(levels()[number] == "must" for number in answer.bad()))
    for path, (stat, content) in before.items():
        now = path.stat()
        assert (now.st_mtime_ns, now.st_mode, path.read_bytes()) == (stat.st_mtime_ns, stat.st_mode, content)
    assert set(setup.site.folder.iterdir()) == set(before)


def in_days(days: int) -> str:
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).date().isoformat()


def line_of(setup: Setup, name: str) -> str:
    return next(line for line in setup.known_hosts.read_text().splitlines() if f" {name} " in f" {line}")


def replace_line(setup: Setup, name: str, new: Callable[[str], str]) -> None:
    old = line_of(setup, name)
    setup.known_hosts.write_text(setup.known_hosts.read_text().replace(old, new(old)))


def fresh(name: str, prefix: str = "") -> str:
    return f"{prefix} {name} curve25519 {s.b64(ct.KeyPair.generate().public)}".strip()


def same_key_twice(setup: Setup) -> None:
    setup.add_line(line_of(setup, "laptop").replace("laptop", "phone"))


def three_keys(setup: Setup) -> None:
    for _ in range(2):
        setup.add_line(fresh("laptop"))


def loose_key(setup: Setup) -> None:
    setup.site.key("server").path.chmod(0o640)


def torn_counter(setup: Setup) -> None:
    path = next(setup.site.folder.glob(f"nonce.{setup.site.key('server').public.hex()[:16]}"))
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)


def no_counter(setup: Setup) -> None:
    next(setup.site.folder.glob(f"nonce.{setup.site.key('server').public.hex()[:16]}")).unlink()


def set_in(part: str, **values: Any) -> Callable[[Setup], None]:
    return lambda setup: getattr(setup, part).update(values)


def write_audit(setup: Setup) -> None:
    path = setup.site.folder / "audit"
    path.write_text("nothing of the kind\n")
    path.chmod(0o600)


def mode(name: str, bits: int) -> Callable[[Setup], None]:
    return lambda setup: (setup.site.folder / name).chmod(bits)


# What is done, which items turn to NO, and words of the first one's line.
BROKEN: dict[str, tuple[Callable[[Setup], None], set[int], str]] = {
    "a warning": (set_in("web", allow=None), {1}, "nobody may use [web]"),
    "an unknown peer": (set_in("web", allow="laptop, lapdog"), {1, 15}, "lapdog"),
    "a loose key": (loose_key, {1, 4}, "chmod 600"),
    "try sandbox": (set_in("globals", sandbox="try"), {8}, "sandbox = try"),
    "try lock": (set_in("globals", lock_memory="try"), {8}, "lock-memory = try"),
    "a torn counter": (torn_counter, {12}, "a slot that does not read"),
    "no counter": (no_counter, {1, 12}, "nonce."),
    "star": (set_in("web", allow="*"), {1, 14}, "allow = *"),
    "an expired peer": (
        lambda setup: replace_line(setup, "laptop", lambda line: f"valid-until=2020-01-01 {line}"),
        {1, 15},
        "laptop",
    ),
    "a revoked peer": (
        lambda setup: replace_line(setup, "gate", lambda line: f"@revoked {line}"),
        {1, 15},
        "gate",
    ),
    "expires soon": (
        lambda setup: replace_line(setup, "laptop", lambda line: f"valid-until={in_days(10)} {line}"),
        {16},
        in_days(10),
    ),
    "two names, two lines": (same_key_twice, {17}, "line 3 of"),
    "two names, one line": (
        lambda setup: replace_line(setup, "laptop", lambda line: line.replace("laptop", "laptop,phone")),
        {17},
        "more than one name",
    ),
    "three keys": (three_keys, {18}, "laptop has 3 live keys"),
    "accept for all": (set_in("app", accept="0.0.0.0:4444"), {20, 22}, "whoever reaches it"),
    "connect far away": (set_in("web", connect="192.0.2.1:80"), {21}, "in the clear"),
    "accept on loopback": (set_in("app", accept="127.0.0.1:4444"), {22}, "every local user"),
    "end of stream": (set_in("web", end_of_stream="close"), {23}, "[web]"),
    "no max-session": (set_in("globals", max_session=None), {24}, "[web]"),
    "no sessions-per-peer": (
        lambda setup: (setup.globals.update(sessions_per_peer=None), setup.app.update(sessions_per_peer=200)) and None,
        {25},
        "[web] lets one peer have 16384",
    ),
    "too many": (set_in("globals", sessions=90_000_000), {26}, "may need 18001"),
    "no drain": (set_in("globals", drain_timeout="500ms"), {27}, "cuts sessions"),
    "long drain": (set_in("globals", drain_timeout="81s"), {27}, "longer than systemd"),
    "no audit": (set_in("globals", audit=None, audit_required=None), {33}, "no audit file"),
    "no word on audit": (set_in("globals", audit_required=None), {33}, "left to its default"),
    "not an audit": (write_audit, {33}, "not a line of an audit file"),
    "debug": (set_in("globals", log_level="debug"), {28}, "each step"),
    "errors only": (set_in("globals", log_level="error"), {28}, "hides"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_said_and_nothing_else(setup: Setup, what: str) -> None:
    spoil, wanted, words = BROKEN[what]
    spoil(setup)
    answer = ask(setup.write())
    assert answer.bad() - (ABOUT_THE_MACHINE - wanted) - ADVICE_NOT == wanted
    assert any(words in answer.lines[number] for number in wanted)
    assert answer.status == int(any(levels()[number] == "must" for number in answer.bad()))


def test_a_key_that_is_good_for_longer_makes_up_for_one_that_runs_out(setup: Setup) -> None:
    replace_line(setup, "laptop", lambda line: f"valid-until={in_days(10)} {line}")
    setup.add_line(fresh("laptop", f"valid-until={in_days(90)}"))
    assert not ask(setup.write()).bad() & {15, 16, 18}


def test_a_client_end_without_a_listener_is_guarded(setup: Setup) -> None:
    setup.app["accept"] = "none"
    assert not ask(setup.write()).bad() & {20, 22}


def test_owners_and_modes_of_configuration_and_known_hosts(setup: Setup) -> None:
    s.need_root()
    config = setup.write()
    assert not ask(config).bad() & {2, 3}
    os.chown(setup.known_hosts, 65534, 65534)
    assert f"{setup.known_hosts} belongs to uid 65534, chown root {setup.known_hosts}" in ask(config).lines[3]
    os.chown(setup.known_hosts, 0, 0)
    setup.site.folder.chmod(0o775)
    answer = ask(config)
    assert {2, 3, 4} <= answer.bad() and f"chmod go-w {setup.site.folder}" in answer.lines[2]
    setup.site.folder.chmod(0o1777)  # others may make files there, and touch none
    assert not ask(config).bad() & {2, 3, 4}


def test_a_key_that_may_not_be_read_is_not_checked(nobody_site: s.Site) -> None:
    site = nobody_site
    site.know("laptop", ct.KeyPair.generate().public)
    web = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "laptop"}
    config = site.write_config({"web": web})
    site.known_hosts.chmod(0o644)
    config.chmod(0o644)
    done = s.run([*s.AS_NOBODY, s.binary("curvegate"), "check", "--production", "-c", str(config)])
    lines = done.stdout.decode().splitlines()
    for number in (1, 5, 12):
        assert lines[number - 1].endswith("may not be read by uid 65534"), lines[number - 1]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no tmpfs")
def test_a_counter_in_memory_is_told(setup: Setup) -> None:
    state = Path(f"/dev/shm/curvegate-{os.getpid()}")
    state.mkdir(mode=0o700)
    try:
        for counter in setup.site.folder.glob("nonce.*"):
            shutil.copy(counter, state)
        config = setup.write()  # makes the keys
        for counter in setup.site.folder.glob("nonce.*"):
            shutil.copy2(counter, state)
        setup.globals["state_dir"] = state
        config = setup.write()
        assert f"{state} is on tmpfs" in ask(config).lines[11]
    finally:
        shutil.rmtree(state)


def test_limits_are_those_of_the_running_daemon(setup: Setup) -> None:
    setup.globals |= {"control": setup.site.folder / "control.sock", "half_open": 100, "sessions": 100, "workers": 1}
    config = setup.write()
    needs = 32 + 4 + 400 // 8 + 2 + 100 + 2 * 100  # the process, a worker, kept back, two listeners, limits
    limit = (400, 400)
    setup.site.run(config, popen={"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)})
    answer = ask(config)
    assert answer.lines[26] == "ok" and answer.lines[31] == "ok"
    assert (answer.lines[6] == "ok") == (os.geteuid() != 0)
    config.write_text(config.read_text().replace("half-open = 100", "half-open = 120"))
    told = f"limit of descriptors is 400, and sessions, half-open and flows may need {needs + 20}, set LimitNOFILE="
    assert told in ask(config).lines[26]


def test_a_control_socket_that_others_may_use_or_replace(setup: Setup) -> None:
    folder = setup.site.folder / "run"
    folder.mkdir(mode=0o700)
    setup.globals["control"] = folder / "control.sock"
    config = setup.write()
    assert ask(config).lines[31].startswith("not checked")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "control.sock"))
        (folder / "control.sock").chmod(0o660)
        assert ask(config).lines[31] == "ok"
        (folder / "control.sock").chmod(0o666)
        assert "has mode 666, chmod o= " in ask(config).lines[31]
        setup.globals |= {"control_group": "adm", "status_group": "users"}
        assert ask(setup.write()).lines[31] == "ok"  # the daemon asks who speaks
        (folder / "control.sock").chmod(0o600)
        folder.chmod(0o1777)
        assert "others may put a socket there" in ask(config).lines[31]
        folder.chmod(0o700)


def test_dialling_is_done_only_when_asked_for(make_tunnel: Callable[..., s.Tunnel]) -> None:
    with s.Backend(s.echo) as backend:
        tunnel = make_tunnel(backend)
        near, far = (site.folder / "curvegate.conf" for site in (tunnel.client.site, tunnel.server.site))
        assert {29, 30} <= ask(far).open() and not backend.records
        assert ask(far, "--dial").lines[29] == "ok" and ask(near, "--dial").lines[30] == "ok"
        tunnel.server.daemon.stop()
        assert "[app]: curvegate: connect: " in ask(near, "--dial").lines[30]
    answer = ask(far, "--dial")
    assert "[web]: 127.0.0.1:" in answer.lines[29] and "Connection refused" in answer.lines[29]


def test_what_does_not_parse_is_told_as_ever(site: s.Site) -> None:
    config = site.folder / "bad.conf"
    config.write_text("[web]\naccept = nowhere\n")
    done = s.curvegate("check", "--production", "-c", config)
    assert done.returncode == 78 and done.stdout == b"" and b"bad.conf:" in done.stderr
    for words in (["--dial"], ["--production", "--peer", "a", "--service", "web"]):
        assert s.curvegate("check", "-c", config, *words).returncode == 64


USERS = {"root": 0, "curvegate": 65534, "curvegate-vault": 65533}


def lay_out(root: Path) -> None:
    """The folders of the package under `root`, with numbers for its users."""
    for line in (s.ROOT / "systemd/tmpfiles.d/curvegate.conf").read_text().splitlines():
        if line.startswith("d "):
            _, path, mode, user, group, _ = line.split()
            folder = root / path.lstrip("/")
            folder.mkdir(parents=True)
            os.chown(folder, USERS[user], USERS[group])
            folder.chmod(int(mode, 8))


def as_user(user: str) -> list[str]:
    return ["setpriv", f"--reuid={USERS[user]}", f"--regid={USERS['curvegate']}", "--clear-groups"]


def test_the_packages_layout_passes(nobody_site: s.Site) -> None:
    """Control, metrics and the vault's sockets, made by the users of the units where the units may make them."""
    site, root = nobody_site, nobody_site.folder / "root"
    root.mkdir()
    lay_out(root)
    run, state, etc = root / "run/curvegate", root / "var/lib/curvegate-vault", root / "etc/curvegate"
    key = s.keygen(state / "server.key", "server", "--state-dir", str(state))
    for path in state.iterdir():
        os.chown(path, USERS["curvegate-vault"], USERS["curvegate"])
    found = re.search(r"--listen (\S+)", (s.ROOT / "systemd/start-vault").read_text())
    assert found
    socket_of_vault = root / found[1].lstrip("/")
    vault = [*as_user("curvegate-vault"), s.binary("curvegate-vault"), "--listen", str(socket_of_vault)]
    vault += ["--server-key", str(key.path), "--state-dir", str(state), "--allow-uid", str(USERS["curvegate"])]
    site.daemons.append(s.Daemon(vault, site.folder / "vault.log", ready=None))
    s.until(socket_of_vault.exists, "the vault's socket")
    (etc / "known_hosts").write_text("laptop curve25519 " + s.b64(ct.KeyPair.generate().public) + "\n")
    config = etc / "curvegate.conf"
    config.write_text(
        f"vault = unix:{socket_of_vault}\ncontrol = {run}/control.sock\nmetrics = unix:{run}/metrics.sock\n"
        f"known-hosts = {etc}/known_hosts\nsessions = 1000\nhalf-open = 1000\n"
        f"[web]\naccept = curve_tun:127.0.0.1:{s.free_port()}\nconnect = 127.0.0.1:9\nallow = laptop\n"
    )
    site.run(config, wrap=as_user("curvegate"))
    answer = ask(config)
    assert {number: answer.lines[number] for number in (2, 3, 6, 7, 31, 32)} == dict.fromkeys((2, 3, 6, 7, 31, 32), "ok")
    for user, folder in (("curvegate-vault", run), ("curvegate", socket_of_vault.parent)):
        done = s.run([*as_user(user), "touch", str(folder / "planted")])
        assert done.returncode != 0, f"{user} may write to {folder}"
