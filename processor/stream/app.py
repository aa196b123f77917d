"""The Faust application: one agent over both inputs, one table, and the signals that drive the engine."""

from typing import Any, cast

import faust
import mode
from faust.types import TP

from processor import garbage
from processor.foreground import ForegroundWorker
from processor.logs import logging_config
from processor.preflight import refusals
from processor.settings import Settings, SettingsError
from processor.stream import store, transport
from processor.stream.engine import Engine
from processor.stream.watcher import Watcher


class App(faust.App):
    """A Faust app with its engine. It keeps nothing on disk, and nobody can connect to it."""

    engine: Engine

    async def on_first_start(self) -> None:
        """Look whether the worker may run at all, before anything is joined or changed."""
        if reasons := await refusals(self.engine.settings):
            self.engine.refuse(reasons)
        self.engine.watcher.on_start(self.engine)
        await super().on_first_start()

    def FlowControlQueue(self, maxsize: int | None = None, **_: Any) -> Any:  # noqa: N802
        """Give a queue that keeps what it holds: an opening tells what is stale (`processor.stream.transport`).

        Faust would clear it whenever it resumes. After a rebalance it does so twice, the second time when owners that
        were kept already read; nobody would miss the last record of a topic that had come in between.
        """
        return super().FlowControlQueue(maxsize)

    def _create_directories(self) -> None:
        return

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        self.engine.fail(exc)  # mode would log what it says, end with exit code 1, and say it once more


def create_app(settings: Settings, watcher: Watcher | None = None) -> App:
    """Put the application together; nothing is connected yet. Raises SettingsError, also under ``python -O``."""
    if not __debug__:
        raise SettingsError(["python -O: it removes the asserts by which aiokafka guards transactions; run without -O"])
    garbage.come_seldom()
    engine = Engine(settings, watcher)
    app = App(
        settings.app_id,
        env={},  # from the process's own Faust takes BROKER_URL, APP_VERSION and 80 more, before what is given here
        broker=";".join(f"{transport.SCHEME}://{server}" for server in settings.bootstrap_servers.split(",")),
        broker_credentials=engine.connection.faust_credentials(),
        broker_client_id=engine.transactional_id,
        consumer_group_instance_id=settings.group_instance_id,
        agent_supervisor=mode.CrashingSupervisor,
        stream_buffer_maxsize=256,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        broker_commit_interval=86_400.0,
        broker_commit_every=10**9,
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 1000 / 20,  # by it a member hears that it must rejoin
        broker_rebalance_timeout=60.0,
        broker_max_poll_interval=1e7,  # s; while nothing is assigned nothing is fetched, and no rejoin would be tried
        broker_request_timeout=max(40.0, 1.5 * settings.session_timeout_ms / 1000),  # outlasts a rebalance, as a rule
        consumer_max_fetch_size=1024 * 1024,  # with 4 MB an event costs 7 % more, with 256 KB 10 %,
        consumer_auto_offset_reset="earliest",
        key_serializer="raw",
        value_serializer="raw",
        table_standby_replicas=0,
        TableManager=store.Tables,
        Worker=ForegroundWorker,
        topic_disable_leader=True,
        topic_allow_declare=False,
        logging_config=logging_config(settings.log_format, settings.log_level),
    )
    app.boot_strategy.enable_web = False  # it would serve the table, numbers included; Faust's CLI sets `web_enabled`
    app.engine = engine
    names = engine.names
    schema = transport.CarrierSchema(key_type=bytes, value_type=bytes)
    changelog = app.topic(names["window-state"], schema=schema, partitions=settings.partitions, compacting=True)
    app.Table(
        "windows",
        key_type=bytes,
        value_type=bytes,
        partitions=settings.partitions,
        store=f"{store.SCHEME}://windows/",
        changelog_topic=changelog,
        schema=schema,
    )

    @app.agent(app.topic(names["messages.inbound"], names["messages.outbound"], schema=schema))
    async def windows(stream: Any) -> None:
        async for event in stream.noack().events():
            event.ack()
            engine.accept(event.value)

    async def on_assigned(_: App, assigned: set[TP], **__: Any) -> None:
        engine.consumer = cast(transport.Consumer, app.consumer)
        await engine.on_assigned({tp.partition for tp in assigned if tp.topic == names["messages.inbound"]})

    async def on_revoked(_: App, __: set[TP], **___: Any) -> None:
        await engine.on_revoked()

    async def on_shutdown(_: App, **__: Any) -> None:
        await engine.stop()

    app.on_partitions_assigned.connect(on_assigned)  # type: ignore[arg-type]  # mode's type asks for *args
    app.on_partitions_revoked.connect(on_revoked)  # type: ignore[arg-type]
    app.on_before_shutdown.connect(on_shutdown)  # type: ignore[arg-type]
    return app
