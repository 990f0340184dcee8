"""Together with the reference programs of CurveCP (Debian's nacl-tools), in both roles.

Their message sender gives about 0.7 MB/s. Their programs answer nobody while their child does not read, so a bulk echo
through `cat` stands still by itself once both directions are full: bulk goes one way here.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import curvecp as cp
import pytest
import support as s

ETC = Path("/etc/curvecpextension")
SOME = 200_000
MUCH = s.scale(20_000_000, 2_000_000)
SERVER_EXT = bytes(range(0x10, 0x20))
CLIENT_EXT = bytes(range(0xA0, 0xB0))


@pytest.fixture(autouse=True)
def programs() -> None:
    s.need_tool("curvecpserver")
    if ETC.exists() and ETC.read_bytes()[:16] != bytes(16):
        s.skip_loudly(f"{ETC} is set on this machine")


@pytest.fixture(scope="module", autouse=True)
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "much"
    path.write_bytes(os.urandom(MUCH))
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Keys:
    """A key directory of theirs."""

    folder: Path

    @property
    def public(self) -> bytes:
        done = s.run(["curvecpprintkey", str(self.folder)])
        assert done.returncode == 0, done.stderr
        return bytes.fromhex(done.stdout.decode().strip())

    @property
    def secret(self) -> bytes:
        return (self.folder / ".expertsonly" / "secretkey").read_bytes()


def make_keys(folder: Path) -> Keys:
    done = s.run(["curvecpmakekey", str(folder)])
    assert done.returncode == 0, done.stderr
    return Keys(folder)


@contextmanager
def reference_server(keys: Keys, name: str, *program: str, ext: bytes = cp.NO_EXTENSION) -> Iterator[tuple[str, int]]:
    """`program` runs for each session, the peer at its standard input and output."""
    port = s.free_port()
    args = ["curvecpserver", "-Q", name, str(keys.folder), "127.0.0.1", str(port), ext.hex(), "curvecpmessage"]
    process = subprocess.Popen([*args, *program], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        s.until(lambda: is_bound(port), "curvecpserver listens")
        yield "127.0.0.1", port
    finally:
        children = s.descendants(process.pid)
        process.kill()
        process.wait(s.PATIENCE)
        for child in children:
            subprocess.run(["kill", "-9", str(child.pid)], check=False, stderr=subprocess.DEVNULL)


def is_bound(port: int) -> bool:
    try:
        cp.Port("127.0.0.1", port).close()
        return False
    except OSError:
        return True


def reference_client(
    address: tuple[str, int],
    server: bytes,
    script: str,
    *,
    name: str = "web",
    keys: Keys | None = None,
    ext: bytes = cp.NO_EXTENSION,
    speaks_first: bool = True,
    timeout: float = 120,
) -> bytes:
    """Runs `script` with file descriptor 6 to read from the peer and 7 to write to it; gives its output."""
    args = ["curvecpclient", "-Q", *(["-c", str(keys.folder)] if keys else []), name, server.hex(), address[0]]
    args += [str(address[1]), ext.hex(), "curvecpmessage", "-C" if speaks_first else "-c", "sh", "-c", script]
    done = s.run(args, timeout=timeout)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr.decode()}"
    return done.stdout


def exchange(path: Path, size: int = SOME) -> str:
    """Sends the first bytes of the file and takes what comes at the same time."""
    return f"(head -c {size} {path} >&7) & exec 7>&-; cat <&6"


def send_and_end(local: s.Local, data: bytes) -> None:
    local.send(data)
    local.half_close()


# ---- their client, our server ----


@pytest.fixture
def gate(site: s.Site, tmp_path: Path) -> Callable[..., tuple[s.UdpServerEnd, Keys]]:
    """Our server, and a key of theirs that it knows as `reference`."""

    def make(backend: s.Backend, **service: object) -> tuple[s.UdpServerEnd, Keys]:
        keys = make_keys(tmp_path / "client")
        site.know("reference", keys.public)
        return s.udp_server_end(site, backend, {"allow": "reference, laptop"} | service), keys

    return make


def test_our_server_echoes_to_their_client(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]], echo_backend: s.Backend, data_file: Path
) -> None:
    end, keys = gate(echo_backend)
    for size in (1, 14, 511, 512, 513, 1024, 1025, 5000, SOME):
        data = data_file.read_bytes()[:size]
        assert reference_client(end.address, end.key, exchange(data_file, size), keys=keys) == data
        record = echo_backend.wait_done()
        assert (record.size, record.ended) == (size, "eof")
    end.daemon.wait_event("handshake_ok", service="web", peer="reference")
    end.daemon.wait_event("session_close", service="web", peer="reference", reason="end of stream")


def test_our_server_echoes_to_their_client_with_a_passing_key_if_any_key_is_allowed(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]], echo_backend: s.Backend, data_file: Path
) -> None:
    end, _ = gate(echo_backend, allow="*")
    data = data_file.read_bytes()[:5000]
    for _ in range(2):
        assert reference_client(end.address, end.key, exchange(data_file, 5000)) == data


def test_their_client_with_a_key_that_nobody_knows_gets_nothing(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]], echo_backend: s.Backend
) -> None:
    end, keys = gate(echo_backend)
    with pytest.raises(subprocess.TimeoutExpired):
        reference_client(end.address, end.key, "echo in >&7; cat <&6", timeout=4)
    assert echo_backend.records == []
    end.daemon.wait_event("handshake_reject", reason="client is not authorised")
    assert reference_client(end.address, end.key, "echo in >&7; exec 7>&-; cat <&6", keys=keys) == b"in\n"


@pytest.mark.timeout(240)
def test_our_server_takes_much_from_their_client(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]], sink_backend: s.Backend, data_file: Path
) -> None:
    end, keys = gate(sink_backend)
    script = f"cat {data_file} >&7; exec 7>&-; cat <&6"
    assert reference_client(end.address, end.key, script, keys=keys, timeout=200) == b""
    record = sink_backend.wait_done()
    assert (record.size, record.ended) == (MUCH, "eof")
    assert record.digest.hexdigest() == sha256(data_file.read_bytes())


@pytest.mark.parametrize("who", ["client says its end at once", "client says its end last"])
def test_our_server_sends_much_to_their_client(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]], data_file: Path, who: str
) -> None:
    data = data_file.read_bytes()
    with s.Backend(s.source(data)) as backend:
        end, keys = gate(backend)
        script = "exec 7>&-; sha256sum <&6" if "at once" in who else "sha256sum <&6; exec 7>&-"
        said = reference_client(end.address, end.key, script, keys=keys, speaks_first=False)
        assert said.split()[0].decode() == sha256(data)
        assert backend.wait_done().ended == "eof"


def test_their_client_that_says_its_end_first_hears_all_that_our_server_still_says(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]],
) -> None:
    def handler(record: s.Record) -> None:
        record.read_to_end()
        record.sock.sendall(b"you said %d bytes" % record.size)

    with s.Backend(handler) as backend:
        end, keys = gate(backend)
        script = "head -c 3000 /dev/zero >&7; exec 7>&-; cat <&6"
        assert reference_client(end.address, end.key, script, keys=keys) == b"you said 3000 bytes"


def test_our_server_speaks_first_to_their_client_that_waits(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]],
) -> None:
    with s.Backend(s.source(b"220 welcome")) as backend:
        end, keys = gate(backend)
        script = "cat <&6; echo bye >&7"
        assert reference_client(end.address, end.key, script, keys=keys, speaks_first=False) == b"220 welcome"
        assert bytes(backend.wait_done().data) == b"bye\n"


def test_several_clients_of_theirs_at_once(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]], echo_backend: s.Backend, data_file: Path
) -> None:
    end, _ = gate(echo_backend, allow="*")
    results: dict[int, bytes] = {}

    def one(index: int) -> None:
        results[index] = reference_client(end.address, end.key, exchange(data_file, 20_000 + index))

    threads = [threading.Thread(target=one, args=(index,)) for index in range(s.scale(12, 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    data = data_file.read_bytes()
    assert results == {index: data[: 20_000 + index] for index in range(len(threads))}


def test_their_client_over_a_bad_line(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]], sink_backend: s.Backend, data_file: Path
) -> None:
    """Half of their sessions hang at a lost end (wire facts, trap 1), so our sink is asked, not their program."""
    end, keys = gate(sink_backend)
    end.daemon.expected_exits = {0, 1}  # the drain may wait for a peer that is not there any more
    with s.UdpRelay(end.address, loss=0.05, delay_ms=10, seed=3) as relay:
        try:
            reference_client(
                relay.address, end.key, f"head -c {SOME} {data_file} >&7; exec 7>&-; cat <&6", keys=keys, timeout=30
            )
        except subprocess.TimeoutExpired:
            pass
        record = sink_backend.wait_records(1)[0]
        s.until(lambda: record.size == SOME, "all their bytes")
        assert record.digest.hexdigest() == sha256(data_file.read_bytes()[:SOME])


@contextmanager
def their_client_extension(ext: bytes) -> Iterator[None]:
    """Their client has it from a file that only root can write."""
    s.need_root()
    old = ETC.read_bytes() if ETC.exists() else None
    ETC.write_bytes(ext)
    try:
        yield
    finally:
        if old is None:
            ETC.unlink()
        else:
            ETC.write_bytes(old)


def test_their_client_with_extensions(
    gate: Callable[..., tuple[s.UdpServerEnd, Keys]], echo_backend: s.Backend, data_file: Path
) -> None:
    end, keys = gate(echo_backend, server_extension=SERVER_EXT.hex())
    data = data_file.read_bytes()[:SOME]
    with their_client_extension(CLIENT_EXT):
        assert reference_client(end.address, end.key, exchange(data_file), keys=keys, ext=SERVER_EXT) == data
    assert reference_client(end.address, end.key, exchange(data_file), keys=keys, ext=SERVER_EXT) == data


# ---- our client, their server ----


@pytest.fixture
def dial(site: s.Site) -> Callable[..., s.ClientEnd]:
    def make(address: tuple[str, int], keys: Keys, **service: object) -> s.ClientEnd:
        return s.udp_client_end(site, address, keys.public, service)

    return make


@pytest.fixture
def server_keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path / "server")


def test_our_client_echoes_at_their_server(
    dial: Callable[..., s.ClientEnd], server_keys: Keys, data_file: Path
) -> None:
    with reference_server(server_keys, "web", "cat") as address:
        end = dial(address, server_keys)
        for size in (1, 14, 511, 512, 513, 1024, 1025, 5000, SOME):
            data = data_file.read_bytes()[:size]
            with end.open() as local:
                sender = threading.Thread(target=send_and_end, args=(local, data))
                sender.start()
                assert local.read_to_end() == (data, "eof")
                sender.join()
        end.daemon.wait_event("session_close", service="app", peer="gate", reason="end of stream")


def test_our_client_sends_much_to_their_server(
    dial: Callable[..., s.ClientEnd], server_keys: Keys, data_file: Path
) -> None:
    data = data_file.read_bytes()
    with reference_server(server_keys, "web", "sha256sum") as address, dial(address, server_keys).open() as local:
        local.send(data)
        local.half_close()
        said, how = local.read_to_end()
        assert (said.split()[0].decode(), how) == (sha256(data), "eof")


@pytest.mark.timeout(240)
def test_our_client_takes_much_from_their_server(
    dial: Callable[..., s.ClientEnd], server_keys: Keys, data_file: Path
) -> None:
    with reference_server(server_keys, "web", "cat", str(data_file)) as address:
        end = dial(address, server_keys)
        with end.open() as local:
            got = s.Record(local.sock)
            got.KEEP = 0
            got.read_to_end(60)
            assert (got.size, got.ended) == (MUCH, "eof")
            assert got.digest.hexdigest() == sha256(data_file.read_bytes())
            local.half_close()
        assert end.daemon.terminate() == 0  # while the server is still there to acknowledge our end


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_ends_in_either_order_at_their_server(
    dial: Callable[..., s.ClientEnd], server_keys: Keys, first: str, data_file: Path
) -> None:
    data = data_file.read_bytes()[:SOME]
    script = f"cat >/dev/null; cat {data_file} | head -c {SOME}" if first == "ours" else f"head -c {SOME} {data_file}"
    with reference_server(server_keys, "web", "sh", "-c", script) as address:
        end = dial(address, server_keys)
        with end.open() as local:
            if first == "ours":
                local.half_close()
            assert local.read_to_end() == (data, "eof")
            if first == "theirs":
                local.half_close()
        assert end.daemon.terminate() == 0  # all is acknowledged: the drain has nothing to wait for


def test_our_client_with_extensions_at_their_server(
    dial: Callable[..., s.ClientEnd], server_keys: Keys, data_file: Path
) -> None:
    data = data_file.read_bytes()[:5000]
    with reference_server(server_keys, "web", "cat", ext=SERVER_EXT) as address:
        end = dial(address, server_keys, server_extension=SERVER_EXT.hex(), client_extension=CLIENT_EXT.hex())
        with end.open() as local:
            assert local.echo(data) == data
            local.half_close()
            assert local.read_to_end() == (b"", "eof")


def test_their_server_under_another_name_does_not_answer(
    dial: Callable[..., s.ClientEnd], server_keys: Keys
) -> None:
    """Its cookie is good; what it thinks of our initiates nobody can know."""
    with reference_server(server_keys, "other", "cat") as address:
        end = dial(address, server_keys, connect_timeout="2s")
        with end.open() as local:
            assert local.read_to_end() == (b"", "reset")
        end.daemon.wait_event("session_close", service="app", peer="gate", reason="does not answer")


def test_our_daemon_with_their_key_and_their_client(site: s.Site, tmp_path: Path, echo_backend: s.Backend) -> None:
    """A server moves from the reference to curvegate and keeps its key."""
    keys = make_keys(tmp_path / "moved")
    done = s.curvegate("import", "--role", "server", "-o", site.folder / "moved.key", stdin=keys.secret)
    assert done.returncode == 0, done.stderr.decode()
    port = s.free_port()
    service = {"accept": f"curvecp:127.0.0.1:{port}", "connect": echo_backend.address, "allow": "*"}
    site.start({"web": service}, server_key=site.folder / "moved.key")
    script = "echo moved >&7; exec 7>&-; cat <&6"
    assert reference_client(("127.0.0.1", port), keys.public, script) == b"moved\n"


def test_our_daemon_with_their_client_key_at_their_server(site: s.Site, tmp_path: Path, server_keys: Keys) -> None:
    keys = make_keys(tmp_path / "moved")
    done = s.curvegate("import", "--role", "client", "-o", site.folder / "moved.key", stdin=keys.secret)
    assert done.returncode == 0, done.stderr.decode()
    with reference_server(server_keys, "web", "cat") as address:
        end = s.udp_client_end(site, address, server_keys.public, client_key=site.folder / "moved.key")
        with end.open() as local:
            assert local.echo(b"moved") == b"moved"
            local.half_close()
            assert local.read_to_end() == (b"", "eof")


# ---- our Python peer, so that a failure above can be placed ----


def test_the_python_peer_talks_to_both_of_theirs(tmp_path: Path, server_keys: Keys, data_file: Path) -> None:
    data = data_file.read_bytes()[:SOME]
    with reference_server(server_keys, "web", "cat") as address:
        with cp.Client(address, server_keys.public, cp.KeyPair.generate()) as client:
            stream = client.handshake()
            assert stream.echo(data) == data
            stream.close()
    keys = make_keys(tmp_path / "client")
    with cp.Server(cp.KeyPair.generate(), "web", SERVER_EXT) as server:
        server.serve(cp.echo_handler)
        said = reference_client(server.address, server.keys.public, exchange(data_file), keys=keys, ext=SERVER_EXT)
        assert said == data
        assert server.accept().client == keys.public
