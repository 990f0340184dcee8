"""The command on peers: added, listed, removed, revoked; what it refuses and warns of."""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess

import curve_tun as ct
import pytest
import support as s
from commands import BAD_DATA, CONFIG, NO, NO_INPUT, NO_PERMISSION, OK, USAGE, check, mode, said


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
