"""The guides that are about a service behind the tunnel or about the daemon itself, and the README's quick start, run
as they stand (test_guides.py has the other guides)."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import guides as g
import support as s
from guide_fixtures import HELLO, OpenGuide, ServeWeb, carries_bytes, folder, open_guide, serve_web, tools  # noqa: F401


def tool(guide: g.Guide, name: str, script: str) -> None:
    """A program of the guide's machines."""
    path = guide.tools / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_readmes_quick_start(open_guide: OpenGuide, serve_web: ServeWeb) -> None:  # noqa: F811
    guide = open_guide("../../README.md", 4433, 8080, 8081)
    web = serve_web(guide.real[8080])
    guide.run()
    assert web.asked == 1 and len(guide.staying) == 2


def test_first_tunnel(open_guide: OpenGuide) -> None:  # noqa: F811
    s.need_tool("busybox")
    guide = open_guide("first-tunnel.md", 4433, 8080, 8081)
    guide.run()
    assert len(guide.staying) == 3


def test_operation(open_guide: OpenGuide, serve_web: ServeWeb) -> None:  # noqa: F811
    guide = open_guide("operation.md", 4433, 4434, 8080, 8081)
    serve_web(guide.real[8080])
    guide.run(until="The commands")
    assert guide.said.encode() == HELLO
    guide.run()


def test_library(open_guide: OpenGuide) -> None:  # noqa: F811
    guide = open_guide("library.md", 4500)
    (guide.tools / "curvegate-echo").symlink_to(s.binary("curvegate-echo"))
    guide.run()


def test_redis(open_guide: OpenGuide) -> None:  # noqa: F811
    s.need_tool("redis-cli")
    guide = open_guide("redis.md", 6379, 4379, 6380, **{"db.example": "localhost"})
    # The server is the same program as redis-check-rdb, by another name. The package that has that name is a service.
    (guide.tools / "redis-server").symlink_to("/usr/bin/redis-check-rdb")
    start = "redis-server --port 6379 --bind 127.0.0.1 --save ''\n"
    guide.start(g.Block("run", "db.example, stays on 6379", "sh", start, 0), guide.substitute(start, "db.example"))
    guide.run()


def test_http_for_two_clients(open_guide: OpenGuide, serve_web: ServeWeb) -> None:  # noqa: F811
    guide = open_guide("http-for-two-clients.md", 4443, 8080, own=(8081,), **{"web.example": "localhost"})
    serve_web(guide.real[8080])
    guide.run()


