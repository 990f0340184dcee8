"""Bad lines over UDP: loss, delay, reordering, duplicates, outages, narrow ones; and what may be read on them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import curvecp as cp
import pytest
import support as s
import udp_relay
from udp_transfers import assert_carries, both_ways, digest, send_blocks


def test_sixty_four_mebibytes_through_a_relay_without_loss(make_udp_tunnel: Callable[..., s.UdpTunnel]) -> None:
    size = s.scale(64 << 20, 8 << 20)
    tunnel = assert_carries(make_udp_tunnel, size, 0, line={})
    assert tunnel.relay is not None
    counts = tunnel.relay.counts()
    assert counts["flows"] == 1
    assert counts["up_bytes"] < 1.5 * size, "much was sent more than once on a line that loses nothing"


LINES = [(loss, delay) for loss in (0.01, 0.05) for delay in (0, 20, 100)]


@pytest.mark.timeout(300)
def test_lossy_lines_deliver_everything(make_site: Callable[[str], s.Site]) -> None:
    """Each line has a service of its own, and all are used at once, both ways: most of the time they wait."""
    near, far = make_site("near"), make_site("far")
    far.know("phone", near.key("client").public)
    near.know("gate", far.key("server").public)
    seen: list[s.Record] = []

    def size(line: tuple[float, int]) -> int:
        slow = line == (0.05, 100)
        return s.scale(512 << 10 if slow else 2 << 20, 128 << 10)

    with ExitStack() as stack:
        relays = []
        outs: dict[str, dict[str, object]] = {}
        ins: dict[str, dict[str, object]] = {}
        port = s.free_port()
        for i, line in enumerate(LINES):
            backend = stack.enter_context(s.Backend(both_ways(size(line), size(line), seen, 120)))
            ins[f"line{i}"] = {"accept": f"curvecp:127.0.0.1:{port}", "connect": backend.address, "allow": "phone"}
            relay = stack.enter_context(
                s.UdpRelay(("127.0.0.1", port), loss=line[0], delay_ms=line[1], seed=100 + i)
            )
            relays.append(relay)
            outs[f"line{i}"] = {
                "client": "yes",
                "accept": f"127.0.0.1:{s.free_port()}",
                "connect": f"curvecp:127.0.0.1:{relay.address[1]}",
                "peer": "gate",
            }
        server, client = far.start(ins, connect_timeout="30s"), near.start(outs, connect_timeout="30s")
        results: dict[int, tuple[str, bool, float]] = {}

        def use(i: int) -> None:
            start = time.monotonic()
            address = ("127.0.0.1", int(str(outs[f"line{i}"]["accept"]).split(":")[1]))
            with s.Local(address, timeout=120) as local:
                sender = threading.Thread(target=send_blocks, args=(local.sock, size(LINES[i]), 2))
                sender.start()
                mine = s.Record(local.sock)
                mine.KEEP = 0
                mine.read_to_end(120)
                sender.join()
            right = mine.digest.hexdigest() == digest(size(LINES[i]), 1)
            results[i] = (mine.ended, right, time.monotonic() - start)

        threads = [threading.Thread(target=use, args=(i,)) for i in range(len(LINES))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(250)
        s.until(lambda: len(seen) == len(LINES), "the backends have all", 60)
        for i, (loss, delay) in enumerate(LINES):
            rate = size(LINES[i]) / 1024 / results[i][2]
            print(f"{100 * loss:.0f} % lost, {delay} ms each way: {rate:.0f} KiB/s both ways, {relays[i].counts()}")
        assert {result[:2] for result in results.values()} == {("eof", True)}, results
        digests = sorted(record.digest.hexdigest() for record in seen)
        assert digests == sorted(digest(size(line), 2) for line in LINES)
        for daemon in (client, server):
            daemon.terminate()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_third_lost_a_tenth_reordered_duplicates_and_an_outage(
    make_udp_tunnel: Callable[..., s.UdpTunnel], seed: int
) -> None:
    size = s.scale(200_000, 50_000)
    line = {"loss": 0.3, "reorder": 0.1, "duplicate": 0.1, "delay_ms": 5, "reorder_ms": 15, "seed": seed}
    record: list[s.Record] = []
    with s.Backend(both_ways(size, size, record, 60)) as backend:
        tunnel = make_udp_tunnel(backend, line=line, connect_timeout="60s")
        assert tunnel.relay is not None
        for daemon in tunnel.daemons:  # the last acknowledgment may be lost when the other one has gone
            daemon.expected_exits = {0, 1}
        with tunnel.open() as local:
            local.sock.settimeout(60)
            sender = threading.Thread(target=send_blocks, args=(local.sock, size, 2))
            sender.start()
            mine = s.Record(local.sock)
            mine.take(local.sock.recv(1))  # the session stands
            tunnel.relay.outage(2)
            mine.read_to_end(60)
            sender.join()
        theirs = backend.wait_done(seconds=60)
        counts = tunnel.relay.counts()
    assert (mine.ended, mine.digest.hexdigest()) == ("eof", digest(size, 1)), f"{mine.size} bytes"
    assert (theirs.ended, theirs.digest.hexdigest()) == ("eof", digest(size, 2)), f"{theirs.size} bytes"
    assert counts["reordered"] > 0 and counts["duplicated"] > 0


def test_a_narrow_line_is_filled_and_not_flooded(make_udp_tunnel: Callable[..., s.UdpTunnel]) -> None:
    size = s.scale(4 << 20, 1 << 20)
    tunnel = assert_carries(
        make_udp_tunnel, size, 0, line={"rate_mbit": 16, "delay_ms": 20, "queue_ms": 50}, timeout=60
    )
    assert tunnel.relay is not None
    counts = tunnel.relay.counts()
    assert counts["queue_full"] < counts["up"] / 3, f"a third of what was sent was too much for the line: {counts}"


def test_nothing_on_the_wire_is_readable(
    make_udp_tunnel: Callable[..., s.UdpTunnel], echo_backend: s.Backend, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    tunnel = make_udp_tunnel(echo_backend, line={"record": record})
    word = b"the quick brown fox jumps over the lazy dog"
    with tunnel.open() as local:
        assert local.echo(word * 50) == word * 50
        local.half_close()
        assert local.read_to_end() == (b"", "eof")
    for daemon in tunnel.daemons:
        assert daemon.terminate() == 0
    assert tunnel.relay is not None
    tunnel.relay.close()
    seen = list(udp_relay.read_record(str(record)))
    kinds = {(datagram.direction, datagram.packet[:8]) for datagram in seen}
    up, down = {cp.HELLO, cp.INITIATE, cp.CLIENT_MESSAGE}, {cp.COOKIE, cp.SERVER_MESSAGE}
    assert kinds == {("up", kind) for kind in up} | {("down", kind) for kind in down}
    client = tunnel.client.site.key("client").public
    for datagram in seen:
        assert not re.search(rb"quick|brown|\x03web", datagram.packet)
        assert client not in datagram.packet, "who the client is can be read on the wire"
        assert len(datagram.packet) <= 1184
        if datagram.direction == "up":
            assert len(datagram.packet) % 16 == 0
