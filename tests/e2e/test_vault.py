"""The vault: its socket protocol against garbage, its nonces over crashes, its memory, and what the daemon does
when it is killed, stopped, slow or lying."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s
import vault_peer as v

# ---- a vault on its own ----


@dataclass
class Unit:
    """A curvegate-vault that listens on a socket of its own, with a key of each role."""

    folder: Path
    server: s.Key
    client: s.Key
    friend: ct.KeyPair
    running: list[s.Daemon] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.folder / "vault.sock"

    def args(self, *more: str) -> list[str]:
        return [
            s.binary("curvegate-vault"),
            *("--server-key", str(self.server.path), "--client-key", str(self.client.path)),
            *("--known-hosts", str(self.folder / "known_hosts"), "--listen", str(self.socket)),
            *more,
        ]

    def start(self, *more: str, wrap: list[str] | None = None) -> s.Daemon:
        daemon = s.Daemon([*(wrap or []), *self.args(*more)], self.folder / "vault.log", ready=None)
        self.running.append(daemon)
        s.until(lambda: daemon.process.poll() is not None or self.answers(), "the vault listens")
        assert daemon.process.poll() is None, daemon.log.text()
        return daemon

    def refused(self, *more: str) -> tuple[int, str]:
        """Starts one that must not come up: exit status and words."""
        done = s.run(self.args(*more), timeout=30)
        return done.returncode, done.stderr.decode()

    def answers(self) -> bool:
        try:
            with self.connect():
                return True
        except OSError:
            return False

    def connect(self) -> v.VaultConnection:
        return v.VaultConnection(self.socket)

    def counter(self, key: s.Key) -> Path:
        return v.counter_path(self.folder, key.public)

    def kill(self) -> None:
        daemon = self.running[-1]
        daemon.expected_exits = {-9}
        daemon.kill()

    def close(self) -> None:
        for daemon in self.running:
            daemon.stop()
            assert s.b64(self.server.secret()) not in daemon.log.text()


def make_unit(folder: Path) -> Unit:
    friend = ct.KeyPair.generate()
    hosts = folder / "known_hosts"
    hosts.write_text(f"friend curve25519 {s.b64(friend.public)}\n")
    hosts.chmod(0o600)
    return Unit(folder, s.keygen(folder / "server.key", "server"), s.keygen(folder / "client.key", "client"), friend)


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    made = make_unit(tmp_path)
    yield made
    made.close()


def vouch_body(unit: Unit, client: ct.KeyPair, short: bytes) -> bytes:
    nonce = os.urandom(16)
    return client.public + nonce + ct.inner_vouch(client, unit.server.public, short, nonce) + short


def test_answers_its_four_purposes(unit: Unit) -> None:
    unit.start()
    with unit.connect() as vault:
        assert vault.ask(v.PUBLIC_KEY, v.SERVER).body == unit.server.public
        assert vault.ask(v.PUBLIC_KEY, v.CLIENT).body == unit.client.public
        payload = os.urandom(128)
        assert vault.answer_hello(unit.server.public, payload)[1] == payload
        client, short = ct.KeyPair.generate(), os.urandom(32)
        short = ct.KeyPair.generate().public
        assert vault.ask(v.OPEN_VOUCH, v.SERVER, vouch_body(unit, client, short)).status == v.OK
        made = vault.ask(v.MAKE_VOUCH, v.CLIENT, unit.friend.public + short)
        opened = ct.OpenedVouch(made.body[:32], made.body[32:48], made.body[48:])
        assert opened.client == unit.client.public
        assert ct.open_inner_vouch(opened, unit.friend) == short


def test_refuses_what_is_well_formed_and_wrong_by_type_and_goes_on(unit: Unit) -> None:
    unit.start()
    short = ct.KeyPair.generate()
    hello = ct.hello_packet(unit.server.public, short)[8:] + bytes(128)
    low = bytes(32)
    top_bit = short.public[:31] + bytes([short.public[31] | 0x80])
    good = vouch_body(unit, ct.KeyPair.generate(), short.public)
    cases = [
        (v.ANSWER_HELLO, v.CLIENT, hello, v.NO_SUCH_KEY),
        (v.OPEN_VOUCH, v.CLIENT, good, v.NO_SUCH_KEY),
        (v.ANSWER_HELLO, v.SERVER, hello[:-129] + bytes([hello[-129] ^ 1]) + hello[-128:], v.BOX_DOES_NOT_OPEN),
        (v.ANSWER_HELLO, v.SERVER, low + hello[32:], v.WEAK_KEY),
        (v.ANSWER_HELLO, v.SERVER, top_bit + hello[32:], v.WEAK_KEY),
        (v.OPEN_VOUCH, v.SERVER, good[:-1] + bytes([good[-1] ^ 1]), f"{v.VOUCH_IS_WRONG}|{v.WEAK_KEY}"),
        (v.OPEN_VOUCH, v.SERVER, good[:60] + bytes([good[60] ^ 1]) + good[61:], v.VOUCH_IS_WRONG),
        (v.OPEN_VOUCH, v.SERVER, low + good[32:], v.WEAK_KEY),
        (v.MAKE_VOUCH, v.CLIENT, ct.KeyPair.generate().public + short.public, v.UNKNOWN_PEER),
        (v.MAKE_VOUCH, v.CLIENT, unit.client.public + short.public, v.UNKNOWN_PEER),
        (v.MAKE_VOUCH, v.CLIENT, low + short.public, v.WEAK_KEY),
        (v.MAKE_VOUCH, v.CLIENT, unit.friend.public + low, v.WEAK_KEY),
    ]
    with unit.connect() as vault:
        for verb, slot, body, status in cases:
            reply = vault.ask(verb, slot, body)
            assert str(reply.status) in str(status).split("|"), (verb, slot, reply)
            assert reply.body == b""
        vault.answer_hello(unit.server.public)


def test_make_vouch_heeds_known_hosts_as_it_is_now(unit: Unit) -> None:
    unit.start()
    hosts = unit.folder / "known_hosts"
    other, short = ct.KeyPair.generate(), ct.KeyPair.generate().public

    def replace_hosts(text: str) -> None:
        fresh = unit.folder / "known_hosts.new"
        fresh.write_text(text)
        fresh.chmod(0o600)
        fresh.rename(hosts)

    with unit.connect() as vault:
        assert vault.ask(v.MAKE_VOUCH, v.CLIENT, other.public + short).status == v.UNKNOWN_PEER
        replace_hosts(f"other curve25519 {s.b64(other.public)}\n")
        assert vault.ask(v.MAKE_VOUCH, v.CLIENT, other.public + short).status == v.OK
        assert vault.ask(v.MAKE_VOUCH, v.CLIENT, unit.friend.public + short).status == v.UNKNOWN_PEER
        replace_hosts(f"@revoked other curve25519 {s.b64(other.public)}\n")
        assert vault.ask(v.MAKE_VOUCH, v.CLIENT, other.public + short).status == v.UNKNOWN_PEER
        replace_hosts("broken\n")
        assert vault.ask(v.MAKE_VOUCH, v.CLIENT, other.public + short).status == v.UNKNOWN_PEER
        hosts.unlink()
        assert vault.ask(v.MAKE_VOUCH, v.CLIENT, other.public + short).status == v.UNKNOWN_PEER


def malformed() -> dict[str, bytes]:
    hello = os.urandom(v.HELLO_BODY)
    return {
        "one byte": b"\1",
        "header cut short": v.message(v.PUBLIC_KEY, v.SERVER, 1)[:7],
        "wrong version": v.message(v.PUBLIC_KEY, v.SERVER, 1, version=2),
        "reserved byte set": v.message(v.PUBLIC_KEY, v.SERVER, 1, reserved=1),
        "verb 0": v.message(0, v.SERVER, 1),
        "verb 5": v.message(5, v.SERVER, 1),
        "verb 255": v.message(255, v.SERVER, 1),
        "slot 200": v.message(v.PUBLIC_KEY, 200, 1),
        "slot 129": v.message(v.PUBLIC_KEY, 129, 1),
        "make_vouch with the server's slot": v.message(v.MAKE_VOUCH, v.SERVER, 1, bytes(64)),
        "hello one byte short": v.message(v.ANSWER_HELLO, v.SERVER, 1, hello[:-1]),
        "hello one byte long": v.message(v.ANSWER_HELLO, v.SERVER, 1, hello + b"\0"),
        "body that does not belong": v.message(v.PUBLIC_KEY, v.SERVER, 1, b"x"),
        "oversized": os.urandom(4000),
        "huge": os.urandom(100_000),
        "random": os.urandom(256),
    }


@pytest.mark.parametrize("what", malformed())
def test_garbage_ends_that_connection_and_no_other(unit: Unit, what: str) -> None:
    daemon = unit.start()
    with unit.connect() as other, unit.connect() as vault:
        other.answer_hello(unit.server.public)
        vault.send(malformed()[what])
        assert vault.is_closed() and not vault.seen
        other.answer_hello(unit.server.public)
    assert daemon.process.poll() is None
    with unit.connect() as again:
        again.answer_hello(unit.server.public)


def test_a_client_that_takes_no_answers_holds_nobody_up(unit: Unit) -> None:
    unit.start()
    with unit.connect() as lazy, unit.connect() as other:
        lazy.sock.settimeout(0.5)
        try:
            for i in range(100_000):
                lazy.send(v.message(v.PUBLIC_KEY, v.SERVER, i))
        except TimeoutError:
            pass
        before = s.status_kib(unit.running[-1].pid, "VmRSS")
        for _ in range(50):
            other.answer_hello(unit.server.public)
        assert s.status_kib(unit.running[-1].pid, "VmRSS") - before < 4096


def test_vouches_are_rate_limited_and_no_reply_holds_a_secret(unit: Unit) -> None:
    """A taken-over front asks for all that it can get."""
    unit.start()
    count = s.scale(30_000, 3_000)
    short = ct.KeyPair.generate().public
    statuses = {v.OK: 0, v.OVER_RATE: 0}
    with unit.connect() as vault:
        start = time.monotonic()
        for first in range(0, count, 100):
            for i in range(first, first + 100):
                vault.send(v.message(v.MAKE_VOUCH, v.CLIENT, i, unit.friend.public + short))
            for _ in range(100):
                statuses[vault.recv().status] += 1
        seconds = time.monotonic() - start
        assert statuses[v.OK] <= 10_000 + 5_000 * seconds + 100
        print(f"{count} vouches asked for in {seconds:.1f} s: {statuses}")
        for _ in range(100):
            vault.answer_hello(unit.server.public)
            vault.ask(v.OPEN_VOUCH, v.SERVER, vouch_body(unit, unit.friend, short))
        said = bytes(vault.seen)
    for key in (unit.server, unit.client):
        shared = ct.shared_key(unit.friend.public, key.secret())
        for secret in (key.secret(), shared, *v.Permutation.of(key.pair(), unit.counter(key)).keys):
            assert secret not in said


# ---- nonces ----


@dataclass
class Ledger:
    """Every long-term nonce that was seen, and the counter within."""

    permutation: v.Permutation
    nonces: set[bytes] = field(default_factory=set)
    counters: set[int] = field(default_factory=set)

    def take(self, nonce: bytes) -> int:
        counter = self.permutation.counter_of(nonce)
        assert nonce not in self.nonces, "a long-term nonce came twice"
        assert counter not in self.counters, f"counter {counter} came twice"
        self.nonces.add(nonce)
        self.counters.add(counter)
        return counter


def ledger_of(unit: Unit, key: s.Key) -> Ledger:
    return Ledger(v.Permutation.of(key.pair(), unit.counter(key)))


def use_some(unit: Unit, server: Ledger, client: Ledger, count: int = 20) -> None:
    with unit.connect() as vault:
        for _ in range(count):
            server.take(vault.answer_hello(unit.server.public)[0])
            made = vault.ask(v.MAKE_VOUCH, v.CLIENT, unit.friend.public + ct.KeyPair.generate().public)
            client.take(made.body[32:48])


def test_nonces_count_up_and_stay_below_what_is_reserved_on_disk(unit: Unit) -> None:
    unit.start()
    ledger = ledger_of(unit, unit.server)
    with unit.connect() as vault:
        counters = [ledger.take(vault.answer_hello(unit.server.public)[0]) for _ in range(100)]
    assert counters == list(range(counters[0], counters[0] + 100))
    assert max(counters) < max(slot.reserved for slot in v.read_slots(unit.counter(unit.server)))


def test_no_nonce_comes_twice_over_kills_and_orderly_restarts(unit: Unit) -> None:
    server, client = ledger_of(unit, unit.server), ledger_of(unit, unit.client)
    for i in range(s.scale(6, 3)):
        daemon = unit.start()
        use_some(unit, server, client)
        if i % 2:
            unit.kill()
        else:
            daemon.stop()
    assert len(server.nonces) == len(client.nonces) == 20 * s.scale(6, 3)


@pytest.mark.parametrize(
    "call",
    [
        "pwrite64:when=1",
        "pwrite64:when=2",
        "fdatasync:when=1",
        "fdatasync:when=2",
        "listen:when=1",
        "sendmmsg:when=1",
        "poll:when=2",
    ],
)
def test_a_kill_at_any_system_call_of_the_reservation_repeats_no_nonce(unit: Unit, call: str) -> None:
    """KILL comes before the call takes effect: after a call means at the next one."""
    s.need_tool("strace")
    server, client = ledger_of(unit, unit.server), ledger_of(unit, unit.client)
    unit.start()
    use_some(unit, server, client, 5)
    unit.kill()
    name, when = call.split(":")
    unit.socket.unlink()
    strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={name}",
        "-e",
        f"inject={name}:signal=KILL:{when}",
    ]
    daemon = s.Daemon([*strace, *unit.args()], unit.folder / "strace.log", ready=None)
    daemon.expected_exits = {-9, 137}
    unit.running.append(daemon)
    s.until(lambda: daemon.process.poll() is not None or unit.answers(), "the vault dies or listens")
    try:
        if daemon.process.poll() is None:
            use_some(unit, server, client, 5)
    except (ct.Closed, OSError):
        pass
    daemon.wait_exit()
    assert daemon.process.returncode in daemon.expected_exits
    unit.start()
    use_some(unit, server, client)


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_a_disk_that_fails_refuses_the_start_and_names_the_file(unit: Unit, call: str, fault: str) -> None:
    s.need_tool("strace")
    before = v.read_slots(unit.counter(unit.server))
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={fault}"]
    done = s.run([*strace, *unit.args()], env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 74, done.stderr
    text = done.stderr.decode()
    assert str(unit.counter(unit.server)) in text and "cannot be written" in text
    assert os.strerror({"EIO": 5, "ENOSPC": 28}[fault]) in text
    assert max(slot.reserved for slot in v.read_slots(unit.counter(unit.server))) >= max(
        slot.reserved for slot in before
    )


Spoil = Callable[[Path, "Unit"], object]


def future_version(path: Path, _: Unit) -> None:
    v.write_slots(path, *[replace(slot, version=2) for slot in v.read_slots(path)])


def used_up(path: Path, _: Unit) -> None:
    v.write_slots(path, *[replace(slot, reserved=2**64 - 2**20) for slot in v.read_slots(path)])


def of_another_key(path: Path, unit: Unit) -> None:
    path.write_bytes(unit.counter(unit.client).read_bytes())


def link(path: Path, _: Unit) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def folder(path: Path, _: Unit) -> None:
    path.unlink()
    path.mkdir()


def of_nobody(path: Path, _: Unit) -> None:
    s.need_root()
    os.chown(path, 65534, 65534)


SPOILT: dict[str, tuple[Spoil, str]] = {
    "missing": (lambda path, _: path.unlink(), "missing.*curvegate counter init"),
    "empty": (lambda path, _: path.write_bytes(b""), "cut short.*curvegate counter init"),
    "cut short": (lambda path, _: os.truncate(path, 5000), "cut short.*curvegate counter init"),
    "all zeros": (lambda path, _: path.write_bytes(bytes(8192)), "damaged.*curvegate counter init"),
    "of another key": (of_another_key, "another key.*move it away.*curvegate counter init"),
    "a symlink": (link, "not a regular file.*move it away"),
    "a folder": (folder, "not a regular file|is a directory"),
    "of a later version": (future_version, "later version"),
    "used up": (used_up, "numbers left.*curvegate counter init"),
    "open to others": (lambda path, _: path.chmod(0o660), "open to others.*chmod 600"),
    "of another owner": (of_nobody, "belongs to somebody else.*chown"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_counter_that_cannot_be_trusted_refuses_the_start_with_the_remedy(unit: Unit, how: str) -> None:
    spoil, words = SPOILT[how]
    path = unit.counter(unit.server)
    spoil(path, unit)
    before = path.read_bytes() if path.is_file() else None
    code, text = unit.refused()
    assert code in (74, 77, 78), text
    assert str(path) in text and re.search(words, text), text
    assert (path.read_bytes() if path.is_file() else None) == before, "it was changed"


@pytest.mark.parametrize("slot", [0, 1])
def test_one_damaged_slot_is_told_and_skipped_far(unit: Unit, slot: int) -> None:
    server, client = ledger_of(unit, unit.server), ledger_of(unit, unit.client)
    unit.start()
    use_some(unit, server, client)
    unit.kill()
    path = unit.counter(unit.server)
    data = bytearray(path.read_bytes())
    data[slot * v.CounterSlot.DISTANCE + 70] ^= 1
    path.write_bytes(data)
    daemon = unit.start()
    assert "one slot of the nonce counter is damaged" in daemon.log.text()
    use_some(unit, server, client)


def test_a_counter_restored_from_a_backup_still_gives_fresh_nonces(unit: Unit) -> None:
    """The counter comes again; 64 random bits make the nonce another one."""
    backup = unit.counter(unit.server).read_bytes()
    nonces: list[bytes] = []
    for _ in range(2):
        unit.start()
        with unit.connect() as vault:
            nonces += [vault.answer_hello(unit.server.public)[0] for _ in range(50)]
        unit.kill()
        unit.counter(unit.server).write_bytes(backup)
    permutation = v.Permutation.of(unit.server.pair(), unit.counter(unit.server))
    counters = {permutation.counter_of(nonce) for nonce in nonces}
    assert len(counters) == 50 and len(set(nonces)) == 100


def test_two_vaults_on_a_copy_of_one_state_give_different_nonces(unit: Unit, tmp_path: Path) -> None:
    """As after a snapshot of a virtual machine was started twice."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (unit.counter(unit.server), unit.counter(unit.client)):
        shutil.copy2(path, copy / path.name)
    unit.start()
    second = s.Daemon([*second_args(unit), "--state-dir", str(copy)], copy / "vault.log", ready=None)
    unit.running.append(second)
    s.until(lambda: (unit.folder / "second.sock").exists(), "the second vault listens")
    with unit.connect() as one, v.VaultConnection(unit.folder / "second.sock") as two:
        nonces = [vault.answer_hello(unit.server.public)[0] for vault in (one, two) for _ in range(50)]
    assert len(set(nonces)) == 100


