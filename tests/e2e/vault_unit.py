"""What the tests of the vault share: a vault on its own, and a ledger of the nonces that it gave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import curve_tun as ct
import pytest
import support as s
import vault_peer as v


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
