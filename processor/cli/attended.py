"""The worker of `janela up`: `janela worker`, got ready while Kafka starts, and gone when whoever attends it is.

Both sides are here: `AttendedWorker` in the one process, `main` in the other. Between them is a pipe, the worker's
stdin. Its first line is the environment to run in, as JSON, and says that Kafka is there; its end says that the one who
attends is gone, however that went.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

STOP_SECONDS: Final = 12
"""A worker that is asked to stop is gone within 10 s."""
LOG_LINES_SHOWN: Final = 15


class WorkerError(Exception):
    """The worker has failed; the message says how, and how its log ends."""


class AttendedWorker:
    """A worker in a process and a session of its own: a terminal's Ctrl-C is for us to act on."""

    def __init__(self) -> None:
        """Make a folder for its log, which is kept only where something has failed."""
        self.log = Path(tempfile.mkdtemp(prefix="janela-up-")) / "worker.log"
        self._process: subprocess.Popen[str]

    async def __aenter__(self) -> Self:
        """Let it get ready."""
        self._launch()
        return self

    def begin(self, environment: Mapping[str, str]) -> None:
        """Let it begin its work, with these variables on top of our environment.

        Raises:
            WorkerError: It has ended by itself.
        """
        if self._process.stdin:
            try:
                print(json.dumps(dict(environment)), file=self._process.stdin, flush=True)
            except BrokenPipeError:
                self._process.wait(STOP_SECONDS)
                self.check()

    def check(self) -> None:
        """Raise if it ended by itself.

        Raises:
            WorkerError: It did.
        """
        if (code := self._process.poll()) is not None:
            raise self.failure(f"the worker ended by itself ({_ended(code)})")

    def failure(self, what: str) -> WorkerError:
        """Make the error that says what is wrong with it, and how its log ends."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:]
        return WorkerError("\n    ".join([f"{what}; its log ({self.log}) ends with:", *lines]))

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop it, and let its log go if all went well.

        Raises:
            WorkerError: It did not stop as it should, and nothing else has failed.
        """
        # Where somebody has turned away from our output, nothing of the worker's has failed.
        if has_failed := kind is not None and not issubclass(kind, asyncio.CancelledError | OSError):
            self._process.kill()  # it may have no Kafka any more to take leave of
        self._process.terminate()  # does nothing where it has ended
        try:
            code = await asyncio.to_thread(self._process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        if has_failed and self.log.stat().st_size:
            return
        if not has_failed and code not in (0, -signal.SIGTERM):  # by the signal itself where it was still getting ready
            raise self.failure(f"the worker did not stop cleanly ({_ended(code)})")
        shutil.rmtree(self.log.parent, ignore_errors=True)

    def _launch(self) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                text=True,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


# ------------------------------------------------------------------------------------------- in the other process


def main() -> None:
    """Load what takes seconds to load, wait for the word, and be a worker."""
    import faust.worker  # noqa: F401

    import processor.stream.app  # noqa: F401
    from processor.cli.main import main as janela

    word = sys.stdin.readline()
    if not word:
        return
    os.environ.update(json.loads(word))
    threading.Thread(target=_end_with_the_other, name="attended", daemon=True).start()
    janela(["worker"])


def _end_with_the_other() -> None:
    sys.stdin.read()
    os._exit(0)  # its Kafka has gone the same way, so there is nothing to finish


if __name__ == "__main__":
    main()
