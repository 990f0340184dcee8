"""`curvegate connect`: standard input and output through a tunnel that it dials itself."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s

OK, USAGE, NO_INPUT, UNAVAILABLE, IO_ERROR, PROTOCOL, CONFIG = 0, 64, 66, 69, 74, 76, 78
WIRES = ("curve_tun", "curvecp")
DATA = os.urandom(400_000)


@dataclass
class Way:
    """A server end before a backend, and the configuration of a client end for which no daemon runs."""

    server: s.ServerEnd | s.UdpServerEnd
    near: s.Site
    config: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def scratch(self) -> Path:
        return self.near.folder / "scratch"

    def start(self, *more: str, **popen: Any) -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        environment = os.environ | {"TMPDIR": str(self.scratch)}
        args = [s.binary("curvegate"), "connect", "app", "-c", str(self.config), *more]
        self.started.append(subprocess.Popen(args, env=environment, **(pipes | popen)))
        return self.started[-1]

    def run(self, data: bytes = b"", timeout: float = 120, **popen: Any) -> subprocess.CompletedProcess[bytes]:
        process = self.start(**popen)
        out, err = process.communicate(data if process.stdin else None, timeout)
        return subprocess.CompletedProcess([], process.returncode, out, err)


MakeWay = Callable[..., Way]


def all_gone(pids: set[int]) -> bool:
    return not pids & {process.pid for process in s.processes()}


@pytest.fixture
def make_way(make_site: Callable[[str], s.Site]) -> Iterator[MakeWay]:
    ways: list[Way] = []

    def make(wire: str, backend: s.Backend, key: bytes | None = None, **service: Any) -> Way:
        near, far = make_site("near"), make_site("far")
        far.know("laptop2", near.key("client").public)
        allow = {"allow": service.pop("allow", "laptop, laptop2")}
        server: s.ServerEnd | s.UdpServerEnd
        if wire == "curve_tun":
            server = s.server_end(far, backend, allow)
        else:
            server = s.udp_server_end(far, backend, allow)
        near.know("gate", key or server.key)
        section = {"client": "yes", "accept": "none", "connect": f"{wire}:127.0.0.1:{server.address[1]}"}
        section |= {"peer": "gate"} | ({"server_name": "web"} if wire == "curvecp" else {}) | service
        config = near.write_config({"app": section})
        (near.folder / "scratch").mkdir()
        ways.append(Way(server, near, config))
        return ways[-1]

    yield make
    for way in ways:
        for process in way.started:  # what a failed test has left
            process.kill()
            process.wait(s.PATIENCE)
        assert not list(way.scratch.iterdir()), "a folder is left behind"
        ours = (f"connect app -c {way.config}", f"--state-dir {way.scratch}")
        left = [process for process in s.processes() if any(words in process.command for words in ours)]
        pids = {process.pid for process in left}
        s.until(functools.partial(all_gone, pids), f"the end of {left}")


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode()


def reset_after(data: bytes) -> s.Handler:
    """Sends `data`, waits for a byte, and breaks off."""

    def handler(record: s.Record) -> None:
        record.sock.sendall(data)
        record.sock.recv(1)
        record.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return handler


def children(process: subprocess.Popen[bytes]) -> list[s.Process]:
    return [child for child in s.descendants(process.pid) if "curvegate-vault" in child.command]


# ---- what it carries ----


@pytest.mark.parametrize("wire", WIRES)
def test_carries_both_ways_and_ends_when_both_have_ended(make_way: MakeWay, wire: str) -> None:
    with s.Backend(s.echo) as backend:
        done = make_way(wire, backend).run(DATA)
        assert (done.returncode, done.stdout == DATA, said(done)) == (OK, True, "")
        assert backend.wait_done().ended == "eof"


@pytest.mark.parametrize("wire", WIRES)
def test_carries_100_megabytes_through_pipes(make_way: MakeWay, wire: str) -> None:
    block = os.urandom(1_000_003)
    data = block * s.scale(100, 10)
    with s.Backend(s.echo) as backend:
        done = make_way(wire, backend).run(data)
        assert (done.returncode, said(done)) == (OK, "")
        assert done.stdout == data


@pytest.mark.parametrize("wire", WIRES)
def test_takes_and_makes_regular_files(make_way: MakeWay, wire: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    with s.Backend(s.echo) as backend, (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        done = make_way(wire, backend).run(stdin=source, stdout=sink)
        assert (done.returncode, said(done)) == (OK, "")
    assert (tmp_path / "out").read_bytes() == DATA


@pytest.mark.parametrize("stdin", ["empty pipe", "/dev/null", "closed"])
@pytest.mark.parametrize("wire", WIRES)
def test_an_input_that_ends_at_once_is_half_a_close(make_way: MakeWay, wire: str, stdin: str) -> None:
    with s.Backend(s.source(DATA)) as backend:
        how: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin == "/dev/null" else {}
        if stdin == "closed":
            how = {"stdin": None, "preexec_fn": lambda: os.close(0)}
        done = make_way(wire, backend).run(**how)
        assert (done.returncode, done.stdout == DATA, said(done)) == (OK, True, "")
        assert backend.wait_done().ended == "eof"


@pytest.mark.parametrize("wire", WIRES)
def test_the_peers_end_closes_the_output_while_the_input_goes_on(make_way: MakeWay, wire: str) -> None:
    with s.Backend(s.source(b"bye")) as backend:
        process = make_way(wire, backend).start()
        assert process.stdin and process.stdout and process.stderr
        assert process.stdout.read() == b"bye"
        process.stdin.write(DATA)
        process.stdin.close()
        record = backend.wait_done()
        assert (bytes(record.data) == DATA, record.ended) == (True, "eof")
        assert (process.wait(s.PATIENCE), process.stderr.read()) == (OK, b"")


def test_one_socket_may_be_both_input_and_output(make_way: MakeWay) -> None:
    with s.Backend(s.source(b"bye")) as backend:
        way = make_way("curve_tun", backend)
        ours, theirs = socket.socketpair()
        process = way.start(stdin=theirs, stdout=theirs)
        theirs.close()
        ours.settimeout(s.PATIENCE)
        assert ours.recv(3) == b"bye" and ours.recv(1) == b""
        ours.sendall(b"and more")
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(s.PATIENCE) == OK
        assert backend.wait_done().data == b"and more"
        ours.close()


def test_a_terminal_and_pipes_that_do_not_block(make_way: MakeWay) -> None:
    with s.Backend(s.echo) as backend:
        way = make_way("curve_tun", backend)
        main, other = pty.openpty()
        attributes = termios.tcgetattr(other)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(other, termios.TCSANOW, attributes)
        os.set_blocking(other, False)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        process = way.start(stdin=other, stdout=writing)
        os.close(other)
        os.close(writing)
        os.write(main, b"a line\n\x04")  # and the end, as a terminal says it
        with open(reading, "rb") as out:
            assert out.read() == b"a line\n"
        assert process.wait(s.PATIENCE) == OK
        os.close(main)


def test_a_daemon_beside_it_with_the_same_key_is_not_disturbed(make_way: MakeWay) -> None:
    with s.Backend(s.echo) as backend:
        way = make_way("curve_tun", backend)
        port = s.free_port()
        text = way.config.read_text()
        section = text[text.index("[app]") :].replace("[app]", "[listening]")
        way.config.write_text(text + section.replace("none", f"127.0.0.1:{port}"))
        daemon = way.near.run(way.config)
        assert [event.fields["service"] for event in daemon.events("listening")] == ["listening"]
        assert way.run(DATA).stdout == DATA
        with s.Local(("127.0.0.1", port)) as local:
            assert local.echo(b"still here") == b"still here"
        assert b"app" in s.curvegate("status", "-c", way.config).stdout
        assert b"for curvegate connect" in s.curvegate("check", "-c", way.config).stdout


def test_it_is_confined_while_it_carries(make_way: MakeWay) -> None:
    with s.Backend(s.echo) as backend:
        process = make_way("curve_tun", backend).start()
        assert process.stdin and process.stdout
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status and (s.is_sanitized("curvegate") or "Seccomp:\t2" in status)
        assert len(children(process)) == 1
        process.stdin.close()
        assert process.wait(s.PATIENCE) == OK


# ---- ends that are none ----


@pytest.mark.parametrize("wire", WIRES)
def test_a_cut_is_no_end_and_what_came_before_it_is_written(make_way: MakeWay, wire: str) -> None:
    with s.Backend(reset_after(DATA)) as backend:
        process = make_way(wire, backend).start()
        assert process.stdin and process.stdout and process.stderr
        assert process.stdout.read(len(DATA)) == DATA
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read() == b""
        assert process.wait(s.PATIENCE) == PROTOCOL
        assert b"[app] tunnel was cut" in process.stderr.read()


@pytest.mark.parametrize("wire", WIRES)
def test_the_death_of_the_server_is_no_end(make_way: MakeWay, wire: str) -> None:
    with s.Backend(s.echo) as backend:
        way = make_way(wire, backend, dead_peer="2s")
        process = way.start()
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        way.server.daemon.expected_exits.add(-signal.SIGKILL)
        way.server.daemon.kill()
        if wire == "curvecp":
            process.stdin.write(b"anybody?")
            process.stdin.flush()
        assert process.wait(s.PATIENCE) == (PROTOCOL if wire == "curve_tun" else UNAVAILABLE)
        assert process.stderr.read().startswith(b"curvegate: [app] ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("wire", WIRES)
def test_signals_end_it_at_once_and_the_peer_takes_it_for_no_end(
    make_way: MakeWay, wire: str, number: signal.Signals
) -> None:
    with s.Backend(s.echo) as backend:
        process = make_way(wire, backend).start()
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        process.send_signal(number)
        assert process.wait(s.PATIENCE) == 128 + number
        assert process.stderr.read() == b""
        assert backend.wait_done().ended == "reset"


def test_a_signal_ends_it_while_it_dials_and_while_nobody_reads_its_output(make_way: MakeWay) -> None:
    with s.Backend(s.source(DATA)) as backend, socket.create_server(("127.0.0.1", 0)) as mute:
        way = make_way("curve_tun", backend)
        process = way.start(stdin=subprocess.DEVNULL)
        backend.wait_records(1)
        backend.records[0].done.wait(s.PATIENCE)  # all of it is on its way, and the pipe full
        process.terminate()
        assert process.wait(s.PATIENCE) == 128 + signal.SIGTERM
        text = way.config.read_text()
        port = way.server.address[1]
        way.config.write_text(text.replace(f"curve_tun:127.0.0.1:{port}", f"curve_tun:127.0.0.1:{mute.getsockname()[1]}"))
        process = way.start()
        mute.settimeout(s.PATIENCE)
        waiting, _ = mute.accept()
        process.terminate()
        assert process.wait(s.PATIENCE) == 128 + signal.SIGTERM
        waiting.close()


@pytest.mark.parametrize("wire", WIRES)
def test_an_output_that_nobody_reads_any_more_is_told(make_way: MakeWay, wire: str) -> None:
    with s.Backend(s.source(DATA * 4)) as backend:
        process = make_way(wire, backend).start()
        assert process.stdout and process.stderr
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(s.PATIENCE) == IO_ERROR
        assert b"standard output: Broken pipe" in process.stderr.read()
        assert backend.wait_done().ended == "reset"


def test_an_input_that_cannot_be_read_is_no_end(make_way: MakeWay) -> None:
    with s.Backend(s.echo) as backend:
        folder = os.open("/", os.O_RDONLY)
        done = make_way("curve_tun", backend).run(stdin=folder)
        os.close(folder)
        assert done.returncode == IO_ERROR and "standard input: Is a directory" in said(done)
        assert backend.wait_done().ended == "reset"


# ---- what it does not dial ----


def test_the_wrong_key_is_refused(make_way: MakeWay) -> None:
    with s.Backend(s.echo) as backend:
        done = make_way("curve_tun", backend, ct.KeyPair.generate().public).run(b"secret")
        assert (done.returncode, done.stdout) == (PROTOCOL, b"")
        assert "wrong key for this peer, or not a curve_tun server" in said(done)
        assert not backend.records


def test_over_udp_the_wrong_key_is_silence(make_way: MakeWay) -> None:
    with s.Backend(s.echo) as backend:
        done = make_way("curvecp", backend, ct.KeyPair.generate().public, connect_timeout="2s").run(b"secret")
        assert (done.returncode, done.stdout) == (UNAVAILABLE, b"")
        assert "no answer: wrong key for this peer" in said(done)
        assert not backend.records


@pytest.mark.parametrize("wire", WIRES)
def test_a_server_that_does_not_let_us_in_is_told(make_way: MakeWay, wire: str) -> None:
    with s.Backend(s.echo) as backend:
        done = make_way(wire, backend, allow="laptop", connect_timeout="2s").run(b"secret")
        assert (done.returncode, done.stdout) == (PROTOCOL if wire == "curve_tun" else UNAVAILABLE, b"")
        assert ("does not let our key in, or the service behind it" if wire == "curve_tun" else "refused us") in said(done)
        assert not backend.records


def test_what_cannot_be_dialled_says_why_with_its_exit_code(site: s.Site) -> None:
    server = ct.KeyPair.generate().public
    site.know("gate", server)
    client = {"client": "yes", "accept": "none", "connect": f"curve_tun:127.0.0.1:{s.free_port()}", "peer": "gate"}
    sections: dict[str, dict[str, Any]] = {
        "backup": client,
        "nowhere": client | {"connect": "curve_tun:name.invalid:4433"},
        "unknown": client | {"peer": "nobody"},
        "dns": client | {"accept": f"udp:127.0.0.1:{s.free_port()}"},
        "web": {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "gate"},
    }
    config = site.write_config(sections)

    def ends(service: str, code: int, words: str, file: Path = config) -> None:
        done = s.curvegate("connect", service, "-c", file, stdin=b"x")
        assert (done.returncode, done.stdout) == (code, b""), said(done)
        assert words in said(done) and len(said(done).splitlines()) == 1

    ends("bakcup", USAGE, 'has no section [bakcup] (did you mean "backup"?)')
    ends("web", USAGE, "[web] is a server end")
    ends("dns", USAGE, "carries datagrams")
    ends("backup", UNAVAILABLE, "Connection refused")
    ends("nowhere", UNAVAILABLE, "name.invalid")
    ends("unknown", CONFIG, "no valid key for this peer")
    ends("backup", NO_INPUT, "missing.conf", site.folder / "missing.conf")
    site.key("client").path.rename(site.folder / "away")
    ends("backup", NO_INPUT, "client.key")


@pytest.mark.parametrize("first", [True, False])
def test_of_several_targets_that_fail_the_most_telling_code_counts(site: s.Site, first: bool) -> None:
    """A server with another key before a pin that is missing, and both before a server that is not there."""
    site.know("gate", ct.KeyPair.generate().public)
    site.know("gone", ct.KeyPair.generate().public)
    with ct.Server(ct.KeyPair.generate()) as server:  # its key is not gate's
        server.serve(lambda connection: connection.handshake())
        other_key = f"curve_tun:127.0.0.1:{server.address[1]}"
        refuses = f"curve_tun:127.0.0.2:{s.free_port()}"
        no_pin = f"curve_tun:127.0.0.3:{s.free_port()}"
        for name in ("127.0.0.1", "127.0.0.2"):
            site.know(name, ct.KeyPair.generate().public)

        def ends(code: int, *targets: str) -> None:
            order = targets if first else targets[::-1]
            client = {"client": "yes", "accept": "none", "connect": ", ".join(order), "connect_timeout": "10s"}
            done = s.curvegate("connect", "app", "-c", site.write_config({"app": client}), stdin=b"x")
            assert done.returncode == code, said(done)
            assert "no target answers" in said(done)

        ends(PROTOCOL, other_key, refuses)
        ends(CONFIG, no_pin, refuses)
        ends(PROTOCOL, other_key, no_pin, refuses)
        ends(UNAVAILABLE, refuses, refuses.replace("127.0.0.2", "127.0.0.1"))


# ---- as ssh's ProxyCommand ----


@pytest.mark.parametrize("wire", WIRES)
def test_ssh_goes_through_it(make_way: MakeWay, wire: str, tmp_path: Path) -> None:
    for tool in ("sshd", "ssh"):
        s.need_tool(tool)
    for name in ("host", "id"):
        assert s.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]).returncode == 0
    port = s.free_port()
    (tmp_path / "authorized").write_bytes((tmp_path / "id.pub").read_bytes())
    lines = [f"ListenAddress 127.0.0.1:{port}", f"HostKey {tmp_path}/host", f"AuthorizedKeysFile {tmp_path}/authorized"]
    lines += ["Subsystem sftp internal-sftp", "StrictModes no", "UsePAM no", "PidFile none", "PermitRootLogin yes"]
    (tmp_path / "sshd_config").write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "known").write_text(f"home {(tmp_path / 'host.pub').read_text()}")

    class At:
        """An sshd in the place of a backend."""

        address = f"127.0.0.1:{port}"

    way = make_way(wire, At())  # type: ignore[arg-type]
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(tmp_path / "sshd_config")]
    sshd = s.Daemon(command, tmp_path / "sshd.log", ready="listening")
    with contextlib.ExitStack() as end:
        end.callback(sshd.kill)
        proxy = f"env TMPDIR={way.scratch} {s.binary('curvegate')} connect app -c {way.config}"
        options = ["-F", "none", "-i", str(tmp_path / "id"), "-o", f"UserKnownHostsFile={tmp_path}/known"]
        options += ["-o", "BatchMode=yes", "-o", "HostKeyAlias=home", "-o", f"ProxyCommand={proxy}"]
        user = getpass.getuser()
        done = s.run(["ssh", *options, f"{user}@home", "cat; echo there >&2; exit 3"], stdin=DATA)
        assert (done.returncode, done.stdout == DATA, done.stderr) == (3, True, b"there\n"), said(done)
        (tmp_path / "big").write_bytes(DATA * 10)
        done = s.run(["scp", *options, str(tmp_path / "big"), f"{user}@home:{tmp_path}/copy"])
        assert done.returncode == 0, said(done)
        assert (tmp_path / "copy").read_bytes() == DATA * 10
