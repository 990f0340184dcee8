"""Message channels, by the example program: against itself and against the Python peer, in both roles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import curve_tun as ct
import pytest
import support as s

SIZES = f"0,1,1000,{ct.LARGEST_MESSAGE}"


def known_hosts(path: Path, **peers: bytes) -> Path:
    path.write_text("".join(f"{name} curve25519 {s.b64(key)}\n" for name, key in peers.items()))
    path.chmod(0o600)
    return path


@pytest.fixture
def server_key(tmp_path: Path) -> s.Key:
    return s.keygen(tmp_path / "server.key", "server")


@pytest.fixture
def client_key(tmp_path: Path) -> s.Key:
    return s.keygen(tmp_path / "client.key", "client")


def start_listener(folder: Path, key: s.Key, hosts: Path, *more: str) -> tuple[s.Daemon, int]:
    port = s.free_port()
    args = [
        s.binary("curvegate-echo"),
        "--listen",
        f"127.0.0.1:{port}",
        "--key",
        str(key.path),
        "--known-hosts",
        str(hosts),
        *more,
    ]
    return s.Daemon(args, folder / "echo.log", ready=rf"listening on port {port}\b"), port


@pytest.fixture
def listener(tmp_path: Path, server_key: s.Key, client_key: s.Key) -> Iterator[tuple[int, ct.KeyPair]]:
    """Lets the client key and one of ours in."""
    ours = ct.KeyPair.generate()
    hosts = known_hosts(tmp_path / "server_hosts", friend=client_key.public, python=ours.public)
    daemon, port = start_listener(tmp_path, server_key, hosts)
    yield port, ours
    daemon.expected_exits = {0, -15, 143}
    daemon.stop()


def connect(
    port: int, key: s.Key, hosts: Path, sizes: str = SIZES, peer: str = "gate", more: tuple[str, ...] = ()
) -> tuple[int, str]:
    args = [s.binary("curvegate-echo"), "--connect", f"127.0.0.1:{port}", "--peer", peer, "--key", str(key.path)]
    done = s.run([*args, "--known-hosts", str(hosts), "--sizes", sizes, *more], timeout=60)
    assert not s.SANITIZER.search(done.stderr.decode()), done.stderr.decode()
    return done.returncode, (done.stdout + done.stderr).decode()


def test_both_ends_talk_to_each_other(
    tmp_path: Path, listener: tuple[int, ct.KeyPair], server_key: s.Key, client_key: s.Key
) -> None:
    hosts = known_hosts(tmp_path / "client_hosts", gate=server_key.public)
    for sizes in (SIZES, "0", "5,5,5,5", ",".join(["65503"] * 20)):
        code, text = connect(listener[0], client_key, hosts, sizes)
        assert code == 0, text


def test_both_ends_say_what_they_speak(tmp_path: Path, server_key: s.Key, client_key: s.Key) -> None:
    hosts = known_hosts(tmp_path / "server_hosts", friend=client_key.public)
    daemon, port = start_listener(tmp_path, server_key, hosts, "--wire", "curvecp")
    try:
        pins = known_hosts(tmp_path / "client_hosts", gate=server_key.public)
        code, text = connect(port, client_key, pins, more=("--wire", "curvecp"))
        assert code == 0, text
        code, text = connect(port, client_key, pins)  # curve_tun: nobody listens at the TCP port of that number
        assert code == 1 and text.strip(), text
        code, text = connect(port, client_key, pins, more=("--wire", "udp"))
        assert code == 64 and "want curve_tun or curvecp" in text, text
    finally:
        daemon.expected_exits = {0, -15, 143}
        daemon.stop()


def test_the_listener_echoes_messages_of_a_foreign_peer_with_their_bounds(
    listener: tuple[int, ct.KeyPair], server_key: s.Key
) -> None:
    """An empty message is a message here."""
    port, ours = listener
    with ct.Client.connect(("127.0.0.1", port), server_key.public, ours) as client:
        assert client.session is not None
        for size in (0, 1, 1000, ct.LARGEST_MESSAGE, 0, 0, 7):
            data = os.urandom(size)
            client.session.send(data)
            assert client.session.recv() == data
        burst = [os.urandom(size) for size in (10, 0, 20, 30_000)]
        for data in burst:
            client.session.send(data)
        assert [client.session.recv() for _ in burst] == burst


def test_the_listener_serves_several_at_once_and_goes_on_after_bad_ones(
    listener: tuple[int, ct.KeyPair], server_key: s.Key
) -> None:
    port, ours = listener
    address = ("127.0.0.1", port)
    clients = [ct.Client.connect(address, server_key.public, ours) for _ in range(10)]
    with ct.Client.connect(address, server_key.public, ct.KeyPair.generate()) as stranger:
        assert stranger.frames.wait_closed()[1] == b""
    with ct.Client.connect(address, server_key.public, ours) as bad:
        assert bad.session is not None
        bad.session.send(b"out of order", counter=9)
        assert bad.frames.wait_closed()[1] == b""
    for i, client in enumerate(clients):
        assert client.session is not None
        client.session.send(b"%d" % i)
    for i, client in enumerate(clients):
        assert client.session is not None
        assert client.session.recv() == b"%d" % i
        client.close()


def test_the_connecting_end_talks_to_a_foreign_server(tmp_path: Path, client_key: s.Key) -> None:
    seen: list[int] = []

    def echo_messages(connection: ct.ServerConnection) -> None:
        session = connection.handshake()
        assert connection.client == client_key.public
        try:
            while True:
                data = session.recv()
                seen.append(len(data))
                session.send(data)
        except ct.Closed:
            pass

    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(echo_messages)
        hosts = known_hosts(tmp_path / "hosts", gate=server.keys.public)
        code, text = connect(server.address[1], client_key, hosts)
        assert code == 0, text
    assert seen == [0, 1, 1000, ct.LARGEST_MESSAGE] and server.errors == []


@pytest.mark.parametrize("fault", ["other bytes", "other size", "closes", "out of order"])
def test_the_connecting_end_ends_with_1_when_the_echo_is_wrong(tmp_path: Path, client_key: s.Key, fault: str) -> None:
    def handler(connection: ct.ServerConnection) -> None:
        session = connection.handshake()
        data = session.recv()
        if fault == "other bytes":
            session.send(bytes([data[0] ^ 1]) + data[1:])
        elif fault == "other size":
            session.send(data + b"x")
        elif fault == "out of order":
            session.send(data, counter=3)
        elif fault == "closes":
            return
        connection.frames.wait_closed()

    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(handler)
        hosts = known_hosts(tmp_path / "hosts", gate=server.keys.public)
        code, text = connect(server.address[1], client_key, hosts, sizes="100")
        assert code == 1, text
        assert text.strip(), "it does not say why"


def test_a_message_over_the_limit_is_refused_before_a_number_is_used(tmp_path: Path, client_key: s.Key) -> None:
    seen: list[bytes] = []

    def handler(connection: ct.ServerConnection) -> None:
        session = connection.handshake()
        while True:
            seen.append(session.recv())
            session.send(seen[-1])

    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(handler)
        hosts = known_hosts(tmp_path / "hosts", gate=server.keys.public)
        code, text = connect(server.address[1], client_key, hosts, sizes=f"3,{ct.LARGEST_MESSAGE + 1}")
        assert code != 0 and text.strip()
    assert {len(data) for data in seen} <= {3}
    assert not any(isinstance(error, ct.ProtocolError) for error in server.errors)


def test_a_refused_client_learns_it_on_its_first_receive(tmp_path: Path, server_key: s.Key, client_key: s.Key) -> None:
    hosts = known_hosts(tmp_path / "server_hosts", somebody=ct.KeyPair.generate().public)
    daemon, port = start_listener(tmp_path, server_key, hosts)
    try:
        code, text = connect(port, client_key, known_hosts(tmp_path / "client_hosts", gate=server_key.public))
        assert code == 1 and "closed" in text
    finally:
        daemon.expected_exits = {0, -15, 143}
        daemon.stop()


def test_a_wrong_pin_and_a_missing_pin_end_with_1(
    tmp_path: Path, listener: tuple[int, ct.KeyPair], client_key: s.Key
) -> None:
    hosts = known_hosts(tmp_path / "client_hosts", gate=ct.KeyPair.generate().public)
    code, text = connect(listener[0], client_key, hosts)
    assert code == 1 and text.strip()
    code, text = connect(listener[0], client_key, hosts, peer="nobody-here")
    assert code == 1 and "known_hosts has no valid key for this peer" in text