def second_args(unit: Unit) -> list[str]:
    """The same vault once more, at another socket."""
    return [str(unit.folder / "second.sock") if arg == str(unit.socket) else arg for arg in unit.args()]


def test_a_second_vault_on_one_state_waits_a_little_then_refuses(unit: Unit) -> None:
    unit.start()
    start = time.monotonic()
    done = s.run(second_args(unit), timeout=30)
    code, text = done.returncode, done.stderr.decode()
    assert 1.5 < time.monotonic() - start < 25
    assert code == 69 and "in use by another vault" in text and "nonce." in text
    with unit.connect() as vault:
        vault.answer_hello(unit.server.public)


def test_a_restart_that_overlaps_waits_for_the_old_vault_to_end(unit: Unit) -> None:
    unit.start()
    second = s.Daemon(second_args(unit), unit.folder / "second.log", ready=None)
    time.sleep(0.5)
    assert second.process.poll() is None
    unit.kill()
    unit.running.append(second)
    s.until(
        lambda: (unit.folder / "second.sock").exists() or second.process.poll() is not None, "the second one starts"
    )
    assert second.process.poll() is None, second.log.text()


def test_only_listed_users_may_connect(nobody_site: s.Site) -> None:
    unit = make_unit(nobody_site.folder)
    code = (
        "import socket, sys\nx = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\nx.settimeout(20)\n"
        f"x.connect({str(unit.socket)!r})\nx.send(bytes([1, 4, 0, 0, 0, 0, 0, 1]))\nprint(len(x.recv(100)))\n"
    )
    as_nobody = [*s.AS_NOBODY, "/usr/bin/python3", "-c", code]
    try:
        daemon = unit.start()
        unit.socket.chmod(0o666)
        assert s.run(as_nobody).stdout.strip() in (b"0", b"")
        with unit.connect() as vault:
            vault.answer_hello(unit.server.public)
        daemon.stop()
        unit.start("--allow-uid", "65534")
        unit.socket.chmod(0o666)
        done = s.run(as_nobody)
        assert done.stdout.strip() == b"40", done.stderr
    finally:
        unit.close()


