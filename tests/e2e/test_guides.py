"""The guides of docs/guides, run as they stand: their shell blocks and configurations, with the real programs that they
are about (guides.py says how a guide is marked). curve_tun's Erlang side is played by the independent peer of
curve_tun.py.
"""

from __future__ import annotations

import base64
import getpass
import os
import re
from pathlib import Path

import curve_tun as ct
import guides as g
import pytest
import support as s
from guide_fixtures import BLOB, OpenGuide, ServeWeb, carries_bytes, folder, open_guide, serve_web, tools  # noqa: F401

BYE = b"bye"
NAMES = sorted(path.stem for path in g.FOLDER.glob("*.md"))


# ---- the guides ----


def certificate(guide: g.Guide, machine: str) -> tuple[bytes, bytes]:
    """A self-signed one: key and certificate as PEM."""
    key, cert = guide.folder / f"{machine}.tls.key", guide.folder / f"{machine}.tls.crt"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    done = s.run(["openssl", "req", "-x509", *curve, "-keyout", str(key), "-out", str(cert), "-subj", f"/CN={machine}"])
    assert done.returncode == 0, done.stderr
    return key.read_bytes(), cert.read_bytes()


def test_from_stunnel(open_guide: OpenGuide, serve_web: ServeWeb) -> None:
    s.need_tool("stunnel")
    guide = open_guide("from-stunnel.md", 4433, 4434, 8080, 8081, 8082)
    serve_web(guide.real[8080])
    for machine, other in (("server", "laptop"), ("laptop", "server")):
        key, cert = certificate(guide, machine)
        guide.write(machine, "stunnel/own.pem", key + cert)
        guide.write(other, "stunnel/peers.pem", cert)
    guide.run(until="2.")
    carries_bytes(guide.real[8081])  # as it was
    guide.run(until="4.")
    carries_bytes(guide.real[8081])  # both at once
    carries_bytes(guide.real[8082])
    guide.run(until="5.")
    carries_bytes(guide.real[8081])  # as it is now
    assert not {guide.real[4433], guide.real[8082]} & g.taken_ports()
    guide.run()


def sshd(guide: g.Guide, port: int) -> str:
    """An sshd that the guide's user may run, and for the guide's `ssh` the settings that lead there. Gives the
    account's name."""
    user = g.ACCOUNT if os.geteuid() == 0 else getpass.getuser()
    keys = guide.folder / "ssh"
    keys.mkdir(mode=0o755)
    for name in ("host", "client"):
        done = s.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(keys / name)])
        assert done.returncode == 0, done.stderr
    home = guide.home("server")
    for name, path in (("host", "sshd/host"), ("client.pub", "sshd/authorized_keys")):
        guide.write("server", path, (keys / name).read_bytes())
    lines = [f"ListenAddress 127.0.0.1:{port}", f"HostKey {home}/sshd/host", "StrictModes no", "UsePAM no"]
    lines += [f"AuthorizedKeysFile {home}/sshd/authorized_keys", "PidFile none"]
    guide.write("server", "sshd/config", "\n".join(lines) + "\n")
    client = guide.write("laptop", ".ssh/id", (keys / "client").read_bytes())
    host = (keys / "host.pub").read_text()
    known = guide.write("laptop", ".ssh/known_hosts", f"[localhost]:{port} {host}localhost {host}")
    lines = [f"Port {port}", f"IdentityFile {client}", "IdentitiesOnly yes", f"UserKnownHostsFile {known}"]
    lines += ["StrictHostKeyChecking yes", "BatchMode yes", "ExitOnForwardFailure yes"]
    config = guide.write("laptop", ".ssh/config", "\n".join(lines) + "\n")
    ssh = guide.tools / "ssh"  # ssh looks for its settings in the account's home folder, whatever HOME says
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
    ssh.chmod(0o755)
    start = f"/usr/sbin/sshd -D -e -f {home}/sshd/config\n"
    guide.real[port] = port
    guide.start(g.Block("run", f"server, stays on {port}", "sh", start, 0), start)
    return user


