"""Key files."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

import curve_tun as ct

from .basics import curvegate


def b64(key: bytes) -> str:
    return base64.b64encode(key).decode()


@dataclass(frozen=True)
class Key:
    """A key file made by `curvegate keygen`."""

    path: Path
    public: bytes

    @property
    def text(self) -> str:
        return b64(self.public)

    def secret(self) -> bytes:
        match = re.search(r"^secret:\s*(\S+)\s*$", self.path.read_text(), re.MULTILINE)
        assert match, f"{self.path} holds no secret in the clear"
        return base64.b64decode(match[1])

    def pair(self) -> ct.KeyPair:
        return ct.KeyPair(self.public, self.secret())


def keygen(path: Path, role: str, *more: str) -> Key:
    done = curvegate("keygen", "--role", role, "-o", path, *more)
    assert done.returncode == 0, done.stderr.decode()
    return Key(path, base64.b64decode(done.stdout.strip(), validate=True))