# ---- the daemon and its vault ----


def cookie_nonces(gate: s.ServerEnd, ledger: Ledger, count: int) -> None:
    for _ in range(count):
        with gate.dial() as client:
            ledger.take(client.begin().nonce)


def test_a_killed_vault_ends_no_session_comes_back_and_repeats_no_nonce(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, vault_timeout="2s")
    key = site.key("server")
    ledger = Ledger(v.Permutation.of(key.pair(), v.counter_path(site.folder, key.public)))
    client = gate.connect()
    assert client.session is not None and client.cookie is not None
    ledger.take(client.cookie.nonce)
    for _ in range(3):
        cookie_nonces(gate, ledger, 20)
        mark = gate.daemon.mark()
        old = gate.daemon.vault_pid
        os.kill(old, signal.SIGKILL)
        assert client.session.echo(b"still") == b"still"
        start = time.monotonic()
        with gate.dial() as early:  # too early, or just in time: in any case answered soon
            try:
                ledger.take(early.begin().nonce)
            except ct.Closed:
                pass
        assert time.monotonic() - start < 20
        gate.daemon.wait_event("vault_down", since=mark)
        gate.daemon.wait_event("vault_up", since=mark)
        s.until(lambda: is_answered(gate, ledger), "new sessions after the vault's restart")
        gate.check_honest()
        assert client.session.echo(b"goes on") == b"goes on"
        assert gate.daemon.vault_pid != old
    cookie_nonces(gate, ledger, 20)
    client.close()


