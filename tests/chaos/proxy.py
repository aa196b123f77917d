"""A network between workers and a broker that can be slow, dead, torn or half open, and keeps single requests back.

It understands of Kafka's protocol where a frame ends, which request it is, and which one an answer belongs to (the
correlation id). A broker that advertises the proxy's address is reached by no other way.

What a client has sent is on its way, also when the client has gone meanwhile: it reaches the broker, late.
"""

import asyncio
import random
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Literal, Self

from processor.embedded.ports import HOST
from processor.rights import ANYBODY

API_KEYS: Final = {"Produce": 0, "AddOffsetsToTxn": 25, "EndTxn": 26, "TxnOffsetCommit": 28}
"""The requests that can be told apart, as Kafka numbers them."""

Side = Literal["request", "answer"]

_LENGTH: Final = struct.Struct(">i")
_REQUEST: Final = struct.Struct(">hhi")  # api key, api version, correlation id
_ANSWER: Final = struct.Struct(">i")  # correlation id
_TEAR: Final = struct.pack("ii", 1, 0)  # SO_LINGER: a close throws away what is unsent and sends RST
_QUESTION: Final = -1  # the end of no transaction, by which a worker asks for its rights before it joins
_FRAMES_MAX: Final = 10_000  # of a connection on their way: a blackhole swallows no more than that


class Hold:
    """One request, or the answer to one, that is to be kept back; whatever follows it on its connection waits too."""

    def __init__(self, api: str, side: Side) -> None:
        """Say which is meant: the next one that comes."""
        self.api, self.side = api, side
        self.caught = asyncio.Event()
        self._delivered = asyncio.Event()
        self._connection: _Connection | None = None

    def tear(self) -> None:
        """Reset the client's connection, so that it tries again; what is held stays on its way to the broker."""
        assert self._connection is not None
        _tear(self._connection.client[1])

    def deliver(self) -> None:
        """Let it go on to where it was sent."""
        self._delivered.set()

    async def keep(self, connection: "_Connection") -> None:
        """Keep it back until it is to be delivered."""
        self._connection = connection
        self.caught.set()
        await self._delivered.wait()


