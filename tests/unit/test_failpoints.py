"""The variable that arms a failpoint: what can't be meant is refused, so that no crash test waits for nothing."""

import os
import subprocess
import sys

import pytest


def imported(value: str) -> "subprocess.CompletedProcess[str]":
    """Start a process that is told to die, and comes by one place once."""
    script = "from processor.failpoints import failpoint; failpoint('revoked')"
    environment = os.environ | {"JANELA_FAILPOINT": value}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("value", ["revoked:0", "revoked:x", "revoked:-1", "revoked:\u00b2", "nowhere"])
def test_a_value_that_can_not_be_meant_is_one_line_and_code_2(value: str) -> None:
    ended = imported(value)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"JANELA_FAILPOINT: found {value!r}, allowed are NAME, or NAME:TIMES")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(("value", "code"), [("", 0), ("revoked", -9), ("revoked:1", -9), ("revoked:2", 0)])
def test_the_process_dies_at_the_pass_that_is_meant(value: str, code: int) -> None:
    assert imported(value).returncode == code
