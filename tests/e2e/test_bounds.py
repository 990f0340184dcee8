"""Everything that waits is bounded: whatever keeps answers away (a vault that is gone, hangs or is slow; a plain side
that does not read), strangers and honest clients who go on coming cost the front no memory that stays. The plain side
that does not read is tried by test_forwarding.py and test_udp_forwarding.py ("a reader that stalls")."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import curve_tun as ct
import curvecp as cp
import pytest
import support as s

ROUND = s.scale(4_000, 500)  # hellos of strangers
ROUNDS = s.scale(6, 3)
GROWTH = 2_048  # KiB over all rounds after the first two: less than 90 bytes for each hello of them
TIMEOUT = 1.0  # vault-timeout, in seconds


@dataclass
class Place:
    """A server end whose vault is a program of ours, so that it can be away for as long as we like."""

    end: s.ServerEnd | s.UdpServerEnd
    wire: str
    vault: s.Daemon

    @property
    def front(self) -> int:
        return self.end.daemon.front_pid

    def rss(self) -> int:
        return s.status_kib(self.front, "VmRSS")

    def hello(self) -> bytes:
        if self.wire == "curve_tun":
            return ct.frame(ct.hello_packet(self.end.key, ct.KeyPair.generate()))
        return cp.hello_packet(self.end.key, cp.KeyPair.generate(), 1)


def start_vault(site: s.Site) -> s.Daemon:
    path = site.folder / "vault.sock"
    path.unlink(missing_ok=True)
    args = [s.binary("curvegate-vault"), "--server-key", str(site.key("server").path), "--listen", str(path)]
    vault = s.Daemon([*args, "--known-hosts", str(site.known_hosts)], site.folder / "vault.log", ready=None)
    s.until(path.exists, "the vault listens")
    return vault


@pytest.fixture(params=["curve_tun", "curvecp"])
def place(request: pytest.FixtureRequest, site: s.Site, echo_backend: s.Backend) -> Iterator[Place]:
    wire = str(request.param)
    site.write_known_hosts()
    vault = start_vault(site)
    options: dict[str, Any] = {"vault": f"unix:{site.folder / 'vault.sock'}", "vault_timeout": "1s", "workers": 1}
    start: Callable[..., Any] = s.server_end if wire == "curve_tun" else s.udp_server_end
    made = Place(start(site, echo_backend, **options), wire, vault)
    made.end.check_honest()
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(made.vault.pid, signal.SIGCONT)
        made.end.daemon.stop()
        made.vault.stop()


# ---- what keeps answers away ----


@contextlib.contextmanager
def away(place: Place) -> Iterator[None]:
    mark = place.end.daemon.mark()
    place.vault.stop()
    place.end.daemon.wait_event("vault_failed", since=mark)
    yield
    place.vault = start_vault(place.end.site)


@contextlib.contextmanager
def hung(place: Place) -> Iterator[None]:
    os.kill(place.vault.pid, signal.SIGSTOP)
    yield
    os.kill(place.vault.pid, signal.SIGCONT)


@contextlib.contextmanager
def slow(place: Place) -> Iterator[None]:
    """It works for a hundredth of the time."""
    over = threading.Event()

    def hinder() -> None:
        while not over.is_set():
            os.kill(place.vault.pid, signal.SIGSTOP)
            over.wait(0.1)
            os.kill(place.vault.pid, signal.SIGCONT)
            over.wait(0.001)

    thread = threading.Thread(target=hinder)
    thread.start()
    yield
    over.set()
    thread.join()


# ---- who comes ----


def strangers_by_tcp(place: Place, count: int) -> None:
    """Each connects, says a good hello and leaves. From many networks, so that admission takes them."""
    hello = place.hello()
    for number in range(count):
        with socket.socket() as sock:
            sock.bind((f"127.{number % 200 + 2}.{number // 200 % 250}.1", 0))
            sock.settimeout(s.PATIENCE)
            sock.connect(place.end.address)
            with contextlib.suppress(OSError):
                sock.send(hello)


def strangers_by_udp(place: Place, count: int) -> None:
    hellos = [place.hello() for _ in range(20)]
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(50)]
        for number, sock in enumerate(socks):
            sock.bind((f"127.{number + 2}.0.1", 0))
        for number in range(count):
            socks[number % len(socks)].sendto(hellos[number % len(hellos)], place.end.address)
            if number % 100 == 0:
                time.sleep(0.002)  # the kernel's queue takes a few hundred


def honest(place: Place) -> None:
    """Clients who may in try, and give up."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(place.end.dial())
            if isinstance(client, ct.Client):
                client.frames.send(client.hello())
            else:
                client.send(client.hello())


def wait_out(place: Place) -> None:
    """Until whatever was asked has had its time, and the front has seen to it."""
    time.sleep(1.5 * TIMEOUT)
    s.curvegate("status", "-c", place.end.site.folder / "curvegate.conf")


@pytest.mark.parametrize("trouble", [away, hung, slow])
def test_what_waits_for_a_vault_costs_no_memory_that_stays(
    place: Place, trouble: Callable[[Place], contextlib.AbstractContextManager[None]]
) -> None:
    if s.is_sanitized():
        s.skip_loudly("a sanitizer keeps memory that was given back")
    strangers = strangers_by_tcp if place.wire == "curve_tun" else strangers_by_udp
    weights = []
    with trouble(place):
        for _ in range(ROUNDS):
            strangers(place, ROUND)
            honest(place)
            wait_out(place)
            weights.append(place.rss())
    print(f"{place.wire}, {trouble.__name__}: {weights} KiB")
    # The first rounds touch memory that is used again by all later ones.
    assert weights[-1] - weights[1] < GROWTH, weights
    s.until(lambda: served(place), "an honest client is served again")


def served(place: Place) -> bool:
    try:
        place.end.check_honest()
        return True
    except (ct.Closed, OSError, AssertionError, TimeoutError):
        return False
