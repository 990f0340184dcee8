"""Replays, stolen cookies and vouches, and every single bit of the wire flipped: nothing of it comes in."""

from __future__ import annotations

import os
from collections.abc import Callable

import curve_tun as ct
import support as s


def record_session(end: s.ServerEnd, *, keep_open: bool = False) -> tuple[ct.Client, bytes]:
    client = end.connect()
    assert client.session is not None
    client.session.send(b"echo PAY 100")
    assert client.session.recv() == b"echo PAY 100"
    recorded = bytes(client.frames.sent)
    if not keep_open:
        client.session.end()
        assert client.session.recv_until_end() == b""
        client.close()
    return client, recorded


def assert_replay_refused(end: s.ServerEnd, recorded: bytes) -> None:
    mark = end.daemon.mark()
    paid = len(end.backend.records)
    replay = end.dial()
    replay.frames.write(recorded)
    replay.frames.wait_closed()
    assert len(replay.frames.received) == 2 + ct.COOKIE_SIZE
    end.daemon.wait_event(
        "handshake_reject", since=mark, src=f":{replay.port}$", reason="cookie was not issued on this"
    )
    end.check_honest()
    assert len(end.backend.records) == paid + 1, "the replay reached the backend"
    replay.close()


def test_a_replay_during_the_honest_session_is_refused_and_the_session_goes_on(gate: s.ServerEnd) -> None:
    client, recorded = record_session(gate, keep_open=True)
    assert_replay_refused(gate, recorded)
    assert client.session is not None
    assert client.session.echo(b"still here") == b"still here"
    client.close()


def test_a_replay_is_refused_after_a_restart_of_the_daemon_and_of_the_vault(gate: s.ServerEnd) -> None:
    _, recorded = record_session(gate)
    assert_replay_refused(gate, recorded)
    gate.restart()
    assert_replay_refused(gate, recorded)
    mark = gate.daemon.mark()
    os.kill(gate.daemon.vault_pid, 9)
    gate.daemon.wait_event("vault_up", since=mark)
    assert_replay_refused(gate, recorded)


def test_a_hundred_replays_at_once_reach_nobody(gate: s.ServerEnd) -> None:
    _, recorded = record_session(gate)
    replays = [gate.dial() for _ in range(100)]
    for replay in replays:
        replay.frames.write(recorded)
    for replay in replays:
        replay.frames.wait_closed()
        replay.close()
    gate.check_honest()
    assert len(gate.backend.records) == 2


def test_a_vouch_with_the_cookie_of_another_connection_leaves_that_connection_alone(gate: s.ServerEnd) -> None:
    """Own and other clients' cookies, unused and used."""
    for used in (False, True):
        victim, thief = gate.dial(), gate.dial()
        victim.begin()
        if used:
            victim.frames.send(victim.vouch())
        thief.begin()
        thief.short, thief.cookie = victim.short, victim.cookie
        thief.frames.send(thief.vouch())
        assert thief.frames.wait_closed()[1] == b""
        if not used:
            victim.frames.send(victim.vouch())
        session = victim.establish()
        session.send(b"echo mine")
        assert session.recv() == b"echo mine"
        victim.close()
        thief.close()


def test_a_thousand_identical_hellos_get_a_thousand_different_answers(gate: s.ServerEnd) -> None:
    count = s.scale(1000, 300)
    first = gate.dial()
    hello = first.hello()
    clients = []
    before = s.status_kib(gate.daemon.front_pid, "VmRSS")
    cookies = []
    for i in range(count):
        client = first if i == 0 else gate.dial()
        client.short = first.short
        client.frames.send(hello)
        clients.append(client)
        if len(clients) == 50:
            cookies += [(c.take_cookie(), bytes(c.frames.received[26:])) for c in clients]
            for c in clients:
                c.close()
            clients = []
    assert len(cookies) == count
    assert len({cookie.server_short for cookie, _ in cookies}) == count
    assert len({cookie.nonce for cookie, _ in cookies}) == count
    assert len({cookie.k[:16] for cookie, _ in cookies}) == count
    assert len({cookie.k[16:] for cookie, _ in cookies}) == count
    assert len({box for _, box in cookies}) == count
    assert not {cookie.nonce for cookie, _ in cookies} & {cookie.k[:16] for cookie, _ in cookies}
    grown = s.status_kib(gate.daemon.front_pid, "VmRSS") - before
    assert grown < s.scale(8, 64) * 1024, f"the front grew by {grown} KiB"


