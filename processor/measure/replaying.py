"""A replay as the traffic that is measured: written by a process of its own, at a pace that is known beforehand.

Both sides are here: `ReplayTraffic` in the process that measures, `main` in the other. The one that measures reads
through the source first, to know when each record will be due. Then it gives the other its order and hears, line by
line, how far it is. Where the other's stdin ends it stops.
"""

import asyncio
import secrets
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

import msgspec
from pydantic import SecretStr

from processor.access import Access
from processor.load.crew import CrewError
from processor.load.delays import from_text, to_text
from processor.load.tally import Tally
from processor.measure.traffic import Moments
from processor.replay.archive import ArchiveError, ArchiveSource
from processor.replay.pace import Pace
from processor.replay.player import Player, Schedule, survey
from processor.replay.records import Source
from processor.replay.selection import Selection
from processor.replay.target import ReplayTarget, room
from processor.replay.topics import topic_source
from processor.settings import Settings
from processor.topics import ClusterError, refusals_told

READY_S: Final = 0.2
"""From the word that it begins to the first record."""
TELL_S: Final = 0.5
LINE_BYTES_MAX: Final = 1024 * 1024
LEAVE_S: Final = 20


class Place(msgspec.Struct):
    """A cluster, and a prefix on it. Its text has no secrets, its JSON has them."""

    topic_prefix: str
    access: dict[str, Any]
    """How to get there: what is set of `Access`."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take where settings lead, and how."""
        chosen = {name: getattr(settings, name) for name in settings.model_fields_set & Access.model_fields.keys()}
        return cls(settings.topic_prefix, {name: _plain(value) for name, value in chosen.items()})

    def __repr__(self) -> str:
        return f"Place({self.name})"

    @property
    def name(self) -> str:
        """What tells it from others."""
        return f"{self.settings().bootstrap_servers} {self.topic_prefix}"

    def settings(self) -> Settings:
        """Give the settings of the one who reads or writes there."""
        return Settings(topic_prefix=self.topic_prefix, **self.access)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


class Replay(msgspec.Struct):
    """What to replay, where to, and at what pace."""

    source: Place
    archive: str | None
    """The file to read in place of the source's topics."""
    selection: Selection
    target: Place
    speed: float | None
    rate: float | None
    times: Literal["original", "shifted"]
    may_append: bool
    """Whether it may write where another producer's records are."""
    id: str = msgspec.field(default_factory=lambda: f"measure-{secrets.token_hex(6)}")
    """A new one each time: what an earlier run has written counts for nothing."""

    @property
    def pace(self) -> Pace:
        """By time or by number."""
        return Pace(self.speed, self.rate)

    async def open(self) -> Source:
        """Give what is to be read.

        Raises:
            ArchiveError: The file is no archive.
            ClusterError: The topics can't be read.
        """
        if self.archive is not None:
            return ArchiveSource(Path(self.archive), self.selection)
        return await topic_source(self.source.settings(), self.selection)

    def as_scenario(self) -> dict[str, Any]:
        """Give what is written down of it: that which would be the same another time."""
        told: dict[str, Any] = msgspec.to_builtins(self.selection)
        contacts = sorted(contact.decode(errors="replace") for contact in self.selection.contacts)
        return {
            "replay": self.archive or self.source.name,
            "speed": self.speed,
            "rate": self.rate,
            "times": self.times,
            **told,
            "contacts": contacts,
        }


class ReplayMoments(NamedTuple):
    """When the records of a replay are due, from its begin on (µs)."""

    after_us: dict[str, int]
    begin_us: int
    ends_from_us: int | None

    def due_us(self, record_id: str) -> int | None:
        """See `Moments`."""
        after_us = self.after_us.get(record_id)
        return None if after_us is None else self.begin_us + after_us


class _Begun(msgspec.Struct, tag=True):
    begin_us: int


class _Told(msgspec.Struct, tag=True):
    what: str
    done: int
    total: int


class _Done(msgspec.Struct, tag=True):
    tally: Tally


class _Refused(msgspec.Struct, tag=True):
    words: str


_Line = _Begun | _Told | _Done | _Refused

_encode_line = msgspec.json.Encoder(enc_hook=to_text).encode
_decode_line = msgspec.json.Decoder(_Line, dec_hook=from_text).decode


class _Identified(msgspec.Struct):
    id: str


_decode_identified = msgspec.json.Decoder(_Identified).decode


# ------------------------------------------------------------------------------------------- the one that measures


