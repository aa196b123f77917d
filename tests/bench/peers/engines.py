"""The engines that do the job: how each is started, and what it promises."""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from processor.settings import Settings
from tests.bench.peers import kafka_streams
from tests.chaos.harness import ROOT, environment

STOPS_WITHIN_S: Final = 20
LOG_BYTES_MAX: Final = 4000


@dataclass(frozen=True)
class Engine:
    """One of them."""

    name: str
    guarantee: str
    command: Callable[[Settings, Path], Sequence[str]]
    """Composes the command line of a run: its settings, and a folder of its own."""
    variables: Mapping[str, str] = field(default_factory=dict)
    is_slow: bool = False
    """Does the beginning of the backlog only, on topics of its own; the whole would take it a quarter of an hour."""
    settles_s: float = 0
    """So long after its last commit it still has things to say."""


def ours() -> Engine:
    """Our worker, as users run it."""
    return Engine("janela", "exactly once", lambda _settings, _folder: [sys.executable, "-m", "processor", "worker"])


def faust(guarantee: str) -> Engine:
    """Faust, used as its manual says."""
    program = [sys.executable, "-m", "tests.bench.peers.faust_idiomatic"]
    return Engine(
        f"Faust, {guarantee}",
        {"at_least_once": "at least once", "exactly_once": "said to be exactly once"}[guarantee],
        lambda _settings, folder: [*program, "--datadir", str(folder / "data"), "worker", "--without-web"],
        {"FAUST_GUARANTEE": guarantee},
        is_slow=True,
        settles_s=3,
    )


def streams(program: Sequence[str], store: str) -> Engine:
    """Kafka Streams, with its states in RocksDB or in memory."""

    def command(settings: Settings, folder: Path) -> list[str]:
        options = {
            "bootstrap": settings.bootstrap_servers,
            "application": settings.app_id,
            "prefix": settings.topic_prefix,
            "state": str(folder / "state"),
            "store": store,
        }
        java, *rest = program
        return [java, *(f"-D{name}={value}" for name, value in options.items()), *rest, "WindowJob"]

    name = {"memory": "in memory", "rocksdb": "RocksDB"}[store]
    return Engine(f"Kafka Streams {kafka_streams.version()}, {name}", "exactly once (v2)", command)


def quix(python: Path) -> Engine:
    """Quix Streams, in the environment whose Python is given."""

    def command(_settings: Settings, folder: Path) -> list[str]:
        program = Path(__file__).with_name("quix_app.py")
        return ["env", f"QUIX_STATE={folder / 'state'}", str(python), str(program)]

    return Engine("Quix Streams", "exactly once", command)


class Running:
    """An engine at work."""

    def __init__(self, engine: Engine, process: Process, log: Path) -> None:
        self._engine, self._process, self._log = engine, process, log

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def told(self) -> str:
        """Give the end of what it has written."""
        return f"--- {self._engine.name}\n{self._log.read_text('utf-8', 'replace')[-LOG_BYTES_MAX:]}"


@asynccontextmanager
async def running(engine: Engine, settings: Settings, folder: Path) -> AsyncIterator[Running]:
    """Run an engine; it is asked to end at the end, and ended where it does not."""
    log = folder / "log"
    with log.open("wb") as into:
        process = await asyncio.create_subprocess_exec(
            *engine.command(settings, folder),
            cwd=ROOT,
            env=environment(settings, "peer") | dict(engine.variables),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=into,
            stderr=into,
        )
    run = Running(engine, process, log)
    try:
        yield run
    except BaseException as error:
        error.add_note(run.told())
        raise
    finally:
        if run.is_alive():
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOPS_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()
