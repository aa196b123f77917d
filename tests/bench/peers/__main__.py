"""Peers in one run: `make bench-peers`, or ``python -m tests.bench.peers FOLDER``.

The same job on the same broker with the same preloaded topics, in rounds, each with the engines in another order and
the floor measured before and after it. What an engine said is compared with what the model says. In each round stand
also the tools that put records on topics and, where one is given, a yardstick. The report, Markdown and JSON, goes to
the folder after each round. What fails is told of in it, and the others go on.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from pathlib import Path
from traceback import format_exception

from processor.embedded import EmbeddedKafka
from processor.settings import Settings
from tests.bench import yardstick
from tests.bench.peers import kafka_streams, kit, latency, throughput
from tests.bench.peers.engines import Engine, faust, ours, quix, streams
from tests.bench.peers.ground import Ground
from tests.bench.peers.outcome import Said, due
from tests.bench.peers.story import P99_AT, P99_MS_MAX, Round, Story
from tests.bench.scene import progress
from tests.bench.traffic import backlog
from tests.chaos.backlog import Wanted

SEED = 7
PARTITIONS = 4
HEADROOM = 1.2
"""An engine is asked for its latency at rates that are so far below what it did with a backlog."""
WORDS_MAX = 200
"""Of a failure's own words, in the report."""
ROUNDS_MORE = 2
"""So many rounds may be void before the bench gives up."""


class Field:
    """A backlog on its inputs, and what must come of it."""

    def __init__(self, settings: Settings, folder: Path, records: Sequence[Wanted]) -> None:
        self.ground = Ground(settings, folder)
        self.records = records
        self.due: Counter[Said] = Counter()

    async def prepare(self) -> None:
        """Put the backlog there, and work out what is due."""
        async with progress("put, and judged by the model", len(self.records)):
            await self.ground.put(self.records)
            now_ms = time.time_ns() // 1_000_000
            self.due = await asyncio.to_thread(due, self.ground.settings, self.records, now_ms)


class Contest:
    """All rounds."""

    def __init__(self, options: argparse.Namespace, engines: Sequence[Engine], servers: str, desk: Path) -> None:
        self._options, self._engines, self._servers, self._desk = options, engines, servers, desk
        self._story = Story(options.events, options.slow_events, PARTITIONS, bool(options.quix), unusual(options))

    async def run(self) -> Story:
        """Prepare, and do as many rounds as are wanted and hold; what there is by then is written after each."""
        options = self._options
        end_ms = time.time_ns() // 1_000_000
        made = await asyncio.to_thread(backlog, SEED, options.events, max(options.events // 10, 1), PARTITIONS, end_ms)
        whole = Field(self._settings("all."), self._desk / "all", made.records)
        begin = Field(self._settings("begin."), self._desk / "begin", made.records[: options.slow_events])
        for field in (whole, begin):
            await field.prepare()
        for number in range(options.rounds + ROUNDS_MORE):
            if len(self._story.valid_rounds()) == options.rounds:
                break
            print(f"round {number + 1}", flush=True)
            self._story.rounds.append(await self._round(number, whole, begin))
            self._story.write(options.folder)
        for number in range(options.rounds):
            await self._latencies(number)
            self._story.write(options.folder)
        return self._story

    async def _round(self, number: int, whole: Field, begin: Field) -> Round:
        settings = whole.ground.settings
        floors = [await throughput.floor(settings)]
        cases = [await throughput.in_process(settings, whole.due)]
        for engine in _turned(self._engines, number):
            field = begin if engine.is_slow else whole
            try:
                case = await throughput.run(engine, field.ground, len(field.records), field.due)
            except Exception as error:  # noqa: BLE001  # whatever ails a peer, the others are to be measured
                case = throughput.failed(engine, len(field.records), _told(engine.name, error))
            rate = f"{case.figures.events_a_second:,.0f} events/s" if case.figures else "too few events for a figure"
            print(f"  {case.engine}: {rate}; {case.outcome}", flush=True)
            cases.append(case)
        yardstick_s = await self._yardstick(whole)  # right after the engines, so that both find the same machine
        floors.append(await throughput.floor(settings))
        # only now: what the broker has to write and to delete after these would lower the floor
        replayed, loaded = await self._replay(number, whole), await self._load(number)
        return Round(floors, cases, replayed, loaded, yardstick_s)

    async def _replay(self, number: int, whole: Field) -> float | None:
        name = f"replay{number}."
        ground = Ground(self._settings(name), self._desk / name)
        return await self._tried(
            "janela replay", kit.replay(whole.ground.settings, ground, len(whole.records)), "records/s"
        )

    async def _load(self, number: int) -> float | None:
        name = f"load{number}."
        ground = Ground(self._settings(name), self._desk / name)
        return await self._tried("janela load", kit.load(ground, self._options.seconds), "events/s")

    async def _yardstick(self, whole: Field) -> float | None:
        """Give the seconds from its start to its end, None where there is no yardstick."""
        command, settings = self._options.yardstick, whole.ground.settings
        if not command:
            return None

        async def seconds() -> float:
            return round((await yardstick.run(command, settings, len(whole.records))).seconds, 2)

        return await self._tried("the yardstick", seconds(), "s")

    async def _tried(self, what: str, measuring: Awaitable[float], unit: str) -> float | None:
        """Give the figure, None where it can't be had; the others are to be measured."""
        try:
            figure = await measuring
        except Exception as error:  # noqa: BLE001  # as above
            self._story.failures.append(f"{what}: {_told(what, error)}")
            return None
        print(f"  {what}: {figure:,.2f} {unit}", flush=True)
        return figure

    async def _latencies(self, number: int) -> None:
        for engine, partitions, rate in latency_runs(self._engines, self._options.rates, number):
            if self._story.rate_of(engine.name) < rate * HEADROOM:
                continue
            name = f"l{number}.{partitions}.{rate}.{self._engines.index(engine)}."
            settings, seconds = self._settings(name, partitions), self._options.seconds
            what = f"{engine.name} at {rate:,} a second on {partitions} partitions"
            try:
                delays = await latency.run(engine, settings, self._desk / name, rate, seconds)
            except Exception as error:  # noqa: BLE001  # as above
                self._story.failures.append(f"{what}: {_told(engine.name, error)}")
                continue
            print(f"  {what}: p50 {delays.p50} ms, p99 {delays.p99} ms", flush=True)
            self._story.delays.append(delays)

    def _settings(self, topic_prefix: str, partitions: int = PARTITIONS) -> Settings:
        return Settings(
            bootstrap_servers=self._servers,
            app_id=f"{topic_prefix}peers",
            topic_prefix=topic_prefix,
            partitions=partitions,
            clock="event",
            emit_accepted=False,
        )


def latency_runs(engines: Sequence[Engine], rates: Sequence[int], number: int) -> list[tuple[Engine, int, int]]:
    """Give engine, partitions and rate of each run for a latency in a round, none where there are no rates.

    Ours is measured on more partitions too, at the rate that the bars are for, whichever the others are.
    """
    usual = [(engine, PARTITIONS, rate) for rate in rates for engine in _turned(engines, number)]
    mine = [engine for engine in engines if engine.name == ours().name and rates]
    more = [partitions for partitions in P99_MS_MAX if partitions != PARTITIONS]
    return usual + [(engine, partitions, P99_AT) for engine in mine for partitions in more]


def _told(what: str, error: Exception) -> str:
    """Print all that is known of a failure; give a line of it."""
    print(f"  {what} failed:", "".join(format_exception(error)), flush=True)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:WORDS_MAX]}"