def test_from_ssh(open_guide: OpenGuide, serve_web: ServeWeb) -> None:
    s.need_tool("sshd")
    s.need_tool("ssh")
    ports = (4433, 4434, 4435, 4436, 8080, 8081, 8082, 8083, 8000)
    guide = open_guide("from-ssh.md", *ports, **{"laptop.example": "localhost"})
    port = s.free_port()
    guide.words["you"] = sshd(guide, port)
    guide.words["127.0.0.1:22"] = f"127.0.0.1:{port}"
    web, files = serve_web(guide.real[8080]), serve_web(guide.real[8000])
    guide.run(until="2.")
    carries_bytes(guide.real[8081])  # ssh -L
    assert (web.asked, files.asked) == (2, 0)
    carries_bytes(guide.real[8082])  # ssh -R
    assert (web.asked, files.asked) == (2, 2)
    guide.run(until="3.")
    carries_bytes(guide.real[8081])
    assert files.asked == 2
    guide.run(until="4.")
    at = web.asked
    carries_bytes(guide.real[8082])
    guide.run(until="5.")
    carries_bytes(guide.real[8082])  # through the way that ssh -R makes
    assert web.asked == at and files.asked > 6
    guide.run(until="6.")
    carries_bytes(guide.real[8083])  # ssh through a tunnel
    assert web.asked > at
    guide.run()


def test_from_curve_tun(open_guide: OpenGuide) -> None:
    """The Erlang program is played by the Python peer, which knows what it knows: its keys, and one client an
    address."""
    theirs = ct.KeyPair.generate()
    key = s.b64(theirs.public)
    guide = open_guide("from-curve_tun.md", 4433, 4434, 8080, 8081, ERLANGKEY=key, ERLANGSECRET=s.b64(theirs.secret))
    with s.Backend(s.echo, port=guide.real[8080]) as backend:
        guide.run(until="3.")
        ours = bytes_of(guide.words["SERVERKEY"])
        with ct.Client.connect(("127.0.0.1", guide.real[4433]), ours, theirs) as client:
            assert client.session and client.session.echo(BLOB) == BLOB
        assert backend.wait_done().ended == "eof"  # Erlang closes without a message before
        stranger = ct.Client.connect(("127.0.0.1", guide.real[4433]), ours, ct.KeyPair.generate())
        assert stranger.frames.wait_closed()[1] == b""
        stranger.close()
        server = ErlangServer(theirs, guide.real[4434])
        with server:
            guide.run(until="4.")
            with s.Local(("127.0.0.1", guide.real[8081])) as local:
                assert local.echo(BLOB) == BLOB
                local.send(BYE)
                assert local.read_to_end() == (b"", "eof")
            assert [bytes_of(guide.words["CLIENTKEY"])] * len(server.clients) == server.clients
            assert server.clients
        guide.run()
        with ct.Client.connect(("127.0.0.1", guide.real[4434]), theirs.public, theirs) as client:
            assert client.session and client.session.echo(BLOB) == BLOB


class ErlangServer(ct.Server):
    """Echoes until it hears BYE, then closes without a message before; remembers who came."""

    def __init__(self, keys: ct.KeyPair, port: int) -> None:
        super().__init__(keys, port=port)
        self.clients: list[bytes] = []
        self.serve(self.echo)

    def echo(self, connection: ct.ServerConnection) -> None:
        session = connection.handshake()
        self.clients.append(connection.client)
        while (message := session.recv()) != BYE:
            session.send(message)


def bytes_of(key: str) -> bytes:
    return base64.b64decode(key, validate=True)


def test_from_nacl_tools(open_guide: OpenGuide, serve_web: ServeWeb) -> None:
    s.need_tool("curvecpserver")
    s.need_tool("socat")
    guide = open_guide("from-nacl-tools.md", 4433, 8080, 8081)
    serve_web(guide.real[8080])
    guide.run(until="3.")
    guide.run(until="4.")
    carries_bytes(guide.real[8081])
    guide.run()
    carries_bytes(guide.real[8081])


