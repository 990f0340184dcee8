"""The vault's nonces: none comes twice, over crashes, restarts, full disks, damaged counters, backups and copies."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import curve_tun as ct
import pytest
import support as s
import vault_peer as v
from vault_unit import Ledger, Unit, unit  # noqa: F401


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
