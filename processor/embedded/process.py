"""One broker's JVM, and the lifeline that ends it with its owner."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

CLEAN_END_SECONDS_MAX = 30

LIFELINE = """
read -r _
kill -KILL "$1"
[ -z "$2" ] || rm -rf -- "$2"
"""
"""A shell that reads from a pipe of which we alone hold the other end. When we are gone, however we went, it
reads the pipe's end, ends the broker, and clears away data that were to go with us.

Linux has a signal for a parent's death (PR_SET_PDEATHSIG), but it means the death of the *thread* that
started the child: a broker that was started in `asyncio.to_thread` would go with the thread pool. It also has
to be asked for between fork and exec, where a process with threads must not run code, and macOS does not have
it.
"""

COMPLAINTS = (
    re.compile(r"^(Caused by: )?\w+(\.[\w$]+)+(Exception|Error)\b"),  # an exception's name and message
    re.compile(r"\bSIG[A-Z]+ \(|\bERROR\b|Error\b|Invalid|Unrecognized"),  # a crash, a log line, the JVM's own words
)
COMPLAINT_LETTERS_MAX = 300
LOG_BYTES_MAX = 1 << 20
"""How much of its log is read to find out why it ended."""


class BrokerProcess:
    """A broker that runs, in a session of its own: a terminal's Ctrl-C is for its owner to act on."""

    def __init__(self, command: Sequence[str], *, folder: Path, perishable: Path | None) -> None:
        """Start `command` in `folder`, with its output in broker.log there.

        When this process is gone without a stop, the broker is killed and the `perishable` folder is removed.
        """
        self.is_suspended = False
        self.log = folder / "broker.log"
        with self.log.open("ab") as out:
            self._log_begin = out.tell()
            self._jvm = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
            try:
                self._lifeline = subprocess.Popen(
                    ["/bin/sh", "-c", LIFELINE, "janela-lifeline", str(self.pid), str(perishable or "")],
                    cwd="/",
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except BaseException:  # nobody has hold of the broker yet: it would run for ever
                self._jvm.kill()
                self._jvm.wait()
                raise

    @property
    def pid(self) -> int:
        """The JVM's process id."""
        return self._jvm.pid

    def exit_code(self) -> int | None:
        """Return what the broker ended with, a signal as its negative number; None while it runs."""
        code = self._jvm.poll()
        if code is not None:
            self._cut_lifeline()
        return code

    def suspend(self) -> None:
        """Make it hold still (SIGSTOP): its connections stay, and nothing is answered."""
        self._jvm.send_signal(signal.SIGSTOP)
        self.is_suspended = True

    def resume(self) -> None:
        """Let it go on after `suspend`."""
        self._jvm.send_signal(signal.SIGCONT)
        self.is_suspended = False

    def kill(self) -> None:
        """End it by SIGKILL and wait until it is gone."""
        self._jvm.kill()
        self.wait()

    def ask_to_end(self) -> None:
        """Ask for a clean end, which `wait` waits for."""
        self._jvm.terminate()
        self.resume()

    def wait(self) -> None:
        """Wait until it is gone; one that takes too long over a clean end is killed."""
        try:
            self._jvm.wait(CLEAN_END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._jvm.kill()
            self._jvm.wait()
        self._cut_lifeline()

    def ended_cleanly(self) -> bool:
        """Whether it ended by its own shutdown after `ask_to_end`."""
        return self._jvm.returncode == 128 + signal.SIGTERM

    def complaint(self) -> str:
        """Return the line of its log that best says why it ended."""
        lines = [line.strip() for line in self.log_text().splitlines() if line.strip()] or ["nothing"]
        named = (line for complaint in COMPLAINTS for line in lines if complaint.search(line))
        return next(named, lines[-1])[:COMPLAINT_LETTERS_MAX]

    def log_text(self) -> str:
        """Return what it has logged since this start."""
        with self.log.open("rb") as log:
            log.seek(self._log_begin)
            return log.read(LOG_BYTES_MAX).decode(errors="replace")

    def _cut_lifeline(self) -> None:
        # The shell goes before the pipe. If the pipe closed first, the shell would send its signal, and the
        # broker's process id may be another's by now.
        self._lifeline.kill()
        self._lifeline.wait()
        if self._lifeline.stdin:
            self._lifeline.stdin.close()