class Proxy:
    """Stands on a port and passes on to the broker; faults are made by whoever holds it."""

    def __init__(self, port: int, broker_port: int, chance: random.Random) -> None:
        """Take where it listens, where the broker does, and what it draws delays and connections from."""
        self.address = f"{HOST}:{port}"
        self.latency_s = 0.0
        """The mean delay each way; a frame is delayed by a half to one and a half of it."""
        self.passes = asyncio.Event()
        """Unset, bytes are accepted and nothing goes on."""
        self.passes.set()
        self._port, self._broker_port, self._chance = port, broker_port, chance
        self._holds: list[Hold] = []
        self._watched: dict[tuple[str, Side], asyncio.Event] = {}
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, HOST, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Tear all connections, and listen no more."""
        self._server.close()
        for connection in self._connections:
            connection.tear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def slow(self, latency_s: float) -> Iterator[None]:
        """Delay what passes, both ways."""
        self.latency_s = latency_s
        try:
            yield
        finally:
            self.latency_s = 0.0

    @contextmanager
    def blackhole(self) -> Iterator[None]:
        """Let nothing pass; the connections stay, and what was sent goes on afterwards."""
        self.passes.clear()
        try:
            yield
        finally:
            self.passes.set()

    def reset(self) -> bool:
        """Tear a connection on both sides; tells whether there was one."""
        if live := [connection for connection in self._connections if connection.is_whole]:
            self._chance.choice(live).tear()
        return bool(live)

    def half_open(self, api: str | None = None) -> bool:
        """Take the broker's side of a connection away, unseen by the client; tells whether there was one.

        With an `api`, one that has carried such requests.
        """
        live = [connection for connection in self._connections if connection.is_whole]
        if api is not None:
            live = [connection for connection in live if API_KEYS[api] in connection.carried]
        if live:
            self._chance.choice(live).forget_broker()
        return bool(live)

    def hold(self, api: str, side: Side) -> Hold:
        """Keep the next such request, or the next answer to one, back."""
        self._holds.append(hold := Hold(api, side))
        return hold

    def passing(self, api: str, side: Side) -> asyncio.Event:
        """Give an event that is set when the next such request, or answer to one, has passed."""
        return self._watched.setdefault((api, side), asyncio.Event())

    async def on_frame(self, connection: "_Connection", key: int | None, side: Side) -> None:
        """Do to a frame that is about to go on what is to be done: wait for the network, or hold it."""
        await self.passes.wait()
        for hold in self._holds:
            if API_KEYS[hold.api] == key and hold.side == side:
                self._holds.remove(hold)
                await hold.keep(connection)
                return

    def on_passed(self, key: int | None, side: Side) -> None:
        """Tell whoever waits for such a frame that one has passed."""
        for api, wanted in list(self._watched):
            if API_KEYS[api] == key and wanted == side:
                self._watched.pop((api, wanted)).set()

    def delay_s(self) -> float:
        """Draw how long a frame is under way."""
        return self.latency_s * self._chance.uniform(0.5, 1.5)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            broker = await asyncio.open_connection(HOST, self._broker_port)
        except OSError:
            _tear(writer)
            return
        connection = _Connection(self, (reader, writer), broker)
        self._connections.add(connection)
        self._tasks.add(task := asyncio.create_task(connection.run()))
        try:
            await asyncio.wait([task])
        finally:
            self._connections.discard(connection)
            self._tasks.discard(task)


class _Connection:
    """One connection of a client, and the one to the broker that stands for it."""

    def __init__(
        self, proxy: Proxy, client: tuple[StreamReader, StreamWriter], broker: tuple[StreamReader, StreamWriter]
    ) -> None:
        self.client, self.broker = client, broker
        self.is_whole = True
        self.carried: set[int] = set()
        self._proxy = proxy
        self._asked: dict[int, int] = {}
        self._is_forgotten = False

    async def run(self) -> None:
        """Pass on, both ways, until both ends are closed and nothing is under way."""
        flows: tuple[tuple[StreamReader, StreamWriter, Side], ...] = (
            (self.client[0], self.broker[1], "request"),
            (self.broker[0], self.client[1], "answer"),
        )
        try:
            async with asyncio.TaskGroup() as group:
                for reader, writer, side in flows:
                    frames: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue(_FRAMES_MAX)
                    group.create_task(self._read(reader, frames))
                    group.create_task(self._write(writer, frames, side))
        finally:
            self.tear()

    def tear(self) -> None:
        """Reset both ends."""
        self.is_whole = False
        _tear(self.client[1])
        _tear(self.broker[1])

    def forget_broker(self) -> None:
        """Close the broker's end and let the client think that all is well."""
        self.is_whole, self._is_forgotten = False, True
        _tear(self.broker[1])

    async def _read(self, reader: StreamReader, frames: asyncio.Queue[tuple[float, bytes] | None]) -> None:
        """Take in whole frames, each with the time when it is due at the other end."""
        loop, due_s = asyncio.get_running_loop(), 0.0
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(_LENGTH.size)
                frame = head + await reader.readexactly(*_LENGTH.unpack(head))
                due_s = max(due_s, loop.time() + self._proxy.delay_s())
                await frames.put((due_s, frame))
        await frames.put(None)

    async def _write(self, writer: StreamWriter, frames: asyncio.Queue[tuple[float, bytes] | None], side: Side) -> None:
        """Let frames out in their order, when they are due and nothing holds them."""
        loop = asyncio.get_running_loop()
        while (item := await frames.get()) is not None:
            due_s, frame = item
            await asyncio.sleep(due_s - loop.time())
            key = self._key(frame, side)
            await self._proxy.on_frame(self, key, side)
            with suppress(OSError):
                writer.write(frame)
                await writer.drain()
            self._proxy.on_passed(key, side)
        await self._proxy.passes.wait()  # the news of an end is lost in a blackhole too
        if not (self._is_forgotten and side == "answer"):
            self.is_whole = False
            writer.close()

    def _key(self, frame: bytes, side: Side) -> int | None:
        """Tell which request a frame is, or answers."""
        if side == "answer":
            (correlation_id,) = _ANSWER.unpack_from(frame, _LENGTH.size)
            return self._asked.pop(correlation_id, None)
        key, _, correlation_id = _REQUEST.unpack_from(frame, _LENGTH.size)
        if ANYBODY.encode() in frame:
            key = _QUESTION
        self._asked[correlation_id] = key
        self.carried.add(key)
        return int(key)


def _tear(writer: StreamWriter) -> None:
    """Reset a connection."""
    if not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _TEAR)
    writer.transport.abort()
