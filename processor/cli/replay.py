"""`janela replay`: records of the input topics, or of an archive, once more, under another prefix or elsewhere."""

import asyncio
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.cli.progress import Progress, progress_shown
from processor.cli.selection import (
    Append,
    Contacts,
    FromArchive,
    LeaveOutTooLarge,
    Offsets,
    Partitions,
    PseudonymsKey,
    Rate,
    Sides,
    Since,
    Speed,
    Times,
    Until,
    is_ago,
    pseudonyms_of,
    selection_of,
    words_of_left_out,
)
from processor.cli.signals import until_told
from processor.cli.written import say

if TYPE_CHECKING:
    from processor.replay.archive import ArchiveSource
    from processor.replay.pace import Pace
    from processor.replay.player import Planned, Played, Player
    from processor.replay.pseudonyms import Pseudonyms
    from processor.replay.records import Source, Span
    from processor.replay.selection import Selection
    from processor.replay.target import Room
    from processor.settings import Settings

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,80}")


def replay(
    to_prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="The topic prefix to write under; its topics must be there.")
    ],
    to_bootstrap_servers: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The cluster to write to. Without it, the one read from.")
    ] = None,
    from_archive: FromArchive = None,
    sides: Sides = None,
    partitions: Partitions = None,
    since: Since = None,
    until: Until = None,
    offsets: Offsets = None,
    contacts: Contacts = None,
    leave_out_too_large: LeaveOutTooLarge = False,
    speed: Speed = None,
    rate: Rate = None,
    times: Times = "original",
    pseudonyms_key: PseudonymsKey = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The replay-id. Without it, one made from the other options."),
    ] = None,
    append: Append = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write nothing; say what is there, what would be written, or why not."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Put records of the input topics, or of an archive, on the input topics of another prefix or cluster.

    Committed records are taken, merged by event time, and written as fast as can be, or as --speed or --rate have it.
    Each keeps its key, its headers and its place behind the others of its partition; where the target has another
    number of partitions it goes where its key belongs. It also gets the headers replay-id and replay-source.

    Each record is written once: a replay that broke off goes on where it was when the same command is given again. What
    --since 24h meant is written with each record, as replay-since-ms (--until: replay-until-ms), so that hours later it
    means the same. An --id stands for one wish: with other records asked for, or another source, it is refused.
    Topics that are to keep record times must be made with message.timestamp.type=CreateTime, and with a retention that
    is longer than the times are old. On the topics of `janela topics apply` a record gets the time of its arrival.

    Examples:
        janela replay --to-prefix lab. --since 24h --speed 60
        janela replay --to-prefix lab. --from-archive day.jsonl.zst --times shifted --rate 20000
        janela replay --to-prefix one. --contact 5511999998888 --dry-run

    Exit codes: 0 all is there, or with --dry-run all is told, 1 it is, and stdout can't be written, 2 an option, a
    setting, a topic, the archive or the broker is at fault.
    """
    from processor.replay.archive import ArchiveError

    if speed is not None and rate is not None:
        raise typer.BadParameter("either --speed or --rate")
    if id_ is not None and not _ID.fullmatch(id_):
        raise typer.BadParameter(f"found {id_!r}, expected 1 to 80 of A-Z a-z 0-9 . _ -", param_hint="--id")
    settings = load_settings(config_file, bootstrap_servers)
    target = load_settings(config_file, to_bootstrap_servers or bootstrap_servers, to_prefix)
    is_same = (target.topic_prefix, target.bootstrap_servers) == (settings.topic_prefix, settings.bootstrap_servers)
    if is_same and from_archive is None:
        raise typer.BadParameter("it is where the records come from", param_hint="--to-prefix")
    selection = selection_of(sides, partitions, since, until, offsets, contacts, leave_out_too_large)
    hidden = pseudonyms_of(pseudonyms_key, settings)
    try:
        place = (
            _written(from_archive, selection) if from_archive else (settings.bootstrap_servers, settings.topic_prefix)
        )
        asked = (sides, partitions, since, until, offsets, contacts, times, hidden and hidden.of("replay-id"))
        replay_id = id_ or _made_id(place, *asked)
        wanted = _Wanted(
            settings, target, selection, from_archive, replay_id, id_ is not None, place, asked, is_ago(since),
            is_ago(until), _pace(speed, rate), times == "shifted", hidden, append,
        )  # fmt: skip
        with progress_shown() as progress:
            told = asyncio.run(until_told(_plan(wanted, progress) if dry_run else _play(wanted, progress)))
    except ArchiveError as error:
        raise typer.BadParameter(str(error), param_hint="--from-archive") from None
    told["replay_id"] = replay_id
    if times == "original" and told["record_times_kept"] is False:
        print(
            "janela replay: the target's topics give each record the time of its arrival"
            " (message.timestamp.type=LogAppendTime), so record times are not kept",
            file=sys.stderr,
        )
    say("replay", json.dumps(told, indent=2) if as_json else _words(told))


class _Wanted(NamedTuple):
    source: "Settings"
    target: "Settings"
    selection: "Selection"
    archive: Path | None
    replay_id: str
    is_named: bool
    """Whether the id was given, and does not stand for what is asked by itself."""
    place: tuple[str, int | str]
    """Where from, as it was said."""
    asked: tuple[object, ...]
    """What of it, and how."""
    is_since_ago: bool
    is_until_ago: bool
    pace: "Pace"
    is_shifted: bool
    pseudonyms: "Pseudonyms | None"
    may_append: bool


def _made_id(*what: object) -> str:
    """Make the same id from the same wishes, so that the same command goes on with the same replay."""
    return hashlib.blake2b(repr(what).encode(), digest_size=8).hexdigest()


def _pace(speed: float | None, rate: float | None) -> "Pace":
    from processor.replay.pace import Pace

    return Pace(speed, rate)


async def _source(wanted: _Wanted) -> "Source":
    from processor.replay.topics import cluster_id, topic_source

    if wanted.archive is not None:
        return _opened(wanted.archive, wanted.selection)
    source, target = wanted.source, wanted.target
    if source.topic_prefix == target.topic_prefix and await cluster_id(source) == await cluster_id(target):
        raise typer.BadParameter("it is where the records come from, by another address", param_hint="--to-prefix")
    return await topic_source(source, wanted.selection)


def _opened(archive: Path, selection: "Selection") -> "ArchiveSource":
    from processor.replay.archive import ArchiveSource

    try:
        return ArchiveSource(archive, selection)
    except OSError as error:
        raise typer.BadParameter(f"{archive}: {error.strerror}", param_hint="--from-archive") from None


def _written(archive: Path, selection: "Selection") -> tuple[str, int]:
    """Give what tells an archive from another one that has its name."""
    return _opened(archive, selection).manifest.written, archive.stat().st_size


async def _plan(wanted: _Wanted, progress: Progress) -> dict[str, Any]:
    """Say what there is to do, also where the target does not even have the topics."""
    from processor.replay.player import Planned, survey
    from processor.replay.target import room
    from processor.topics import ClusterError, refusals_told

    with refusals_told(wanted.source):
        source = await _source(wanted)
    try:
        with refusals_told(wanted.target):
            space = await room(wanted.target)
    except ClusterError as error:
        with refusals_told(wanted.source):
            return _told_planned(Planned(await survey(source, progress.note), 0, str(error)), None)
    with refusals_told(wanted.target):
        player = await _player(wanted, source, space)
        return _told_planned(await player.plan(progress.note, may_append=wanted.may_append), space.keeps_times)


async def _play(wanted: _Wanted, progress: Progress) -> dict[str, Any]:
    from processor import garbage
    from processor.replay.target import room
    from processor.topics import refusals_told

    garbage.come_seldom()
    with refusals_told(wanted.source):
        source = await _source(wanted)
    with refusals_told(wanted.target):
        space = await room(wanted.target)
        player = await _player(wanted, source, space)
        return _told_played(await player.play(progress.note, may_append=wanted.may_append), space.keeps_times)


async def _place(wanted: _Wanted) -> tuple[str, int | str]:
    """Give what tells the source from others, by whatever address it is reached."""
    from processor.replay.topics import cluster_id

    if wanted.archive is not None:
        return wanted.place
    return await cluster_id(wanted.source), wanted.source.topic_prefix


async def _player(wanted: _Wanted, source: "Source", space: "Room") -> "Player":
    from processor.replay.player import Player
    from processor.replay.target import ReplayTarget

    target, selection = wanted.target, wanted.selection
    of = _made_id(await _place(wanted), *wanted.asked) if wanted.is_named else ""
    writer = ReplayTarget(target.connection, target.topic_prefix, space, source.partitions, wanted.replay_id, of)
    return Player(
        source,
        writer,
        wanted.pace,
        is_shifted=wanted.is_shifted,
        pseudonyms=wanted.pseudonyms,
        since_ms=selection.since_ms if wanted.is_since_ago else None,
        until_ms=selection.until_ms if wanted.is_until_ago else None,
    )


# ------------------------------------------------------------------------------------------ what is said of it


def _told_span(span: "Span") -> dict[str, Any]:
    from processor.codec.times import format_time

    sides: dict[str, dict[str, int]] = {}
    for (side, partition), count in sorted(span.counts.items()):
        sides.setdefault(side, {})[str(partition)] = count
    first, last = (None if it is None else format_time(it) for it in (span.first_ms, span.last_ms))
    told: dict[str, Any] = {"records": span.records, "by_partition": sides, "first_time": first, "last_time": last}
    return told | {"left_out": span.left_out}


def _told_planned(planned: "Planned", keeps_times: bool | None) -> dict[str, Any]:
    span = planned.span
    return _told_span(span) | {
        "there_before": planned.before,
        "remaining": 0 if planned.refused else span.records - planned.before,
        "refused": planned.refused or None,
        "record_times_kept": keeps_times,
    }


def _told_played(played: "Played", keeps_times: bool) -> dict[str, Any]:
    return _told_span(played.span) | {
        "record_times_kept": keeps_times,
        "written": played.written,
        "there_before": played.before,
        "moved_by_ms": played.distance_ms,
        "seconds": round(played.seconds, 2),
    }


def _words(told: dict[str, Any]) -> str:
    sides = ", ".join(f"{sum(counts.values()):,} {side}" for side, counts in told["by_partition"].items())
    lines = [f"{told['records']:,} records{f' ({sides})' if sides else ''}{words_of_left_out(told['left_out'])}"]
    if told["first_time"]:
        lines.append(f"from {told['first_time']} to {told['last_time']}")
    if "written" in told:
        rate = told["written"] / max(told["seconds"], 0.001)
        before = f", {told['there_before']:,} were there before" if told["there_before"] else ""
        lines.append(f"{told['written']:,} written in {told['seconds']} s ({rate:,.0f} a second){before}")
    elif told["refused"]:
        lines.append(f"nothing written (--dry-run); it would be refused: {told['refused']}")
    else:
        before = f", {told['there_before']:,} are there" if told["there_before"] else ""
        lines.append(f"nothing written (--dry-run); {told['remaining']:,} would be{before}")
    return "\n".join([*lines, f"replay-id {told['replay_id']}"])
