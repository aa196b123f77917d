"""What unit tests share."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

THREADS_OF_THE_PROCESS: Final = {"expander_0"}
"""They are made once, for all consumers that there will ever be."""
ENDING_S: Final = 5
"""How long those may take to end that were told to."""


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of whoever runs the tests: an empty folder, and no variable of ours."""
    for name in os.environ:
        if name.upper().startswith("JANELA_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """Fail a test that leaves a thread behind: it would go on in the midst of those that come next."""
    before = set(threading.enumerate())
    yield
    made = [it for it in threading.enumerate() if it not in before and it.name not in THREADS_OF_THE_PROCESS]
    give_up_s = time.monotonic() + ENDING_S
    for thread in made:
        thread.join(max(give_up_s - time.monotonic(), 0))
    left = sorted(it.name for it in made if it.is_alive())
    assert not left, f"threads that outlive their test: {left}"
