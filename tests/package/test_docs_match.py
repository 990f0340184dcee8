"""Man pages, reference and completion say what the programs say, and nothing else; links between documents lead to what
they name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import documents
import pytest

PAGES = sorted(documents.MAN.iterdir())
UPDATE = "run docs/documents.py --bin FOLDER --update"
FOLDERS = [documents.ROOT, *(documents.ROOT / name for name in ("docs", "docs/guides", "bench"))]
DOCUMENTS = sorted(path for folder in FOLDERS for path in folder.glob("*.md"))


def plain(page: Path) -> str:
    """A man page as its reader sees it, on one line."""
    done = subprocess.run(
        ["man", "--warnings", "-l", str(page)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "MANWIDTH": "1000", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": "", "PAGER": "cat"},
    )
    return re.sub(r"\s+", " ", done.stdout.replace("\u2010", "-").replace("\u2212", "-"))


def test_documents_are_in_step_with_the_programs(bin_folder: Path) -> None:
    stale = documents.stale_files(bin_folder)
    assert not stale, f"{', '.join(path.name for path in stale)} out of step: {UPDATE}"


def test_reference_has_each_key_once_with_its_default() -> None:
    text = documents.REFERENCE.read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| `[^`]+` \| (.*?) \|", text, re.MULTILINE)
    keys = documents.read_keys()
    in_order = [key.name for where in ("global", "either", "service") for key in keys if key.where == where]
    assert [name for name, _ in rows] == in_order
    assert dict(rows)["idle-timeout"] == "12h" and dict(rows)["allow"] == "nobody" and dict(rows)["control"] == ""


def test_a_default_is_told_apart_from_what_a_key_does() -> None:
    def split(text: str) -> tuple[str, str]:
        return documents.Key("x", "global", "NUMBER", text).what_and_default

    assert split("threads (default 0: one for each CPU)") == ("threads", "0: one for each CPU")
    assert split("a folder (default: that of each key file)") == ("a folder", "that of each key file")
    assert split("an end, or (foreign) by FIN (default message)") == ("an end, or (foreign) by FIN", "message")
    assert split("where to listen (client: nowhere)") == ("where to listen (client: nowhere)", "")


def test_a_cell_of_a_table_holds_any_text() -> None:
    assert documents.typed("a|*") == "`a\\|*`" and documents.typed("") == ""
    assert documents.markdown("*: any `<x>` | y") == "\\*: any \\`\\<x>\\` \\| y"


def anchors(path: Path) -> set[str]:
    """Of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(documents.ROOT)))
