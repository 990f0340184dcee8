"""Who is let in, over all pairs of the options that have a say in it. The daemon's answer, the reason in its log and
what `curvegate check` explains are held to an oracle of a few lines that shares no code with them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import curve_tun as ct
import curvecp as cp
import pytest
import support as s
from test_proxy_protocol import v2_header

FRONT, VISITOR = "127.0.0.1", "127.0.0.7"

COMMON = {
    "allow": ["name", "second", "other", "star", "absent"],
    "from": ["none", "fits", "other"],
    "until": ["none", "future", "past"],
    "revoked": ["none", "this line", "a line after"],
    "keys": ["one", "a second of the name", "unknown"],
    "names": ["one", "two in the line", "a line more"],
    "sessions": ["no limit", "room", "full"],
}
OF_WIRE = {
    "curve_tun": {"proxy": ["none", "from the front", "from another"], "end": ["message", "close"]},
    "curvecp": {"server name": ["its own", "star", "given", "not asked for"]},
}

Case = dict[str, str]


def all_pairs(values: dict[str, list[str]]) -> list[Case]:
    """Cases in which each value of an option meets each value of every other option at least once. Greedy: a case
    begins with a pair that is still missing and takes, option by option, what covers most."""
    missing = {
        ((one, a), (two, b))
        for one, two in itertools.combinations(values, 2)
        for a, b in itertools.product(values[one], values[two])
    }
    cases = []
    while missing:
        case: Case = dict(min(missing))
        for option in values:
            if option not in case:
                case[option] = max(values[option], key=lambda value: len(covered(case | {option: value}) & missing))
        cases.append(case)
        missing -= covered(case)
    return cases


def covered(case: Case) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    order = [option for option in COMMON | OF_WIRE["curve_tun"] | OF_WIRE["curvecp"] if option in case]
    return {((one, case[one]), (two, case[two])) for one, two in itertools.combinations(order, 2)}


def alone(values: dict[str, list[str]]) -> list[Case]:
    """Each value by itself, where nothing else refuses: in a case full of refusals the first one hides the others."""
    good: Case = {option: those[0] for option, those in values.items()}
    return [good] + [good | {option: value} for option, those in values.items() for value in those[1:]]


def cases_of(wire: str) -> list[Case]:
    values = COMMON | OF_WIRE[wire]
    return all_pairs(values) + alone(values)


def test_the_cases_cover_every_pair_of_values() -> None:
    for wire in OF_WIRE:
        values, cases = COMMON | OF_WIRE[wire], cases_of(wire)
        for one, two in itertools.combinations(values, 2):
            assert {(case[one], case[two]) for case in cases} == set(itertools.product(values[one], values[two]))
        assert len(cases) < 80


# ---- the oracle ----


@dataclass(frozen=True)
class Line:
    """One line of the key in known_hosts, as far as it decides."""

    names: frozenset[str]
    from_fits: bool = True
    in_time: bool = True
    revoked: bool = False


ALLOWED = "allowed"
UNKNOWN = "the key is not in known_hosts"
REVOKED = "the key is revoked"
NOT_NAMED = "the key's name is not in the service's allow list"
WRONG_ADDRESS = "the key may not be used from this address"
EXPIRED = "the key's line has expired"
TOO_MANY = "too many sessions of this peer"
NO_SERVICE = "no service is called"


def verdict_of_lines(lines: Iterable[Line], allowed: set[str] | None) -> str:
    """`allowed`: the names in allow; None is the star."""
    lines = list(lines)
    if any(line.revoked for line in lines):
        return REVOKED
    if allowed is None:
        return ALLOWED
    if not lines:
        return UNKNOWN
    named = [line for line in lines if line.names & allowed]
    if not named:
        return NOT_NAMED
    from_there = [line for line in named if line.from_fits]
    if not from_there:
        return WRONG_ADDRESS
    return ALLOWED if any(line.in_time for line in from_there) else EXPIRED


def lines_of(case: Case) -> list[Line]:
    if case["keys"] == "unknown":
        return []
    names = frozenset({"name", "second"} if case["names"] == "two in the line" else {"name"})
    lines = [Line(names, case["from"] != "other", case["until"] != "past", case["revoked"] == "this line")]
    if case["names"] == "a line more":
        lines.append(Line(frozenset({"second"})))
    if case["revoked"] == "a line after":
        lines.append(Line(frozenset({"name"}), revoked=True))
    return lines


def verdict_of_files(case: Case) -> str:
    """What configuration and known_hosts say; the rest is a matter of the moment."""
    allow: dict[str, set[str] | None] = {"star": None, "absent": set()}
    return verdict_of_lines(lines_of(case), allow.get(case["allow"], {case["allow"]}))


def verdict(case: Case) -> str:
    if case.get("server name") == "not asked for":
        return NO_SERVICE
    said = verdict_of_files(case)
    return TOO_MANY if said == ALLOWED and case["sessions"] == "full" else said


# ---- the daemon ----


def is_revoked(case: Case) -> bool:
    return any(line.revoked for line in lines_of(case))


@dataclass
class Guest:
    """A case with its section, its key and its place."""

    case: Case
    wire: str
    label: str
    port: int
    keys: ct.KeyPair

    @property
    def proxied(self) -> bool:
        return self.case.get("proxy") == "from the front"

    def name(self, word: str) -> str:
        return f"{word}-{self.label}"

    def known_hosts(self) -> list[str]:
        key, case = f"curve25519 {s.b64(self.keys.public)}", self.case
        other = f"{self.name('other')} curve25519 {s.b64(ct.KeyPair.generate().public)}"
        if case["keys"] == "unknown":  # others have its names
            return [
                other,
                *(f"{self.name(w)} curve25519 {s.b64(ct.KeyPair.generate().public)}" for w in ("name", "second")),
            ]
        lines = [other]
        if case["keys"] == "a second of the name":  # and the first one may everything
            lines.append(f"{self.name('name')} curve25519 {s.b64(ct.KeyPair.generate().public)}")
        names = self.name("name") + ("," + self.name("second") if case["names"] == "two in the line" else "")
        # The address of the front is the wrong one, where the client's own counts.
        wrong = FRONT if self.proxied else "127.0.0.8,10.0.0.0/8"
        words = {
            "revoked": {"this line": "@revoked"},
            "from": {"fits": f"from={VISITOR}", "other": f"from={wrong}"},
            "until": {"future": "valid-until=2999-12-31", "past": "valid-until=2020-01-01"},
        }
        options = [values[case[option]] for option, values in words.items() if case[option] in values]
        lines.append(" ".join([*options, names, key]))
        if case["names"] == "a line more":
            lines.append(f"{self.name('second')} {key}")
        else:  # so that allow may name it
            lines.append(f"{self.name('second')} curve25519 {s.b64(ct.KeyPair.generate().public)}")
        if case["revoked"] == "a line after":
            lines.append(f"@revoked {self.name('name')} {key}")
        return lines

    def section(self, backend: s.Backend) -> dict[str, Any]:
        case = self.case
        allow = {"star": "*", "absent": None}
        out: dict[str, Any] = {
            "accept": f"{self.wire}:127.0.0.1:{self.port}",
            "connect": backend.address,
            "allow": allow.get(case["allow"], self.name(case["allow"])),
            "sessions_per_peer": {"no limit": None, "room": 2, "full": 1}[case["sessions"]],
        }
        if self.wire == "curve_tun":
            out["end_of_stream"] = None if case["end"] == "message" else "close"
            out["proxy_from"] = {"none": None, "from the front": FRONT, "from another": "127.0.0.99"}[case["proxy"]]
        elif case["server name"] in ("star", "given"):
            out["server_name"] = "*" if case["server name"] == "star" else self.name("asked")
        return out

    def asks_for(self) -> str:
        asked = {"its own": self.label, "star": "whatever", "given": self.name("asked"), "not asked for": "nobody"}
        return asked[self.case["server name"]]

    def knock(self, server: bytes) -> tuple[bool, str]:
        """Was it let in, and from where it came, as the log says."""
        if self.wire == "curvecp":
            with cp.Client(("127.0.0.1", self.port), server, self.keys, self.asks_for(), source=VISITOR) as guest:
                source = f"{VISITOR}:{guest.port.address[1]}"
                guest.begin()
                try:
                    guest.establish(s.PATIENCE if verdict(self.case) == ALLOWED else 0.3)  # the log tells of a refusal
                except TimeoutError:
                    return False, source
                return guest.stream.echo(b"in") == b"in", source
        with ct.Client.dial(("127.0.0.1", self.port), server, self.keys, FRONT if self.proxied else VISITOR) as client:
            source = f"{VISITOR}:{client.port}"
            if self.proxied:
                source = f"{VISITOR}:4711"
                client.frames.write(v2_header((VISITOR, 4711)))
            client.handshake()
            assert client.session is not None
            try:
                return client.session.echo(b"in") == b"in", source
            except (ct.Closed, OSError):
                return False, source


def check_words(site: s.Site, guest: Guest) -> tuple[int, str]:
    """What `curvegate check` explains of the same key at the same service from the same address."""
    where = ["-c", str(site.folder / "curvegate.conf"), "--peer", s.b64(guest.keys.public), "--service", guest.label]
    done = s.curvegate("check", *where, "--address", VISITOR)
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("wire", OF_WIRE)
def test_every_pair_of_options_lets_in_whom_it_should_and_nobody_else(
    site: s.Site, echo_backend: s.Backend, wire: str
) -> None:
    guests = [
        Guest(case, wire, f"case{i}", s.free_port(), ct.KeyPair.generate())
        for i, case in enumerate(cases_of(wire))
    ]
    site.known_hosts.write_text("\n".join(line for guest in guests for line in guest.known_hosts()) + "\n")
    site.known_hosts.chmod(0o600)
    hall = s.free_port()  # where every key that is not revoked has a session first
    sections = {guest.label: guest.section(echo_backend) for guest in guests}
    sections["hall"] = {"accept": f"curve_tun:127.0.0.1:{hall}", "connect": echo_backend.address, "allow": "*"}
    daemon = site.start(sections)
    server = site.key("server").public
    pace, wrong, seen = s.Pace(), [], set()
    for guest in guests:
        if verdict(guest.case) != ALLOWED:
            pace.take()
        waiting = None
        if guest.case["sessions"] != "no limit" and not is_revoked(guest.case):
            waiting = ct.Client.connect(("127.0.0.1", hall), server, guest.keys, VISITOR)
            assert waiting.session is not None
            assert waiting.session.echo(b"in the hall") == b"in the hall"
        expected, before, mark = verdict(guest.case), len(echo_backend.records), daemon.mark()
        is_in, source = guest.knock(server)
        if waiting:
            waiting.close()
        what = f"{guest.case}: expected {expected}"
        if is_in != (expected == ALLOWED):
            wrong.append(f"{what}, was {'let in' if is_in else 'refused'}")
        elif is_in:
            daemon.wait_event("handshake_ok", since=mark, src=f"^{re.escape(source)}$")
        else:
            reason = daemon.wait_event("handshake_reject", since=mark, src=f"^{re.escape(source)}$").fields["reason"]
            if not reason.startswith(expected):
                wrong.append(f"{what}, was told: {reason}")
            assert len(echo_backend.records) == before, f"{what}: the application was reached"
        code, words = check_words(site, guest)
        from_files = verdict_of_files(guest.case)
        said = words if from_files == UNKNOWN else words[words.rfind("verdict for") :]
        if (
            code != (0 if from_files == ALLOWED else 1)
            or (from_files if from_files != UNKNOWN else "is not in") not in said
        ):
            wrong.append(f"{guest.case}: files say {from_files}, check says ({code}) {words}")
        seen.add(expected)
    assert not wrong, "\n".join(wrong)
    possible = {ALLOWED, UNKNOWN, REVOKED, NOT_NAMED, WRONG_ADDRESS, EXPIRED, TOO_MANY}
    assert seen >= possible | ({NO_SERVICE} if wire == "curvecp" else set()), f"never seen: {possible - seen}"
