"""The tunnels that bench/run measures: their keys, their configurations, their processes.

Each is a pair on loopback: a near end with a plain port, a far end before the backend. Both ends prove who they are,
where the program can.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import namespace
import rig
import support as s  # found through rig
import traffic
from traffic import Address, relay

MANY = 1 << 14  # connections that a program shall let in, if it asks for a number

# ---- what it costs ----


@dataclass
class Tunnel:
    """A running pair."""

    local: Address
    started: list[int]  # process ids

    def pids(self) -> list[int]:
        return [*self.started, *(process.pid for pid in self.started for process in s.descendants(pid))]

    def cpu(self) -> float:
        """CPU seconds of all its processes so far, and of their children that have ended."""
        return sum(map(cpu_with_ended_children, self.pids()))

    def memory(self) -> float:
        """KiB of all its processes; what several share counts once."""
        return sum(map(memory_kib, self.pids()))


def cpu_with_ended_children(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has ended just now, and counts with its parent
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


MEMORY_NOTES: set[str] = set()  # what a reader must know of the figures


def memory_kib(pid: int) -> float:
    """Its share of the memory (Pss); of a process that we may not look into, all that is resident."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except PermissionError:
        MEMORY_NOTES.add("resident memory (RSS) where a program may not be looked into")
        return float(s.status_kib(pid, "VmRSS"))
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


# ---- programs ----


@dataclass
class Place:
    """A folder with everybody's keys, and the programs that run with them."""

    folder: Path
    workers: int
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.chmod(0o711)

    def make(self, name: str, how: Callable[[Path], None]) -> Path:
        """A folder with keys, made when it is first asked for."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            how(folder)
        return folder

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def start(self, *args: str | Path, **more: Any) -> subprocess.Popen[bytes]:
        """Its output goes to a file that is shown if it fails."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*map(str, args)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **more
            )
        self.running.append(process)
        return process

    def wait_listening(self, process: subprocess.Popen[bytes], port: int, kind: str = "tcp") -> None:
        state = "0A" if kind == "tcp" else "07"

        def look() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"{process.args!r} has ended:\n{(self.folder / 'log').read_text()[-2000:]}")
            rows = (line.split() for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:])
            return any(row[1].endswith(f":{port:04X}") and row[3] == state for row in rows)

        s.until(look, f"{process.args!r} listens on {port}")

    @contextmanager
    def tunnel(self) -> Iterator[None]:
        """What is started in the block ends with it, by number, and what that has started too."""
        before = children()
        try:
            yield
        finally:
            while self.running:
                stop(self.running.pop())
            while orphans := children() - before:  # of a program that has ended: they have come to us
                for pid in orphans:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)


def children() -> set[int]:
    """Our own, those too that have ended and that nobody has waited for."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(s.PATIENCE)


def tool(*args: str | Path) -> bytes:
    return subprocess.run([*map(str, args)], check=True, capture_output=True, timeout=s.PATIENCE).stdout


# ---- plain ----


@contextmanager
def plain(place: Place, backend: int) -> Iterator[Tunnel]:
    with relay(("127.0.0.1", backend)) as far, relay(("127.0.0.1", far.port)) as near:
        yield Tunnel(("127.0.0.1", near.port), [near.process.pid, far.process.pid])


# ---- ssh ----

SSH_CIPHER = "aes128-gcm@openssh.com"
SSH_ACCOUNT = "daemon"  # for root. Not nobody, whose account systemd's name service calls locked


def ssh_keys(folder: Path) -> None:
    for name in ("host", "client"):
        tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name)
    (folder / "authorized_keys").write_bytes((folder / "client.pub").read_bytes())
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, SSH_ACCOUNT, SSH_ACCOUNT)


@contextmanager
def ssh(place: Place, backend: int) -> Iterator[Tunnel]:
    """Without root's rights, so that neither PAM nor root's account nor /run/sshd is asked for."""
    keys = place.make("ssh", ssh_keys)
    far, near = s.free_port(), s.free_port()
    options = {
        "ListenAddress": f"127.0.0.1:{far}",
        "HostKey": keys / "host",
        "AuthorizedKeysFile": keys / "authorized_keys",
        "StrictModes": "no",  # the folder is a temporary one
        "UsePAM": "no",
        "PidFile": "none",
        "Ciphers": SSH_CIPHER,
        "LogLevel": "ERROR",
    }
    config = place.write("sshd_config", "".join(f"{key} {value}\n" for key, value in options.items()))
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{far} {(keys / 'host.pub').read_text()}")
    is_root = os.geteuid() == 0
    who: dict[str, Any] = {"user": SSH_ACCOUNT, "group": SSH_ACCOUNT, "extra_groups": []} if is_root else {}
    user = SSH_ACCOUNT if is_root else getpass.getuser()
    sshd = place.start(program("sshd"), "-D", "-e", "-f", config, **who)
    place.wait_listening(sshd, far)
    client = place.start(
        *("ssh", "-F", "none", "-N", "-c", SSH_CIPHER, "-i", keys / "client", "-p", str(far), "-l", user),
        *("-o", f"UserKnownHostsFile={keys / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"),
        *("-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes"),
        *("-L", f"127.0.0.1:{near}:127.0.0.1:{backend}", "127.0.0.1"),
        **who,
    )
    place.wait_listening(client, near)
    yield Tunnel(("127.0.0.1", near), [client.pid, sshd.pid])


# ---- TLS ----

TLS_CIPHER = "TLS_AES_256_GCM_SHA384"


def certificates(folder: Path) -> None:
    """Each end has one that it signed itself, and trusts the other's alone."""
    for name in ("near", "far"):
        key, cert = folder / f"{name}.key", folder / f"{name}.crt"
        tool(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", cert, "-subj", f"/CN={name}", "-days", "7"),
        )
        (folder / f"{name}.pem").write_text(cert.read_text() + key.read_text())


