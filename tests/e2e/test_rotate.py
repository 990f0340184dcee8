"""Key rotation: a new server key without a flag day, over both wires, across crashes, and when the old key is
stolen."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s
import vault_peer as v

OTHER_SLOT, KEY_DROPPED = 8, 5


def rotate(socket: Path, *words: str, code: int = 0) -> str:
    done = s.run([s.binary("curvegate"), "rotate", *words, "--socket", str(socket)], timeout=60)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return (done.stdout if code == 0 else done.stderr).decode()


def parts(socket: Path) -> dict[str, str]:
    """What each live key is, by its text."""
    keys: list[dict[str, Any]] = json.loads(rotate(socket, "status", "--json"))["keys"]
    return {key["part"]: key["public_key"] for key in keys}


# ---- with real programs at both ends ----


@dataclass
class Rotation:
    """A server, a client end that pins the old key only, and one that pins both."""

    socket: Path
    old: s.Key
    new: s.Key
    server: s.Daemon
    late: tuple[str, int]
    both: tuple[str, int]
    wire: str

    def rotate(self, *words: str, code: int = 0) -> str:
        return rotate(self.socket, *words, code=code)


def client_of(site: s.Site, name: str, wire: str, target: int, keys: list[s.Key], server: s.Site) -> tuple[str, int]:
    server.know(name, site.key("client").public)
    for key in keys:
        site.know("gate", key.public)
    port = s.free_port()
    section = {"client": "yes", "accept": f"127.0.0.1:{port}", "connect": f"{wire}:127.0.0.1:{target}"}
    site.start({"web": section | {"peer": "gate"}})
    return "127.0.0.1", port


@pytest.fixture(params=["curve_tun", "curvecp"])
def rotation(request: pytest.FixtureRequest, make_site: Any, echo_backend: s.Backend) -> Rotation:
    wire = str(request.param)
    far, late, both = make_site("far"), make_site("late"), make_site("both")
    old = far.key("server")
    new = s.keygen(far.folder / "next.key", "server")
    for name, site in (("late", late), ("both", both)):
        far.know(name, site.key("client").public)
    port = s.free_port()
    socket = far.folder / "vault-control.sock"
    section = {"accept": f"{wire}:127.0.0.1:{port}", "connect": echo_backend.address, "allow": "late, both"}
    server = far.start({"web": section}, vault_control=socket, audit=far.folder / "audit")
    return Rotation(
        socket,
        old,
        new,
        server,
        client_of(late, "late", wire, port, [old], far),
        client_of(both, "both", wire, port, [old, new], far),
        wire,
    )


def works(address: tuple[str, int]) -> None:
    with s.Local(address) as local:
        assert local.echo(b"hello" * 100) == b"hello" * 100


def refused(address: tuple[str, int]) -> None:
    with s.Local(address) as local:
        try:
            local.send(b"hello")
        except OSError:
            return  # it was reset before
        assert local.read_to_end() == (b"", "reset")


def test_nobody_loses_a_connection_over_a_whole_rotation(rotation: Rotation) -> None:
    with s.Local(rotation.late) as late, s.Local(rotation.both) as both:

        def all_live() -> None:
            for local in (late, both):
                data = os.urandom(2000)
                assert local.echo(data) == data

        all_live()
        assert parts(rotation.socket) == {"current": rotation.old.text}
        for words, expected in (
            (("start", str(rotation.new.path)), {"current": rotation.old.text, "next": rotation.new.text}),
            (("switch",), {"current": rotation.new.text, "previous": rotation.old.text}),
        ):
            rotation.rotate(*words)
            assert parts(rotation.socket) == expected
            all_live()
            for _ in range(3):
                works(rotation.late)
                works(rotation.both)
        # The client ends try the pins in their order, so the old one was used as long as it answered.
        status = json.loads(rotation.rotate("status", "--json"))
        by_part = {key["part"]: key["clients"] for key in status["keys"]}
        assert by_part["previous"] >= 14 and by_part["current"] == 0, status
        rotation.rotate("finish")
        assert parts(rotation.socket) == {"current": rotation.new.text}
        all_live()
        works(rotation.both)
        all_live()
    works(rotation.both)
    if rotation.wire == "curve_tun":  # over UDP silence, until the time to connect is over
        refused(rotation.late)


def status_of(site: Path) -> dict[str, Any]:
    done = s.run([s.binary("curvegate"), "status", "--json", "-c", str(site / "curvegate.conf")], timeout=30)
    assert done.returncode == 0, done
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def text_of(site: Path) -> str:
    return s.run([s.binary("curvegate"), "status", "-c", str(site / "curvegate.conf")], timeout=30).stdout.decode()


def users(site: Path) -> list[tuple[str, int, list[str]]]:
    """Keys that sessions use, the newest first: which, how many sessions, whose."""
    return [(key["server_key"], key["sessions"], key["names"]) for key in status_of(site)["server_keys"]]


def test_status_shows_who_still_uses_the_old_key(rotation: Rotation) -> None:
    far = rotation.socket.parent
    old, new = rotation.old.text, rotation.new.text
    with s.Local(rotation.late) as late:
        assert late.echo(b"in") == b"in"
        s.until(lambda: users(far) == [(old, 1, ["late"])], "the key is shown")
        assert "older key" not in text_of(far)
        rotation.rotate("start", str(rotation.new.path))
        both = far.parent / "both"
        (both / "known_hosts").write_text(f"gate curve25519 {new}\n")
        done = s.run([s.binary("curvegate"), "reload", "-c", str(both / "curvegate.conf")], timeout=30)
        assert done.returncode == 0, done
        with s.Local(rotation.both) as first, s.Local(rotation.both) as second:
            assert first.echo(b"in") == b"in" and second.echo(b"in") == b"in"
            s.until(lambda: users(far) == [(new, 2, ["both"]), (old, 1, ["late"])], "both keys are shown")
            told = {(one["peer"], one["server_key"]) for one in status_of(far)["connections"]}
            assert told == {("both", new), ("late", old)}
            assert [one["server_key"] for one in status_of(both)["connections"]] == [None, None]
            text = text_of(far)
            assert f"older key  {old[:8]}…  1 session of 1 peer: late\n" in text, text
            assert f"server key {new[:8]}…  2 sessions of 1 peer\n" in text, text
            # Another vault is asked anew, and sessions keep the key that they began with.
            rotation.rotate("switch")
            mark = rotation.server.mark()
            os.kill(rotation.server.vault_pid, 9)
            rotation.server.wait_event("vault_up", since=mark)
            works(rotation.both)
            s.until(lambda: users(far) == [(new, 2, ["both"]), (old, 1, ["late"])], "as before")
        late.close()
        s.until(lambda: users(far) == [], "nobody is left")


def test_both_keys_answer_after_the_vault_died_in_between(rotation: Rotation) -> None:
    rotation.rotate("start", str(rotation.new.path))
    rotation.rotate("switch")
    mark = rotation.server.mark()
    os.kill(rotation.server.vault_pid, 9)
    rotation.server.wait_event("vault_up", since=mark)
    s.until(lambda: len(parts(rotation.socket)) == 2, "the vault is back")
    works(rotation.late)
    works(rotation.both)


def audited(rotation: Rotation, event: str, key: str, value: Any) -> bool:
    lines = map(json.loads, (rotation.socket.parent / "audit").read_text().splitlines())
    return any(line["event"] == event and line[key] == value for line in lines)


def test_a_stolen_key_is_out_at_once(rotation: Rotation) -> None:
    rotation.rotate("--compromised", code=1)  # there is no other to go on with
    rotation.rotate("start", str(rotation.new.path))
    with s.Local(rotation.late) as thief:
        assert thief.echo(b"still in") == b"still in"
        rotation.rotate("--compromised")
        assert thief.read_to_end() == (b"", "reset")
    assert parts(rotation.socket) == {"current": rotation.new.text}
    s.until(lambda: audited(rotation, "key_compromised", "count", 1), "the drop stands in the audit")
    why = "the server's key that it began under was dropped"
    s.until(lambda: audited(rotation, "session_end", "reason", why), "and whom it ended")
    # Who knows the new key is let in by it, and its session stays when the front hears of the old one again.
    works(rotation.both)
    with s.Local(rotation.both) as local:
        assert local.echo(b"in") == b"in"
        mark = rotation.server.mark()
        os.kill(rotation.server.vault_pid, 9)
        rotation.server.wait_event("vault_up", since=mark)
        rotation.server.wait_event("key_compromised", since=mark, sessions="0")
        assert local.echo(b"still in") == b"still in"
    if rotation.wire == "curve_tun":
        refused(rotation.late)


# ---- a vault on its own ----


@dataclass
class Vault:
    folder: Path
    key: s.Key
    running: list[s.Daemon] = field(default_factory=list)

    @property
    def control(self) -> Path:
        return self.folder / "control.sock"

    @property
    def socket(self) -> Path:
        return self.folder / "vault.sock"

    def start(self, wrap: list[str] | None = None, exits: set[int] | None = None) -> s.Daemon:
        args = [s.binary("curvegate-vault"), "--server-key", str(self.key.path), "--listen", str(self.socket)]
        args += ["--control", str(self.control)]
        daemon = s.Daemon([*(wrap or []), *args], self.folder / "vault.log", ready=None)
        daemon.expected_exits = exits or {0}
        self.running.append(daemon)
        s.until(lambda: daemon.process.poll() is not None or self.answers(), "the vault answers")
        return daemon

    def answers(self) -> bool:
        try:
            v.VaultConnection(self.socket).close()
            v.VaultConnection(self.control).close()
            return True
        except OSError:
            return False

    def hello(self, key: bytes, slot: int) -> v.Reply:
        with v.VaultConnection(self.socket) as vault:
            hello = ct.hello_packet(key, ct.KeyPair.generate())
            return vault.ask(v.ANSWER_HELLO, slot, hello[8:] + bytes(128))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = Vault(tmp_path, s.keygen(tmp_path / "server.key", "server"))
    yield made
    for daemon in made.running:
        daemon.stop()


def test_the_vault_tells_which_slot_a_hello_is_for(vault: Vault) -> None:
    vault.start()
    new = s.keygen(vault.folder / "next.key", "server")
    assert vault.hello(vault.key.public, 0).status == v.OK
    assert vault.hello(new.public, 0).status == v.BOX_DOES_NOT_OPEN
    rotate(vault.control, "start", str(new.path))
    assert vault.hello(vault.key.public, 0).status == v.OK
    told = vault.hello(new.public, 0)
    assert (told.status, told.body) == (OTHER_SLOT, bytes([1, 0]))
    assert vault.hello(new.public, 1).status == v.OK
    rotate(vault.control, "switch")
    told = vault.hello(new.public, 0)
    assert (told.status, told.body) == (OTHER_SLOT, bytes([1, 1]))
    rotate(vault.control, "finish")
    assert vault.hello(vault.key.public, 0).status == v.BOX_DOES_NOT_OPEN


def test_fronts_are_told_of_a_compromised_key_and_those_that_come_later_too(vault: Vault) -> None:
    vault.start()
    with v.VaultConnection(vault.socket) as front:
        rotate(vault.control, "start", "--generate")
        rotate(vault.control, "--compromised")
        assert front.recv() == v.Reply(KEY_DROPPED, v.OK, 0, b"\0")
    vault.running[-1].stop()
    vault.start()
    with v.VaultConnection(vault.socket) as front:
        assert front.recv() == v.Reply(KEY_DROPPED, v.OK, 0, b"\0")


def test_each_key_has_a_counter_of_its_own(vault: Vault) -> None:
    vault.start()
    new = s.keygen(vault.folder / "next.key", "server")
    rotate(vault.control, "start", str(new.path))
    for key, slot in ((vault.key, 0), (new, 1)):
        permutation = v.Permutation.of(key.pair(), v.counter_path(vault.folder, key.public))
        counters = [permutation.counter_of(vault.hello(key.public, slot).body[:16]) for _ in range(5)]
        assert counters == list(range(counters[0], counters[0] + 5))


def test_only_root_and_the_vaults_user_may_rotate() -> None:
    s.need_root()
    with tempfile.TemporaryDirectory(prefix="curvegate-e2e-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for others to reach the socket
        vault = Vault(folder, s.keygen(folder / "server.key", "server"))
        daemon = vault.start()
        assert vault.control.stat().st_mode & 0o777 == 0o600
        vault.control.chmod(0o666)  # then it is SO_PEERCRED alone that refuses
        script = (
            "import socket,sys\n"
            "c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            "c.settimeout(10)\n"
            "try:\n c.connect(sys.argv[1]); c.send(bytes([2, 1, 0, 0, 0, 0, 0, 0])); answer = c.recv(9000)\n"
            "except OSError:\n answer = b''\n"
            "sys.exit(len(answer) > 0)"
        )
        command = ["/usr/bin/python3", "-c", script, str(vault.control)]
        done = subprocess.run(command, user=65534, group=65534, extra_groups=[], check=False)
        assert done.returncode == 0
        daemon.log.wait("refused uid 65534 on the control socket")
        assert "current" in rotate(vault.control, "status")
        daemon.stop()


def test_a_vault_that_hangs_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "vault-control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stuck:
        stuck.bind(str(path))
        stuck.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as first:
            first.connect(str(path))  # the queue is full
            assert "the vault takes no connection" in rotate(path, "status", code=69)


STEPS = ["start", "switch", "finish", "--compromised"]


def take_to(vault: Vault, step: str) -> None:
    """The state in which `step` has its place."""
    if step != "start":
        rotate(vault.control, "start", str(vault.folder / "next.key"))
    if step == "finish":
        rotate(vault.control, "switch")


@pytest.mark.parametrize("call", ["pwrite64:1", "fdatasync:1", "pwrite64:2", "fdatasync:2", "sendto:1"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_system_call_of_a_step_leaves_one_of_two_states(vault: Vault, step: str, call: str) -> None:
    """KILL comes before the call takes effect."""
    s.need_tool("strace")
    s.keygen(vault.folder / "next.key", "server")
    vault.start()
    take_to(vault, step)
    before = parts(vault.control)
    vault.running[-1].stop()
    name, number = call.split(":")
    # Before the step the vault makes a block of numbers durable for each key that it has, or gets by the step;
    # and the command asks for the status first.
    earlier = 1 if name == "sendto" else 2
    first = earlier + int(number)
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={name}"]
    strace += ["-e", f"inject={name}:signal=KILL:when={first}"]
    vault.socket.unlink(missing_ok=True)
    vault.control.unlink(missing_ok=True)
    daemon = vault.start(strace, {-9, 137})
    assert daemon.process.poll() is None, daemon.log.text()
    words = [step] if step != "start" else ["start", str(vault.folder / "next.key")]
    s.run([s.binary("curvegate"), "rotate", *words, "--socket", str(vault.control)], timeout=60)
    daemon.wait_exit()
    vault.socket.unlink(missing_ok=True)
    vault.control.unlink(missing_ok=True)
    vault.start()
    found = parts(vault.control)
    if found == before:
        rotate(vault.control, *words)
    after = parts(vault.control)
    assert found in (before, after) and before != after
    if call == "sendto:1":
        assert found == after  # what was about to be told was durable
    if call == "pwrite64:1":
        assert found == before
