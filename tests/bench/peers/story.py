"""What came of all rounds, and how it is told: `peers.md` and `peers.html` for people, `peers.json` for machines."""

import json
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from processor.measure.plot import Across, Line, drawing
from tests.bench import document
from tests.bench.document import bars, command, told
from tests.bench.peers import kafka_streams
from tests.bench.peers.engines import faust, ours, streams
from tests.bench.peers.kit import LOAD_RATE
from tests.bench.peers.latency import Delays
from tests.bench.peers.meter import Figures
from tests.bench.peers.throughput import FLOOR, Case
from tests.bench.report import machine

FLOOR_MOVES_MAX: Final = 0.15
"""A round in which the floor moved by more is void: something else was at work on the machine."""
FIGURES: Final = {
    "events_a_second": "events/s",
    "warm_events_a_second": "events/s, second half",
    "events_a_cpu_second": "events per CPU-second",
    "warm_events_a_cpu_second": "the same, second half",
}
IN_MEMORY, ROCKSDB, FAUST = streams((), "memory").name, streams((), "rocksdb").name, faust("at_least_once").name
TIMES_MIN: Final = (
    (IN_MEMORY, "events_a_cpu_second", 1.8),
    (IN_MEMORY, "warm_events_a_cpu_second", 1.2),
    (ROCKSDB, "events_a_cpu_second", 2.8),
    (FAUST, "events_a_second", 50.0),
    (FLOOR, "events_a_second", 0.3),
)
"""The bars beside others: of whom, by which figure, and how many times as much we want to do."""
EVENTS_A_SECOND_MIN: Final = 120_000
P99_AT: Final = 10_000
P99_MS_MAX: Final = {4: 60, 12: 100, 64: 400}
"""By the number of partitions, all of them with one worker."""
P99_OF_STREAMS_MAX: Final = 0.5
REPLAY, LOAD = "`janela replay`, records/s", "`janela load`, events/s"
WITH_START, PROTOTYPE_WITH_START = "janela, events/s with its start", "the prototype, events/s with its start"
TOOL_MIN: Final = 50_000
"""Of each of them from one process, so that the tool is not what is measured."""
TIMES_THE_PROTOTYPE_MIN: Final = 1
DRAWN: Final = {"events_a_second": "peers-rate.svg", "events_a_cpu_second": "peers-cpu.svg"}


class Round(NamedTuple):
    """The floor, a case for each engine, the yardstick, the floor again, and the tools."""

    floors: list[Case]
    cases: list[Case]
    replay: float | None = None
    """Records a second of `janela replay`; None of this and the others: not measured."""
    load: float | None = None
    """Events a second of `janela load`."""
    yardstick_s: float | None = None
    """From the yardstick's start to its end."""

    @property
    def floor_moved(self) -> float:
        """By which share of the higher one the two differ."""
        rates = [case.figures.events_a_second for case in self.floors if case.figures]
        return 1 - min(rates) / max(rates)

    @property
    def is_valid(self) -> bool:
        """Whether its figures count."""
        return self.floor_moved <= FLOOR_MOVES_MAX

    def all_cases(self) -> list[Case]:
        """Give the floor's first."""
        return [*self.floors, *self.cases]


