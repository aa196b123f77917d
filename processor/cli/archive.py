"""`janela archive`: records of the input topics into a file, for `janela replay --from-archive`."""

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.cli.progress import Progress, progress_shown
from processor.cli.selection import (
    Contacts,
    LeaveOutTooLarge,
    Offsets,
    Partitions,
    PseudonymsKey,
    Sides,
    Since,
    Until,
    pseudonyms_of,
    selection_of,
    words_of_left_out,
)
from processor.cli.signals import until_told
from processor.cli.written import say

if TYPE_CHECKING:
    from processor.replay.pseudonyms import Pseudonyms
    from processor.replay.selection import Selection
    from processor.settings import Settings


def archive(
    file: Annotated[Path, typer.Argument(help="The file to write, such as day.jsonl.zst.")],
    sides: Sides = None,
    partitions: Partitions = None,
    since: Since = None,
    until: Until = None,
    offsets: Offsets = None,
    contacts: Contacts = None,
    leave_out_too_large: LeaveOutTooLarge = False,
    pseudonyms_key: PseudonymsKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Write committed records of the input topics into a file: JSON lines, compressed by zstd.

    It is under its name when it is whole, and not before. Merged by event time, each line is a record with its place,
    its time, key, value and headers. With --pseudonyms-key nobody can be found in it: contacts, businesses and ids are
    keyed hashes (the same key gives the same ones, in every archive), texts are x, and the same windows come of it.

    What stays as it is under pseudonyms: places and record times; the names of the contract's fields at the top of a
    record, of the types, and of the headers traceparent, tracestate and replay-*; the contract's own words in type,
    direction, outcome, scope, value, intent, origin, category, response_source and status; whatsapp, and what the
    policy in force names as a channel, a business (direct_send) or a response_source; error codes of at most six
    digits; times (Unix times of more than a year before their record, or a day after it, become other such times);
    true, false, null, and how long texts are. All else is replaced.

    A record of more than 1 MiB out of a compressed batch is never expanded whole, and can't be carried: it is named and
    nothing is written, or with --leave-out-too-large it is left out. To a worker it is a dead letter (too-large).

    Examples:
        janela archive day.jsonl.zst --since 2026-11-22T00:00:00Z --until 2026-11-23T00:00:00Z
        janela archive lab.jsonl.zst --since 24h --pseudonyms-key key.txt
        zstd -dc day.jsonl.zst | head -n 3

    Exit codes: 0 it is whole, 1 it is, and stdout can't be written, 2 an option, a setting, a topic, the file or the
    broker is at fault.
    """
    if not file.name:
        raise typer.BadParameter(f"found {file}, expected the name of a file", param_hint="FILE")
    if file.exists() and not file.is_file():
        words = f"found {file}, which is there and no regular file; what is no file is not replaced"
        raise typer.BadParameter(words, param_hint="FILE")
    settings = load_settings(config_file, bootstrap_servers)
    selection = selection_of(sides, partitions, since, until, offsets, contacts, leave_out_too_large)
    hidden = pseudonyms_of(pseudonyms_key, settings)
    with progress_shown() as progress:
        records, left_out = asyncio.run(until_told(_write(file, settings, selection, hidden, progress)))
    size = file.stat().st_size
    if as_json:
        told = json.dumps({"file": str(file), "records": records, "bytes": size, "left_out": left_out})
    else:
        told = f"{records:,} records in {file}, {size:,} bytes{words_of_left_out(left_out)}"
    say("archive", told)


async def _write(
    file: Path, settings: "Settings", selection: "Selection", hidden: "Pseudonyms | None", progress: Progress
) -> tuple[int, int]:
    from processor.codec.times import format_time
    from processor.replay.archive import VERSION, ArchiveWriter, Manifest
    from processor.replay.topics import topic_source
    from processor.topics import refusals_told

    with refusals_told(settings):
        source = await topic_source(settings, selection)
        manifest = Manifest(
            janela_archive=VERSION,
            partitions=source.partitions,
            written=format_time(time.time_ns() // 1_000_000),
            has_pseudonyms=hidden is not None,
        )
        try:
            with ArchiveWriter(file, manifest) as writer:
                async for chunk in source.chunks():
                    writer.write(hidden.hide(it, source.partitions) if hidden else it for _, it in chunk)
                    progress.note("archiving", writer.records)
        except OSError as error:
            raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from None
        return writer.records, source.left_out
