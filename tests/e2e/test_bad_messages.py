"""Messages over TCP, server role: a bad one cuts its session and delivers what was good; good ones may come in any
pieces."""

from __future__ import annotations

import os
import re
import time

import curve_tun as ct
import pytest
from bad_frames import BAD_LENGTH, BAD_MESSAGE, MESSAGE_CASES, Server, Spoken, server  # noqa: F401


@pytest.mark.parametrize("case", MESSAGE_CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_server_cuts_a_session_on_a_bad_message_and_delivers_what_was_good(server: Server, case: Spoken) -> None:
    end = server.end
    server.pace.take()
    mark = end.daemon.mark()
    connections = len(end.backend.records)
    client = end.connect()
    assert client.session is not None
    case.speak(client.session)
    how, rest = client.frames.wait_closed()
    record = end.backend.wait_done(connections)
    assert bytes(record.data) == case.delivered
    ended_well = case.reason not in (BAD_MESSAGE, BAD_LENGTH) and record.ended == "eof"  # the end of stream had been passed on before
    assert record.ended == "reset" or ended_well
    if record.ended != "eof":
        assert rest == b""
    seen = end.daemon.wait_event("session_close", since=mark, reason=case.reason)
    assert (seen.fields["service"], seen.fields["peer"]) == ("web", "laptop")
    assert len(end.daemon.events("session_close", mark, src=f"^{re.escape(seen.fields['src'])}$")) == 1
    assert how in ("eof", "reset")
    end.check_honest()
    client.close()


def test_server_reflecting_client_is_cut(server: Server) -> None:
    """The server's own packet, sent back to it, is not taken for the client's."""
    end = server.end
    connections = len(end.backend.records)
    with end.connect() as client:
        assert client.session is not None
        client.session.send(b"echo this")
        packet = client.frames.recv()
        client.frames.send(packet)
        client.frames.wait_closed()
    assert bytes(end.backend.wait_done(connections).data) == b"echo this"
    end.check_honest()


# ---- pieces ----


def test_frames_in_single_bytes_are_put_together(server: Server) -> None:
    with server.end.dial() as client:
        for byte in ct.frame(client.hello()):
            client.frames.write(bytes([byte]))
        client.take_cookie()
        for byte in ct.frame(client.vouch()):
            client.frames.write(bytes([byte]))
        session = client.establish()
        for byte in ct.frame(session.seal(b"echo in single bytes")) + ct.frame(session.seal(b"")):
            client.frames.write(bytes([byte]))
        assert session.recv_until_end() == b"echo in single bytes"


def test_a_header_split_between_two_segments_is_put_together(server: Server) -> None:
    with server.end.connect() as client:
        assert client.session is not None
        for word in (b"echo", b"split"):
            data = ct.frame(client.session.seal(word))
            client.frames.write(data[:1])
            time.sleep(0.05)  # so that the byte travels alone; nothing is waited for
            client.frames.write(data[1:])
            assert client.session.recv() == word


def test_largest_and_smallest_messages_pass_both_ways(server: Server) -> None:
    with server.end.connect() as client:
        assert client.session is not None
        assert client.session.echo(b"echo") == b"echo"
        for size in (1, 2, ct.LARGEST_MESSAGE - 1, ct.LARGEST_MESSAGE):
            data = os.urandom(size)
            client.session.send(data)
            assert client.session.recv_exactly(size) == data