@contextmanager
def stunnel(place: Place, backend: int) -> Iterator[Tunnel]:
    """A thread a connection. No session is resumed, so that each connection has its handshake, as ours have."""
    keys = place.make("tls", certificates)
    far, near = s.free_port(), s.free_port()

    def config(end: str, other: str, accept: int, connect: int) -> str:
        head = "foreground = yes\npid =\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
        service = f"client = {'yes' if end == 'near' else 'no'}\naccept = 127.0.0.1:{accept}\n"
        service += f"connect = 127.0.0.1:{connect}\ncert = {keys / end}.pem\nCAfile = {keys / other}.crt\n"
        service += f"verifyPeer = yes\nsslVersion = TLSv1.3\nciphersuites = {TLS_CIPHER}\nsessionResume = no\n"
        return place.write(f"stunnel-{end}.conf", f"{head}[tunnel]\n{service}")

    ends = [(config("far", "near", far, backend), far), (config("near", "far", near, far), near)]
    processes = [place.start("stunnel4", path) for path, _ in ends]
    for process, (_, port) in zip(processes, ends):
        place.wait_listening(process, port)
    yield Tunnel(("127.0.0.1", near), [process.pid for process in processes])


@contextmanager
def haproxy(place: Place, backend: int) -> Iterator[Tunnel]:
    """No session is resumed, as above."""
    keys = place.make("tls", certificates)
    far, near = s.free_port(), s.free_port()
    tls = f"ssl-min-ver TLSv1.3 ciphersuites {TLS_CIPHER} verify required"

    def config(end: str, bind: str, server: str) -> str:
        head = f"global\n nbthread {place.workers}\ndefaults\n mode tcp\n timeout connect 10s\n"
        head += f" timeout client 1h\n timeout server 1h\n maxconn {MANY}\n"
        service = f"listen tunnel\n bind 127.0.0.1:{bind}\n server backend 127.0.0.1:{server}\n"
        return place.write(f"haproxy-{end}.cfg", head + service)

    bind = f"{far} ssl crt {keys}/far.pem ca-file {keys}/near.crt {tls} no-tls-tickets"
    server = f"{far} ssl crt {keys}/near.pem ca-file {keys}/far.crt {tls} no-ssl-reuse"
    ends = [(config("far", bind, str(backend)), far), (config("near", str(near), server), near)]
    processes = [place.start(program("haproxy"), "-db", "-q", "-f", path) for path, _ in ends]
    for process, (_, port) in zip(processes, ends):
        place.wait_listening(process, port)
    yield Tunnel(("127.0.0.1", near), [process.pid for process in processes])


# ---- spiped ----


def spiped_key(folder: Path) -> None:
    (folder / "key").write_bytes(os.urandom(32))


@contextmanager
def spiped(place: Place, backend: int) -> Iterator[Tunnel]:
    key = place.make("spiped", spiped_key) / "key"
    far, near = s.free_port(), s.free_port()
    ends = [("-d", far, backend), ("-e", near, far)]
    processes = []
    for way, source, target in ends:
        addresses = ("-s", f"[127.0.0.1]:{source}", "-t", f"[127.0.0.1]:{target}")
        processes.append(place.start("spiped", way, *addresses, "-k", key, "-F", "-n", str(MANY)))
        place.wait_listening(processes[-1], source)
    yield Tunnel(("127.0.0.1", near), [process.pid for process in processes])


# ---- the reference programs of CurveCP ----


# With bigger pieces it may block in a write to a pipe while nobody reads the other direction, and all stops.
COPY = ("socat", "-b", "4096")


def curvecp_keys(folder: Path) -> None:
    tool("curvecpmakekey", folder / "server")


