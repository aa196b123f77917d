"""The process of an embedded broker, with something quicker in the JVM's place."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from processor.embedded.process import BrokerProcess


@pytest.mark.parametrize("failure", [OSError(24, "Too many open files"), KeyboardInterrupt()], ids=repr)
def test_a_broker_whose_lifeline_cannot_be_started_is_not_left_over(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        if started:
            raise failure
        started.append(popen(command, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    try:
        with pytest.raises(type(failure)):
            BrokerProcess(["sleep", "60"], folder=tmp_path, perishable=None)
        assert started[0].returncode is not None
    finally:
        started[0].kill()
        started[0].wait()
