"""What `janela up` shows: a screen in a terminal, lines elsewhere, JSON for machines.

A view is told where the start is at (`starting`), shown the run again and again (`show`, each `every_s`), and closed
before the summary. Nothing here reads a topic or a clock.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, pairwise
from typing import Any, Final, NamedTuple, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from processor.cli.tally import OpenWindow, Tally
from processor.cli.watch import EVENTS, STYLES, Kind, Seen, said
from processor.codec.times import format_time
from processor.traffic import HOUR_MS, MINUTE_MS, SECOND_MS, Timeline


class Moment(NamedTuple):
    """The run, as it stands."""

    tally: Tally
    timeline: Timeline
    elapsed_s: float
    seconds: int | None
    """How long the run goes on by itself; None: until it is stopped."""
    bootstrap_servers: str

    @property
    def event_time_ms(self) -> int:
        """What time it is in the events."""
        return self.timeline.event_time_ms(self.elapsed_s)


class View(Protocol):
    """One way to show a run."""

    every_s: float

    def starting(self, step: str) -> None:
        """Say what the start is at."""

    def show(self, moment: Moment) -> None:
        """Show the run as it stands."""

    def close(self) -> None:
        """Show no more: before the summary, where the run failed, and at the very end."""

    def sum_up(self, moment: Moment) -> None:
        """Say what the run has come to."""


# ------------------------------------------------------------------------------------------------- for machines


class JsonLines:
    """An object a second, and one at the end."""

    every_s = 1.0

    def starting(self, step: str) -> None:
        """Say it on stderr: stdout is for objects."""
        print(step, file=sys.stderr, flush=True)

    def show(self, moment: Moment) -> None:
        """Print the run as it stands."""
        self._print({"kind": "progress"} | _told(moment) | _rates(moment.tally.rates()))

    def close(self) -> None:
        """Nothing is open."""

    def sum_up(self, moment: Moment) -> None:
        """Print the run as a whole; rates are over all of it."""
        dead_letters = {"dead_letters_by_reason": dict(moment.tally.dead_letters)}
        rates = _rates(moment.tally.mean_rates(moment.elapsed_s))
        self._print({"kind": "summary"} | _told(moment) | rates | dead_letters)

    def _print(self, told: Mapping[str, Any]) -> None:
        print(json.dumps(told), flush=True)


def _rates(rates: tuple[float, float]) -> dict[str, float]:
    records_in, events_out = rates
    return {"records_in_per_second": round(records_in, 1), "events_out_per_second": round(events_out, 1)}


def _told(moment: Moment) -> dict[str, Any]:
    tally = moment.tally
    return {
        "seconds": round(moment.elapsed_s, 1),
        "event_time": format_time(moment.event_time_ms),
        "records_in": tally.records_in,
        "events_out": tally.events_out,
        "events": {kind.value: count for kind, count in tally.counts.items()},
        "dead_letters": tally.dead_letters.total(),
        "open_windows": len(tally.open_windows),
        "lag": tally.lag,
    }


# ---------------------------------------------------------------------------------------------- for people, plain


class Lines:
    """A line a second, and under it the newest event of one kind after the other."""

    every_s = 1.0

    def __init__(self) -> None:
        """Begin with the first kind."""
        self._turns = cycle(EVENTS)

    def starting(self, step: str) -> None:
        """Print it."""
        print(step, flush=True)

    def show(self, moment: Moment) -> None:
        """Print how it stands, and an event."""
        tally = moment.tally
        records_in, events_out = tally.rates()
        counts = "  ".join(f"{kind} {count:,}" for kind, count in tally.counts.items())
        print(
            f"{moment.elapsed_s:4.0f} s  {day_and_minute(moment.event_time_ms)}  "
            f"in {records_in:,.0f}/s  out {events_out:,.0f}/s  lag {tally.lag:,}  "
            f"open windows {len(tally.open_windows):,}  |  {counts}  |  dead letters {tally.dead_letters.total():,}"
        )
        for _ in EVENTS:
            if newest := tally.newest[kind := next(self._turns)]:
                seen = newest[0]
                print(f"        {kind:<8}  {_minute(seen)}  {seen.contact_id}  {in_words(seen)}")
                break
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is open."""

    def sum_up(self, moment: Moment) -> None:
        """Print the summary."""
        print(summary(moment), flush=True)