@contextmanager
def curvecp(place: Place, backend: int) -> Iterator[Tunnel]:
    """Three processes a connection at the near end, two at the far one: they have no forwarding of their own."""
    keys = place.make("curvecp", curvecp_keys) / "server"
    key = tool("curvecpprintkey", keys).decode().strip()
    far, near = s.free_port(), s.free_port()
    server = place.start(
        *("curvecpserver", "-Q", "-c", "1000", "web", keys, "127.0.0.1", str(far), "00" * 16),
        *("curvecpmessage", *COPY, "STDIO", f"TCP4:127.0.0.1:{backend},nodelay"),
    )
    place.wait_listening(server, far, "udp")
    client = f"curvecpclient -Q web {key} 127.0.0.1 {far} {'00' * 16}"
    copies = f"curvecpmessage -C {' '.join(COPY)} STDIO 'FD:6!!FD:7'"
    script = place.write("curvecp-near.sh", f"exec {client} {copies}\n")
    listen = f"TCP4-LISTEN:{near},bind=127.0.0.1,fork,reuseaddr,backlog=4096,nodelay"
    listener = place.start("socat", listen, f"EXEC:sh {script},nofork")
    place.wait_listening(listener, near)
    yield Tunnel(("127.0.0.1", near), [listener.pid, server.pid])


# ---- ourselves ----


def curvegate(wire: str) -> Callable[[Place, int], AbstractContextManager[Tunnel]]:
    @contextmanager
    def run(place: Place, backend: int) -> Iterator[Tunnel]:
        with rig.tunnel(wire, f"127.0.0.1:{backend}", workers=place.workers, waits=False) as pair:
            yield Tunnel(pair.local, [pair.client.pid, pair.server.pid])

    return run


# ---- all of them ----


@dataclass(frozen=True)
class Kind:
    name: str
    what: str
    run: Callable[[Place, int], AbstractContextManager[Tunnel]]
    programs: tuple[str, ...] = ()
    cannot: dict[str, str] = field(default_factory=dict)  # by case: why, if that must be told
    notes: dict[str, str] = field(default_factory=dict)  # by case: how its figure differs from the others'
    is_slow: bool = False  # has smaller sizes
    most_idle: int = MANY  # connections that it can hold, or that are worth the time
    descriptors_each: float = 2  # it needs so many at one end for a connection
    mtu: int | None = None  # of loopback, for this one alone


KINDS = {
    kind.name: kind
    for kind in (
        Kind("plain", "two copying relays, no cryptography", plain),
        Kind(
            "ssh",
            f"ssh -L, {SSH_CIPHER}",
            ssh,
            ("ssh", "sshd", "ssh-keygen"),
            notes={"connects": "no key exchange a connection: all go through one session"},
            most_idle=2000,
        ),
        Kind("haproxy", "haproxy pair, TLS 1.3 AES-256-GCM", haproxy, ("haproxy", "openssl")),
        Kind(
            "stunnel",
            "stunnel, TLS 1.3 AES-256-GCM",
            stunnel,
            ("stunnel4", "openssl"),
            descriptors_each=2.05,  # it lets in 125 connections for 256 descriptors
        ),
        Kind("spiped", "spiped", spiped, ("spiped",), most_idle=2000),
        Kind(
            "curvecp",
            "nacl-tools: curvecpserver, curvecpclient, socat",
            curvecp,
            ("curvecpserver", "curvecpclient", "curvecpmessage", "curvecpmakekey", "curvecpprintkey", "socat"),
            cannot={"busy": "five processes a connection: not measured"},
            is_slow=True,
        ),
        Kind("curve_tun:", "curvegate, curve_tun over TCP", curvegate("curve_tun")),
        Kind("curvecp:", "curvegate, CurveCP over UDP", curvegate("curvecp")),
        Kind(
            "curvecp: mtu 1500",
            "curvegate, CurveCP over UDP, loopback's MTU 1,500",
            curvegate("curvecp"),
            cannot={case: "" for case in ("one", "busy", "connects", "idle")},
            mtu=1500,
        ),
    )
}


@contextmanager
def running(place: Place, kind: Kind) -> Iterator[tuple[Tunnel, traffic.Server]]:
    """A new pair before a new backend."""
    with traffic.backend() as backend, namespace.with_mtu(kind.mtu), place.tunnel():
        with kind.run(place, backend.port) as tunnel:
            yield tunnel, backend


def program(name: str) -> str:
    """Debian keeps some outside an ordinary user's PATH; sshd wants to be called by its whole name."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise FileNotFoundError(name)
    return found


def missing(kinds: list[Kind]) -> list[str]:
    def is_there(name: str) -> bool:
        try:
            return bool(program(name))
        except FileNotFoundError:
            return False

    wanted = dict.fromkeys(name for kind in kinds for name in kind.programs)
    return [name for name in wanted if not is_there(name)]
