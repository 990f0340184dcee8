"""The command: keys, peers, check, counters, probe, run; what it prints and what it ends with."""

from __future__ import annotations

import base64
import concurrent.futures
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import curve_tun as ct
import pytest
import support as s

OK, NO, USAGE, BAD_DATA, NO_INPUT, UNAVAILABLE, CANNOT_CREATE, NO_PERMISSION, CONFIG = 0, 1, 64, 65, 66, 69, 73, 77, 78

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def z85(key: bytes) -> str:
    """ZeroMQ RFC 32."""
    out = ""
    for i in range(0, len(key), 4):
        value = int.from_bytes(key[i : i + 4], "big")
        out += "".join(Z85[value // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return out


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode()


# ---- keys ----


@pytest.mark.parametrize("role", ["server", "client"])
def test_keygen_prints_the_public_key_and_nothing_else_and_the_file_is_private(tmp_path: Path, role: str) -> None:
    path = tmp_path / "a.key"
    done = s.curvegate("keygen", "--role", role, "-o", path)
    assert done.returncode == OK, said(done)
    assert re.fullmatch(rb"[A-Za-z0-9+/]{43}=\n", done.stdout)
    public = base64.b64decode(done.stdout)
    key = s.Key(path, public)
    assert ct.KeyPair.from_secret(key.secret()).public == public
    assert mode(path) == 0o600
    lines = path.read_text().splitlines()
    assert lines[0] == "curvegate-secret-key 1" and f"role: {role}" in lines
    assert (tmp_path / f"nonce.{public.hex()[:16]}").stat().st_size == 8192
    assert mode(tmp_path / f"nonce.{public.hex()[:16]}") == 0o600


def test_keygen_is_private_whatever_the_umask_says(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    done = s.run(["sh", "-c", f"umask 0; exec {s.binary('curvegate')} keygen --role client -o {path}"])
    assert done.returncode == OK
    assert all(mode(file) == 0o600 for file in tmp_path.iterdir() if file.is_file())


def test_keygen_never_overwrites(tmp_path: Path) -> None:
    key = s.keygen(tmp_path / "a.key", "server")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = s.curvegate("keygen", "--role", "server", "-o", key.path)
    assert done.returncode == CANNOT_CREATE and str(key.path) in said(done) and done.stdout == b""
    link = tmp_path / "link.key"
    link.symlink_to(tmp_path / "elsewhere")
    assert s.curvegate("keygen", "--role", "server", "-o", link).returncode == CANNOT_CREATE
    assert {path: path.read_bytes() for path in before} == before
    assert not (tmp_path / "elsewhere").exists()


def test_keygen_puts_the_counter_where_state_dir_says(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    key = s.keygen(tmp_path / "a.key", "server", "--state-dir", str(state))
    assert (state / f"nonce.{key.public.hex()[:16]}").exists()
    assert not list(tmp_path.glob("nonce.*"))


@pytest.mark.parametrize(
    "args",
    [
        ["keygen"],
        ["keygen", "--role", "server"],
        ["keygen", "--role", "gate", "-o", "x"],
        ["keygen", "-o", "x"],
        ["keygen", "--role", "server", "-o", "x", "extra"],
        ["keygen", "--rol", "server", "--unknown"],
        ["frobnicate"],
        [],
        ["peers"],
        ["peers", "add", "only-a-name"],
        ["revoke"],
        ["audit", "verify"],
        ["counter"],
        ["counter", "reset"],
        ["pubkey", "--format", "base32"],
    ],
)
def test_a_wrong_command_line_ends_with_64_and_makes_nothing(tmp_path: Path, args: list[str]) -> None:
    done = s.curvegate(*args, cwd=tmp_path)
    assert done.returncode == USAGE, said(done)
    assert list(tmp_path.iterdir()) == []


def test_help_and_version(tmp_path: Path) -> None:
    assert b"keygen" in s.curvegate("--help").stdout
    assert re.match(rb"curvegate \d+\.\d+", s.curvegate("--version").stdout)
    for verb in ("keygen", "import", "pubkey", "fingerprint", "peers", "check", "probe", "counter", "run"):
        done = s.curvegate(verb, "--help")
        assert done.returncode == OK and verb.encode() in done.stdout
    assert "keygen" in said(s.curvegate("keygne"))


@pytest.mark.parametrize("form", ["base64", "hex", "z85", "raw", "base64 and a newline", "HEX"])
def test_import_takes_a_secret_in_four_forms(tmp_path: Path, form: str) -> None:
    pair = ct.KeyPair.generate()
    text = {
        "base64": s.b64(pair.secret).encode(),
        "hex": pair.secret.hex().encode(),
        "HEX": pair.secret.hex().upper().encode(),
        "z85": z85(pair.secret).encode(),
        "raw": pair.secret,
        "base64 and a newline": s.b64(pair.secret).encode() + b"\n",
    }[form]
    path = tmp_path / "a.key"
    done = s.curvegate("import", "--role", "client", "-o", path, stdin=text)
    assert done.returncode == OK, said(done)
    assert done.stdout.decode().strip() == s.b64(pair.public)
    assert mode(path) == 0o600
    assert ct.KeyPair.from_secret(s.Key(path, pair.public).secret()).public == pair.public


NO_SECRETS = {
    "nothing": b"",
    "short": b"short",
    "a digit less": b"0" * 63,
    "a digit more": b"0" * 65,
    "31 bytes": os.urandom(31),
    "33 bytes": os.urandom(33),
    "much": b"x" * 100_000,
}


@pytest.mark.parametrize("text", NO_SECRETS.values(), ids=NO_SECRETS)
def test_import_refuses_what_is_no_secret_and_does_not_repeat_it(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.key"
    done = s.curvegate("import", "--role", "client", "-o", path, stdin=text)
    assert done.returncode == BAD_DATA, said(done)
    assert not path.exists() and not list(tmp_path.glob("nonce.*"))
    if len(text) > 4:
        assert text not in done.stderr and text not in done.stdout


def test_an_imported_secret_works(site: s.Site, echo_backend: s.Backend) -> None:
    pair = ct.KeyPair.generate()
    path = site.folder / "server.key"
    assert s.curvegate("import", "--role", "server", "-o", path, stdin=pair.secret.hex().encode()).returncode == OK
    site._keys["server"] = s.Key(path, pair.public)
    s.server_end(site, echo_backend).check_honest()


def test_pubkey_and_fingerprint_agree_over_all_forms(tmp_path: Path) -> None:
    key = s.keygen(tmp_path / "a.key", "server")
    forms = {"base64": s.b64(key.public), "hex": key.public.hex(), "z85": z85(key.public)}
    for form, text in forms.items():
        done = s.curvegate("pubkey", "--format", form, key.path)
        assert (done.returncode, done.stdout.decode()) == (OK, text + "\n")
    assert s.curvegate("pubkey", key.path).stdout.decode().strip() == forms["base64"]
    assert s.curvegate("pubkey", stdin=key.path.read_bytes()).stdout.decode().strip() == forms["base64"]
    prints = {s.curvegate("fingerprint", "--", text).stdout for text in forms.values()}
    prints |= {s.curvegate("fingerprint", key.path).stdout}
    prints |= {s.curvegate("fingerprint", stdin=forms["base64"].encode()).stdout}
    assert len(prints) == 1
    assert re.fullmatch(rb"SHA256:[A-Za-z0-9+/]{43}\n", prints.pop())


def test_pubkey_never_shows_a_secret(tmp_path: Path) -> None:
    key = s.keygen(tmp_path / "a.key", "server")
    for verb in ("pubkey", "fingerprint"):
        done = s.curvegate(verb, key.path)
        assert s.b64(key.secret()).encode() not in done.stdout + done.stderr


def weak_keys() -> list[bytes]:
    prime = 2**255 - 19
    good = ct.KeyPair.from_secret(bytes(range(32))).public
    values = [0, 1, prime - 1, prime, prime + 1, prime + 2, 2**255 - 1]
    return [value.to_bytes(32, "little") for value in values] + [good[:31] + bytes([good[31] | 0x80])]


@pytest.mark.parametrize("key", weak_keys(), ids=lambda key: key.hex()[:8] + key.hex()[-4:])
def test_weak_and_non_canonical_keys_are_refused_everywhere(site: s.Site, key: bytes) -> None:
    assert s.curvegate("fingerprint", s.b64(key)).returncode == BAD_DATA
    done = s.curvegate("peers", "add", "friend", s.b64(key), "--known-hosts", site.known_hosts)
    assert done.returncode == BAD_DATA and not site.known_hosts.exists()
    site.know("friend", key)
    code, text = site.start_refused({"web": {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9"}})
    assert code == CONFIG and f"{site.known_hosts}:1:" in text


# ---- a passphrase ----


def test_a_key_sealed_by_a_passphrase_is_opened_by_passphrase_file(site: s.Site, echo_backend: s.Backend) -> None:
    path = site.folder / "server.key"
    done = with_terminal(
        [s.binary("curvegate"), "keygen", "--role", "server", "-o", str(path), "--passphrase"], [b"open sesame\r"] * 2
    )
    assert done.returncode == OK, done
    text = path.read_text()
    assert "sealed: argon2id" in text and "secret:" not in text
    public = s.curvegate("pubkey", path).stdout.decode().strip()
    site._keys["server"] = s.Key(path, base64.b64decode(public))
    phrase = site.folder / "phrase"
    phrase.write_text("open sesame\n")
    phrase.chmod(0o600)
    s.server_end(site, echo_backend, passphrase_file=phrase).check_honest()
    phrase.write_text("open barley\n")
    service = {"web": {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9", "allow": "laptop"}}
    site.daemons[0].stop()
    code, words = site.start_refused(service, passphrase_file=phrase)
    assert code in (BAD_DATA, NO_PERMISSION, CONFIG) and "passphrase" in words and str(path) in words
    assert "open barley" not in words


def with_terminal(args: list[str], answers: list[bytes]) -> subprocess.CompletedProcess[bytes]:
    """Runs a program on a terminal of its own and answers its questions in turn."""
    import pty
    import select

    pid, master = pty.fork()
    if pid == 0:
        os.execv(args[0], args)
    output = b""
    while True:
        ready, _, _ = select.select([master], [], [], s.PATIENCE)
        assert ready, f"no question and no end: {output!r}"
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        output += part
        if answers and output.endswith(b": "):
            os.write(master, answers.pop(0))
    _, status = os.waitpid(pid, 0)
    os.close(master)
    return subprocess.CompletedProcess(args, os.waitstatus_to_exitcode(status), output, b"")


# ---- peers ----


def peers(site: s.Site, *args: str) -> subprocess.CompletedProcess[bytes]:
    return s.curvegate("peers", *args, "--known-hosts", site.known_hosts)


def test_peers_add_list_remove_revoke(site: s.Site) -> None:
    one, two = ct.KeyPair.generate().public, ct.KeyPair.generate().public
    assert peers(site, "add", "one", s.b64(one)).returncode == OK
    assert mode(site.known_hosts) == 0o600
    assert (
        peers(
            site,
            "add",
            "two",
            two.hex(),
            "--from",
            "10.0.0.0/8,::1",
            "--valid-until",
            "2999-01-01",
            "--comment",
            "of Bob",
        ).returncode
        == OK
    )
    text = site.known_hosts.read_text()
    assert f"one curve25519 {s.b64(one)}" in text
    assert re.search(
        rf"^from=10.0.0.0/8,::1(/128)? valid-until=2999-01-01 two curve25519 {re.escape(s.b64(two))} of Bob$",
        text,
        re.MULTILINE,
    )
    listed = peers(site, "list").stdout.decode()
    assert "one" in listed and "two" in listed and "10.0.0.0/8" in listed
    assert peers(site, "revoke", s.b64(two)).returncode == OK
    assert re.search(rf"^@revoked .*curve25519 {re.escape(s.b64(two))}", site.known_hosts.read_text(), re.MULTILINE)
    assert peers(site, "remove", "one").returncode == OK
    assert s.b64(one) not in site.known_hosts.read_text()
    assert s.b64(two) in site.known_hosts.read_text()
    assert peers(site, "remove", "one").returncode in (NO, BAD_DATA)


def test_peers_leaves_every_other_line_as_it_was(site: s.Site) -> None:
    key = s.b64(ct.KeyPair.generate().public)
    text = f"# friends\n\n  a,b   curve25519 {key}   with  blanks\n# end"
    site.known_hosts.write_text(text)
    site.known_hosts.chmod(0o600)
    assert peers(site, "add", "new", s.b64(ct.KeyPair.generate().public)).returncode == OK
    assert site.known_hosts.read_text().startswith(text + "\n")
    assert peers(site, "remove", "new").returncode == OK
    assert site.known_hosts.read_text() == text + "\n"


@pytest.mark.parametrize(
    "args",
    [
        ["add", "a b", "KEY"],
        ["add", "*", "KEY"],
        ["add", "x", "nokey"],
        ["add", "x", "KEY", "--from", "10.0.0.1/8"],
        ["add", "x", "KEY", "--valid-until", "tomorrow"],
    ],
)
def test_peers_add_refuses_what_would_be_no_line(site: s.Site, args: list[str]) -> None:
    key = s.b64(ct.KeyPair.generate().public)
    done = peers(site, *[key if word == "KEY" else word for word in args])
    assert done.returncode in (USAGE, BAD_DATA) and said(done)
    assert not site.known_hosts.exists()


def test_peers_refuses_a_file_that_is_broken_or_open_to_others_and_keeps_it(site: s.Site) -> None:
    key = s.b64(ct.KeyPair.generate().public)
    site.known_hosts.write_text("this is no line\n")
    site.known_hosts.chmod(0o600)
    done = peers(site, "add", "x", key)
    assert done.returncode in (BAD_DATA, CONFIG) and f"{site.known_hosts}:1" in said(done)
    assert site.known_hosts.read_text() == "this is no line\n"
    site.known_hosts.write_text("")
    site.known_hosts.chmod(0o666)
    done = peers(site, "add", "x", key)
    assert done.returncode in (NO_PERMISSION, CONFIG) and str(site.known_hosts) in said(done)
    assert site.known_hosts.read_text() == ""


def test_concurrent_edits_lose_no_line_and_leave_nothing_behind(site: s.Site) -> None:
    count = s.scale(40, 12)
    keys = [s.b64(ct.KeyPair.generate().public) for _ in range(count)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda i: peers(site, "add", f"peer{i}", keys[i]).returncode, range(count)))
    assert codes == [OK] * count
    text = site.known_hosts.read_text()
    assert len(text.splitlines()) == count and all(key in text for key in keys)
    assert mode(site.known_hosts) == 0o600
    left = {path.name for path in site.folder.iterdir()} - {"known_hosts"}
    assert all("lock" in name for name in left), left


def test_readers_see_a_whole_file_at_any_moment(site: s.Site) -> None:
    """Atomic replace: never a half-written file."""
    sizes = set()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        adding = [pool.submit(peers, site, "add", f"peer{i}", s.b64(ct.KeyPair.generate().public)) for i in range(10)]
        while not all(one.done() for one in adding):
            if site.known_hosts.exists():
                text = site.known_hosts.read_text()
                assert text == "" or text.endswith("\n")
                sizes.add(len(text.splitlines()))
    assert len(sizes) > 1


def test_peers_revoke_says_so_after_it_was_written(site: s.Site) -> None:
    key = s.b64(ct.KeyPair.generate().public)
    assert peers(site, "add", "one", key).returncode == OK
    limit = f"ulimit -f 0; trap '' XFSZ; exec {s.binary('curvegate')} peers revoke one --known-hosts {site.known_hosts}"
    done = s.run(["sh", "-c", limit])
    assert done.returncode != OK and b"revoked" not in done.stdout, done
    done = peers(site, "revoke", "one")
    assert done.returncode == OK and done.stdout.startswith(b"revoked: one SHA256:")


@pytest.mark.parametrize("verb", ["add", "revoke", "check", "fingerprint", "import", "known_hosts"])
@pytest.mark.parametrize("digits", [40, 43, 44, 63, 65])
def test_a_hex_key_that_was_cut_is_no_other_key(site: s.Site, verb: str, digits: int) -> None:
    text = (bytes(range(7, 39)).hex() + "aa")[:digits]
    words = f"{digits} hexadecimal digits"
    if verb == "check":
        site.know("laptop", ct.KeyPair.generate().public)
        path = site.write_config({"web": {"accept": "curve_tun:127.0.0.1:4433", "connect": "127.0.0.1:9", "allow": "laptop"}})
        done = check(path, "--peer", text, "--service", "web")
    elif verb == "fingerprint":
        done = s.curvegate("fingerprint", stdin=text.encode())
        assert done.returncode == BAD_DATA and words in said(done), done
        done = s.curvegate("fingerprint", text)
    elif verb == "import":
        done = s.curvegate("import", "--role", "client", "-o", site.folder / "a.key", stdin=text.encode())
        assert not (site.folder / "a.key").exists()
    elif verb == "known_hosts":
        site.known_hosts.write_text(f"laptop curve25519 {text}\n")
        site.known_hosts.chmod(0o600)
        done = peers(site, "list")
        words = f"{site.known_hosts}:1: {words}"
    else:
        done = peers(site, verb, *(["laptop"] if verb == "add" else []), text)
    assert done.returncode == BAD_DATA and words in said(done), done
    assert text not in said(done)


MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "nothing": ([], USAGE, "say what to do: list, add, remove or revoke"),
    "a word less": (["add", "laptop"], USAGE, "add takes NAME KEY, and got 1"),
    "a name with a blank": (["add", "my laptop", "KEY"], BAD_DATA, '"my laptop" is not a name.*such as my-laptop'),
    "a star": (["add", "*", "KEY"], BAD_DATA, "is not a name"),
    "the other way round": (["add", "KEY", "laptop"], BAD_DATA, "the name stands before the key"),
    "a key file": (["add", "laptop", "FILE"], BAD_DATA, "server.key is a file.*curvegate pubkey .*server.key"),
    "to revoke a key file": (["revoke", "FILE"], BAD_DATA, "server.key is a file.*curvegate pubkey"),
    "what a key file holds": (["add", "laptop", "TEXT"], BAD_DATA, "a whole key file, with its secret"),
    "a fingerprint": (["add", "laptop", "SHA256:" + "A" * 43], BAD_DATA, "a fingerprint, which stands for a key"),
    "blanks in from": (["add", "x", "KEY", "--from", "::1, 10.0.0.1"], BAD_DATA, "--from: .*has blanks"),
    "two lines": (["add", "x", "KEY", "--comment", "a\ny curve25519 KEY"], BAD_DATA, "--comment: control character"),
    "nobody of that name": (["remove", "laptop"], BAD_DATA, '"laptop" is not in .*known_hosts'),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_what_is_wrong_with_a_command_on_peers_is_said_with_the_cure(site: s.Site, what: str) -> None:
    args, code, words = MISTAKES[what]
    key, other = site.key("server"), s.b64(ct.KeyPair.generate().public)
    real = {"KEY": other, "FILE": str(key.path), "TEXT": key.path.read_text()}
    done = peers(site, *[real.get(word, word.replace("KEY", other)) for word in args])
    assert done.returncode == code and re.search(words, said(done)), done
    assert s.b64(key.secret()) not in said(done)
    assert not site.known_hosts.exists()


def test_peers_list_without_a_file_says_how_to_begin(site: s.Site) -> None:
    done = peers(site, "list")
    assert done.returncode == NO_INPUT and "curvegate peers add NAME KEY makes it" in said(done)


def test_peers_add_warns_of_what_is_seldom_meant(site: s.Site) -> None:
    key = s.b64(ct.KeyPair.generate().public)
    done = peers(site, "add", "one", key, "--valid-until", "2020-01-01")
    assert done.returncode == OK and "warning: valid-until=2020-01-01 is over" in said(done)
    done = peers(site, "add", "two", key)
    words = f"warning: the key stands under the name one too, in {site.known_hosts}:1"
    assert done.returncode == OK and words in said(done)
    done = peers(site, "add", "three", s.b64(ct.KeyPair.generate().public), "--valid-until", "2999-01-01")
    assert done.returncode == OK and said(done) == ""
    assert peers(site, "revoke", key).returncode == OK
    done = peers(site, "add", "four", key)
    assert done.returncode == BAD_DATA and f"the key is revoked in {site.known_hosts}:4" in said(done)


def test_root_lists_a_users_peers_and_is_not_told_to_take_them(site: s.Site) -> None:
    s.need_root()
    site.know("laptop", ct.KeyPair.generate().public)
    os.chown(site.known_hosts, 65534, 65534)
    done = peers(site, "list")
    assert done.returncode == OK and done.stdout.startswith(b"laptop curve25519 "), said(done)
    done = peers(site, "remove", "laptop")
    assert done.returncode == NO_PERMISSION and "chown" not in said(done)
    assert "run this as uid 65534" in said(done)
    assert site.known_hosts.stat().st_uid == 65534


# ---- check ----


def check(config: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    return s.curvegate("check", "-c", config, *args)


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


# ---- counters ----


def test_counter_init_makes_what_is_missing_and_leaves_what_is_good(site: s.Site, echo_backend: s.Backend) -> None:
    key = site.key("server")
    counter = site.folder / f"nonce.{key.public.hex()[:16]}"
    path = site.write_config({"web": {"accept": f"curve_tun:127.0.0.1:{s.free_port()}", "connect": "127.0.0.1:9"}})
    before = counter.read_bytes()
    assert s.curvegate("counter", "init", "-c", path).returncode == OK
    assert counter.read_bytes() == before
    counter.unlink()
    done = s.curvegate("counter", "init", "-c", path)
    assert done.returncode == OK, said(done)
    assert len(counter.read_bytes()) == len(before) and counter.read_bytes() != before and mode(counter) == 0o600
    s.server_end(site, echo_backend).check_honest()


# ---- probe and run ----


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
