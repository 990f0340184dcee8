"""`curvegate probe` and `curvegate run`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s
from commands import CONFIG, NO, NO_INPUT, OK, USAGE, said


def probe_site(site: s.Site, target: tuple[str, int], server: bytes, **service: Any) -> Path:
    site.know("gate", server)
    section = {
        "client": "yes",
        "accept": f"127.0.0.1:{s.free_port()}",
        "connect": f"curve_tun:{target[0]}:{target[1]}",
        "peer": "gate",
    }
    return site.write_config({"app": section | service}, connect_timeout="2s")


def probe(config: Path, service: str = "app") -> subprocess.CompletedProcess[bytes]:
    return s.curvegate("probe", service, "-c", config)


def accepts_and_waits(connection: ct.ServerConnection) -> None:
    connection.handshake()
    connection.frames.wait_closed()


def only_waits(connection: ct.ServerConnection) -> None:
    connection.frames.wait_closed()


def test_probe_of_a_good_server_ends_with_0(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(accepts_and_waits)
        done = probe(probe_site(site, server.address, server.keys.public))
        assert done.returncode == OK, said(done)
        assert b"gate" in done.stdout
        assert server.errors == []


@pytest.mark.parametrize(("accept", "says_end"), [("", True), ("udp:", False)])
def test_probe_ends_a_stream_and_sends_no_datagram(site: s.Site, accept: str, says_end: bool) -> None:
    """An empty message is the end of a stream, but a datagram where the plain side is udp:."""
    rest: list[bytes] = []

    def listens(connection: ct.ServerConnection) -> None:
        connection.handshake()
        rest.append(connection.frames.wait_closed()[1])

    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(listens)
        own = f"{accept}127.0.0.1:{s.free_port()}"
        done = probe(probe_site(site, server.address, server.keys.public, accept=own))
        assert done.returncode == OK, said(done)
        s.until(lambda: rest, "the probe to leave")
        assert (rest != [b""]) == says_end


def test_probe_says_at_which_step_it_ended(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(only_waits)
        config = probe_site(site, server.address, ct.KeyPair.generate().public)
        done = probe(config)
        assert done.returncode == NO
        address = server.address
    text = (done.stdout + done.stderr).decode()
    assert "connected" in text or "cookie" in text or "no answer" in text
    done = probe(config)
    assert done.returncode == NO and "refused" in (done.stdout + done.stderr).decode()
    config.write_text(config.read_text().replace(f"curve_tun:{address[0]}:", "curve_tun:no-such-host.invalid:"))
    done = probe(config)
    assert done.returncode == NO and "no-such-host.invalid" in (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("wire", ["curve_tun", "curvecp"])
def test_probe_names_a_dead_service_behind_the_tunnel_as_a_cause(site: s.Site, wire: str) -> None:
    """Over TCP nobody but the server knows which it is: both are named, each with the word of its log."""
    site.know("us", site.key("client").public)
    where = f"{wire}:127.0.0.1:{s.free_port()}"
    web = {"accept": where, "connect": f"127.0.0.1:{s.free_port()}", "allow": "us"}
    daemon = site.start({"web": web})
    name = {"server_name": "web"} if wire == "curvecp" else {}
    config = probe_site(site, ("127.0.0.1", 1), site.key("server").public, connect=where, **name)
    done = probe(config)
    assert done.returncode == NO
    daemon.wait_event("connect_failed", service="web")
    text = said(done)
    assert "connect_failed: the service behind it" in text and "curvegate check --production --dial" in text, text
    # Over UDP a server that does not let us in is silent, so only this is left.
    assert ("handshake_reject: it does not let us in" in text) == (wire == "curve_tun"), text


def test_probe_of_a_wrong_key_names_both_readings(site: s.Site) -> None:
    def closes(connection: ct.ServerConnection) -> None:
        connection.frames.recv()

    with ct.Server(ct.KeyPair.generate()) as server:
        server.serve(closes)
        done = probe(probe_site(site, server.address, ct.KeyPair.generate().public))
    assert done.returncode == NO
    assert re.search("wrong key for .*, or not a curve_tun server", (done.stdout + done.stderr).decode())


def test_probe_names_a_missing_pin_before_it_dials(site: s.Site) -> None:
    with ct.Server(ct.KeyPair.generate()) as server:
        done = probe(probe_site(site, server.address, server.keys.public, peer="nobody-here"))
        assert done.returncode == NO and "nobody-here" in (done.stdout + done.stderr).decode()
        with pytest.raises(TimeoutError):
            server.accept(0.2)


def test_probe_of_what_is_no_client_service_is_a_usage_error(site: s.Site) -> None:
    config = probe_site(site, ("127.0.0.1", 9), ct.KeyPair.generate().public)
    done = probe(config, "apq")
    assert done.returncode in (USAGE, CONFIG) and "[apq]" in said(done)


def test_run_is_the_daemon(site: s.Site, echo_backend: s.Backend) -> None:
    client = ct.KeyPair.generate()
    site.know("laptop", client.public)
    port = s.free_port()
    config = site.write_config(
        {"web": {"accept": f"curve_tun:127.0.0.1:{port}", "connect": echo_backend.address, "allow": "laptop"}}
    )
    daemon = s.Daemon([s.binary("curvegate"), "run", "-c", str(config)], site.folder / "daemon.log")
    site.daemons.append(daemon)
    s.ServerEnd(site, daemon, ("127.0.0.1", port), echo_backend, client).check_honest()


def test_a_daemon_without_its_file_or_with_nothing_to_do_says_so(tmp_path: Path) -> None:
    done = s.run([s.binary("curvegated"), "-c", str(tmp_path / "none.conf")])
    assert done.returncode == NO_INPUT and str(tmp_path / "none.conf") in said(done)
    empty = tmp_path / "empty.conf"
    empty.write_text("; nothing\n")
    done = s.run([s.binary("curvegated"), "-c", str(empty)])
    assert done.returncode == CONFIG and str(empty) in said(done)