def test_production(open_guide: OpenGuide, serve_web: ServeWeb) -> None:
    guide = open_guide("production.md", 4433, 8080, 8081)
    serve_web(guide.real[8080])
    guide.run(until="3.")
    carries_bytes(guide.real[8081])
    guide.run()


def test_counter_recovery(open_guide: OpenGuide, serve_web: ServeWeb) -> None:
    guide = open_guide("counter-recovery.md", 4433, 4434, 8080)
    serve_web(guide.real[8080])
    guide.run()


# ---- what holds for all of them ----


@pytest.mark.parametrize("name", NAMES)
def test_every_shell_block_is_run_or_says_why_not(name: str) -> None:
    blocks = g.parse((g.FOLDER / f"{name}.md").read_text())
    unmarked = [block.line for block in blocks if block.language in ("sh", "ini") and not block.kind]
    assert not unmarked, f"{name}.md, lines {unmarked}: blocks that nobody runs"
    assert sum(block.kind == "run" for block in blocks) >= 5


def keys_of_the_configuration() -> set[str]:
    return set(re.findall(r'^    \{"([a-z-]+)",', (s.ROOT / "src/config/keys.cpp").read_text(), re.MULTILINE))


def test_the_check_list_is_numbered_and_speaks_of_keys_that_exist() -> None:
    text = (g.FOLDER / "production.md").read_text()
    rows = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if re.match(r"\| \d", line)]
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1)) and len(rows) >= 30
    names = [row[1].strip("`") for row in rows]
    assert len(set(names)) == len(names)
    for _, name, level, what, rule in rows:
        assert level in ("must", "advice") and what and rule, name
    keys = keys_of_the_configuration()
    assert {"allow", "vault", "max-session", "half-open"} <= keys
    rules = " ".join(row[4] for row in rows)
    written = {word for word in re.findall(r"`([a-z][a-z-]*)(?: = [^`]*)?`", rules)}
    others = {"statfs", "statvfs", "adjtimex", "localhost", "none", "curvegate", "curvegated", "curvegate-vault"}
    assert written - keys - others - {"require", "info"} == set()


# ---- the runner itself: what is wrong in a guide is seen ----

RUN = "<!-- run: here -->\n```sh\n{}\n```\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RUN.format("false"), "ended with 1"),
        (RUN.format("false; true"), "ended with 1"),
        (RUN.replace("here", "here, fails").format("true"), "ended with 0"),
        (RUN.format("echo one; echo two") + "<!-- prints -->\n```\ntwo\none\n```\n", "'one' does not stand in"),
        (RUN.format("echo one") + "<!-- prints -->\n```\non\n```\n", "'on' does not stand in"),
        (RUN.format("echo 127.0.0.1:4435"), "port 4435 is not among those"),
        (RUN.format("echo -p 4435"), "port 4435 is not among those"),
        (RUN.replace("here", "here, stays on 4433").format("false"), "ended with 1"),
        (RUN.replace("here", "here, stays").format("sleep 9"), "says when it is up"),
        ("<!-- stop: here sleep -->\n", "no sleep stays on here"),
        ("<!-- run: here -->\nwords\n", "before no block"),
        ("<!-- run: here -->\n<!-- run: here -->\n", "a mark without a block"),
    ],
)
def test_a_guide_that_is_wrong_fails(open_guide: OpenGuide, text: str, words: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(words)):
        open_guide("wrong.md", 4433, text=text).run()


def test_a_guide_that_is_right_is_run(open_guide: OpenGuide) -> None:
    text = (
        RUN.replace("here", "here, gives NAME").format("echo noise; echo gate")
        + "<!-- file: here ~/a/b -->\n```\nNAME server.example:4433\n```\n"
        + RUN.format("cat ~/a/b\npwd")
        + "<!-- prints -->\n```\ngate localhost:4433\n.../here\n```\n"
    )
    guide = open_guide("right.md", 4433, text=text)
    guide.run()
    assert guide.said.split()[1] == f"localhost:{guide.real[4433]}" and guide.real[4433] != 4433