def is_answered(gate: s.ServerEnd, ledger: Ledger) -> bool:
    with gate.dial() as client:
        try:
            ledger.take(client.begin().nonce)
            return True
        except ct.Closed:
            return False


def test_a_client_end_survives_its_vault_and_its_vouches_repeat_no_nonce(site: s.Site) -> None:
    key = site.key("client")
    ledger = Ledger(v.Permutation.of(key.pair(), v.counter_path(site.folder, key.public)))
    with ct.Server(ct.KeyPair.generate()) as server:
        end = s.client_end(site, server.address, server.keys.public)

        def once() -> bool:
            with end.open() as local:
                connection = server.accept()
                try:
                    connection.handshake()
                except ct.Closed:
                    assert local.read_to_end() == (b"", "reset")
                    return False
                ledger.take(connection.vouch_nonce)
                connection.frames.close()
                return True

        for _ in range(3):
            for _ in range(10):
                assert once()
            os.kill(end.daemon.vault_pid, signal.SIGKILL)
            s.until(once, "a new session")


def test_a_stopped_vault_makes_new_sessions_fail_in_bounded_time_and_heals(
    site: s.Site, echo_backend: s.Backend
) -> None:
    gate = s.server_end(site, echo_backend, vault_timeout="1s")
    client = gate.connect()
    assert client.session is not None
    assert client.session.echo(b"before") == b"before"
    vault = gate.daemon.vault_pid
    os.kill(vault, signal.SIGSTOP)
    try:
        mark = gate.daemon.mark()
        start = time.monotonic()
        waiting = [gate.dial() for _ in range(5)]
        for one in waiting:
            one.frames.send(one.hello())
        for one in waiting:
            assert one.frames.wait_closed()[1] == b""
            one.close()
        assert 0.8 < time.monotonic() - start < 20
        gate.daemon.wait_event("handshake_reject", since=mark, reason="vault did not answer in time|vault cannot serve")
        assert client.session.echo(b"not disturbed") == b"not disturbed"
        time.sleep(max(0.0, s.scale(7, 2) - (time.monotonic() - start)))
    finally:
        os.kill(vault, signal.SIGCONT)
    s.until(lambda: is_honest(gate), "served again")
    assert client.session.echo(b"still there") == b"still there"
    client.close()