def summary(moment: Moment) -> str:
    """Say what a run has come to: what went in, what came out by kind, what could not be read."""
    tally, timeline = moment.tally, moment.timeline
    records_rate, events_rate = tally.mean_rates(moment.elapsed_s)
    begin, end = day_and_minute(timeline.begin_ms), day_and_minute(moment.event_time_ms)
    reasons = ", ".join(f"{reason} {count}" for reason, count in tally.dead_letters.most_common())
    rows = [
        ("records in", tally.records_in, f"{records_rate:,.0f} a second"),
        ("events out", tally.events_out, f"{events_rate:,.0f} a second"),
        *((f"  {kind}", count, "") for kind, count in tally.counts.items()),
        ("dead letters", tally.dead_letters.total(), reasons),
        ("open windows", len(tally.open_windows), ""),
        ("lag", tally.lag, ""),
    ]
    lines = [f"{name:<14}{count:>10,}   {words}".rstrip() for name, count, words in rows]
    return "\n".join(["", f"{moment.elapsed_s:.0f} s, from {begin} to {end} UTC", *lines])


# ------------------------------------------------------------------------------------------- for people, on a screen

WIDTH_MAX: Final = 104
"""Wider lines are harder to follow, not richer."""
CALM_SECONDS: Final = 1.0
"""How long the newest events stand before newer ones take their place."""
APART_SECONDS: Final = 1.2
"""How long after each other the windows of the countdown end, where there are enough to choose from."""
GONE_SECONDS: Final = 1.5
"""How long a window that ended, or was extended, is left in the countdown."""
COUNTDOWNS_MAX: Final = 10
FIXED_LINES: Final = 10
"""Lines of the screen besides the newest events and the countdowns."""

BLOCKS: Final = "▁▂▃▄▅▆▇█"
GAUGE_SECONDS: Final = 16
GREY: Final = "bright_black"


@dataclass
class Followed:
    """A window in the countdown."""

    key: str
    expires_at: int
    is_unanswered: bool
    fate: str = ""
    """What became of it; empty while it is counted down."""
    fate_s: float = 0.0


@dataclass
class Countdown:
    """The windows next to end, chosen so that a person can follow each of them until it ends."""

    rows: list[Followed] = field(default_factory=list)

    def follow(
        self, windows: Mapping[str, OpenWindow], now_ms: int, elapsed_s: float, apart_ms: int, size: int
    ) -> None:
        """Note what became of the windows that are followed, and choose new ones for those that are gone."""
        for row in self.rows:
            if not row.fate:
                self._look(row, windows.get(row.key), elapsed_s)
        self.rows = [row for row in self.rows if not row.fate or elapsed_s - row.fate_s < GONE_SECONDS][:size]
        if len(self.rows) < size:
            self.rows += self._choose(windows, now_ms, apart_ms, size - len(self.rows))
            self.rows.sort(key=lambda row: row.expires_at)

    @staticmethod
    def _look(row: Followed, window: OpenWindow | None, elapsed_s: float) -> None:
        if window is None:
            row.fate, row.fate_s = "ended", elapsed_s
        elif window.expires_at != row.expires_at:
            row.fate, row.fate_s = "extended", elapsed_s
        else:
            row.is_unanswered = window.is_unanswered

    def _choose(self, windows: Mapping[str, OpenWindow], now_ms: int, apart_ms: int, wanted: int) -> Iterator[Followed]:
        """Take windows that end one after the other, each as long after the one before as the eye needs."""
        followed = {row.key for row in self.rows}
        least_ms = max([now_ms, *(row.expires_at for row in self.rows if not row.fate)]) + apart_ms
        for key, window in sorted(windows.items(), key=lambda item: item[1].expires_at):
            if window.expires_at >= least_ms and key not in followed:
                yield Followed(key, window.expires_at, window.is_unanswered)
                least_ms = window.expires_at + apart_ms
                if not (wanted := wanted - 1):
                    return


