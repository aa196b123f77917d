"""What an operator's tools ask a worker over HTTP: is it alive, is it ready, and its metrics.

    /livez    200 while its loops turn; the broker's health is not the worker's
    /readyz   200 while all of its partitions are restored and commit
    /metrics  the catalogue of `processor.ops.metrics`, in the text format of Prometheus

It answers from a thread and a loop of its own: a loop that stands still can't say so itself, and slow clients hold up
nobody else.
"""

import asyncio
import resource
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from processor.ops.instruments import Instruments

CONNECTIONS_MAX: Final = 2_000
"""Of more than that the oldest ends, so that slow ones keep no probe out. Fewer cost more: who is cut off comes again.
Beside a thousand slow clients p99 was 1.0 to 3.1 times what it was without, at a limit of 100 (four pairs of runs), and
0.6 to 2.4 times at this one (seven pairs)."""
DESCRIPTORS: Final = 4_096
"""How many descriptors the process asks to be allowed; it may have been given 1,024 and leave to ask for more."""
KEEP_ALIVE_S: Final = 15
HEADER_BYTES_MAX: Final = 4096


class OpsServer:
    """Answers for the instruments that it is given."""

    def __init__(self, address: str, instruments: "Instruments") -> None:
        """Take the address, `host:port`; nothing listens before `start`."""
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._instruments = instruments
        self._connections_max = 0
        self._tried = threading.Event()
        self._error: OSError | None = None

    def start(self) -> None:
        """Listen, until the process ends.

        Raises:
            OSError: The address can't be had.
        """
        self._connections_max = min(_descriptors() // 2, CONNECTIONS_MAX)
        threading.Thread(target=asyncio.run, args=(self._serve(),), name="ops", daemon=True).start()
        self._tried.wait()
        if self._error is not None:
            raise self._error

    async def _serve(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEP_ALIVE_S, max_field_size=HEADER_BYTES_MAX)
        try:
            await runner.setup()
            listen = asyncio.get_running_loop().create_server
            await listen(partial(self._handler, runner), self._host, self._port)
        except OSError as error:
            self._error = error
            return
        finally:
            self._tried.set()
        await asyncio.Event().wait()

    def _handler(self, runner: web.AppRunner) -> asyncio.Protocol:
        assert runner.server is not None  # it is set up
        live = [it for it in runner.server.connections if it.transport is not None and not it.transport.is_closing()]
        for oldest in live[: max(len(live) + 1 - self._connections_max, 0)]:
            oldest.force_close()
        return runner.server()

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(self._instruments.dead())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._instruments.unready())

    async def _metrics(self, _: web.Request) -> web.Response:
        self._instruments.measure()
        text = generate_latest(self._instruments.metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _descriptors() -> int:
    """Ask for enough descriptors, and give how many the process may have; half of them are for Kafka."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS:
        return DESCRIPTORS
    allowed = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def _answer(wrong: list[str]) -> web.Response:
    return web.Response(status=503 if wrong else 200, text="\n".join(wrong or ["ok"]) + "\n")
