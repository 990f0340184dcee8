"""The word before the address of a tunnel names its wire: what is no such word is refused everywhere, with the line
and the word to write, and a reload may change it."""

from __future__ import annotations

from typing import Any

import pytest
import support as s
from control_pair import Pair, backend, control, dropped, ends, said, service, status  # noqa: F401
from test_reload import reload, sections_of_client

CONFIG = 78

KEPT = "is kept for version 2, which this program does not speak yet: write "
SERVER = {"accept": "curve_tun:127.0.0.1:4433", "connect": "127.0.0.1:9", "allow": "laptop"}
CLIENT = {"client": "yes", "accept": "127.0.0.1:8080", "connect": "curve_tun:gate.example:4433"}

# A section, the key that is wrong in it, and what is said.
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "udp on a server": (SERVER | {"accept": "udp:0.0.0.0:4433"}, "accept", f"side udp: {KEPT}curvecp:0.0.0.0:4433"),
    "tcp on a server": (SERVER | {"accept": "tcp:[::]:4433"}, "accept", f"side tcp: {KEPT}curve_tun:[::]:4433"),
    "no word on a server": (SERVER | {"accept": "0.0.0.0:4433"}, "accept", f"HOST:PORT {KEPT}curve_tun:0.0.0.0:4433"),
    "udp on a client": (CLIENT | {"connect": "udp:gate:4433"}, "connect", f"side udp: {KEPT}curvecp:gate:4433"),
    "tcp on a client": (CLIENT | {"connect": "tcp:gate:4433"}, "connect", f"side tcp: {KEPT}curve_tun:gate:4433"),
    "no word on a client": (CLIENT | {"connect": "gate:4433"}, "connect", f"HOST:PORT {KEPT}curve_tun:gate:4433"),
    "systemd": (SERVER | {"accept": "systemd:web"}, "accept", f"{KEPT}curve_tun:systemd:web"),
    "tcp:systemd": (SERVER | {"accept": "tcp:systemd:web"}, "accept", f"{KEPT}curve_tun:systemd:web"),
    "udp:systemd": (SERVER | {"accept": "udp:systemd:web"}, "accept", f"{KEPT}curvecp:ADDRESS:PORT"),
    "curvecp:systemd": (SERVER | {"accept": "curvecp:systemd:web"}, "accept", "write curvecp:ADDRESS:PORT"),
    "an unknown word": (SERVER | {"accept": "curvetun:[::]:1"}, "accept", '(did you mean "curve_tun"?)'),
    "two wires": (
        CLIENT | {"connect": "curve_tun:a:1, curvecp:b:2", "peer": "gate"},
        "connect",
        "curvecp:b:2 and curve_tun:a:1 are of two wires",
    ),
    "curve_tun behind": (SERVER | {"connect": "curve_tun:127.0.0.1:9"}, "connect", "plain side: write 127.0.0.1:9 for"),
    "curvecp before": (CLIENT | {"accept": "curvecp:127.0.0.1:53"}, "accept", "udp:127.0.0.1:53 for datagrams"),
}


def line_of(config: str, key: str) -> int:
    return next(i for i, line in enumerate(config.splitlines(), 1) if line.startswith(f"{key} "))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_word_is_refused_by_every_program_with_its_line(site: s.Site, case: str) -> None:
    section, key, told = WRONG[case]
    config = site.write_config({"web": section})
    place = f"{config}:{line_of(config.read_text(), key)}: {key}: "
    daemon = [s.binary("curvegated"), "-c", str(config)]
    asked: list[list[str]] = [[s.binary("curvegate"), verb, "-c", str(config)] for verb in ("check", "run")]
    asked.append([s.binary("curvegate"), "check", "--production", "--dial", "-c", str(config)])
    asked += [[s.binary("curvegate"), verb, "web", "-c", str(config)] for verb in ("connect", "probe")]
    for args in (daemon, *asked):
        done = s.run(args, stdin=b"secret")
        assert done.returncode == CONFIG, (args, done)
        text = said(done)
        assert place in text and told in text, (args, text)


def test_a_reload_does_not_take_a_word_that_is_kept(ends: Pair) -> None:
    with ends.client.open() as local:
        local.echo(b"before")
        for word in ("tcp", "udp"):
            ends.rewrite({"web": ends.sections()["web"] | {"accept": f"{word}:127.0.0.1:{ends.port}"}})
            done = control(ends.far, "reload")
            assert done.returncode == CONFIG and f"side {word}: {KEPT}" in said(done), said(done)
        assert status(ends.far)["generation"] == 1
        local.echo(b"after")


def test_a_section_changes_its_wire_by_a_reload(ends: Pair) -> None:
    """At the same number of a port. Sessions of curve_tun go on; those of curvecp lose the port of their packets."""
    other = "curvecp" if ends.wire == "curve_tun" else "curve_tun"
    address = f"{other}:127.0.0.1:{ends.port}"
    with ends.client.open() as local:
        local.echo(b"before")
        ends.rewrite({"web": ends.sections()["web"] | {"accept": address}})
        assert "~ service web" in reload(ends.far, ended=0 if ends.wire == "curve_tun" else 1)
        shown = service(ends.far, "web")
        assert (shown["wire"], shown["accept"]) == (other, address)
        if ends.wire == "curve_tun":
            local.echo(b"goes on")
            with ends.client.open() as late:  # nobody listens there any more
                dropped(late)
        else:
            dropped(local)
        section = sections_of_client(ends)["app"] | {"connect": address}
        section["server_name"] = "web" if other == "curvecp" else None
        ends.near.write_config({"app": section})
        assert "~ service app" in reload(ends.near, ended=0)
        with ends.client.open() as late:
            late.echo(b"by the other wire")
            assert service(ends.near, "app")["wire"] == other
        if ends.wire == "curve_tun":
            local.echo(b"still goes on")
    counts = service(ends.far, "web")
    assert counts["handshakes"] == 2, counts  # the section keeps its counts