def is_honest(gate: s.ServerEnd) -> bool:
    try:
        gate.check_honest()
        return True
    except (ct.Closed, OSError):
        return False


def test_a_vault_of_its_own_unit_may_come_late_go_and_come_back(
    site: s.Site, unit: Unit, echo_backend: s.Backend
) -> None:
    site._keys["server"] = unit.server
    gate = s.server_end(site, echo_backend, vault=f"unix:{unit.socket}", server_key=None)
    assert len(gate.daemon.family()) == 1
    with gate.dial() as client:
        with pytest.raises(ct.Closed):
            client.begin()
    unit.start()
    s.until(lambda: is_honest(gate), "the vault is found when it comes")
    unit.kill()
    unit.start()
    s.until(lambda: is_honest(gate), "the vault is found when it comes back")


def test_a_second_daemon_on_one_key_is_refused_with_the_words(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    service = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "laptop"}
    code, said = site.start_refused({"web": service}, name="second.conf", control=None)
    assert code == 69 and "in use by another vault" in said and re.search(r"(nonce|rotation)[.]", said)
    gate.check_honest()


def test_a_daemon_whose_counter_is_missing_says_what_to_do(site: s.Site) -> None:
    key = site.key("server")
    v.counter_path(site.folder, key.public).unlink()
    service = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "*"}
    code, said = site.start_refused({"web": service})
    assert code == 78 and re.search("nonce[.].*missing.*curvegate counter init -c", said), said