class Screen:
    """A calm screen: numbers move, the newest events stand still for a second, windows count down to their end."""

    every_s = 0.25

    def __init__(self) -> None:
        """Show nothing yet."""
        self._console = Console(highlight=False)
        self._status = self._console.status("")
        self._live: Live | None = None
        self._countdown = Countdown()
        self._was_simulated = True
        self._newest: dict[Kind, list[Seen]] = {kind: [] for kind in EVENTS}
        self._newest_s = -CALM_SECONDS

    def starting(self, step: str) -> None:
        """Show it with a spinner."""
        self._status.update(step)
        self._status.start()

    def show(self, moment: Moment) -> None:
        """Draw the run as it stands."""
        if self._live is None:
            self._status.stop()
            self._live = Live(console=self._console, screen=True, auto_refresh=False)
            self._live.start()
        width, height = self._console.size
        self._live.update(self.draw(moment, min(width, WIDTH_MAX), height), refresh=True)

    def close(self) -> None:
        """Give the terminal back as it was."""
        self._status.stop()
        if self._live is not None:
            self._live.stop()

    def sum_up(self, moment: Moment) -> None:
        """Print the summary where the screen was, with a spinner under it until all has stopped."""
        self._console.print(Text(summary(moment)))
        self.starting("stopping")

    def draw(self, moment: Moment, width: int, height: int) -> Group:
        """Lay out a screen of that size; where it is small, the lists are short."""
        room = max(height - FIXED_LINES, 0)
        each = max(1, min(4, room * 3 // 4 // len(EVENTS)))
        size = max(0, min(COUNTDOWNS_MAX, room - each * len(EVENTS)))
        lines = [
            self._head(moment, width),
            Text(),
            *self._gauges(moment.tally),
            Text(),
            *self._events(moment, each),
            self._dead_letters(moment.tally),
            Text(),
            *self._ends(moment, width, size),
        ]
        lines += [Text()] * (height - 1 - len(lines))
        lines = [*lines[: height - 1], self._foot(moment)]
        for line in lines:
            line.no_wrap = True
            line.truncate(width, overflow="ellipsis")
        return Group(*lines)

    # ---------------------------------------------------------------------------------------------- its parts

    def _head(self, moment: Moment, width: int) -> Text:
        timeline, elapsed_s = moment.timeline, moment.elapsed_s
        line = Text.assemble((" janela  ", "bold cyan"), (day_and_minute(moment.event_time_ms), "bold"))
        if not timeline.is_simulated(elapsed_s):
            line.append(f":{moment.event_time_ms // SECOND_MS % 60:02d}", "bold")
            line.append(" UTC   in real time", GREY)
            return line
        left_s = timeline.simulated_s - elapsed_s
        line.append(
            f" UTC   a day in {timeline.simulated_s / timeline.days:.0f} s, the present in {left_s:.0f} s  ", GREY
        )
        line.append_text(_bar(elapsed_s / timeline.simulated_s, max(width - line.cell_len - 1, 0), rest="─"))
        return line

    def _gauges(self, tally: Tally) -> list[Text]:
        records_in, events_out = tally.rates()
        seconds = list(tally.history)[-GAUGE_SECONDS - 1 :]
        first, second = Text(" "), Text(" ")
        for line, name, rate, totals in (
            (first, "records in", records_in, [at.records_in for at in seconds]),
            (second, "events out", events_out, [at.events_out for at in seconds]),
        ):
            line.append(f"{name} ", GREY)
            line.append(f"{rate:>6,.0f}/s ", "bold")
            line.append(sparkline(totals).rjust(GAUGE_SECONDS), "cyan")
        first.append("    open windows ", GREY)
        first.append(f"{len(tally.open_windows):>7,}", "bold")
        second.append("    lag          ", GREY)
        second.append(f"{tally.lag:>7,}", "bold" if tally.lag < LAG_NOTED else "bold yellow")
        return [first, second]

    def _events(self, moment: Moment, each: int) -> Iterator[Text]:
        if moment.elapsed_s - self._newest_s >= CALM_SECONDS:
            self._newest_s = moment.elapsed_s
            self._newest = {kind: list(newest) for kind, newest in moment.tally.newest.items()}
        for kind in EVENTS:
            style, newest = STYLES[kind], self._newest[kind]
            for row in range(each):
                line = Text(" ")
                if row == 0:
                    line.append(f"{kind:<12}", f"bold {style}")
                    line.append(f"{moment.tally.counts[kind]:>9,}", "bold")
                else:
                    line.append(" " * 21)
                if row < len(newest):
                    seen = newest[row]
                    line.append(f"   {_minute(seen)}  ", GREY)
                    line.append(f"{seen.contact_id}  ")
                    line.append(in_words(seen), style if row == 0 else GREY)
                yield line

    def _dead_letters(self, tally: Tally) -> Text:
        reasons = ", ".join(f"{reason} {count}" for reason, count in tally.dead_letters.most_common())
        return Text.assemble(
            " ", ("dead letters", GREY), (f"{tally.dead_letters.total():>9,}", "bold"), (f"   {reasons}", GREY)
        )

    def _ends(self, moment: Moment, width: int, size: int) -> Iterator[Text]:
        timeline, elapsed_s = moment.timeline, moment.elapsed_s
        is_simulated = timeline.is_simulated(elapsed_s)
        if self._was_simulated and not is_simulated:  # what is hours away is not next any more
            self._countdown = Countdown()
        self._was_simulated = is_simulated
        apart_ms = int(timeline.speed(elapsed_s) * APART_SECONDS * SECOND_MS) if is_simulated else 0
        self._countdown.follow(moment.tally.open_windows, moment.event_time_ms, elapsed_s, apart_ms, size)
        full_ms = max(apart_ms * (size + 1), 10 * MINUTE_MS)
        yield Text(" next to end", GREY)
        for row in self._countdown.rows:
            yield self._end(row, moment.event_time_ms, full_ms, width)

    def _end(self, row: Followed, now_ms: int, full_ms: int, width: int) -> Text:
        line = Text.assemble("   ", row.key.rsplit(":", 1)[-1].ljust(15))
        if row.fate:
            style = STYLES[Kind.CLOSED] if row.fate == "ended" else STYLES[Kind.OPENED]
            line.append(f"{row.fate:>10}", style)
            return line
        left_ms = max(row.expires_at - now_ms, 0)
        is_near = left_ms <= EXPIRING_MS
        style = STYLES[Kind.EXPIRING] if is_near else "default"
        line.append(f"{countdown(left_ms):>10}", f"bold {style}")
        line.append("   ")
        line.append_text(_bar(left_ms / full_ms, max(width - 50, 10), style))
        if row.is_unanswered:
            line.append("   unanswered", style if is_near else GREY)
        return line

    def _foot(self, moment: Moment) -> Text:
        beside = f"     look closer: janela watch --bootstrap-servers {moment.bootstrap_servers}"
        return Text.assemble((" Ctrl-C", "bold"), (f" ends it{beside}", GREY))


EXPIRING_MS: Final = 2 * HOUR_MS
LAG_NOTED: Final = 1_000


def _bar(share: float, width: int, style: str = "cyan", rest: str = " ") -> Text:
    filled = round(max(0.0, min(share, 1.0)) * width)
    return Text.assemble(("━" * filled, style), (rest * (width - filled), GREY))


def sparkline(totals: Sequence[int]) -> str:
    """Draw how much came in each second, from running totals."""
    steps = [after - before for before, after in pairwise(totals)]
    most = max(steps, default=0) or 1
    return "".join(BLOCKS[min(step * len(BLOCKS) // (most + 1), len(BLOCKS) - 1)] for step in steps)


# ----------------------------------------------------------------------------------------------------------- words


def day_and_minute(time_ms: int) -> str:
    """``Sun 22 Nov 18:47``, UTC."""
    return f"{datetime.fromtimestamp(time_ms / SECOND_MS, UTC):%a %d %b %H:%M}"


def countdown(left_ms: int) -> str:
    """``6h12m`` or, in the last hour, ``48m07s``."""
    minutes, seconds = divmod(left_ms // SECOND_MS, 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    return f"{minutes}m{seconds:02d}s"


def in_words(seen: Seen) -> str:
    """Say an event in few words."""
    return said(seen, _IN_WORDS)


def _minute(seen: Seen) -> str:
    return seen.time[11:16]


def _weekday(time: str) -> str:
    """``Mon 18:47``: a window's end is a day away."""
    return f"{datetime.fromisoformat(time):%a %H:%M}"


def _answered(data: Mapping[str, Any]) -> str:
    return "unanswered" if data["unanswered"] else "answered"


def _rejected(data: Mapping[str, Any]) -> str:
    send, window, reason = data["send"], data["window"], data["reason"]
    words = f"{send['type']}: {reason}"
    if reason == "window-closed" and window["closed_for_seconds"] is not None:
        words += f" {countdown(window['closed_for_seconds'] * SECOND_MS)} ago"
    return words if data["remedy"] == "none" else f"{words} → {data['remedy']}"


def _accepted(data: Mapping[str, Any]) -> str:
    if would_reject := data.get("would_reject"):
        return f"{data['send']['type']}: would be rejected, {would_reject['reason']}"
    return f"{data['send']['type']}: {data['reason'] or 'observed'}"


_IN_WORDS: Final[dict[Kind, Callable[[Any], str]]] = {
    Kind.OPENED: lambda data: f"by {data['cause']['type']}, until {_weekday(data['expires_at'])}",
    Kind.EXPIRING: lambda data: f"{countdown(data['remaining_seconds'] * SECOND_MS)} left, {_answered(data)}",
    Kind.CLOSED: lambda data: f"{data['reason']}, {_answered(data)}",
    Kind.ACCEPTED: _accepted,
    Kind.REJECTED: _rejected,
}