def test_every_single_bit_of_an_inner_vouch_matters(gate: s.ServerEnd) -> None:
    """An authorised peer who is malicious: V is damaged inside a correct outer box."""
    before = len(gate.backend.records)
    for bit in range(0, 48 * 8, s.scale(1, 7)):
        with gate.dial() as client:
            client.begin()
            nonce = os.urandom(16)
            inner = bytearray(ct.inner_vouch(client.keys, gate.key, client.short.public, nonce))
            inner[bit // 8] ^= 1 << bit % 8
            client.frames.send(client.vouch(inner=bytes(inner), nonce=nonce))
            assert client.frames.wait_closed()[1] == b""
    gate.daemon.wait_event("handshake_reject", reason="vouch is wrong")
    gate.check_honest()
    assert len(gate.backend.records) == before + 1


def test_an_inner_vouch_of_an_older_session_is_refused(gate: s.ServerEnd) -> None:
    with gate.dial() as old, gate.dial() as new:
        old.begin()
        nonce = os.urandom(16)
        inner = ct.inner_vouch(old.keys, gate.key, old.short.public, nonce)
        old.frames.send(old.vouch(inner=inner, nonce=nonce))
        session = old.establish()
        assert session.echo(b"echo") == b"echo"
        new.begin()
        new.frames.send(new.vouch(inner=inner, nonce=nonce))
        assert new.frames.wait_closed()[1] == b""


def flipped(data: bytes, bit: int) -> bytes:
    copy = bytearray(data)
    copy[bit // 8] ^= 1 << bit % 8
    return bytes(copy)


BATCH = 40


def in_batches(bits: range, one: Callable[[int], ct.Client], check: Callable[[ct.Client], None]) -> None:
    for start in range(0, len(bits), BATCH):
        clients = [one(bit) for bit in bits[start : start + BATCH]]
        for client in clients:
            check(client)
            client.close()


def test_no_single_bit_of_a_hello_can_be_flipped(gate: s.ServerEnd) -> None:
    def one(bit: int) -> ct.Client:
        client = gate.dial()
        client.frames.write(flipped(ct.frame(client.hello()), bit))
        client.frames.half_close()  # a length that became longer would be waited for
        return client

    def check(client: ct.Client) -> None:
        assert client.frames.wait_closed()[1] == b""

    in_batches(range(0, 130 * 8, s.scale(1, 11)), one, check)
    gate.check_honest()


def test_no_single_bit_of_a_vouch_can_be_flipped(gate: s.ServerEnd) -> None:
    before = len(gate.backend.records)

    def one(bit: int) -> ct.Client:
        client = gate.dial()
        client.begin()
        client.frames.write(flipped(ct.frame(client.vouch()), bit))
        client.frames.half_close()
        return client

    def check(client: ct.Client) -> None:
        assert client.frames.wait_closed()[1] == b""

    in_batches(range(0, 226 * 8, s.scale(1, 19)), one, check)
    gate.check_honest()
    assert len(gate.backend.records) == before + 1


def test_no_single_bit_of_a_message_can_be_flipped(gate: s.ServerEnd) -> None:
    def one(bit: int) -> ct.Client:
        client = gate.connect()
        assert client.session is not None
        client.frames.write(flipped(ct.frame(client.session.seal(b"echo?")), bit))
        client.frames.half_close()
        return client

    def check(client: ct.Client) -> None:
        assert client.frames.wait_closed()[1] == b""

    bits = range(0, (2 + 32 + 5) * 8, s.scale(1, 7))
    in_batches(bits, one, check)
    records = gate.backend.wait_records(len(bits))
    for record in records:
        assert record.done.wait(s.PATIENCE)
        assert (record.size, record.ended) == (0, "reset")


def test_no_single_bit_of_a_cookie_can_be_flipped(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        end = s.client_end(site, server.address, server.keys.public)
        for bit in range(0, 170 * 8, s.scale(3, 29)):
            with end.open() as local:
                connection = server.accept()
                connection.take_hello()
                connection.frames.write(flipped(ct.frame(connection.cookie()), bit))
                connection.frames.half_close()
                assert connection.frames.wait_closed()[1] == b"", f"bit {bit}: a vouch came"
                assert local.read_to_end() == (b"", "reset")
                connection.frames.close()
