"""A folder from which daemons run: keys, known_hosts, configurations."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from .basics import binary, run
from .daemons import Daemon
from .keys import Key, b64, keygen


def options(pairs: dict[str, Any]) -> str:
    """`hello_timeout="1s"` as the line `hello-timeout = 1s`."""
    return "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in pairs.items() if value is not None)


class Site:
    """A folder with keys, a known_hosts, configurations and the daemons that run from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[Daemon] = []
        self.peers: dict[str, list[str]] = {}
        self._keys: dict[str, Key] = {}

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def key(self, role: str) -> Key:
        """The site's own key of that role, made on first use."""
        if role not in self._keys:
            self._keys[role] = keygen(self.folder / f"{role}.key", role)
        return self._keys[role]

    def know(self, name: str, key: bytes, prefix: str = "") -> None:
        """Adds a line to known_hosts; it is read at the daemon's start."""
        self.peers.setdefault(name, []).append(f"{prefix} {name} curve25519 {b64(key)}".strip())
        self.write_known_hosts()

    def write_known_hosts(self) -> None:
        lines = [line for lines in self.peers.values() for line in lines]
        self.known_hosts.write_text("\n".join(lines) + "\n")
        self.known_hosts.chmod(0o600)

    def write_config(
        self, services: dict[str, dict[str, Any]], name: str = "curvegate.conf", **global_options: Any
    ) -> Path:
        roles = {"client" if service.get("client") == "yes" else "server" for service in services.values()}
        defaults: dict[str, Any] = {f"{role}_key": self.key(role).path for role in sorted(roles)}
        if not self.known_hosts.exists():
            self.write_known_hosts()
        defaults |= {"known_hosts": self.known_hosts, "control": self.folder / "control.sock", "workers": 2}
        text = options(defaults | global_options)
        for service, pairs in services.items():
            text += f"\n[{service}]\n{options(pairs)}"
        path = self.folder / name
        path.write_text(text)
        return path

    def start(
        self,
        services: dict[str, dict[str, Any]],
        *,
        wrap: list[str] | None = None,
        ready: str | None = r" ready\b",
        popen: dict[str, Any] | None = None,
        **global_options: Any,
    ) -> Daemon:
        """Writes a configuration and runs curvegated with it; `wrap` stands before the command."""
        config = self.write_config(services, **global_options)
        return self.run(config, wrap=wrap, ready=ready, popen=popen)

    def run(
        self,
        config: Path,
        *,
        wrap: list[str] | None = None,
        ready: str | None = r" ready\b",
        popen: dict[str, Any] | None = None,
    ) -> Daemon:
        args = [*(wrap or []), binary("curvegated"), "-c", str(config)]
        daemon = Daemon(args, self.folder / "daemon.log", ready=ready, **(popen or {}))
        self.daemons.append(daemon)
        return daemon

    def start_refused(
        self, services: dict[str, dict[str, Any]], *, name: str = "refused.conf", **global_options: Any
    ) -> tuple[int, str]:
        """Runs a daemon that must not come up: its exit status and what it said."""
        config = self.write_config(services, name, **global_options)
        done = run([binary("curvegated"), "-c", str(config)], timeout=60)
        return done.returncode, (done.stdout + done.stderr).decode()

    def secrets(self) -> list[bytes]:
        found = []
        for path in self.folder.glob("*.key"):
            match = re.search(r"^secret:\s*(\S+)", path.read_text(), re.MULTILINE)
            if match:
                found.append(base64.b64decode(match[1]))
        return found

    def close(self) -> None:
        """Stops what runs, then checks what must hold after every test: clean ends, no secret in any log."""
        problems: list[AssertionError] = []
        for daemon in self.daemons:
            try:
                daemon.stop()
            except AssertionError as problem:
                problems.append(problem)
        for log in {daemon.log.path for daemon in self.daemons}:
            text = log.read_text(errors="replace")
            for secret in self.secrets():
                assert b64(secret) not in text and secret.hex() not in text, f"a secret key stands in {log}"
        if problems:
            raise problems[0]
