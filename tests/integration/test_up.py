"""`janela up` as it is typed, without a terminal: it shows all kinds of events, and leaves nothing behind."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("opened", "expiring", "closed", "accepted", "rejected")

START_SECONDS = 60
END_SECONDS = 30


@pytest.fixture(autouse=True)
def _own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is left on failure, such as logs, where pytest clears it away."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("up")))


@contextmanager
def janela_up(*arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Run `janela up` on a port of its own, without settings of anybody's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JANELA_")}
    with subprocess.Popen(
        [sys.executable, "-m", "processor", "up", "--port", "0", *arguments],
        env=environment | {"PYTHONPATH": str(ROOT)} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_second(process: subprocess.Popen[str]) -> dict[str, object]:
    """Wait until it is at work, and give the first object that it prints."""
    assert process.stdout
    line = process.stdout.readline()
    assert line, process.communicate()
    found: dict[str, object] = json.loads(line)
    return found


def children(process: int) -> dict[int, str]:
    """Give the processes that it has started, whichever thread of it did, with their command lines."""
    listed = [
        int(child)
        for thread in Path(f"/proc/{process}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return {child: Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in listed}


def the_one(of: dict[int, str], name: str) -> int:
    (found,) = (process for process, command in of.items() if name in command)
    return found


def lives(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"  # ended; at most, nobody has taken notice yet


def gone(processes: dict[int, str], seconds: float) -> bool:
    give_up_at = time.monotonic() + seconds
    while any(map(lives, processes)) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    return not any(map(lives, processes))


def test_a_run_of_some_seconds_shows_all_kinds_of_events_and_sums_up() -> None:
    with janela_up("--seconds", "6") as process:
        out, err = process.communicate(timeout=START_SECONDS + END_SECONDS)
    assert (process.returncode, err) == (0, "")
    lines, total = out.split("\n\n")
    for kind in KINDS:
        assert re.search(rf"^ +{kind} +\d\d:\d\d  55119\d+  \w", lines, re.MULTILINE)
    counts = {
        name: int(count.replace(",", "")) for name, count in re.findall(r"^ *([a-z ]+?) +([\d,]+)", total, re.MULTILINE)
    }
    assert all(counts[kind] > 0 for kind in KINDS)
    assert counts["events out"] == sum(counts[kind] for kind in KINDS)
    assert counts["records in"] > 1000
    assert counts["dead letters"] > 0
    assert counts["lag"] == 0
    log = re.search(r"its log is (\S+)", lines)
    assert log
    assert not Path(log[1]).parent.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary_and_no_process_is_left(number: signal.Signals) -> None:
    with janela_up("--json") as process:
        first_second(process)
        started = children(process.pid)
        assert the_one(started, "kafka.Kafka") != the_one(started, "processor.cli.attended")
        process.send_signal(number)
        out, _ = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1])["kind"] == "summary"
    assert gone(started, 0)


def test_in_a_terminal_it_draws_a_screen_and_ctrl_c_gives_the_terminal_back_with_a_summary() -> None:
    pid, terminal = pty.fork()
    if pid == 0:  # the terminal's own process, in place of this one
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JANELA_")}
        environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "32"}
        try:
            os.execve(sys.executable, [sys.executable, "-m", "processor", "up", "--port", "0"], environment)
        finally:
            os._exit(127)
    drawn, wanted = b"", [re.compile(rb" %s +[\d,]+   \d\d:\d\d  55119\d" % kind.encode()) for kind in KINDS]
    give_up_at = time.monotonic() + START_SECONDS + END_SECONDS
    try:
        while not all(kind.search(plain(drawn[-SCREENS:])) for kind in wanted):
            assert time.monotonic() < give_up_at, plain(drawn[-SCREENS:])
            if select.select([terminal], [], [], 1)[0]:
                drawn += os.read(terminal, 65_536)
        for part in (b"open windows", b"next to end", b"Ctrl-C ends it"):
            assert part in plain(drawn)
        assert (drawn.count(ALTERNATE_SCREEN), drawn.count(SCREEN_AGAIN)) == (1, 0)
        started = children(pid)
        assert the_one(started, "kafka.Kafka") != the_one(started, "processor.cli.attended")
        os.write(terminal, b"\x03")
        after = b""
        with suppress(OSError):  # at its end there is nobody on the other side
            while part := os.read(terminal, 65_536):
                after += part
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    screen, _, given_back = after.partition(SCREEN_AGAIN)
    assert ALTERNATE_SCREEN not in screen
    assert re.search(rb"events out +[\d,]{3,}", plain(given_back))
    assert gone(started, END_SECONDS)


SCREENS = 20_000
"""Bytes of some screens."""
ALTERNATE_SCREEN, SCREEN_AGAIN = b"\x1b[?1049h", b"\x1b[?1049l"


def plain(drawn: bytes) -> bytes:
    """Take the colours and movements out of what was written to a terminal."""
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", drawn)


def test_a_signal_during_the_start_ends_it_too() -> None:
    with janela_up("--json") as process:
        assert process.stderr
        assert process.stderr.readline() == "starting Kafka\n"
        started = children(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(END_SECONDS) == 0
        assert process.stderr.read() == ""
    assert gone(started, 0)


def test_a_worker_that_fails_ends_it_and_its_last_words_are_told() -> None:
    with janela_up("--json") as process:
        first_second(process)
        started = children(process.pid)
        os.kill(the_one(started, "processor.cli.attended"), signal.SIGKILL)
        _, err = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 1
    told = re.search(r"janela up: the worker ended by itself \(signal 9\); its log \((.*)\) ends with:\n +\S", err)
    assert told
    assert "stream.restored" in Path(told[1]).read_text()
    assert gone(started, 0)


def test_a_kafka_that_ends_ends_it() -> None:
    with janela_up("--json") as process:
        first_second(process)
        started = children(process.pid)
        os.kill(the_one(started, "kafka.Kafka"), signal.SIGKILL)
        _, err = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 1
    assert "janela up: broker 0 ended by itself (signal 9)" in err
    assert gone(started, 0)


def test_nothing_outlives_a_run_that_is_killed() -> None:
    with janela_up("--json") as process:
        first_second(process)
        started = children(process.pid)
        process.kill()
        assert gone(started, 10)


@pytest.mark.heavy
def test_what_is_kept_is_gone_on_from(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"), "--json")
    totals = []
    for _ in range(2):
        with janela_up("--seconds", "2", *data) as process:
            out, err = process.communicate(timeout=START_SECONDS + END_SECONDS)
        assert process.returncode == 0, err
        totals.append(json.loads(out.splitlines()[-1]))
    first, second = totals
    assert second["open_windows"] >= first["open_windows"] > 0
    assert second["events"]["opened"] < second["open_windows"]
    assert first["lag"] == second["lag"] == 0


def test_a_wrong_setting_is_said_in_a_line() -> None:
    with janela_up(JANELA_EXPIRING_BEFORE="soon") as process:
        out, err = process.communicate(timeout=START_SECONDS)
    assert (process.returncode, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("JANELA_EXPIRING_BEFORE (expiring_before): found")


def test_a_port_that_is_taken_is_said_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with janela_up("--port", str(port)) as process:
            out, err = process.communicate(timeout=START_SECONDS)
    assert (process.returncode, out) == (2, "starting Kafka\n")
    (line,) = err.splitlines()
    assert line.startswith(f"janela up: port {port} of 127.0.0.1 can't be had")
