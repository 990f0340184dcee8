"""Clients over UDP that want too much: strangers in masses, silence, too many sessions, no descriptors."""

from __future__ import annotations

import time

import curvecp as cp
import pytest
import support as s


def test_ten_thousand_initiates_of_strangers_leave_nothing_and_keep_nobody_out(site: s.Site) -> None:
    with s.Backend(s.echo_if_asked) as backend:
        end = s.udp_server_end(site, backend)
        front = end.daemon.front_pid
        end.check_honest()
        count, stranger = s.scale(10_000, 1_000), cp.KeyPair.generate()
        before = 0
        with end.dial("127.1.0.1", keys=stranger) as client:
            for i in range(count):
                client.short = cp.KeyPair.generate()
                client.begin(again=0.5)
                client.send(client.initiate())
                if i == count // 10:
                    before = s.status_kib(front, "VmRSS")
            grown = s.status_kib(front, "VmRSS") - before
            start = time.monotonic()
            end.check_honest("127.2.0.1")
            took = time.monotonic() - start
        assert took < 1.5, f"an honest client waits {took:.1f} s"
        assert len(backend.records) == 2
        assert grown < s.scale(2048, 65536), f"{grown} KiB stay behind"


def test_clients_that_fall_silent_after_their_initiate_are_forgotten(site: s.Site) -> None:
    """Clients of our kind: foreign ones have ten minutes (PROTOCOL 9.6)."""
    with s.Backend(s.hold) as backend:
        end = s.udp_server_end(site, backend, {"dead_peer": "2s"})
        count = s.scale(200, 40)
        mute = [end.dial() for _ in range(count)]
        for client in mute:
            client.begin()
            client.send(client.initiate(cp.message_bytes(cp.Message(1), padding=cp.own_kind(1 << 20))))
        backend.wait_records(count)
        for record in backend.records:
            record.sock.sendall(b"anybody there?")
        for record in backend.records:
            record.read_to_end()
            assert record.ended == "reset"
            record.done.set()
        end.daemon.wait_event("session_close", reason="does not answer|dead|silent|unreachable")
        for client in mute:
            client.close()


def test_one_client_over_its_session_cap_harms_only_itself(site: s.Site, echo_backend: s.Backend) -> None:
    tablet = cp.KeyPair.generate()
    site.know("tablet", tablet.public)
    end = s.udp_server_end(site, echo_backend, {"allow": "laptop, tablet", "sessions_per_peer": 5})
    mine = [end.connect() for _ in range(5)]
    for client in mine:
        assert client.stream.echo(b"in") == b"in"
    for _ in range(3):
        with end.dial() as over:
            over.begin()
            with pytest.raises(TimeoutError):
                over.establish(1)
    end.daemon.wait_event("handshake_reject", reason="too many sessions of this peer")
    with end.connect(keys=tablet) as other:
        assert other.stream.echo(b"in") == b"in"
    for client in mine:
        assert client.stream.echo(b"mine go on") == b"mine go on"
    gone = mine.pop()
    gone.stream.close()
    gone.close()

    def fits() -> bool:
        client = end.dial()
        client.begin()
        try:
            client.establish(1)
        except TimeoutError:
            client.close()
            return False
        mine.append(client)
        return True

    s.until(fits, "room for one more after one has ended")
    for client in mine:
        client.leave()


def test_a_peer_that_never_acknowledges_stops_its_sender_and_nobody_else(site: s.Site) -> None:
    with s.Backend(s.echo_if_asked) as backend:
        end = s.udp_server_end(site, backend)
        end.check_honest()
        front = end.daemon.front_pid
        before = s.status_kib(front, "VmRSS")
        with end.connect() as lazy:
            assert lazy.stream.echo(b"echo") == b"echo"
            lazy.stream.acks = False
            far = backend.wait_records(2)[1].sock
            sent = s.push_until_stuck(far, 64 << 20)
            grown = s.status_kib(front, "VmRSS") - before
            assert grown < s.scale(24, 96) * 1024, f"{grown} KiB"
            for _ in range(5):
                end.check_honest("127.0.0.3")
            lazy.stream.acks = True
            assert sent > 0
            got = 0
            deadline = time.monotonic() + 60
            while got < sent and time.monotonic() < deadline:
                got += len(lazy.stream.recv_some(30))
            assert got == sent, f"{got} of {sent} bytes"


def test_few_descriptors_neither_spin_nor_crash_and_recover(site: s.Site, echo_backend: s.Backend) -> None:
    s.need_tool("prlimit")
    if s.is_sanitized():
        s.skip_loudly("UBSan's check of virtual calls opens a pipe, and reports what is not so when it cannot")
    end = s.udp_server_end(site, echo_backend, workers=1)
    front = end.daemon.front_pid
    s.set_descriptors(front, 24)
    clients = [end.dial() for _ in range(30)]
    for client in clients:
        client.begin()
        client.send(client.initiate())
    end.daemon.wait_event("connect_failed", reason="[Tt]oo many open files")
    before = s.cpu_seconds(front)
    time.sleep(2)
    used = s.cpu_seconds(front) - before
    assert used < 1, f"spins: {used} s of CPU in 2 s"
    for client in clients:  # those that are served end, and leave their descriptors
        try:
            client.establish(1)
            client.stream.close()
        except (TimeoutError, cp.ProtocolError):
            pass
        client.close()
    end.check_honest()
    assert end.daemon.front_pid == front, "the front died of it"
