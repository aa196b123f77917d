"""`janela up`: all of it on this machine. A Kafka, the topics, a worker, traffic, and a view of what happens.

Kafka's start takes seconds, and so does loading what the worker and the view need: all three go on at once. So what
takes long to import is imported late here. From there on, see `run`.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from processor.cli.attended import AttendedWorker, WorkerError
from processor.embedded import EmbeddedKafka, EmbeddedKafkaError, FetchProgress
from processor.embedded.ports import PortChooser

if TYPE_CHECKING:
    from processor.cli.view import View

USUAL_PORT: Final = 9092
"""Where the other verbs look for Kafka when nobody says otherwise."""

STARTING: Final = "starting Kafka"

FAILED: Final = 1
NOT_STARTED: Final = 2


def up(
    seconds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End by itself after N seconds, with a summary.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=1, max=5000, metavar="N", help="Events a second, on average over a simulated day.")
    ] = 120,
    contacts: Annotated[
        int, typer.Option(min=10, max=1_000_000, metavar="N", help="Customers that come back; others come once.")
    ] = 400,
    seed: Annotated[int, typer.Option(help="The same seed gives the same stories.")] = 1,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help=f"Where clients connect; 0: any free port. Without it, {USUAL_PORT} where that is free.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep Kafka's data here, and go on from it. Without it, they go at the end."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For machines: an object a second, a summary at the end.")
    ] = False,
) -> None:
    """Run it all on this machine: a real Kafka, a worker, and the traffic of a business's days.

    The days lie in the past and go by fast, so that windows warn and end while you watch. When they reach the
    present, the traffic goes on in real time; with --seconds they reach it at the end. In a terminal the run is a
    screen, elsewhere lines.

    The settings are yours (JANELA_*, janela.toml), but for where Kafka is, the number of partitions, and the clock.
    The first start on a machine fetches Kafka's jars (36 MB).

    Examples:
        janela up
        janela up --seconds 60
        JANELA_EXPIRING_BEFORE=4h,1h janela up --rate 500
        janela up --seconds 30 --json | tail -n 1

    Exit codes: 0 ended by Ctrl-C, SIGTERM or --seconds, 1 the worker or Kafka failed (the end of its log is on
    stderr), 2 it could not be started.
    """
    try:
        asyncio.run(_until_signalled(_up(Plan(seconds, rate, contacts, seed, port, data, as_json))))
    except (NotStartedError, EmbeddedKafkaError, WorkerError) as error:
        print(f"janela up: {error}", file=sys.stderr)
        raise typer.Exit(NOT_STARTED if isinstance(error, NotStartedError) else FAILED) from None


class Plan(NamedTuple):
    """What was asked for."""

    seconds: int | None
    rate: float
    contacts: int
    seed: int
    port: int | None
    data: Path | None
    as_json: bool


class NotStartedError(Exception):
    """Kafka could not be started; the message says why."""


async def _until_signalled(run: Coroutine[Any, Any, None]) -> None:
    """Let Ctrl-C, SIGTERM or a terminal that closes end the run in good order; a second one must not cut it short."""
    task = asyncio.create_task(run)
    is_signalled = False

    def on_signal() -> None:
        nonlocal is_signalled
        if not is_signalled:
            is_signalled = True
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    try:
        await task
    except asyncio.CancelledError:
        if not is_signalled:
            raise


async def _up(plan: Plan) -> None:
    """Start it all, let it run, and end it in the opposite order."""
    view: View | None = None
    shown_s = 0.0

    def on_fetch(progress: FetchProgress) -> None:
        nonlocal shown_s
        is_done = progress.jars_done == progress.jars_total
        if view and (is_done or time.monotonic() - shown_s >= view.every_s):
            shown_s = time.monotonic()
            view.starting(STARTING if is_done else describe(progress))

    async with AsyncExitStack() as stack:
        stack.callback(lambda: view.close() if view else None)
        broker = EmbeddedKafka(plan.data, port=_port(plan), on_fetch=on_fetch)
        starting = asyncio.create_task(asyncio.to_thread(broker.start))
        stack.push_async_callback(_stop, broker, starting)
        worker = await stack.enter_async_context(AttendedWorker())
        await asyncio.sleep(0)  # so Kafka's start has begun before we import for a second

        from processor.cli.kafka import describe
        from processor.cli.run import load_settings, run
        from processor.cli.view import JsonLines, Lines, Screen

        settings = load_settings()
        has_screen = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        view = JsonLines() if plan.as_json else Screen() if has_screen else Lines()
        view.starting(STARTING)
        try:
            await starting
        except EmbeddedKafkaError as error:
            raise NotStartedError(str(error)) from None
        await run(plan, view, settings, broker, worker)


async def _stop(broker: EmbeddedKafka, starting: "asyncio.Task[EmbeddedKafka]") -> None:
    """Stop Kafka, also while it is still starting: that start then fails, for which nobody may be waiting any more."""
    await asyncio.to_thread(broker.stop)
    await asyncio.gather(starting, return_exceptions=True)


def _port(plan: Plan) -> int:
    if plan.port is not None:
        return plan.port
    return 0 if plan.data else PortChooser().rather(USUAL_PORT)  # kept data remember theirs