class ReplayTraffic:
    """A replay."""

    processes = 1

    def __init__(self, replay: Replay, told: Callable[[str, int, int], None]) -> None:
        """Take what to replay; `told` hears what goes on before it begins. To be prepared next."""
        self.scenario: dict[str, Any] = replay.as_scenario()
        self.events = 0
        self._replay, self._told = replay, told
        self._after_us: dict[str, int] = {}

    async def prepare(self) -> None:
        """Read through the source twice, and work out when each record is due; some 150 bytes of memory for each.

        Raises:
            ArchiveError: The file is no archive, or not whole.
            ClusterError: The topics can't be read to their ends.
        """
        source, pace = await self._replay.open(), self._replay.pace
        span = await survey(source, self._told)
        async for chunk in source.chunks():
            for time_ms, record in chunk:
                after_us = int(pace.due_s(self.events, time_ms, span.begin_ms) * 1e6)
                with suppress(msgspec.MsgspecError, RecursionError):
                    # of a message that is there twice, the first one counts
                    self._after_us.setdefault(_decode_identified(record.value or b"").id, after_us)
                self.events += 1
            self._told("scheduling", self.events, span.records)

    async def follow(
        self, begun: Callable[[Moments], None], on_tally: Callable[[Tally], None], stopped: asyncio.Event
    ) -> Tally:
        """See `Traffic`.

        Raises:
            ClusterError: The target refuses it.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE, limit=LINE_BYTES_MAX, start_new_session=True
        )
        stopping = asyncio.create_task(_dismiss_when(stopped, process))
        tally = Tally()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(msgspec.json.encode(self._replay) + b"\n")
            while text := await process.stdout.readline():
                match _decode_line(text):
                    case _Begun(begin_us):
                        begun(ReplayMoments(self._after_us, begin_us, self._ends_from_us(begin_us)))
                    case _Told(what, done, total):
                        self._told(what, done, total)
                    case _Done(found):
                        tally = found
                        on_tally(tally)
                    case _Refused(words):
                        raise ClusterError(words)
            if code := await process.wait():
                raise CrewError(f"the process of the replay ended by itself (exit code {code})")
        finally:
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await _end(process)
        return tally

    def _ends_from_us(self, begin_us: int) -> int | None:
        """Events that happen the moment they leave make windows that end by the wall clock; others' times are moved."""
        replay = self._replay
        return begin_us if replay.times == "shifted" and replay.speed is not None and replay.speed <= 1 else None


async def _dismiss_when(stopped: asyncio.Event, process: Process) -> None:
    await stopped.wait()
    assert process.stdin is not None
    process.stdin.close()


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), LEAVE_S)
    if process.returncode is None:
        process.kill()
        await process.wait()


# ------------------------------------------------------------------------------------------------------ the other


class _Watched(Schedule):
    """Says when it begins, and counts what is taken up."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._begin_us = 0

    def begin_s(self) -> float:
        self._begin_us = time.time_ns() // 1000 + int(READY_S * 1e6)
        _say(_Begun(self._begin_us))
        return time.monotonic() + READY_S

    def taken_up(self, due_s: float) -> None:
        self.tally.made += 1
        self.tally.behind.note(int((time.monotonic() - due_s) * 1e6))

    def tell(self, target: ReplayTarget) -> None:
        """Say how far it is, once it has begun."""
        if self._begin_us:
            self.tally.acknowledged, self.tally.ended_us = target.written, target.written_us
            _say(_Done(self.tally))


async def main() -> None:
    """Take an order, and play it."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    if not (line := await reader.readline()):
        return
    await _follow(msgspec.json.decode(line, type=Replay), reader)


async def _follow(replay: Replay, reader: asyncio.StreamReader) -> None:
    """Play until all is written, or `reader` is at its end; what can't be done is said."""
    try:
        with refusals_told(replay.source.settings()):
            source = await replay.open()
        with refusals_told(replay.target.settings()):
            await _play(replay, source, reader)
    except (ArchiveError, ClusterError, OSError) as error:
        _say(_Refused(str(error)))


async def _play(replay: Replay, source: Source, reader: asyncio.StreamReader) -> None:
    to, watched = replay.target.settings(), _Watched()
    target = ReplayTarget(to.connection, to.topic_prefix, await room(to), source.partitions, replay.id)
    player = Player(source, target, replay.pace, is_shifted=replay.times == "shifted", schedule=watched)
    playing = asyncio.create_task(player.play(_tell_before(watched), may_append=replay.may_append))
    telling = asyncio.create_task(_tell(watched, target))
    stopping = asyncio.create_task(_stop_at_end(reader, playing))
    try:
        await playing
        watched.tally.is_whole = True
    except asyncio.CancelledError:
        pass  # the one that measures has stopped it
    finally:
        for task in (telling, stopping):
            task.cancel()
        await asyncio.gather(telling, stopping, return_exceptions=True)
    watched.tally.cpu_s = time.process_time()
    watched.tell(target)


def _tell_before(watched: _Watched) -> Callable[[str, int, int], None]:
    last_s = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last_s
        if not watched.tally.made and time.monotonic() - last_s > TELL_S:
            last_s = time.monotonic()
            _say(_Told(what, done, total))

    return tell


async def _tell(watched: _Watched, target: ReplayTarget) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        watched.tell(target)


async def _stop_at_end(reader: asyncio.StreamReader, playing: "asyncio.Task[Any]") -> None:
    await reader.read()
    playing.cancel()


def _say(line: _Line) -> None:
    with suppress(BrokenPipeError):
        sys.stdout.buffer.write(_encode_line(line) + b"\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
