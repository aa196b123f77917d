"""The options of `replay` and `archive` that say which records are meant, whose key hides persons, and at what pace."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from processor.cli.send import Side

if TYPE_CHECKING:
    from processor.replay.pseudonyms import Pseudonyms
    from processor.replay.selection import Selection
    from processor.settings import Settings

Sides = Annotated[list[Side] | None, typer.Option("--side", help="Only this side; without it, both.")]
Partitions = Annotated[
    list[int] | None, typer.Option("--partition", min=0, metavar="N", help="Only this partition. Repeatable.")
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Written then or later: RFC 3339 with a zone, or how long ago, such as 36h."),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Written before then.")]
Offsets = Annotated[
    str | None,
    typer.Option(metavar="A:B", help="From offset A on, before offset B, on each partition; either may lack."),
]
Contacts = Annotated[
    list[str] | None, typer.Option("--contact", metavar="ID", help="Only this contact, or this window key. Repeatable.")
]
PseudonymsKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Put keyed hashes in place of contacts and ids, and x in place of texts, by the key in FILE.",
    ),
]

FromArchive = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Read what `janela archive` wrote, instead of topics.")
]
Speed = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        metavar="X",
        help="As it happened, X times as fast: 60, an hour in a minute. It counts from when the first record was"
        " written, and what happened before leaves at once.",
    ),
]
Rate = Annotated[float | None, typer.Option(min=0.01, metavar="N", help="N records a second.")]
Times = Annotated[
    Literal["original", "shifted"],
    typer.Option(help="Keep all times, or move them by one distance so that the end is now."),
]
LeaveOutTooLarge = Annotated[
    bool,
    typer.Option(
        "--leave-out-too-large",
        help="Leave out and count what is too large to be carried: over 1 MiB, out of a compressed batch.",
    ),
]
Append = Annotated[bool, typer.Option("--append", help="Write also where another producer's records are.")]

_OFFSETS: Final = re.compile(r"(\d{0,18}):(\d{0,18})")


def selection_of(
    sides: Sequence[Side] | None,
    partitions: Sequence[int] | None,
    since: str | None,
    until: str | None,
    offsets: str | None,
    contacts: Sequence[str] | None,
    leaves_out_too_large: bool = False,
) -> "Selection":
    """Put the options together.

    Raises:
        BadParameter: One of them does not read.
    """
    from processor.replay.records import SIDES
    from processor.replay.selection import Selection

    from_offset = to_offset = None
    if offsets is not None:
        if not (match := _OFFSETS.fullmatch(offsets)):
            raise typer.BadParameter(f"found {offsets!r}, expected a range such as 100:200", param_hint="--offsets")
        from_offset, to_offset = (int(text) if text else None for text in match.groups())
        if from_offset is not None and to_offset is not None and from_offset >= to_offset:
            raise typer.BadParameter(f"found {offsets}, in which nothing can be", param_hint="--offsets")
    since_ms, until_ms = _moment_ms(since, "--since"), _moment_ms(until, "--until")
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        words = f"found {since} to {until}, in which nothing can be"
        raise typer.BadParameter(words, param_hint="--since, --until")
    return Selection(
        sides=tuple(side for side in SIDES if not sides or side in sides),
        partitions=tuple(sorted(set(partitions))) if partitions else None,
        since_ms=since_ms,
        until_ms=until_ms,
        from_offset=from_offset,
        to_offset=to_offset,
        contacts=frozenset(contact.encode() for contact in contacts or ()),
        leaves_out_too_large=leaves_out_too_large,
    )


def _moment_ms(text: str | None, option: str) -> int | None:
    """Read a moment: a time, or how long ago it is."""
    from processor.codec.times import parse_time
    from processor.policy_file import parse_duration

    if text is None:
        return None
    if (moment_ms := parse_time(text)) is not None:
        return moment_ms
    try:
        return max(time.time_ns() // 1_000_000 - parse_duration(text), 0)
    except ValueError:
        expected = "RFC 3339 with a zone, or how long ago, such as 36h"
        raise typer.BadParameter(f"found {text!r}, expected {expected}", param_hint=option) from None


def is_ago(moment: str | None) -> bool:
    """Tell whether a moment that can be read was said as how long ago it is: at another start it is another one."""
    from processor.codec.times import parse_time

    return moment is not None and parse_time(moment) is None


def pseudonyms_of(path: Path | None, settings: "Settings") -> "Pseudonyms | None":
    """Take the key from its file, white space around it left out; the policy's names are kept.

    Raises:
        BadParameter: The file can't be read, or the key is too short.
    """
    from processor.replay.pseudonyms import Pseudonyms

    if path is None:
        return None
    try:
        return Pseudonyms(path.read_bytes().strip(), settings.policy())
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--pseudonyms-key") from None
    except ValueError as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--pseudonyms-key") from None


def words_of_left_out(count: int) -> str:
    """Say how many records were left out; nothing where none were."""
    return f", {count:,} left out as too large" if count else ""
