"""packaging/package.sh installs all that the Debian package is built with, on a machine that has nothing."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build_depends() -> set[str]:
    """Packages that dpkg-buildpackage asks for. build-essential is always among them, although control does not say so."""
    text = (ROOT / "packaging/debian/control").read_text()
    found = re.search(r"^Build-Depends:(.*?)^\S", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    names = {re.split(r"[ (]", entry.strip())[0] for entry in found[1].split(",")}
    return {"debhelper" if name.startswith(("debhelper-", "dh-sequence-")) else name for name in names - {""}} | {
        "build-essential"
    }


def installed_by_the_script() -> set[str]:
    script = (ROOT / "packaging/package.sh").read_text()
    words = re.search(r"^need \$build_packages (.*)$", script, re.MULTILINE)
    packages = re.search(r'^build_packages="(.*?)"', (ROOT / "packaging/need.sh").read_text(), re.MULTILINE | re.DOTALL)
    assert words is not None and packages is not None
    return set(words[1].split()) | set(packages[1].split())


def test_the_script_installs_what_the_build_asks_for() -> None:
    assert len(build_depends()) > 8
    assert build_depends() <= installed_by_the_script()