def start_postgres(guide: g.Guide, socket_folder: Path) -> None:
    """A database with the role app and the table t. Where the server is not installed nothing is started."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs or shutil.which("psql") is None:
        return
    folder_of_it = programs[-1].parent
    tool(guide, "postgres", f'exec {folder_of_it}/postgres "$@"')
    tool(guide, "psql", f'PGHOST=${{PGHOST:-{socket_folder}}} exec /usr/bin/psql "$@"')
    make = f"mkdir ~/pg\n{folder_of_it}/initdb --auth=trust --username=app ~/pg/data\n"
    guide.shell(g.Block("run", "db.example", "sh", make, 0), make)
    start = f"postgres -D ~/pg/data -k {socket_folder} -p 5432 -c listen_addresses=''\n"
    guide.start(g.Block("run", "db.example, stays at ~/pg/.s.PGSQL.5432", "sh", start, 0), start)
    fill = "create table t as select n, md5(n::text) from generate_series(1, 300000) n"
    s.until(lambda: ask_postgres(guide, "select 1"), "the database is up")
    assert ask_postgres(guide, fill)


def ask_postgres(guide: g.Guide, what: str) -> bool:
    done = s.run([str(guide.tools / "psql"), "-U", "app", "postgres", "-qc", what])
    return done.returncode == 0


def test_unix_sockets(open_guide: OpenGuide, folder: Path) -> None:  # noqa: F811
    s.need_tool("socat")
    guide = open_guide("unix-sockets.md", 4432, 4435, **{"db.example": "localhost"})
    socket_folder = guide.home("db.example") / "pg"
    guide.words["/var/run/postgresql"] = str(socket_folder)
    start_postgres(guide, socket_folder)
    guide.run()
    if "THROUGH" in guide.words:
        assert guide.words["THROUGH"] == guide.words["DIRECT"]


@contextmanager
def resolver() -> Iterator[int]:
    """A name server that knows one answer: 192.0.2.80. Gives its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                question, source = sock.recvfrom(4096)
                if not question:
                    return
                end = question.index(0, 12) + 5  # the name, its type and class
                head = question[:2] + b"\x81\x80" + b"\0\1\0\1\0\0\0\0"
                answer = b"\xc0\x0c\0\1\0\1" + (60).to_bytes(4, "big") + b"\0\4" + bytes((192, 0, 2, 80))
                sock.sendto(head + question[12:end] + answer, source)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(sock.getsockname()[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            stop.sendto(b"", sock.getsockname())
        thread.join(s.PATIENCE)


def look_up(port: int) -> bytes:
    """The address that the server at this port has for example.org."""
    question = os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(s.PATIENCE)
        sock.sendto(question, ("127.0.0.1", port))
        answer = sock.recv(4096)
    assert answer[:2] == question[:2]
    return answer[-4:]


def test_udp(open_guide: OpenGuide, serve_web: ServeWeb) -> None:  # noqa: F811
    """A web server stands for sshd: what passes is a stream."""
    guide = open_guide("udp.md", 4433, 2222, 5300)
    stream = s.free_port()
    serve_web(stream)
    with resolver() as port:
        guide.words |= {"127.0.0.1:22": f"127.0.0.1:{stream}", "127.0.0.1:53": f"127.0.0.1:{port}"}
        guide.run()
        if guide.said != g.LEFT_OUT:
            assert guide.said == "192.0.2.80\n"
        carries_bytes(guide.real[2222])
        assert look_up(guide.real[5300]) == bytes((192, 0, 2, 80))


def test_nacl_tools(open_guide: OpenGuide, serve_web: ServeWeb) -> None:  # noqa: F811
    s.need_tool("curvecpserver")
    s.need_tool("socat")
    guide = open_guide("nacl-tools.md", 4433, 8080, 8081)
    serve_web(guide.real[8080])
    guide.run()


def write_nginx(guide: g.Guide) -> None:
    """What the guide's piece of a configuration stands in."""
    home = guide.home("server")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {home}/nginx/{kind};" for kind in kinds)
    text = (
        f"daemon off; master_process off; pid {home}/nginx/pid; error_log {home}/nginx/err info;\n"
        f"events {{ worker_connections 64; }}\nhttp {{ access_log off; {paths} include {home}/nginx/web.conf; }}\n"
    )
    guide.write("server", "nginx/nginx.conf", text)


HAPROXY = "global\n    log stdout format raw daemon\ndefaults\n" + "".join(
    f"    timeout {kind} 30s\n" for kind in ("connect", "client", "server")
)


def test_proxy_protocol(open_guide: OpenGuide) -> None:  # noqa: F811
    s.need_tool("nginx")
    s.need_tool("haproxy")
    hosts = dict.fromkeys(("192.0.2.7", "192.0.2.20", "192.0.2.31", "192.0.2.32"), "127.0.0.1")
    guide = open_guide("proxy-protocol.md", 4430, 4443, 8080, 8081, **hosts)
    write_nginx(guide)
    guide.run(until="Try it")
    nginx = "nginx -p ~/nginx -c ~/nginx/nginx.conf\n"
    guide.start(g.Block("run", "server, stays on 8080", "sh", nginx, 0), nginx)
    guide.run()
    assert look_who(guide.real[8081]) == "reset"  # the laptop is at the front's address, and sends no header
    guide.write("front", "haproxy/global.cfg", HAPROXY)
    haproxy = "haproxy -db -f ~/haproxy/global.cfg -f ~/haproxy/tunnels.cfg\n"
    guide.start(g.Block("run", "front, stays on 4430", "sh", haproxy, 0), haproxy)
    config = guide.home("laptop") / "tunnel/curvegate.conf"
    text = config.read_text().replace(str(guide.real[4443]), str(guide.real[4430]))
    guide.stop("laptop curvegate")
    guide.write("laptop", "tunnel/curvegate.conf", text)
    run = "curvegate run -c ~/tunnel/curvegate.conf\n"
    guide.start(g.Block("run", "laptop, stays on 8081", "sh", run, 0), run)
    assert look_who(guide.real[8081]) == "you are 127.0.0.1\n"


def look_who(port: int) -> str:
    """What the server at this port says to /who."""
    done = s.run(["curl", "-sS", f"http://127.0.0.1:{port}/who"])
    return done.stdout.decode() if done.returncode == 0 else "reset"


def test_key_rotation(open_guide: OpenGuide, serve_web: ServeWeb) -> None:  # noqa: F811
    guide = open_guide("key-rotation.md", 4433, 8080, 8081)
    serve_web(guide.real[8080])
    guide.run(until="The steps")
    assert guide.said.encode() == HELLO
    guide.run()