def test_links_of_the_documents_lead_somewhere(path: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(DOCUMENTS) > 20
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        file, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_paths_that_the_design_names_exist() -> None:
    folders = "src|vault|tests|include|fuzz|docs|conf|systemd|packaging|bench"
    named = re.findall(rf"`((?:{folders})/[\w./*-]*)`", (documents.ROOT / "docs/DESIGN.md").read_text())
    assert len(named) > 50
    missing = [name for name in named if not any(documents.ROOT.glob(name.rstrip("/")))]
    assert not missing, missing


def test_readme_stays_short() -> None:
    words = len((documents.ROOT / "README.md").read_text().split())
    assert words < 2000, f"{words} words: what is longer belongs to docs/guides or docs/REFERENCE.md"


def test_every_verb_and_option_stands_in_the_page(bin_folder: Path) -> None:
    text = plain(documents.MAN / "curvegate.1")
    for verb in documents.read_verbs(bin_folder):
        assert f"curvegate {verb.name} " in text
        for option in verb.options:
            assert all(name in text for name in option.names), (verb.name, option)


@pytest.mark.parametrize("daemon", ["curvegated", "curvegate-vault"])
def test_every_option_of_a_daemon_stands_in_its_page(bin_folder: Path, daemon: str) -> None:
    text = plain(documents.MAN / f"{daemon}.8")
    options = documents.parse_options(documents.output_of(bin_folder / daemon, "--help"))
    assert len(options) >= 3
    for option in options:
        assert all(name in text for name in option.names), option


def test_every_configuration_key_stands_in_the_page() -> None:
    text = plain(documents.MAN / "curvegate.conf.5")
    keys = documents.read_keys()
    assert len(keys) > 40
    for key in keys:
        assert f" {key.name} = {key.value} " in text, key


def test_pages_name_no_option_that_no_program_has(bin_folder: Path) -> None:
    known = {"--help", "--version"}
    for verb in documents.read_verbs(bin_folder):
        known |= {name for option in verb.options for name in option.names}
    for daemon in ("curvegated", "curvegate-vault"):
        options = documents.parse_options(documents.output_of(bin_folder / daemon, "--help"))
        known |= {name for option in options for name in option.names}
    for page in PAGES:
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", plain(page)))
        assert named <= known, f"{page.name}: {named - known}"


def test_examples_use_keys_that_exist() -> None:
    page = (documents.MAN / "curvegate.conf.5").read_text().replace("\\-", "-")
    example = page[page.index(".SH EXAMPLES") :]
    used = set(re.findall(r"^([a-z-]+) +=", example, re.MULTILINE))
    assert used and used <= {key.name for key in documents.read_keys()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_man_finds_nothing_to_warn_of(page: Path) -> None:
    if shutil.which("man") is None:
        pytest.skip("man (man-db, groff) is not installed")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(page)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )
    assert (done.returncode, done.stderr) == (0, "")


def completed(words: list[str], home: Path) -> list[str]:
    """What bash would offer for the last of these words."""
    quoted = " ".join("'" + word + "'" for word in words)
    script = f"""
        . /usr/share/bash-completion/bash_completion
        . {documents.COMPLETION}
        COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
        COMP_LINE="${{COMP_WORDS[*]}}"; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9
        _curvegate {words[0]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


@pytest.fixture(name="completion_home")
def _completion_home(tmp_path: Path) -> Path:
    if not Path("/usr/share/bash-completion/bash_completion").exists():
        pytest.skip("bash-completion is not installed")
    (tmp_path / "x.conf").write_text(f"known-hosts = {tmp_path}/known\n[web]\n [dns]\n;[ssh]\n")
    (tmp_path / "known").write_text("from=::1 alice,bob curve25519 KEY\n# carol curve25519 KEY\ndan curve25519 KEY\n")
    return tmp_path


def test_completion_offers_all_verbs(bin_folder: Path, completion_home: Path) -> None:
    verbs = {verb.name for verb in documents.read_verbs(bin_folder)}
    assert set(completed(["curvegate", ""], completion_home)) == verbs | {"--help", "--version"}
    assert completed(["curvegate", "keyg"], completion_home) == ["keygen"]


def test_completion_offers_all_options_of_each_verb(bin_folder: Path, completion_home: Path) -> None:
    for verb in documents.read_verbs(bin_folder):
        offered = set(completed(["curvegate", verb.name, "-"], completion_home))
        assert offered == ({name for option in verb.options for name in option.names} or {"--help"}), verb.name


def test_completion_offers_subverbs_values_sections_and_peers(completion_home: Path) -> None:
    def offers(*words: str) -> set[str]:
        return set(completed(list(words), completion_home))

    assert offers("curvegate", "peers", "") == {"list", "add", "remove", "revoke"}
    assert offers("curvegate", "keygen", "--role", "") == {"server", "client"}
    assert offers("curvegate-vault", "--sandbox", "t") == {"try"}
    assert offers("curvegated", "-c", "x") == {"x.conf"}
    assert offers("curvegate", "check", "-c", "x.conf", "--service", "") == {"web", "dns"}
    assert offers("curvegate", "check", "-c", "x.conf", "--peer", "") == {"alice", "bob", "dan"}
    assert offers("curvegate", "pubkey", "kn") == {"known"}
