"""`curvegate check`: what it finds in a configuration and in the files that it names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s
from commands import CONFIG, NO, NO_INPUT, NO_PERMISSION, OK, UNAVAILABLE, check, said


def good_config(site: s.Site, **more: Any) -> Path:
    site.know("laptop", ct.KeyPair.generate().public)
    site.know("gate", ct.KeyPair.generate().public)
    services = {
        "web": {"accept": "curve_tun:0.0.0.0:4433", "connect": "127.0.0.1:8080", "allow": "laptop"},
        "out": {"client": "yes", "accept": "127.0.0.1:8081", "connect": "curve_tun:gate:4433"},
    }
    return site.write_config(services, **more)


def test_check_is_content_with_a_good_configuration(site: s.Site) -> None:
    done = check(good_config(site))
    assert done.returncode == OK, said(done)


def udp_config(site: s.Site, **more: Any) -> Path:
    """Two services on one udp address, and their client ends."""
    site.know("laptop", ct.KeyPair.generate().public)
    site.know("gate", ct.KeyPair.generate().public)
    services = {
        "web": {"accept": "curvecp:[::]:4433", "connect": "127.0.0.1:8080", "allow": "laptop"},
        "dns": {"accept": "curvecp:[::]:4433", "connect": "udp:127.0.0.1:53", "allow": "laptop"},
        "ask": {"client": "yes", "accept": "udp:127.0.0.1:5353", "connect": "curvecp:gate:4433", "server-name": "dns"},
        "old": {"client": "yes", "accept": "udp:127.0.0.1:5354", "connect": "curve_tun:gate:4433"},
    }
    return site.write_config(services, **more)


def test_check_says_where_each_service_listens_and_what_it_dials(site: s.Site) -> None:
    path = udp_config(site)
    done = check(path)
    assert done.returncode == OK, said(done)
    assert done.stderr == b""
    laptop = s.curvegate("fingerprint", site.peers["laptop"][0].split()[-1]).stdout.decode().strip()
    assert done.stdout.decode().splitlines() == [
        f"{path} is fine: 4 services",
        "  [web] server end: listens on curvecp:[::]:4433 (server-name web), connects to 127.0.0.1:8080",
        f"      allows laptop {laptop}",
        "  [dns] server end: listens on curvecp:[::]:4433 (server-name dns), connects to udp:127.0.0.1:53",
        f"      allows laptop {laptop}",
        "  [ask] client end: listens on udp:127.0.0.1:5353, connects to curvecp:gate:4433 (server-name dns), "
        "where gate must answer",
        "  [old] client end: listens on udp:127.0.0.1:5354, connects to curve_tun:gate:4433, where gate must answer",
    ]
    done = check(good_config(site))
    assert "listens on curve_tun:0.0.0.0:4433, connects to 127.0.0.1:8080" in done.stdout.decode()


def test_check_says_who_may_use_each_service(site: s.Site) -> None:
    prefixes = ("from=10.0.0.0/8,::1", "valid-until=2999-01-01", "valid-until=2020-01-01", "@revoked", "")
    for prefix in prefixes:
        site.know("laptop", ct.KeyPair.generate().public, prefix)
    site.know("phone", ct.KeyPair.generate().public)
    prints = [s.curvegate("fingerprint", line.split()[-1]).stdout.decode().strip() for line in site.peers["laptop"]]
    one = {"accept": "curve_tun:0.0.0.0:4433", "connect": "127.0.0.1:8080"}
    path = site.write_config({"web": one | {"allow": "laptop"}})
    listed = [line for line in check(path).stdout.decode().splitlines() if line.startswith("      ")]
    assert listed == [
        f"      allows laptop {prints[0]} from=10.0.0.0/8,::1/128",
        f"      allows laptop {prints[1]} valid-until=2999-01-01",
        f"      allows laptop {prints[4]}",
    ]
    assert b"allows any key that is not revoked" in check(site.write_config({"web": one | {"allow": "*"}})).stdout
    assert b"      allows nobody\n" in check(site.write_config({"web": one})).stdout


def test_check_explains_a_verdict_for_a_service_over_udp(site: s.Site) -> None:
    path = udp_config(site)
    done = check(path, "--peer", "laptop", "--service", "dns")
    assert done.returncode == OK and b"verdict for [dns]: allowed" in done.stdout
    assert check(path, "--peer", "gate", "--service", "dns").returncode == NO
    assert check(path, "--peer", "gate", "--service", "ask").returncode == OK


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[dns]\naccept = curvecp:[::]:4433", "[dns]\naccept = curvecp:127.0.0.1:4433", "overlaps curvecp:.*the same address"),
        ("[dns]", "[dns]\nserver-name = web", r"server-name: web is taken by \[web\] in line [0-9]+"),
        ("[dns]", "[dns]\nserver-name = a..b", 'empty part beside a dot.*write "a.b"'),
        ("[dns]", "[dns]\nserver-extension = " + "0" * 31 + "1", r"server-extension is not that of \[web\]"),
        ("[dns]", "[dns]\nend-of-stream = close", "end-of-stream belongs to curve_tun:"),
        ("[web]", "[web]\nflows = 5", "flows belongs to a service whose plain side is udp"),
        ("[old]", "[old]\nserver-name = dns", "server-name belongs to curvecp:.*remove it"),
        ("[old]", "[old]\nend-of-stream = close", "end-of-stream belongs to streams"),
        ("[ask]", "[ask]\nclient-extension = 00", "32 hexadecimal digits"),
    ],
)
def test_check_names_what_does_not_go_together_over_udp(site: s.Site, old: str, new: str, words: str) -> None:
    path = udp_config(site)
    text = path.read_text()
    assert old in text
    place = text[: text.index(old)].count("\n") + 2
    path.write_text(text.replace(old, new))
    done = check(path)
    assert done.returncode == CONFIG
    at = next(found for found in said(done).splitlines() if f"{path}:{place}:" in found)
    assert re.search(words, at), at


def test_check_warns_of_what_answers_to_every_name(site: s.Site) -> None:
    path = udp_config(site)
    path.write_text(path.read_text().replace("[dns]", "[dns]\nserver-name = *"))
    done = check(path)
    assert done.returncode == OK and re.search(r"warning: server-name = \* lets \[dns\] answer", said(done))
    assert b"curvecp:[::]:4433 (any server-name)" in done.stdout


def test_check_takes_the_keys_of_a_later_version(site: s.Site) -> None:
    done = check(good_config(site, control_group="adm", vault_control="/run/v.sock"))
    assert done.returncode == OK, said(done)


BROKEN = [
    ("unknown key", "hello-timeot = 5s", "hello-timeout"),
    ("key of another place", "allow = laptop", "allow"),
    ("no value", "workers =", "workers"),
    ("no equals sign", "workers 3", "="),
    ("bad duration", "hello-timeout = 5 parsecs", "hello-timeout|duration|5 parsecs"),
    ("negative", "workers = -1", "workers|-1"),
    ("too many", "workers = 1000000", "workers|256"),
    ("bad choice", "log-level = infos", "info"),
    ("relative path", "state-dir = state", "absolute|state"),
    ("audit without a file", "audit-required = yes", "audit = PATH"),
    ("metrics for all", "metrics = 0.0.0.0:9", "127.0.0.1"),
    ("twice", "log-level = info", "twice|already|again"),
]


@pytest.mark.parametrize(("name", "line", "words"), BROKEN, ids=[name.replace(" ", "-") for name, _, _ in BROKEN])
def test_check_names_file_line_and_what_was_meant(site: s.Site, name: str, line: str, words: str) -> None:
    path = good_config(site, log_level="info") if name == "twice" else good_config(site)
    lines = path.read_text().splitlines()
    place = lines.index("")
    lines.insert(place, line)
    path.write_text("\n".join(lines) + "\n")
    done = check(path)
    assert done.returncode == CONFIG
    at = next(found for found in said(done).splitlines() if f"{path}:{place + 1}:" in found)
    assert re.search(words, at), at
    started = s.run([s.binary("curvegated"), "-c", str(path)])
    assert started.returncode == CONFIG and at in started.stderr.decode()


def test_check_tells_all_problems_at_once(site: s.Site) -> None:
    path = site.folder / "broken.conf"
    path.write_text("frob = 1\n[web]\naccept = nowhere\nclinet = yes\n[web]\n")
    done = check(path)
    assert done.returncode == CONFIG
    for line in (1, 3, 4, 5):
        assert f"{path}:{line}:" in said(done)
    assert "client" in said(done)


def test_check_looks_into_the_files_that_are_named(site: s.Site) -> None:
    path = good_config(site)
    site.known_hosts.write_text("gate curve25519 tooshort\n")
    done = check(path)
    assert done.returncode == CONFIG and f"{site.known_hosts}:1:" in said(done)
    site.write_known_hosts()
    site.key("server").path.chmod(0o640)
    done = check(path)
    assert done.returncode in (NO_PERMISSION, CONFIG) and "chmod 600" in said(done)


def test_check_warns_of_a_star(site: s.Site) -> None:
    path = site.write_config({"web": {"accept": "curve_tun:0.0.0.0:4433", "connect": "127.0.0.1:8080", "allow": "*"}})
    done = check(path)
    assert done.returncode == OK and "warning" in said(done) and "allow" in said(done)


def test_check_refuses_one_key_in_both_roles(site: s.Site) -> None:
    path = good_config(site)
    text = path.read_text().replace(str(site.key("client").path), str(site.key("server").path))
    path.write_text(text)
    done = check(path)
    assert done.returncode == CONFIG and f"{path}:2:" in said(done) and "one role" in said(done)


@pytest.mark.parametrize(
    ("prefix", "peer", "more", "code", "words"),
    [
        ("", "laptop", [], OK, "verdict for .web.: allowed"),
        ("", "stranger", [], NO, '"stranger" is not in .*known_hosts'),
        ("", "phone", [], NO, "verdict for .web.: refused"),
        ("@revoked", "laptop", [], NO, "(?s)revoked.*verdict for .web.: refused"),
        ("valid-until=2020-01-01", "laptop", [], NO, "(?s)NO, valid until 2020-01-01.*verdict for .web.: refused"),
        (
            "from=10.0.0.0/8",
            "laptop",
            ["--address", "192.0.2.1"],
            NO,
            "(?s)192.0.2.1.*from=10.0.0.0/8.*verdict for .web.: refused",
        ),
        (
            "from=10.0.0.0/8",
            "laptop",
            ["--address", "10.1.2.3"],
            OK,
            "(?s)10.1.2.3.*from=10.0.0.0/8.*verdict for .web.: allowed",
        ),
    ],
)
def test_check_explains_a_verdict(site: s.Site, prefix: str, peer: str, more: list[str], code: int, words: str) -> None:
    site.know("laptop", ct.KeyPair.generate().public, prefix)
    site.know("phone", ct.KeyPair.generate().public)
    path = site.write_config({"web": {"accept": "curve_tun:0.0.0.0:4433", "connect": "127.0.0.1:8080", "allow": "laptop"}})
    done = check(path, "--peer", peer, "--service", "web", *more)
    assert done.returncode == code, said(done)
    assert re.search(words, (done.stdout + done.stderr).decode())


def test_check_without_a_file_says_which_it_looked_for(tmp_path: Path) -> None:
    done = s.curvegate("check", "-c", tmp_path / "none.conf")
    assert done.returncode == NO_INPUT and str(tmp_path / "none.conf") in said(done)


def test_without_a_configuration_every_verb_says_what_to_do(tmp_path: Path) -> None:
    for words in (["check"], ["run"], ["status"], ["reload"], ["probe", "web"], ["counter", "init"]):
        done = s.curvegate(*words, env=os.environ | {"HOME": str(tmp_path)}) if os.geteuid() else None
        done = done or s.curvegate(*words, "-c", tmp_path / "none.conf")
        assert done.returncode == NO_INPUT, words
        assert re.search(r"none.conf|curvegate.conf", said(done)) and "name it with -c FILE" in said(done), words


def test_check_takes_a_link_as_the_daemon_does(site: s.Site) -> None:
    path = good_config(site)
    link = site.folder / "link.conf"
    link.symlink_to(path)
    assert check(link).returncode == OK


def test_a_missing_known_hosts_is_told_at_its_line_with_the_cure(site: s.Site) -> None:
    path = good_config(site)
    line = [line.split(" ")[0] for line in path.read_text().splitlines()].index("known-hosts") + 1
    site.known_hosts.unlink()
    for done in (check(path), s.run([s.binary("curvegated"), "-c", str(path)])):
        assert done.returncode == NO_INPUT
        assert f"{path}:{line}: known-hosts: " in said(done) and "curvegate peers add NAME KEY" in said(done)


@pytest.mark.parametrize("fault", ["denied", "another owner", "open to others", "missing", "a folder"])
def test_check_and_run_end_with_the_same_status_for_a_key_file(nobody_site: s.Site, fault: str) -> None:
    site = nobody_site
    key = site.key("server").path
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "*"}
    config = site.write_config({"web": section}, control=None)
    s.give_to_nobody(site.folder)
    wanted = NO_PERMISSION
    if fault == "denied":
        os.chown(key, 0, 0)
    elif fault == "another owner":
        os.chown(key, 4711, 4711)
        key.chmod(0o644)
    elif fault == "open to others":
        key.chmod(0o640)
    elif fault == "missing":
        key.unlink()
        wanted = NO_INPUT
    else:
        key.unlink()
        key.mkdir()
        wanted = CONFIG
    for words in ([s.binary("curvegated"), "-c"], [s.binary("curvegate"), "check", "-c"]):
        done = s.run([*s.AS_NOBODY, *words, str(config)], timeout=60)
        assert done.returncode == wanted, (words, said(done))
        assert str(key) in said(done)


def test_a_folder_of_counters_that_is_another_users_is_no_matter_of_the_disk(nobody_site: s.Site) -> None:
    site = nobody_site
    state = site.folder / "state"
    state.mkdir()
    site._keys["server"] = s.keygen(site.folder / "server.key", "server", "--state-dir", str(state))
    section = {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "*"}
    config = site.write_config({"web": section}, control=None, state_dir=state)
    s.give_to_nobody(site.folder)
    os.chown(state, 0, 0)  # README.Debian without its chown
    done = s.run([*s.AS_NOBODY, s.binary("curvegated"), "-c", str(config)], timeout=60)
    assert done.returncode == NO_PERMISSION and "Permission denied" in said(done), said(done)
    assert "must belong to the user that the vault runs as" in said(done) and "disk" not in said(done)


def test_a_port_in_use_is_told_at_the_line_of_accept(site: s.Site) -> None:
    with s.Backend(s.echo) as backend:
        section = {"connect": "127.0.0.1:9", "allow": "laptop", "accept": f"curve_tun:127.0.0.1:{backend.port}"}
        site.know("laptop", ct.KeyPair.generate().public)
        code, words = site.start_refused({"web": section})
        lines = (site.folder / "refused.conf").read_text().splitlines()
        line = next(number for number, text in enumerate(lines, 1) if text.startswith("accept"))
        assert code == UNAVAILABLE and f"refused.conf:{line}: " in words, words
        assert "Address already in use (another program has it: ss -tulnp shows which)" in words
