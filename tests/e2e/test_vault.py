"""A vault on its own: its socket protocol, and garbage on it."""

from __future__ import annotations

import os
import time

import curve_tun as ct
import pytest
import support as s
import vault_peer as v
from vault_unit import Unit, make_unit, unit  # noqa: F401


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