@dataclass
class Story:
    """Everything that was measured."""

    events: int
    slow_events: int
    partitions: int
    with_quix: bool
    options: Mapping[str, object] = field(default_factory=dict)
    """Of the command, where they are not the usual ones."""
    rounds: list[Round] = field(default_factory=list)
    delays: list[Delays] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Runs that did not come to an end, and why; an engine's with the backlog stands in its case."""
    load_before: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))

    def valid_rounds(self) -> list[Round]:
        """Give the rounds that count."""
        return [each for each in self.rounds if each.is_valid]

    def rate_of(self, engine: str) -> float:
        """Give the median of an engine's events a second, over all rounds."""
        found = self._figures(self.rounds, engine)
        return statistics.median(each.events_a_second for each in found) if found else 0

    def write(self, folder: Path) -> None:
        """Write the page, as Markdown and as HTML, its drawings, and the figures as JSON."""
        document.write(folder, "peers", self._as_markdown(), dict(self._drawings()))
        (folder / "peers.json").write_text(json.dumps(self._as_json(), indent=1) + "\n", "utf-8")

    @staticmethod
    def _cases(rounds: Iterable[Round], engine: str) -> list[Case]:
        return [case for each in rounds for case in each.all_cases() if case.engine == engine]

    def _machine(self) -> dict[str, str]:
        more = {"Kafka Streams": kafka_streams.version()}
        if self.with_quix:
            lock = Path(__file__).with_name("quix.in").read_text()
            more["quixstreams"] = lock.partition("==")[2].strip()
        return machine() | more

    def _as_json(self) -> dict[str, Any]:
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": self._machine(),
            "load average before": self.load_before,
            "events": self.events,
            "partitions": self.partitions,
            "rounds": [
                {
                    "is_valid": each.is_valid,
                    "floor_moved": round(each.floor_moved, 3),
                    "cases": [
                        case._asdict() | {"figures": case.figures._asdict() if case.figures else None}
                        for case in each.all_cases()
                    ],
                    "replay": each.replay,
                    "load": each.load,
                    "yardstick_s": each.yardstick_s,
                }
                for each in self.rounds
            ],
            "latency": [delays._asdict() for delays in self.delays],
            "failures": self.failures,
        }

    def _as_markdown(self) -> str:
        valid = self.valid_rounds()
        void = [f"{each.floor_moved:.0%}" for each in self.rounds if not each.is_valid]
        moved = f"; void, since the floor moved by {', '.join(void)}: {len(void)}" if void else ""
        on = ", ".join(f"{name} {what}" for name, what in self._machine().items())
        made_by = command("bench-peers", self.options)
        lines = [
            "# The same job on other engines",
            "",
            f"{self.events:,} events ({self.events // 10:,} contacts) lie on the inputs, {self.partitions} partitions.",
            f"One process of each engine, everything on one machine. `{made_by}` made this page.",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}: {on}; load average before {self.load_before}.",
            f"Rounds that count: {len(valid)}{moved}.",
            "Median, and the range in brackets; from the first commit that is seen to the last.",
            "",
            _row("engine", "guarantee", "events", *FIGURES.values(), "of the floor", "what it said"),
            _row(*["---"] * (5 + len(FIGURES))),
            *self._throughput(valid or self.rounds),
            "",
            *(f"![{FIGURES[name]}]({file})\n" for name, file in DRAWN.items()),
            *self._beside(valid or self.rounds),
            *self._bars(valid or self.rounds),
            *self._tools(valid or self.rounds),
        ]
        lines += [
            "Compared is id, contact and time of every output, with the model of `janela verify`.",
            "Figures of an engine whose outputs are not those that are due stand in italics: it does another job.",
            f"Engines that handle thousands a second take the first {self.slow_events:,} events only.",
        ]
        if self.delays:
            head = ("engine", "partitions", "events/s", "p50, ms", "p90", "p99", "max")
            lines += ["", "## Latency", "", _LATENCY, "", _row(*head), _row(*["---"] * len(head)), *self._latency()]
        if self._drawn():
            lines += ["", "![p99](peers-latency.svg)"]
        if self.failures:
            lines += ["", "Not measured:", "", *(f"* {_cell(failure)}" for failure in self.failures)]
        return "\n".join(lines) + "\n"

    def _drawings(self) -> Iterator[tuple[str, str]]:
        rounds = self.valid_rounds() or self.rounds
        measured = {
            engine if self._is_right(rounds, engine) else f"{engine}: another job": found
            for engine in _engines(rounds)
            if (found := self._figures(rounds, engine))
        }
        for name, file in DRAWN.items():
            figures = {engine: [getattr(each, name) for each in found] for engine, found in measured.items()}
            yield file, bars(f"Throughput, {FIGURES[name]}: median and range of the rounds", figures)
        if drawn := self._drawn():
            rates = list(dict.fromkeys(each.rate for each in drawn))
            lines = [
                Line(engine, [(rate, statistics.median(p99)) for rate in rates if (p99 := self._p99(engine, rate))])
                for engine in dict.fromkeys(each.engine for each in drawn)
                if self._is_right(rounds, engine)
            ]
            yield "peers-latency.svg", drawing("Latency, p99, ms; median", lines, Across("/s", ticks=rates))

    def _figures(self, rounds: Iterable[Round], engine: str) -> list[Figures]:
        return [case.figures for case in self._cases(rounds, engine) if case.figures]

    def _is_right(self, rounds: Iterable[Round], engine: str) -> bool:
        return all(case.is_right for case in self._cases(rounds, engine))

    def _drawn(self) -> list[Delays]:
        """Give those on as many partitions as the backlog lies on, which are those of all engines."""
        return [each for each in self.delays if each.partitions == self.partitions]

    def _p99(self, engine: str, rate: int, partitions: int | None = None) -> list[float]:
        return [each.p99 for each in self._delays(engine, partitions or self.partitions, rate)]

    def _delays(self, engine: str, partitions: int, rate: int) -> list[Delays]:
        wanted = (engine, partitions, rate)
        return [each for each in self.delays if (each.engine, each.partitions, each.rate) == wanted]

    def _throughput(self, rounds: list[Round]) -> Iterable[str]:
        floor = statistics.median(c.figures.events_a_second for each in rounds for c in each.floors if c.figures)
        for engine in _engines(rounds):
            cases, found = self._cases(rounds, engine), self._figures(rounds, engine)
            is_right = self._is_right(rounds, engine)
            cells = ["-"] * (len(FIGURES) + 1)
            if found:
                cells = [_middle([getattr(each, name) for each in found], is_right) for name in FIGURES]
                cells.append(f"{statistics.median(each.events_a_second for each in found) / floor:.0%}")
            said = " / ".join(dict.fromkeys(_cell(case.outcome) for case in cases))
            yield _row(engine, cases[0].guarantee, f"{cases[0].events:,}", *cells, said)

    def _beside(self, rounds: list[Round]) -> Iterable[str]:
        """Tell how many times as much janela did as each other engine, by the medians."""
        medians = self._medians(rounds)
        if (mine := medians.pop(ours().name, None)) is None:
            return
        yield _row("janela did so many times as much as", *FIGURES.values())
        yield _row(*["---"] * (1 + len(FIGURES)))
        for engine, theirs in medians.items():
            times = (f"{mine[name] / theirs[name]:.2f}" for name in FIGURES)
            yield _row(engine, *(times if self._is_right(rounds, engine) else map("*{}*".format, times)))
        yield ""

    def _bars(self, rounds: list[Round]) -> Iterable[str]:
        """Tell which of the bars that we have set ourselves are met, by the medians."""
        medians = self._medians(rounds)
        if (mine := medians.get(ours().name)) is None:
            return
        yield _row("bar", "wanted", "found", "")
        yield _row(*["---"] * 4)
        yield _bar(FIGURES["events_a_second"], mine["events_a_second"], EVENTS_A_SECOND_MIN)
        for engine, name, times in TIMES_MIN:
            found = mine[name] / medians[engine][name] if engine in medians else None
            yield _bar(f"{FIGURES[name]}, times those of {engine}", found, times)
        yield from self._latency_bars()
        figures = self._tool_figures(rounds)
        for tool in (REPLAY, LOAD):
            yield _bar(tool, _median(figures[tool]), TOOL_MIN)
        with_start, prototype = (_median(figures[name]) for name in (WITH_START, PROTOTYPE_WITH_START))
        yield _bar(
            "events/s with the start, times those of the prototype",
            _ratio(with_start, prototype),
            TIMES_THE_PROTOTYPE_MIN,
            how="--yardstick",
        )
        yield ""

    def _latency_bars(self) -> Iterable[str]:
        at = f"p99 at {P99_AT:,} events/s"
        for partitions, wanted_ms in P99_MS_MAX.items():
            p99 = _median(self._p99(ours().name, P99_AT, partitions))
            yield _bar(f"{at} on {partitions} partitions, ms", p99, wanted_ms, is_most=True)
        mine, theirs = (_median(self._p99(name, P99_AT)) for name in (ours().name, IN_MEMORY))
        yield _bar(f"{at}, of that of {IN_MEMORY}", _ratio(mine, theirs), P99_OF_STREAMS_MAX, is_most=True)

    def _tool_figures(self, rounds: list[Round]) -> dict[str, list[float]]:
        """Give what was done a second in each round, by what did it; none where it was not measured."""
        took_s = [each.whole_s for each in self._figures(rounds, ours().name)]
        return {
            REPLAY: [each.replay for each in rounds if each.replay is not None],
            LOAD: [each.load for each in rounds if each.load is not None],
            WITH_START: [self.events / seconds for seconds in took_s],
            PROTOTYPE_WITH_START: [self.events / each.yardstick_s for each in rounds if each.yardstick_s is not None],
        }

    def _tools(self, rounds: list[Round]) -> Iterable[str]:
        """Tell what the bars of the tools and of the prototype rest on, each by its own clock."""
        yield _row("one process of", "a second")
        yield _row(*["---"] * 2)
        for name, figures in self._tool_figures(rounds).items():
            yield _row(name, told(figures) if figures else "-")
        yield from ("", _TOOLS, "")

    def _medians(self, rounds: list[Round]) -> dict[str, dict[str, float]]:
        return {
            engine: {name: statistics.median(getattr(each, name) for each in found) for name in FIGURES}
            for engine in _engines(rounds)
            if (found := self._figures(rounds, engine))
        }

    def _latency(self) -> Iterable[str]:
        for partitions, rate in sorted({(each.partitions, each.rate) for each in self.delays}):
            for engine in dict.fromkeys(each.engine for each in self.delays):
                if found := self._delays(engine, partitions, rate):
                    is_right = all(each.is_whole for each in found)
                    figures = ([getattr(each, name) for each in found] for name in ("p50", "p90", "p99", "most"))
                    cells = (_middle(each, is_right) for each in figures)
                    yield _row(engine, str(partitions), f"{rate:,}", *cells)


