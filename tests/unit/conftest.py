"""What unit tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of whoever runs the tests: an empty folder, and no variable of ours."""
    for name in os.environ:
        if name.upper().startswith("JANELA_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
