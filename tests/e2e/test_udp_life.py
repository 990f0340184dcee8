"""Sessions over UDP that begin and end while something else is slow: the application, the peer, the socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import curvecp as cp
import support as s


@contextmanager
def deaf_application() -> Iterator[tuple[str, int]]:
    """A port that neither takes nor refuses connections: its queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listening.getsockname())
            waiting.append(sock)
        try:
            yield listening.getsockname()
        finally:
            for sock in waiting:
                sock.close()


def test_packets_that_overtake_their_initiate_are_answered_while_the_application_is_dialled(site: s.Site) -> None:
    with deaf_application() as (host, port), s.Backend(s.hold) as unused:
        end = s.udp_server_end(site, unused, {"connect": f"{host}:{port}", "connect_timeout": "8s"})
        end.daemon.expected_exits = (0, 1)  # the client does not stay for the failure that it is told
        with end.dial() as client:
            client.begin()
            for message in (cp.Message(1), cp.Message(2, position=0, block=b"at once")):
                client.send(client.initiate(cp.message_bytes(message)))
            start = time.monotonic()
            named, acked = set(), 0
            while (acked < 7 or not {1, 2} <= named) and time.monotonic() < start + 5:
                if answer := client.recv_message(0.5):
                    said = cp.parse_message(answer)
                    named.add(said.acked_id)
                    acked = max(acked, said.ranges[0][1] if said.ranges else 0)
            assert acked == 7 and {1, 2} <= named, (acked, named)
            assert time.monotonic() - start < 2, "it waited for another client's packet"


def test_a_peer_that_talks_and_acknowledges_nothing_does_not_hold_an_ended_session(site: s.Site) -> None:
    """Its place among the sessions comes back, whatever it says."""
    with s.Backend(s.echo) as backend:
        end = s.udp_server_end(
            site, backend, {"dead_peer": "2s", "idle_timeout": "1s", "sessions_per_peer": 1}
        )
        with end.dial() as client:
            client.begin()
            client.send(client.initiate(cp.message_bytes(cp.Message(1), padding=cp.own_kind(1 << 20))))
            end.daemon.wait_event("session_close", reason="idle-timeout")
            number, accepted = 2, False
            deadline = time.monotonic() + 15
            while not accepted and time.monotonic() < deadline:
                for _ in range(5):
                    client.send(client.message(cp.message_bytes(cp.Message(number), padding=cp.own_kind(1 << 20))))
                    number += 1
                    client.recv_message(0.1)
                with end.dial() as other:
                    other.begin()
                    other.send(other.initiate())
                    accepted = other.recv_message(0.5) is not None
            assert accepted, "the place is still taken"


def test_a_client_that_waits_after_its_initiate_hears_that_it_is_in(site: s.Site) -> None:
    """Its first message wants no answer, and its application speaks only when it has heard the server."""
    with s.Backend(s.echo) as backend:
        end = s.udp_server_end(site, backend)
        with end.dial() as client:
            client.begin()
            client.send(client.initiate(cp.message_bytes(cp.Message(0))))
            said = client.recv_message(10)  # before the keepalive, which comes after 20 s
            assert said is not None, "it hangs until the service behind speaks"
            assert cp.parse_message(said).id != 0, "it wants an answer, so that it comes again if it was lost"
            assert client.stream.echo(b"now") == b"now"
            client.stream.close()


def test_a_move_while_much_waits_to_be_sent_earns_three_times_its_length_at_most(site: s.Site) -> None:
    with s.Backend(s.hold) as backend:
        end = s.udp_server_end(site, backend)
        with end.connect() as client:
            far = backend.wait_records(1)[0].sock
            far.setblocking(False)
            for _ in range(64):  # more than the peer ever acknowledges
                try:
                    far.send(bytes(1 << 16))
                except BlockingIOError:
                    break
            client.quiet(0.1)
            with cp.Port() as elsewhere:
                packet = client.message(cp.message_bytes(cp.Message(77)))
                elsewhere.send(packet, client.address)
                got = 0
                while came := elsewhere.recv(1.0):
                    got += len(came[0])
                assert 0 < got <= 3 * len(packet), f"{got} bytes for {len(packet)}"
