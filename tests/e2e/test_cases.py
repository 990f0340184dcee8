"""Attacks and faults that the whole must survive, driven from outside: replays, stolen cookies, a man in the
middle, floods, exhausted limits."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import curve_tun as ct
import pytest
import support as s

# ---- replays ----


@pytest.fixture
def gate(site: s.Site) -> s.ServerEnd:
    backend = s.Backend(s.echo_if_asked)
    return s.server_end(site, backend)


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


# ---- cookies of others ----


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


# ---- single bits on the wire ----


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


# ---- a man in the middle of two daemons ----


@dataclass
class Meddler:
    """Edits one direction of the frames after the handshake; message 0 is the first after hello or cookie, vouch."""

    direction: str
    change: Callable[[int, bytes], list[bytes] | None]
    seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, direction: str, index: int, frame: bytes) -> list[bytes] | None:
        if direction != self.direction:
            return [frame]
        message = index - (2 if direction == "up" else 1)
        if message < 0:
            return [frame]
        out = self.change(message, frame)
        with self.lock:
            self.seen = message + 1
        return out


CHUNKS = [b"<record %d>" % i for i in range(6)]


def send_records(meddler: Meddler, sock: socket.socket, chunks: list[bytes]) -> bool:
    """One record a chunk: the next is written when the one before has been seen on the wire, or the end came.
    True: it was a reset, and the socket has told of it, which it does once."""
    for i, chunk in enumerate(chunks):
        deadline = time.monotonic() + s.PATIENCE
        try:
            sock.sendall(chunk)
            while meddler.seen <= i:
                assert time.monotonic() < deadline, f"chunk {i} is not seen on the wire"
                if s.is_readable(sock, 0.005):  # nothing is ever sent this way: it is the end
                    return False
        except ConnectionResetError:
            return True
    return False


def was_reset(sock: socket.socket) -> bool:
    """Nothing more comes, and the end is a reset."""
    record = s.Record(sock)
    record.read_to_end()
    return (record.size, record.ended) == (0, "reset")


class Holding:
    """Swaps messages 2 and 3."""

    def __init__(self) -> None:
        self.held: bytes | None = None

    def __call__(self, message: int, frame: bytes) -> list[bytes] | None:
        if message == 2:
            self.held = frame
            return []
        if message == 3:
            assert self.held is not None
            return [frame, self.held]
        return [frame]


TAMPERING: dict[str, Callable[[], Callable[[int, bytes], list[bytes] | None]]] = {
    "dropped": lambda: lambda message, frame: [] if message == 2 else [frame],
    "repeated": lambda: lambda message, frame: [frame, frame] if message == 1 else [frame],
    "swapped": Holding,
    "repeated later": lambda: RepeatLater(),
    "replaced by an empty frame": lambda: lambda message, frame: [b"\0\0"] if message == 2 else [frame],
}


class RepeatLater:
    """Plays message 0 again in the place of message 2."""

    def __init__(self) -> None:
        self.first = b""

    def __call__(self, message: int, frame: bytes) -> list[bytes] | None:
        if message == 0:
            self.first = frame
        return [self.first] if message == 2 else [frame]


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("how", TAMPERING)
def test_a_record_tampered_with_cuts_the_session_after_what_was_good(
    make_tunnel: Callable[..., s.Tunnel], direction: str, how: str
) -> None:
    meddler = Meddler(direction, TAMPERING[how]())
    with s.Backend(s.hold if direction == "down" else s.sink) as backend:
        tunnel = make_tunnel(backend, edit=meddler)
        with tunnel.open() as local:
            record = backend.wait_records(1)[0]
            sender = local.sock if direction == "up" else record.sock
            told = send_records(meddler, sender, CHUNKS)
            assert told or was_reset(sender), "the sender's side is not told"
            if direction == "up":
                assert record.done.wait(s.PATIENCE)
                got, ended = bytes(record.data), record.ended
            else:
                got, ended = local.read_to_end()
                record.done.set()
        assert (got, ended) == (b"".join(CHUNKS[:2]), "reset")
        victim = tunnel.server.daemon if direction == "up" else tunnel.client.daemon
        empty = how == "replaced by an empty frame"
        reason = "message has an illegal length" if empty else "message does not open or is out of order"
        victim.wait_event("session_close", reason=reason)


def test_a_delayed_record_is_only_late(make_tunnel: Callable[..., s.Tunnel]) -> None:
    def late(message: int, frame: bytes) -> list[bytes]:
        time.sleep(0.3 if message == 1 else 0)
        return [frame]

    with s.Backend(s.sink) as backend:
        meddler = Meddler("up", late)
        tunnel = make_tunnel(backend, edit=meddler)
        with tunnel.open() as local:
            send_records(meddler, local.sock, CHUNKS)
            local.half_close()
            record = backend.wait_done()
            assert (bytes(record.data), record.ended) == (b"".join(CHUNKS), "eof")


@pytest.mark.parametrize("end", ["eof", "reset"])
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_cut_after_record_k_is_a_reset_after_k_records_not_an_end(
    make_tunnel: Callable[..., s.Tunnel], end: str, direction: str, after: int
) -> None:
    meddler = Meddler(direction, lambda message, frame: None if message == after else [frame])
    with s.Backend(s.hold if direction == "down" else s.sink) as backend:
        tunnel = make_tunnel(backend, edit=meddler, end=end)
        with tunnel.open() as local:
            record = backend.wait_records(1)[0]
            sender = local.sock if direction == "up" else record.sock
            told = send_records(meddler, sender, CHUNKS[: after + 1])
            assert told or was_reset(sender), "the sender's side is not told"
            if direction == "up":
                assert record.done.wait(s.PATIENCE)
                got, ended = bytes(record.data), record.ended
            else:
                got, ended = local.read_to_end()
                record.done.set()
        assert (got, ended) == (b"".join(CHUNKS[:after]), "reset")
        for daemon in (tunnel.server.daemon, tunnel.client.daemon):
            daemon.wait_event("session_close", reason="tunnel was cut without an end of stream")


def test_a_cut_within_a_record_delivers_nothing_of_it(gate: s.ServerEnd) -> None:
    for kept in (1, 2, 20, 30 + ct.MESSAGE_OVERHEAD):
        connections = len(gate.backend.records)
        with gate.connect() as client:
            assert client.session is not None
            client.session.send(b"whole")
            client.frames.write(ct.frame(client.session.seal(bytes(40)))[:kept])
            client.frames.half_close()
            client.frames.wait_closed()
        record = gate.backend.wait_done(connections)
        assert (bytes(record.data), record.ended) == (b"whole", "reset")


def test_all_that_was_delivered_before_a_cut_can_be_read_even_late(make_tunnel: Callable[..., s.Tunnel]) -> None:
    """A reset must not destroy what is on its way: the reader starts after the cut."""
    with s.Backend(s.hold) as backend:
        tunnel = make_tunnel(backend)
        data = os.urandom(200_000)
        with tunnel.open() as local:
            record = backend.wait_records(1)[0]
            local.send(data)
            got = record.sock.recv(1000)
            mark = tunnel.server.daemon.mark()
            tunnel.client.daemon.kill()
            tunnel.client.daemon.expected_exits = {-9}
            time.sleep(1)  # the reader is late; a reset sent at once would arrive now and destroy the rest
            record.take(got)
            record.read_to_end()
            assert record.ended == "reset"
            assert bytes(record.data) == data[: record.size]
            closed = tunnel.server.daemon.wait_event("session_close", since=mark, reason="tunnel was cut")
            assert record.size == int(closed.fields["bytes_in"])
            record.done.set()


# ---- pins ----


def test_a_missing_pin_is_named_before_dialling(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        end = s.client_end(site, server.address, server.keys.public, {"peer": "nobody-we-know"})
        with end.open() as local:
            assert local.read_to_end() == (b"", "reset")
        end.daemon.wait_event("connect_failed", reason="nobody-we-know.*known_hosts has no valid key")
        with pytest.raises(TimeoutError):
            server.accept(0.3)


def test_a_changed_server_key_is_refused_and_the_old_pin_kept(site: s.Site) -> None:
    old = ct.KeyPair.generate()
    with ct.Server(ct.KeyPair.generate()) as server:
        end = s.client_end(site, server.address, old.public)
        before = site.known_hosts.read_bytes()
        with end.open() as local:
            connection = server.accept()
            with pytest.raises(ct.ProtocolError):
                connection.take_hello()
            connection.frames.close()
            assert local.read_to_end() == (b"", "reset")
        end.daemon.wait_event("connect_failed", reason="gate.*wrong key for .*, or not a curve_tun server")
        assert site.known_hosts.read_bytes() == before


def test_several_keys_of_one_name_are_tried_in_order(site: s.Site) -> None:
    new = ct.KeyPair.generate()
    site.know("gate", ct.KeyPair.generate().public)
    with ct.Server(new) as server:
        server.serve(ct.echo_handler)
        end = s.client_end(site, server.address, new.public)
        with end.open() as local:
            assert local.echo(b"the second key") == b"the second key"


# ---- floods and limits ----


def flood(address: tuple[str, int], count: int, sources: list[str], sent: bytes = b"") -> list[socket.socket]:
    """Opens that many connections, sends the same bytes on each and falls silent."""
    socks = []
    for i in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, ct.IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((sources[i % len(sources)], 0))
        sock.connect_ex(address)
        socks.append(sock)
        if len(socks) % 100 == 0:
            time.sleep(0.002)  # lets the daemon's queue drain
    if sent:
        for sock in socks:
            try:
                sock.send(sent)
            except OSError:
                pass  # refused already, or still on its way: as good as mute
    return socks


STAGES = ["mute", "after half a hello", "after the hello"]


@pytest.mark.parametrize("stage", STAGES)
def test_ten_thousand_silent_connections_do_not_keep_an_honest_client_out(gate: s.ServerEnd, stage: str) -> None:
    count = s.scale(10_000, 2_500)
    hello = ct.frame(ct.hello_packet(gate.key, ct.KeyPair.generate()))
    sent = {"mute": b"", "after half a hello": hello[:60], "after the hello": hello}[stage]
    socks = flood(gate.address, count, ["127.0.0.1"], sent)
    try:
        start = time.monotonic()
        gate.check_honest(source="127.77.0.1")
        print(f"honest client served after {time.monotonic() - start:.2f} s")
    finally:
        for sock in socks:
            sock.close()
    gate.daemon.wait_event(
        "handshake_reject", reason="too many unfinished handshakes from this address|no hello in time|peer closed"
    )
    gate.check_honest()


def test_clients_that_stop_after_half_a_vouch_do_not_keep_an_honest_client_out(gate: s.ServerEnd) -> None:
    clients = []
    try:
        for _ in range(s.scale(2_000, 300)):
            clients.append(gate.dial())
            clients[-1].begin()
            clients[-1].frames.write(ct.frame(clients[-1].vouch())[:100])
        gate.check_honest(source="127.77.0.1")
    finally:
        for client in clients:
            client.close()
    gate.check_honest()


def test_a_full_table_makes_room_for_a_client_of_a_less_crowded_network(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, half_open=200, half_open_per_source=100, hello_timeout="60s")
    crowd = [f"127.1.1.{i}" for i in range(1, 9)]
    socks = flood(gate.address, 400, crowd)
    try:
        gate.daemon.wait_event("handshake_reject", reason="too many unfinished handshakes in all")
        for network in range(2, 12):
            gate.check_honest(source=f"127.2.{network}.1")
    finally:
        for sock in socks:
            sock.close()


def test_refused_for_a_full_table_looks_like_any_refusal(site: s.Site, echo_backend: s.Backend) -> None:
    gate = s.server_end(site, echo_backend, half_open_per_source=10, hello_timeout="60s")
    socks = flood(gate.address, 11, ["127.0.0.1"])
    try:
        gate.daemon.wait_event("handshake_reject", reason="too many unfinished handshakes from this address")
        assert not is_served(gate)
    finally:
        for sock in socks:
            sock.close()
    s.until(lambda: is_served(gate), "there is room again")


def is_served(gate: s.ServerEnd) -> bool:
    with gate.dial() as client:
        try:
            client.begin()
            return True
        except ct.Closed:
            assert bytes(client.frames.received) == b""
            return False


def test_established_sessions_live_through_a_flood(gate: s.ServerEnd) -> None:
    with gate.connect() as client:
        assert client.session is not None
        assert client.session.echo(b"echo") == b"echo"
        socks = flood(gate.address, s.scale(4000, 1000), ["127.0.0.1", "127.3.0.1", "127.4.0.1"])
        try:
            for _ in range(20):
                data = os.urandom(5000)
                assert client.session.echo(data) == data
        finally:
            for sock in socks:
                sock.close()


def test_few_descriptors_neither_spin_nor_crash_and_recover(site: s.Site, echo_backend: s.Backend) -> None:
    s.need_tool("prlimit")
    if s.is_sanitized():
        s.skip_loudly("UBSan's check of virtual calls opens a pipe, and reports what is not so when it cannot")
    gate = s.server_end(site, echo_backend, workers=1)
    s.set_descriptors(gate.daemon.front_pid, 20)
    clients = [gate.dial() for _ in range(40)]
    for client in clients:
        client.frames.send(client.hello())
    gate.daemon.wait_event("accept_failed", reason="[Tt]oo many open files")
    front = gate.daemon.front_pid
    before = s.cpu_seconds(front)
    time.sleep(2)
    used = s.cpu_seconds(front) - before
    assert used < 1, f"spins: {used} s of CPU in 2 s"
    for client in clients:
        client.close()
    s.until(lambda: is_honestly_served(gate), "an honest client after the shortage")
    assert gate.daemon.front_pid == front, "the front died of it"


def test_a_daemon_full_of_sessions_is_still_commanded(site: s.Site, echo_backend: s.Backend) -> None:
    """Descriptors are kept back for control and metrics, and limits that cannot be held are lowered aloud."""
    s.need_tool("prlimit")
    if s.is_sanitized():
        s.skip_loudly("a sanitizer holds descriptors of its own")
    wrap = ["prlimit", "--nofile=120:120"]
    control, metrics = site.folder / "control.sock", site.folder / "metrics.sock"
    more = {"control": control, "metrics": f"unix:{metrics}", "workers": 1, "hello_timeout": "10m"}
    gate = s.server_end(site, echo_backend, wrap=wrap, **more)
    told = gate.daemon.wait_event("limits", reason="limit of descriptors is 120.*set LimitNOFILE=")
    assert told.level == "warning"
    most = int(re.findall(r"sessions is lowered to (\d+)", told.fields["reason"])[0])
    sessions = [gate.connect() for _ in range(most)]
    for client in sessions:
        assert client.session is not None
        assert client.session.echo(b"in") == b"in"
    waiting = [gate.dial() for _ in range(120)]
    gate.daemon.wait_event("accept_failed", reason="kept for control and metrics")
    for _ in range(3):
        done = s.curvegate("status", "--json", "--socket", control)
        assert done.returncode == 0, done.stderr.decode()
        assert json.loads(done.stdout)["services"][0]["sessions"] == most
        with socket.socket(socket.AF_UNIX) as scraper:
            scraper.settimeout(s.PATIENCE)
            scraper.connect(str(metrics))
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert scraper.recv(12) == b"HTTP/1.1 200"
    done = s.curvegate("revoke", "laptop", "--socket", control)
    assert done.returncode == 0 and f"sessions ended: {most}" in done.stdout.decode()
    for client in (*sessions, *waiting):
        client.close()


def is_honestly_served(gate: s.ServerEnd) -> bool:
    try:
        gate.check_honest()
        return True
    except (ct.Closed, OSError):
        return False


def test_one_client_over_its_session_cap_harms_only_itself(site: s.Site, echo_backend: s.Backend) -> None:
    tablet = ct.KeyPair.generate()
    site.know("tablet", tablet.public)
    gate = s.server_end(site, echo_backend, {"allow": "laptop, tablet", "sessions_per_peer": 10})

    def connect(keys: ct.KeyPair | None = None) -> ct.Client:
        client = gate.connect(keys=keys)
        assert client.session is not None
        assert client.session.echo(b"in") == b"in"
        return client

    mine = [connect() for _ in range(10)]
    for _ in range(5):
        with gate.connect() as over:
            assert over.frames.wait_closed()[1] == b""
    gate.daemon.wait_event("handshake_reject", reason="too many sessions of this peer")
    connect(tablet).close()
    for client in mine:
        assert client.session is not None
        assert client.session.echo(b"mine go on") == b"mine go on"
    mine.pop().close()

    def fits() -> bool:
        try:
            mine.append(connect())
            return True
        except ct.Closed:
            return False

    s.until(fits, "room for one more after one has ended")
    for client in mine:
        client.close()
