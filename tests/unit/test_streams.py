"""`janela` whose streams are closed or full, and that is told to end before it has begun: a line, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from processor.cli.early import UNTIL_STOPPED

pytestmark = pytest.mark.usefixtures("nothing_set")

ROOT = Path(__file__).parents[2]
NOBODY = {"JANELA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "JANELA_BROKER_WAIT_SECONDS": "0", "JANELA_OPS_ADDRESS": ""}

IN_THE_IMPORT = """
import os, sys
import processor.__main__ as entry

class Signal:
    def find_spec(self, name, *_):
        if name == "processor.cli.main":
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Signal())
sys.argv = ["janela", {verb!r}]
entry.main()
"""


def run(words: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, however that is."""
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)


def shell(words: str) -> tuple[int, str]:
    """Run it in a shell, where ``python`` is ours; give the exit code and stderr."""
    words = words.replace("janela", f"{sys.executable} -m processor").replace("faust", f"{sys.executable} -m faust")
    environment = os.environ | NOBODY | {"PYTHONPATH": str(ROOT)}
    ended = run(["sh", "-c", words], environment)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("janela config >&-", 0),
        ("janela config --clock 2>&-", 2),
        ("janela worker 2>&-", 2),
        ("janela send inbound --value - <&-", 2),
        ("faust -A processor.worker worker 2>&-", 2),
    ],
)
def test_a_stream_that_is_closed_is_one_that_nobody_reads(words: str, code: int) -> None:
    ended, told = shell(words)
    assert "Traceback" not in told
    assert ended == code


@pytest.mark.parametrize("words", ["janela config", "janela config --json", "janela --help", "janela topics --help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_that_is_full_is_one_line_and_exit_code_1(words: str, unbuffered: str) -> None:
    ended, told = shell(f"PYTHONUNBUFFERED={unbuffered} {words} >/dev/full")
    assert (ended, told) == (1, "the output can't be written: No space left on device\n")


def test_a_letter_that_the_locale_does_not_know_is_written_out() -> None:
    login = 'security_protocol = "SASL_PLAINTEXT"\nsasl_password = "x"\nsasl_username = "é"'
    Path("janela.toml").write_text(login, "utf-8")
    assert shell("LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING= janela config") == (0, "")


def test_a_reader_that_turns_away_is_told_nothing() -> None:
    _, told = shell("janela config | true")
    assert told == ""


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
@pytest.mark.parametrize("verb", ["config", *UNTIL_STOPPED])
def test_a_signal_before_a_verb_has_begun_ends_it_quietly_and_is_no_failure_of_one_that_waits_for_it(
    verb: str, number: int, code: int
) -> None:
    words = IN_THE_IMPORT.format(number=number, verb=verb)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = run([sys.executable, "-c", words], environment)
    assert (ended.returncode, ended.stderr) == (0 if verb in UNTIL_STOPPED else code, "")
