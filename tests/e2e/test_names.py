"""Names and addresses on machines with few interfaces, silent name servers and silent addresses. Each machine is a
network namespace with files of its own in /etc."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import support as s
from namespaces import Host, made_hosts

Sections = dict[str, dict[str, Any]]
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


@pytest.fixture
def host() -> Iterator[Host]:
    with made_hosts(1) as (made,):
        made.write("hosts", HOSTS)
        made.write("resolv.conf", "nameserver 127.0.0.1\n")
        made.write("nsswitch.conf", "hosts: files dns\n")
        yield made


def on(host: Host, make: Callable[[], Any]) -> Any:
    with host.inside():
        return make()


def works(host: Host, port: int, data: bytes = b"over and back", to: str = "127.0.0.1") -> bool:
    local = on(host, lambda: s.Local((to, port)))
    with local:
        return local.echo(data) == data


def both_ends(wire: str, *, tunnel: str, backend: str, server: str = "127.0.0.1", **more: Any) -> tuple[Sections, int]:
    """A server end and a client end in one daemon, and the client end's port; `tunnel` and `backend` are the hosts
    that are dialled."""
    port, plain = s.free_port(), s.free_port()
    return {
        "web": {"accept": f"{wire}:{server}:{port}", "connect": backend, "allow": "us", **more},
        "app": {"client": "yes", "accept": f"127.0.0.1:{plain}", "connect": f"{wire}:{tunnel}:{port}", **more}
        | {"peer": "gate", **({"server_name": "web"} if wire == "curvecp" else {})},
    }, plain


def know_ourselves(site: s.Site) -> None:
    site.know("us", site.key("client").public)
    site.know("gate", site.key("server").public)


WIRES = ["curve_tun", "curvecp"]


def add_lan(host: Host) -> None:
    """Interfaces lan0 and lan1 at the two ends of a cable; each gets an address of fe80::/10 by itself."""
    host.ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    for name in ("lan0", "lan1"):
        host.ip("link", "set", name, "up")


# ---- which interfaces there are ----


def only_loopback(_: Host) -> None:
    pass


def ipv6_alone(host: Host) -> None:
    add_lan(host)
    host.ip("addr", "add", "2001:db8::1/64", "dev", "lan0", "nodad")


def ipv4_alone(host: Host) -> None:
    s.run([*host.wrap, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"])
    add_lan(host)
    host.ip("addr", "add", "192.0.2.1/24", "dev", "lan0")


@pytest.mark.parametrize("interfaces", [only_loopback, add_lan, ipv6_alone, ipv4_alone])
def test_localhost_and_names_of_etc_hosts_work_on_any_set_of_interfaces(
    host: Host, site: s.Site, interfaces: Callable[[Host], None]
) -> None:
    interfaces(host)
    host.write("hosts", "127.0.0.1 localhost gate.example\n::1 localhost\n")
    with on(host, s.Backend) as backend:
        know_ourselves(site)
        sections, plain = both_ends("curve_tun", tunnel="gate.example", backend=f"localhost:{backend.port}")
        site.start(sections, wrap=host.wrap)
        assert works(host, plain)
        done = host.curvegate("probe", "app", "-c", site.folder / "curvegate.conf")
        assert done.returncode == 0, done.stderr.decode()
        done = s.run(
            [*host.wrap, s.binary("curvegate"), "connect", "app", "-c", str(site.folder / "curvegate.conf")],
            stdin=b"echo",
        )
        assert (done.returncode, done.stdout) == (0, b"echo"), done.stderr.decode()


def test_localhost_needs_no_file(host: Host, site: s.Site) -> None:
    host.write("hosts", "")
    with on(host, s.Backend) as backend:
        know_ourselves(site)
        sections, plain = both_ends("curvecp", tunnel="localhost", backend=f"localhost:{backend.port}")
        site.start(sections, wrap=host.wrap)
        assert works(host, plain)


# ---- a name server that falls silent ----


class NameServer:
    """Knows one address for every name, and says nothing while it is silent."""

    def __init__(self, address: str, *, only_a: bool = False) -> None:
        self.address = socket.inet_aton(address)
        self.silent = False
        self.only_a = only_a  # questions for other records get no answer at all
        self.ignored = 0
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        while True:
            try:
                query, client = self.socket.recvfrom(512)
            except OSError:
                return
            if not query:
                return
            if self.silent or (self.only_a and struct.unpack(">H", query[-4:-2])[0] != 1):
                self.ignored += 1
                continue
            self.asked += 1
            try:
                self.socket.sendto(self._answer(query), client)
            except OSError:  # closed meanwhile
                return

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        is_a = struct.unpack(">H", question[-4:-2])[0] == 1
        head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1 if is_a else 0, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + self.address
        return head + question + (record if is_a else b"")

    def close(self) -> None:
        self.socket.close()


def test_a_name_that_resolved_once_keeps_working_while_the_name_server_is_silent(host: Host, site: s.Site) -> None:
    server = on(host, lambda: NameServer("127.0.0.1"))
    with on(host, s.Backend) as backend:
        know_ourselves(site)
        sections, plain = both_ends("curve_tun", tunnel="gate.example", backend=f"db.example:{backend.port}")
        site.start(sections, wrap=host.wrap)
        assert works(host, plain)
        server.silent = True

        def all_work_until_it_was_asked_in_vain() -> bool:
            assert works(host, plain)
            return server.ignored > 0

        s.until(all_work_until_it_was_asked_in_vain, "a question to the silent name server", pause=0.5)
        for _ in range(5):
            assert works(host, plain)
        server.silent = False
        asked = server.asked

        def all_work_until_it_was_asked() -> bool:
            assert works(host, plain)
            return server.asked > asked

        s.until(all_work_until_it_was_asked, "a question to the name server that is back", seconds=60, pause=0.5)
    server.close()


def test_a_name_server_that_answers_for_ipv4_alone_keeps_nobody_waiting_who_has_no_ipv6(host: Host, site: s.Site) -> None:
    """The time limit is below what a resolver waits for the other half of the answer."""
    ipv4_alone(host)
    server = on(host, lambda: NameServer("192.0.2.1", only_a=True))
    with on(host, s.Backend) as backend:
        know_ourselves(site)
        sections, plain = both_ends("curve_tun", tunnel="gate.example", backend=backend.address, server="192.0.2.1")
        site.start(sections, wrap=host.wrap)
        assert works(host, plain)
        done = host.curvegate("probe", "app", "-c", site.folder / "curvegate.conf")
        assert done.returncode == 0, done.stderr.decode()
    server.close()


@pytest.mark.parametrize(("interfaces", "questions"), [(ipv4_alone, 1), (only_loopback, 2)])
def test_no_question_is_asked_twice_for_a_name_that_leads_to_this_machine(
    host: Host, site: s.Site, interfaces: Callable[[Host], None], questions: int
) -> None:
    """Where nothing has an address of IPv6, that for IPv4 is the only one."""
    interfaces(host)
    server = on(host, lambda: NameServer("127.0.0.1"))
    with on(host, s.Backend) as backend:
        know_ourselves(site)
        sections, _ = both_ends("curve_tun", tunnel="gate.example", backend=backend.address)
        site.start(sections, wrap=host.wrap)
        done = host.curvegate("probe", "app", "-c", site.folder / "curvegate.conf")
        assert done.returncode == 0, done.stderr.decode()
        assert server.asked == questions
    server.close()


def test_a_silent_name_server_and_an_unknown_name_have_words_of_their_own(host: Host, site: s.Site) -> None:
    host.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    host.write("hosts", HOSTS)
    silent = on(host, lambda: NameServer("127.0.0.1"))
    silent.silent = True
    know_ourselves(site)
    sections, plain = both_ends("curve_tun", tunnel="gate.example", backend="127.0.0.1:9")
    daemon = site.start(sections, wrap=host.wrap)
    with on(host, lambda: s.Local(("127.0.0.1", plain))) as local:
        assert local.read_to_end()[1] == "reset"
    daemon.wait_event("connect_failed", reason="gate.example: the name servers do not answer")
    done = host.curvegate("probe", "app", "-c", site.folder / "curvegate.conf")
    assert b"gate.example: the name servers do not answer" in done.stderr
    silent.close()


@pytest.mark.parametrize("wire", WIRES)
def test_probe_and_connect_end_in_time_while_the_name_server_is_silent(host: Host, site: s.Site, wire: str) -> None:
    """The resolver itself would wait for ten seconds."""
    host.write("hosts", HOSTS)
    server = on(host, lambda: NameServer("127.0.0.1"))
    server.silent = True
    know_ourselves(site)
    sections, _ = both_ends(wire, tunnel="gate.example", backend="127.0.0.1:9", connect_timeout="1s")
    site.start(sections, wrap=host.wrap)
    for verb in ("probe", "connect"):
        began = time.monotonic()
        done = host.curvegate(verb, "app", "-c", site.folder / "curvegate.conf")
        assert b"no connection in time" in done.stderr, done.stderr.decode()
        assert time.monotonic() - began < 4, verb
    server.close()


def test_many_names_at_once_wait_for_their_turn(host: Host, site: s.Site) -> None:
    """More than the look-ups that run at once."""
    names = [f"s{number}.example" for number in range(40)]
    host.write("hosts", "".join(f"127.0.0.1 {name}\n" for name in ["localhost", *names]))
    with on(host, s.Backend) as backend:
        know_ourselves(site)
        port = s.free_port()
        sections: Sections = {
            "web": {"accept": f"curve_tun:127.0.0.1:{port}", "connect": backend.address, "allow": "us"}
        }
        ports = [s.free_port() for _ in names]
        for name, plain in zip(names, ports, strict=True):
            section = {"client": "yes", "accept": f"127.0.0.1:{plain}", "connect": f"curve_tun:{name}:{port}", "peer": "gate"}
            sections[name.split(".")[0]] = section
        daemon = site.start(sections, wrap=host.wrap)
        locals_ = [on(host, lambda plain=plain: s.Local(("127.0.0.1", plain))) for plain in ports]
        for local in locals_:
            with local:
                assert local.echo(b"hello") == b"hello"
        assert not daemon.events("connect_failed")


# ---- an address that is silent ----


class SilentTcp:
    """A listener whose queue is full: the kernel drops whoever comes now."""

    def __init__(self, port: int) -> None:
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(0)
        self.fillers = [socket.socket() for _ in range(4)]
        for filler in self.fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))

    def close(self) -> None:
        for sock in (*self.fillers, self.listener):
            sock.close()


def two_addresses(host: Host) -> None:
    """The resolver puts 127.0.0.1 first, as the nearer one."""
    host.write("hosts", "127.0.0.1 localhost two.example\n127.0.0.2 two.example\n")


def test_a_silent_first_address_is_passed_over(host: Host, site: s.Site) -> None:
    """On both ends, and by the commands; the time limit is beyond the test's patience."""
    two_addresses(host)
    limit = {"connect_timeout": f"{int(4 * s.PATIENCE)}s"}
    with on(host, lambda: s.Backend(host="127.0.0.2")) as backend:
        silent = [on(host, lambda: SilentTcp(backend.port))]
        know_ourselves(site)
        sections, plain = both_ends(
            "curve_tun", tunnel="two.example", server="127.0.0.2", backend=f"two.example:{backend.port}", **limit
        )
        tunnel_port = int(sections["web"]["accept"].rsplit(":", 1)[1])
        silent.append(on(host, lambda: SilentTcp(tunnel_port)))
        site.start(sections, wrap=host.wrap)
        for _ in range(3):
            assert works(host, plain)
        config = site.folder / "curvegate.conf"
        done = s.run([*host.wrap, s.binary("curvegate"), "probe", "app", "-c", str(config)], timeout=s.PATIENCE)
        assert done.returncode == 0, done.stderr.decode()
        connect = [*host.wrap, s.binary("curvegate"), "connect", "app", "-c", str(config)]
        done = s.run(connect, stdin=b"echo", timeout=s.PATIENCE)
        assert (done.returncode, done.stdout) == (0, b"echo"), done.stderr.decode()
        for each in silent:
            each.close()


