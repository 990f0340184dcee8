"""What the daemon does when its vault is killed, stopped, late, slow or lying."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import curve_tun as ct
import pytest
import support as s
import vault_peer as v
from vault_unit import Ledger, Unit, unit  # noqa: F401


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
