"""The units are as tight as promised, and systemd understands every line of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
SERVICES = ["curvegate.service", "curvegate@.service", "curvegate-vault.service"]
WORST = 1.5

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def lines_of(unit: str) -> list[str]:
    """The settings of a unit, without comments."""
    return [line for line in (UNITS / unit).read_text().splitlines() if re.match(r"[A-Z]\w*=", line)]


def analyze(*arguments: str, cwd: Path = UNITS) -> subprocess.CompletedProcess[str]:
    """Runs systemd-analyze."""
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )


def exposure(unit: Path) -> float:
    """The figure of systemd-analyze security; 0 is best, 10 worst."""
    done = analyze("security", "--offline=true", "--no-pager", f"./{unit.name}", cwd=unit.parent)
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    return float(match.group(1))


@pytest.mark.parametrize("unit", SERVICES)
def test_exposure_is_low(unit: str) -> None:
    figure = exposure(UNITS / unit)
    print(f"{unit}: {figure}")
    assert figure <= WORST


def test_exposure_rises_with_a_right(tmp_path: Path) -> None:
    loose = tmp_path / "curvegate.service"
    loose.write_text((UNITS / loose.name).read_text().replace("CapabilityBoundingSet=\n", ""))
    assert exposure(loose) > WORST


def verify_output(folder: Path, unit: str) -> list[str]:
    """What systemd does not understand. That the programs are not installed here is no fault of the unit."""
    done = analyze("verify", "--man=no", f"./{unit}", cwd=folder)
    text = (done.stdout + done.stderr).splitlines()
    return [line for line in text if line.strip() and not re.search(r"Command .* is not executable", line)]


@pytest.mark.parametrize("unit", [*SERVICES, "curvegate.target"])
def test_systemd_understands_every_line(unit: str) -> None:
    assert verify_output(UNITS, unit) == []


@pytest.fixture(name="example_socket")
def _example_socket(tmp_path: Path) -> Iterator[Path]:
    for name in (*SERVICES, "curvegate.target"):
        shutil.copy(UNITS / name, tmp_path)
    shutil.copy(UNITS / "curvegate-web.socket.example", tmp_path / "curvegate-web.socket")
    yield tmp_path


def test_systemd_understands_the_example_of_a_socket(example_socket: Path) -> None:
    assert verify_output(example_socket, "curvegate-web.socket") == []
    with (example_socket / "curvegate-web.socket").open("a") as unit:
        unit.write("[Socket]\nNoSuchKey=1\n")
    assert verify_output(example_socket, "curvegate-web.socket") != []


def test_the_template_is_as_tight_as_the_daemons_unit() -> None:
    def sandbox(unit: str) -> list[str]:
        lines = lines_of(unit)
        return lines[lines.index("CapabilityBoundingSet=") : lines.index("UMask=0077") + 1]

    assert len(sandbox("curvegate.service")) > 25
    assert sandbox("curvegate@.service") == sandbox("curvegate.service")


@pytest.mark.parametrize("unit", SERVICES)
def test_what_no_restart_mends_is_not_restarted(unit: str) -> None:
    assert "RestartPreventExitStatus=64 77 78" in lines_of(unit)


def test_the_keys_go_to_the_vault_alone() -> None:
    assert not [line for line in lines_of("curvegate.service") if "Credential" in line]
    assert "PrivateNetwork=yes" in lines_of("curvegate-vault.service")
    for unit in ("curvegate-vault.service", "curvegate@.service"):
        named = {line.split("=")[1].split(":")[0] for line in lines_of(unit) if line.startswith("LoadCredential=")}
        assert named == {"curvegate.server-key", "curvegate.client-key"}


def start_vault(tmp_path: Path, server: str, client: str) -> list[str]:
    """What start-vault would start, with these two credentials."""
    vault = tmp_path / "vault"
    vault.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    vault.chmod(0o755)
    (tmp_path / "curvegate.server-key").write_text(server)
    (tmp_path / "curvegate.client-key").write_text(client)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "CURVEGATE_USER": "daemon",
        "CURVEGATE_VAULT": str(vault),
    }
    done = subprocess.run(
        [UNITS / "start-vault"], env=environment, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.split()


def test_start_vault_passes_the_keys_that_are_there(tmp_path: Path) -> None:
    key = "curvegate-secret-key 1\n"
    uid = [line.split(":")[2] for line in Path("/etc/passwd").read_text().splitlines() if line.startswith("daemon:")]
    common = ["--listen", "/run/curvegate-vault/vault.sock", "--state-dir", "/var/lib/curvegate-vault", "--allow-uid", *uid]
    server = ["--server-key", "credential"]
    client = ["--client-key", "credential", "--known-hosts", "/etc/curvegate/known_hosts"]
    assert start_vault(tmp_path, key, "none") == [*common, *server]
    assert start_vault(tmp_path, "none", key) == [*common, *client]
    assert start_vault(tmp_path, key, key) == [*common, *server, *client]
    assert start_vault(tmp_path, "none", "none") == common


def test_exposure_is_read_from_every_check() -> None:
    done = analyze("security", "--offline=true", "--json=short", "./curvegate-vault.service")
    checks = {check["json_field"]: check["set"] for check in json.loads(done.stdout)}
    assert checks["PrivateNetwork"] and checks["MemoryDenyWriteExecute"] and checks["NoNewPrivileges"]
