"""The command on keys and counters: made, imported, shown, refused; a passphrase; wrong command lines."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import curve_tun as ct
import pytest
import support as s
from commands import BAD_DATA, CANNOT_CREATE, CONFIG, NO_PERMISSION, OK, USAGE, mode, said
from terminal import with_terminal

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def z85(key: bytes) -> str:
    """ZeroMQ RFC 32."""
    out = ""
    for i in range(0, len(key), 4):
        value = int.from_bytes(key[i : i + 4], "big")
        out += "".join(Z85[value // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return out


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