# ---- a vault that lies ----


@pytest.fixture
def lying(site: s.Site, echo_backend: s.Backend) -> Iterator[tuple[s.ServerEnd, v.FakeVault]]:
    pair = ct.KeyPair.generate()
    path = site.folder / "fake.sock"
    site._keys["server"] = s.Key(site.folder / "none", pair.public)
    with v.FakeVault(path, pair) as vault:
        gate = s.server_end(site, echo_backend, vault=f"unix:{path}", server_key=None, vault_timeout="1s", workers=1)
        s.until(lambda: is_honest(gate), "the fake vault serves")
        yield gate, vault


LIES: dict[str, Callable[[bytes, bytes], list[bytes]]] = {
    "garbage": lambda reply, request: [os.urandom(len(reply))],
    "one byte": lambda reply, request: [b"\1"],
    "too long": lambda reply, request: [reply + b"\0"],
    "too short": lambda reply, request: [reply[:-1]],
    "huge": lambda reply, request: [os.urandom(60_000)],
    "a status that is none": lambda reply, request: [reply[:2] + b"\xff" + reply[3:8]],
    "an answer to another verb": lambda reply, request: [
        v.message(v.PUBLIC_KEY, v.OK, int.from_bytes(request[4:8], "big"), bytes(32))
    ],
    "a number that nobody waits for": lambda reply, request: [reply[:4] + b"\xff\xff\xff\xf0" + reply[8:]],
    "silence": lambda reply, request: [],
    "a closed connection": lambda reply, request: [b""],
    "a box that is wrong": lambda reply, request: [reply[:24] + os.urandom(len(reply) - 24)]
    if len(reply) > 100
    else [reply],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_vault_fails_new_sessions_in_bounded_time_and_harms_no_other(
    lying: tuple[s.ServerEnd, v.FakeVault], lie: str
) -> None:
    gate, vault = lying
    with gate.connect() as client:
        assert client.session is not None
        assert client.session.echo(b"before") == b"before"
        vault.tamper = LIES[lie]
        start = time.monotonic()
        for _ in range(3):
            with gate.dial() as one, pytest.raises((ct.Closed, ct.ProtocolError)):
                one.begin()
        assert time.monotonic() - start < 40
        vault.tamper = lambda reply, request: [reply]
        s.until(lambda: is_honest(gate), "healed")
        assert client.session.echo(b"after") == b"after"
    assert gate.daemon.process.poll() is None


def test_answers_out_of_order_and_repeated_go_to_whom_they_belong(lying: tuple[s.ServerEnd, v.FakeVault]) -> None:
    gate, vault = lying
    held: list[bytes] = []

    def backwards(reply: bytes, request: bytes) -> list[bytes]:
        if request[1] != v.ANSWER_HELLO:
            return [reply, reply]
        held.append(reply)
        if len(held) < 2:
            return []
        out = [held[1], held[0], held[1]]
        held.clear()
        return out

    vault.tamper = backwards
    clients = [gate.dial() for _ in range(20)]
    for client in clients:
        client.frames.send(client.hello())
    served = 0
    for i, client in enumerate(clients):
        try:
            client.take_cookie()  # opens only if it is this client's
            client.frames.send(client.vouch())
            session = client.establish()
            assert session.echo(b"%d" % i) == b"%d" % i
            served += 1
        except ct.Closed:
            pass  # the last one may have waited for a partner in vain
        client.close()
    assert served >= 18


def test_a_slow_vault_is_waited_for(lying: tuple[s.ServerEnd, v.FakeVault]) -> None:
    gate, vault = lying

    def slow(reply: bytes, request: bytes) -> list[bytes]:
        time.sleep(0.2)
        return [reply]

    vault.tamper = slow
    gate.check_honest()


# ---- memory and confinement ----


@dataclass(frozen=True)
class Found:
    pid: int
    address: int
    flags: set[str]


def mappings(pid: int) -> Iterator[tuple[int, int, int, set[str]]]:
    """Start, end, resident KiB and flags of each mapping."""
    start = end = resident = 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            start, end = int(match[1], 16), int(match[2], 16)
        elif line.startswith("Rss:"):
            resident = int(line.split()[1])
        elif line.startswith("VmFlags:"):
            yield start, end, resident, set(line.split()[1:])


SHADOW = 1 << 32  # a mapping this large is a sanitizer's shadow memory: terabytes of notes, no data


def scan(pid: int, needles: list[bytes]) -> dict[bytes, list[Found]]:
    """Where in a process's memory the needles stand."""
    found: dict[bytes, list[Found]] = {needle: [] for needle in needles}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, resident, flags in mappings(pid):
            if resident == 0 or end - start >= SHADOW:
                continue
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue  # not memory that can be read (vvar, secret memory)
            for needle in needles:
                at = data.find(needle)
                while at >= 0:
                    found[needle].append(Found(pid, start + at, flags))
                    at = data.find(needle, at + 1)
    return found


def locked_flags() -> set[str]:
    """Of locked pages that no core dump takes; sanitizers turn mlock() into nothing."""
    return {"dd"} if s.is_sanitized() else {"lo", "dd"}


def test_secret_keys_stand_once_in_locked_pages_of_the_vault_and_nowhere_else(
    site: s.Site, echo_backend: s.Backend
) -> None:
    s.need_root()
    client_key = site.key("client")
    site.know("me", client_key.public)
    site.know("gate", site.key("server").public)
    laptop = ct.KeyPair.generate()
    site.know("laptop", laptop.public)
    ports = [s.free_port(), s.free_port()]
    daemon = site.start(
        {
            "in": {"accept": f"curve_tun:127.0.0.1:{ports[0]}", "connect": echo_backend.address, "allow": "me, laptop"},
            "out": {
                "client": "yes",
                "accept": f"127.0.0.1:{ports[1]}",
                "connect": f"curve_tun:127.0.0.1:{ports[0]}",
                "peer": "gate",
            },
        }
    )
    gate = s.ServerEnd(site, daemon, ("127.0.0.1", ports[0]), echo_backend, laptop)
    for _ in range(s.scale(800, 100)):
        with gate.dial() as one:
            one.begin()
    locals_ = [s.Local(("127.0.0.1", ports[1])) for _ in range(s.scale(100, 20))]
    for local in locals_:
        assert local.echo(b"through both") == b"through both"
    gate.check_honest()

    secrets = [site.key("server").secret(), client_key.secret()]
    texts = [s.b64(secret).encode() for secret in secrets] + [secret.hex().encode() for secret in secrets]
    vault = daemon.vault_pid
    for pid in (daemon.pid, *(process.pid for process in daemon.family())):
        for needle, places in scan(pid, secrets + texts).items():
            if pid == vault and needle in secrets:
                assert len(places) == 1, f"{len(places)} copies in the vault: {places}"
                assert locked_flags() <= places[0].flags, places[0]
            else:
                assert places == [], f"a secret key in process {pid}: {places}"
    for local in locals_:
        local.close()


def test_the_scan_itself_finds_what_is_there() -> None:
    needle = os.urandom(32)
    keep = bytearray(needle)
    assert len(scan(os.getpid(), [needle])[needle]) >= 2
    assert keep == needle


def test_session_and_minute_keys_stand_in_locked_pages_of_the_front_only(site: s.Site, echo_backend: s.Backend) -> None:
    """The session key is known to the test; it must not stand in any page that is not locked."""
    s.need_root()
    gate = s.server_end(site, echo_backend)
    with gate.connect() as client:
        assert client.session is not None
        assert client.session.echo(b"x") == b"x"
        key = client.session.key
        for pid in (gate.daemon.pid, *(process.pid for process in gate.daemon.family())):
            places = scan(pid, [key])[key]
            if pid != gate.daemon.front_pid:
                assert places == []
            for place in places:
                assert locked_flags() <= place.flags, place
        client.session.end()
        client.session.recv_until_end()
    gate.daemon.wait_event("session_close")
    assert scan(gate.daemon.front_pid, [key])[key] == [], "the session key outlives its session"


def proc_status(pid: int, key: str) -> str:
    match = re.search(rf"^{key}:\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return match[1] if match else ""


def test_front_and_vault_are_confined(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend)
    for pid in (gate.daemon.vault_pid, gate.daemon.front_pid):
        assert proc_status(pid, "NoNewPrivs") == "1"
        assert proc_status(pid, "Seccomp") == "2"
        assert re.search(r"^Max core file size\s+0\s+0", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    assert Path(f"/proc/{gate.daemon.vault_pid}/environ").read_bytes().count(b"=") <= 1, "the vault got an environment"
    kinds = [
        os.readlink(f"/proc/{gate.daemon.vault_pid}/fd/{fd}") for fd in os.listdir(f"/proc/{gate.daemon.vault_pid}/fd")
    ]
    sockets = socket_inodes_of_networks()
    assert not [
        kind for kind in kinds if (m := re.match(r"socket:\[(\d+)\]", kind)) and m[1] in sockets
    ], "a network socket in the vault"


def socket_inodes_of_networks() -> set[str]:
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            found.add(line.split()[9])
    return found


SNOOP = """
import ctypes, errno, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, call):
    try:
        print(name, 'refused' if call() is False else 'ALLOWED')
    except PermissionError:
        print(name, 'refused')
def ptrace():
    return libc.ptrace(16, pid, None, None) == 0
def readv():
    class Vec(ctypes.Structure):
        _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
    buffer = ctypes.create_string_buffer(16)
    mine, theirs = Vec(ctypes.addressof(buffer), 16), Vec(0x400000, 16)
    got = libc.process_vm_readv(pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)
    return not (got < 0 and ctypes.get_errno() == errno.EPERM)
attempt('mem', lambda: open(f'/proc/{pid}/mem', 'rb').close())
attempt('environ', lambda: open(f'/proc/{pid}/environ', 'rb').read() and None)
attempt('maps', lambda: open(f'/proc/{pid}/maps', 'rb').read() and None)
attempt('ptrace', ptrace)
attempt('process_vm_readv', readv)
"""


def start_as_nobody(site: s.Site, backend: s.Backend, *limits: str, **more: Any) -> s.ServerEnd:
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    port = s.free_port()
    section = {"accept": f"curve_tun:127.0.0.1:{port}", "connect": backend.address, "allow": "laptop"}
    config = site.write_config({"web": section}, **more)
    s.give_to_nobody(site.folder)
    drop = [*s.AS_NOBODY, *limits]
    return s.ServerEnd(site, site.run(config, wrap=drop), ("127.0.0.1", port), backend, client)


def test_everything_runs_without_root_and_the_same_user_cannot_look_into_vault_or_front(
    nobody_site: s.Site, echo_backend: s.Backend
) -> None:
    gate = start_as_nobody(nobody_site, echo_backend)
    gate.check_honest()
    for pid in (gate.daemon.vault_pid, gate.daemon.front_pid):
        done = s.run([*s.AS_NOBODY, "/usr/bin/python3", "-c", SNOOP, str(pid)])
        lines = done.stdout.decode().splitlines()
        assert len(lines) == 5 and all(line.endswith("refused") for line in lines), (lines, done.stderr)
    gate.check_honest()


def test_without_lockable_memory_it_refuses_or_warns_as_configured(
    nobody_site: s.Site, echo_backend: s.Backend
) -> None:
    s.need_tool("prlimit")
    if s.is_sanitized():
        s.skip_loudly("sanitizers turn mlock() into nothing")
    client = ct.KeyPair.generate()
    nobody_site.know("laptop", client.public)
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": echo_backend.address, "allow": "laptop"}
    config = nobody_site.write_config({"web": section})
    s.give_to_nobody(nobody_site.folder)
    none = [*s.AS_NOBODY, "prlimit", "--memlock=0:0"]
    done = s.run([*none, s.binary("curvegated"), "-c", str(config)])
    assert done.returncode == 69, done.stderr
    assert b"cannot be locked" in done.stderr and b"lock-memory = try" in done.stderr
    gate = start_as_nobody(nobody_site, echo_backend, "prlimit", "--memlock=0:0", lock_memory="try")
    gate.daemon.wait_log("WARNING.*not locked|not locked")
    gate.check_honest()
