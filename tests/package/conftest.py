"""What the tests of documents and units share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))


@pytest.fixture(scope="session")
def bin_folder() -> Path:
    """Where the programs are: CURVEGATE_BIN, or the release build."""
    folder = Path(os.environ.get("CURVEGATE_BIN", ROOT / "build" / "release" / "bin"))
    missing = [name for name in ("curvegate", "curvegated", "curvegate-vault") if not (folder / name).exists()]
    assert not missing, f"{folder} has no {', '.join(missing)}: build them or set CURVEGATE_BIN"
    return folder