_LATENCY: Final = (
    "Open loop, from when a message was due to a `read_committed` consumer of `window-opened`; generator, broker,"
    " engine and consumer share the machine. In italics where windows were missing or told of twice. An engine is"
    " measured at rates that it can do. janela merges both inputs by event time; it goes on as soon as the other one"
    " is read to its end, so no message waits for a later one of the other side, and no opening for a clock. Drawn are"
    " those engines whose outputs of the backlog were the ones that are due, on as many partitions as the backlog has."
    " On more of them, still one worker, is janela alone."
)
_TOOLS: Final = (
    "The tools write to fresh topics. A replay of the backlog counts from when it begins to write, a load, of which"
    f" {LOAD_RATE:,} events/s are asked, until the last is acknowledged. The prototype is the command that"
    " `--yardstick` gives, on the same inputs; what it says is compared with nothing. It is timed from its process's"
    " start to its end, which comes when all is committed; and so janela beside it, to its last commit."
)


def _bar(what: str, found: float | None, wanted: float, *, is_most: bool = False, how: str = "") -> str:
    """Compose the row of a bar; `how` names the option without which it is not measured."""
    bar = f"at {'most' if is_most else 'least'} {wanted:,}"
    if found is None:
        return _row(what, bar, "-", "not measured" + (f": `{how}` does it" if how else ""))
    is_met = found <= wanted if is_most else found >= wanted
    figure = f"{found:,.0f}" if found >= 100 else f"{found:.2f}"
    return _row(what, bar, figure, "met" if is_met else "not met")


def _median(figures: list[float]) -> float | None:
    return statistics.median(figures) if figures else None


def _ratio(mine: float | None, theirs: float | None) -> float | None:
    return mine / theirs if mine and theirs else None


def _engines(rounds: Iterable[Round]) -> list[str]:
    return list(dict.fromkeys(case.engine for each in rounds for case in each.all_cases()))


def _middle(figures: list[float], is_right: bool) -> str:
    return told(figures) if is_right else f"*{told(figures)}*"


def _cell(text: str) -> str:
    """Write others' words so that they stay within a table's cell."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