def _turned(engines: Sequence[Engine], number: int) -> list[Engine]:
    """Begin with another one each time."""
    first = number % len(engines)
    return [*engines[first:], *engines[:first]]


def _engines(options: argparse.Namespace, desk: Path) -> list[Engine]:
    engines = [ours()]
    if javac := kafka_streams.compiler():
        program = kafka_streams.command(javac, desk)
        engines += [streams(program, "memory"), streams(program, "rocksdb")]
    else:
        print("Kafka Streams is left out: there is no javac here (a JDK of 17 or newer, JAVA_HOME or PATH)")
    if options.quix:
        engines.append(quix(options.quix))
    else:
        print("Quix Streams is left out: no environment of it was named (--quix)")
    engines += [faust("at_least_once"), faust("exactly_once")]
    chosen = [engine for engine in engines if options.only in engine.name]
    if not chosen:
        sys.exit(f"--only: found {options.only!r}, expected a part of one of: {', '.join(it.name for it in engines)}")
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description="Measure peers on the same job.")
    parser.add_argument("folder", type=Path, help="where the report goes")
    parser.add_argument("--events", type=int, default=1_000_000, help="size of the backlog")
    parser.add_argument("--slow-events", type=int, default=50_000, help="how much of it slow engines get")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--rates", type=_rates, default=[2000, 10_000, 20_000], help="at which latency is measured; none where empty"
    )
    parser.add_argument(
        "--seconds", type=int, default=20, help="measured at each rate, after 10 s to warm up; and of janela load"
    )
    parser.add_argument("--quix", type=Path, help="the Python of an environment made of quix.lock")
    parser.add_argument(
        "--yardstick",
        metavar="COMMAND",
        help="one more worker to compare with, such as a prototype; tests/bench/yardstick.py says what it is told",
    )
    parser.add_argument("--only", default="", help="engines whose names have this in them")
    return parser


def _rates(text: str) -> list[int]:
    return [int(rate) for rate in text.split(",") if rate]


def unusual(options: argparse.Namespace) -> dict[str, object]:
    """Give the options that hang on nobody's folders, where they are not the usual ones.

    A yardstick does hang on them: that there was one is all that is given of it.
    """
    parser = _parser()
    names = ("events", "slow_events", "rounds", "rates", "seconds", "only")
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    given |= {"yardstick": "..."} if getattr(options, "yardstick", None) else {}
    return {name: value for name, value in given.items() if value != parser.get_default(name)}


def main() -> None:
    """Run it all."""
    options = _parser().parse_args()
    desk = Path(tempfile.mkdtemp(prefix="janela-peers-"))
    try:
        engines = _engines(options, desk)
        with EmbeddedKafka() as kafka:
            asyncio.run(Contest(options, engines, kafka.bootstrap_servers, desk).run())
        print(f"the report: {options.folder / 'peers.md'}, {options.folder / 'peers.json'}")
    finally:
        shutil.rmtree(desk, ignore_errors=True)


if __name__ == "__main__":
    main()
