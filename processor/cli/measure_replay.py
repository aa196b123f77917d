"""`janela measure replay`: topics or an archive once more, at a pace, and what came of it."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.cli.measured import (
    AsJson,
    Drain,
    HtmlFile,
    Kept,
    Ops,
    ReportFile,
    WarmUp,
    Watched,
    Workers,
    run_measured,
)
from processor.cli.selection import (
    Append,
    Contacts,
    FromArchive,
    Offsets,
    Partitions,
    Rate,
    Sides,
    Since,
    Speed,
    Times,
    Until,
    selection_of,
)

if TYPE_CHECKING:
    from processor.cli.progress import Progress
    from processor.measure.traffic import Traffic


def replay(
    from_archive: FromArchive = None,
    from_prefix: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Read the input topics under this prefix.")
    ] = None,
    from_bootstrap_servers: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The cluster to read from. Without it, the one measured.")
    ] = None,
    sides: Sides = None,
    partitions: Partitions = None,
    since: Since = None,
    until: Until = None,
    offsets: Offsets = None,
    contacts: Contacts = None,
    speed: Speed = None,
    rate: Rate = None,
    times: Times = "original",
    append: Append = False,
    workers: Workers = None,
    ops: Ops = None,
    drain: Drain = 60,
    warm_up: WarmUp = 0,
    report_file: ReportFile = None,
    html_file: HtmlFile = None,
    as_json: AsJson = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Replay topics or an archive on a set-up that runs, and measure what comes of it, as of a load.

    The pace fixes when each record is due, before the first one is sent: by --speed from its event's time, or by
    --rate from its number. Latency counts from there. Whose output it is, the message's id says; where one id is on
    the source twice, the first counts. Records are written in transactions, of which the delay has its share.

    How late windows end is told where events happen the moment they leave: --times shifted at a --speed of 1 or less.

    Examples:
        janela measure replay --from-archive day.jsonl.zst --times shifted --speed 60 --html day.html
        janela measure replay --from-prefix prod. --since 1h --rate 20000 --append --report a.json

    Exit codes: 0 all was sent and consumed, 1 it was not, the process of the replay failed, or the report or stdout
    can't be written, 2 an option, a setting, a topic or the archive is wrong, or no broker answers, 130 stopped by
    Ctrl-C or SIGTERM (figures of what there was).
    """
    from processor.measure.replaying import Place, Replay, ReplayTraffic
    from processor.replay.archive import ArchiveError
    from processor.replay.topics import cluster_id
    from processor.topics import input_topics

    if (speed is None) == (rate is None):
        words = "expected one of them: a latency counts from when a record is due"
        raise typer.BadParameter(words, param_hint="--speed, --rate")
    if (from_archive is None) == (from_prefix is None):
        raise typer.BadParameter("expected one of them", param_hint="--from-archive, --from-prefix")
    settings = load_settings(config_file, bootstrap_servers)
    target = Place.of(settings)
    source = Place.of(load_settings(config_file, from_bootstrap_servers or bootstrap_servers, from_prefix))
    if from_archive is None and source.name == target.name:
        raise typer.BadParameter("it is what is measured", param_hint="--from-prefix")
    # what is written from now on is no part of it: the source is read twice
    until = until if until is not None or from_archive is not None else _now()
    selection = selection_of(sides, partitions, since, until, offsets, contacts)
    archive = None if from_archive is None else str(from_archive)
    wanted = Replay(source, archive, selection, target, speed, rate, times, append)

    async def prepared(progress: "Progress") -> "tuple[Traffic, int]":
        topics = await input_topics(settings)
        is_one_name = from_archive is None and source.topic_prefix == target.topic_prefix
        if is_one_name and await cluster_id(source.settings()) == await cluster_id(settings):
            raise typer.BadParameter("it is what is measured, by another address", param_hint="--from-prefix")
        traffic = ReplayTraffic(wanted, progress.note)
        try:
            await traffic.prepare()
        except (ArchiveError, OSError) as error:
            words = str(error) if isinstance(error, ArchiveError) else f"{from_archive}: {error.strerror}"
            raise typer.BadParameter(words, param_hint="--from-archive") from None
        return traffic, topics[0].partitions

    run_measured(
        settings, prepared, Watched(workers or [], ops or [], drain, warm_up), Kept(report_file, html_file, as_json)
    )


def _now() -> str:
    from processor.codec.times import format_time

    return format_time(time.time_ns() // 1_000_000)