def test_over_udp_the_address_that_answered_is_remembered(host: Host, site: s.Site) -> None:
    two_addresses(host)
    with on(host, s.Backend) as backend:
        know_ourselves(site)
        sections, plain = both_ends("curvecp", tunnel="two.example", server="127.0.0.2", backend=backend.address)
        port = int(sections["web"]["accept"].rsplit(":", 1)[1])
        site.start(sections, wrap=host.wrap)
        with on(host, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
            silent.bind(("127.0.0.1", port))
            silent.setblocking(False)

            def heard() -> int:
                count = 0
                while True:
                    try:
                        silent.recv(2048)
                    except BlockingIOError:
                        return count
                    count += 1

            assert works(host, plain)
            assert heard() > 0
            for _ in range(4):
                assert works(host, plain)
            assert heard() == 0


# ---- link-local addresses, and addresses that come late ----


@pytest.mark.parametrize("wire", WIRES)
def test_a_link_local_address_with_its_interface_is_listened_on_and_dialled(
    host: Host, site: s.Site, wire: str
) -> None:
    add_lan(host)
    host.ip("addr", "add", "fe80::1/64", "dev", "lan0", "nodad")
    with on(host, lambda: s.Backend(host="::")) as backend:
        know_ourselves(site)
        where = "[fe80::1%lan0]"
        sections, plain = both_ends(wire, tunnel=where, server=where, backend=f"{where}:{backend.port}")
        site.start(sections, wrap=host.wrap)
        assert works(host, plain)
        done = host.curvegate("check", "-c", site.folder / "curvegate.conf")
        assert done.returncode == 0, done.stderr.decode()
        done = host.curvegate("probe", "app", "-c", site.folder / "curvegate.conf")
        assert done.returncode == 0, done.stderr.decode()


def test_an_interface_that_is_missing_is_named(host: Host, site: s.Site) -> None:
    know_ourselves(site)
    sections, _ = both_ends("curve_tun", tunnel="[fe80::1%lan7]", server="[fe80::1%lan8]", backend="127.0.0.1:9")
    config = site.write_config(sections)
    done = host.curvegate("check", "-c", config)
    said = done.stderr.decode()
    assert done.returncode == 69
    assert "accept: curve_tun:[fe80::1%lan8]:" in said and "connect: curve_tun:[fe80::1%lan7]:" in said, said
    assert said.count("this machine has no network interface of that name") == 2, said
    done = s.run([*host.wrap, s.binary("curvegated"), "-c", str(config)])
    assert done.returncode == 69
    assert b"lan8" in done.stderr and b"no network interface of that name" in done.stderr
    done = host.curvegate("probe", "app", "-c", config)
    assert b"fe80::1%lan7: this machine has no network interface of that name" in done.stderr
    sections["app"]["connect"] = "curve_tun:[fe80::1]:4433"
    done = host.curvegate("check", "-c", site.write_config(sections))
    assert done.returncode == 78
    assert b"write the interface too" in done.stderr


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("late", ["192.0.2.1", "2001:db8::1"])
def test_an_address_that_comes_late_is_served_when_it_is_there(
    host: Host, site: s.Site, wire: str, late: str
) -> None:
    add_lan(host)
    bracketed = f"[{late}]" if ":" in late else late
    with on(host, s.Backend) as backend:
        know_ourselves(site)
        sections, plain = both_ends(wire, tunnel=bracketed, server=bracketed, backend=backend.address)
        config = site.write_config(sections)
        done = host.curvegate("check", "-c", config)
        assert done.returncode == 0
        assert f"no interface of this machine has {late} now" in done.stderr.decode()
        daemon = site.run(config, wrap=host.wrap)
        daemon.wait_event("address_absent", service="web")
        host.ip("addr", "add", f"{late}/{'64' if ':' in late else '24'}", "dev", "lan0", "nodad")

        def is_served() -> bool:
            try:
                return works(host, plain)
            except ConnectionResetError:  # the kernel takes a moment until it has the route
                return False

        s.until(is_served, "the address to be served")
        done = host.curvegate("check", "-c", config)
        assert "no interface" not in done.stderr.decode()
