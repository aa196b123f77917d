"""One process or several that follow a schedule together: each has its shard, all have one begin.

Both sides are here: `follow` in the process that was started, `main` in the others. Between them are pipes: a process
reads its order and, when it has said that it is ready, the begin; then it tells what it has done, line by line. Where
its stdin ends it stops, so that none outlives whoever started it.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from processor.kafka.connection import Connection
from processor.load.scenario import Scenario
from processor.load.sending import Loop
from processor.load.shard import Shard
from processor.load.tally import Tally, decode_tally, encode_tally, together

TELL_S: Final = 0.5
LINE_BYTES_MAX: Final = 1024 * 1024
LEAVE_S: Final = 20
"""How long a process may take to end when it is asked to: longer than its last answers and its leave."""


class CrewError(Exception):
    """A process of the load has ended by itself; the message says which, and how."""


class Order(msgspec.Struct):
    """What to send and where to."""

    connection: Connection
    topics: tuple[str, str]
    """Names of the topics, inbound first."""
    partitions: int
    scenario: dict[str, Any]
    shard: int = 0
    shards: int = 1


class Begin(msgspec.Struct):
    """When: moment `start_us` of the schedule is at `begin_us` by the wall clock."""

    begin_us: int
    start_us: int


OnTally = Callable[[Tally], None]


async def follow(
    order: Order, begin: Callable[[], Begin], on_tally: OnTally, stopped: asyncio.Event, *, apart: bool = False
) -> Tally:
    """Follow the schedule with as many processes as the order has shards; `begin` is asked when all are ready.

    One alone is this process itself, unless it is to be `apart`.

    Raises:
        CrewError: A process ended by itself; the others are stopped.
    """
    if order.shards == 1 and not apart:
        return await _alone(order, begin, on_tally, stopped)
    return await _together(order, begin, on_tally, stopped)


async def _alone(order: Order, begin: Callable[[], Begin], on_tally: OnTally, stopped: asyncio.Event) -> Tally:
    loop = Loop(order.connection, order.topics, order.partitions)
    shard = Shard(Scenario(**order.scenario), 0, order.partitions, order.shard, order.shards)
    watching = [asyncio.create_task(_stop_when(stopped, loop)), asyncio.create_task(_tell(loop, on_tally))]
    try:
        await loop.connect()
        moments = begin()
        await loop.run(shard, moments.begin_us, moments.start_us)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await loop.disconnect()
    return loop.tally


async def _stop_when(stopped: asyncio.Event, loop: Loop) -> None:
    await stopped.wait()
    loop.stop()


async def _tell(loop: Loop, on_tally: OnTally) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        on_tally(loop.tally)


# ------------------------------------------------------------------------------------------- the one that attends


async def _together(order: Order, begin: Callable[[], Begin], on_tally: OnTally, stopped: asyncio.Event) -> Tally:
    tallies = [Tally() for _ in range(order.shards)]

    async def hear(number: int, process: Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            tallies[number] = decode_tally(line)
            if (tally := together(tallies)).is_whole:  # told before the processes take their leave, a second or so
                on_tally(tally)
        if code := await process.wait():
            raise CrewError(f"process {number} of the load ended by itself (exit code {code})")

    processes = [await _started() for _ in range(order.shards)]
    stopping = asyncio.create_task(_dismiss_when(stopped, processes))
    telling = asyncio.create_task(_tell_all(tallies, on_tally))
    try:
        for number, process in enumerate(processes):
            _write(process, msgspec.structs.replace(order, shard=number))
        for number, process in enumerate(processes):
            assert process.stdout is not None
            if not await process.stdout.readline():
                raise CrewError(f"process {number} of the load did not get ready (exit code {await process.wait()})")
        moments = begin()
        for process in processes:
            _write(process, moments)
        async with asyncio.TaskGroup() as group:
            for number, process in enumerate(processes):
                group.create_task(hear(number, process))
    except* CrewError as errors:
        raise errors.exceptions[0] from None
    finally:
        stopping.cancel()
        telling.cancel()
        await asyncio.gather(stopping, telling, return_exceptions=True)
        await _end(processes)
    return together(tallies)


async def _tell_all(tallies: list[Tally], on_tally: OnTally) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        on_tally(together(tallies))


async def _started() -> Process:
    """Start a process in a session of its own: a terminal's Ctrl-C is for us to act on."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE, limit=LINE_BYTES_MAX, start_new_session=True
    )


def _write(process: Process, order: Order | Begin) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order) + b"\n")


async def _dismiss_when(stopped: asyncio.Event, processes: list[Process]) -> None:
    await stopped.wait()
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()


async def _end(processes: list[Process]) -> None:
    """See all processes gone, in good order where they can."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_S):
            await asyncio.gather(*(process.wait() for process in processes))
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


# ------------------------------------------------------------------------------------------------- the others


async def main() -> None:
    """Take an order, get ready, and follow it from the begin on."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    if not (line := await reader.readline()):
        return
    order = msgspec.json.decode(line, type=Order)
    loop = Loop(order.connection, order.topics, order.partitions)
    shard = Shard(Scenario(**order.scenario), 0, order.partitions, order.shard, order.shards)
    await loop.connect()
    try:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if not (line := await reader.readline()):
            return
        begin = msgspec.json.decode(line, type=Begin)
        watching = [asyncio.create_task(_stop_at_end(reader, loop)), asyncio.create_task(_tell(loop, _say))]
        await loop.run(shard, begin.begin_us, begin.start_us)
        for task in watching:
            task.cancel()
        _say(loop.tally)
    finally:
        await loop.disconnect()


async def _stop_at_end(reader: asyncio.StreamReader, loop: Loop) -> None:
    await reader.read()
    loop.stop()


def _say(tally: Tally) -> None:
    with suppress(BrokenPipeError):
        sys.stdout.buffer.write(encode_tally(tally) + b"\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
