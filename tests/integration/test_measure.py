"""`janela measure` on a real broker and a real worker: all that was sent is accounted for."""

import asyncio
import json
import signal
from functools import partial
from pathlib import Path

import pytest

from processor.measure.receiver import Delivery, Receiver
from processor.settings import Settings
from tests.chaos.harness import INPUTS, Stage, Worker, patience
from tests.integration.test_ops import free_address
from tests.kafka import Kafka
from tests.verbs import ended, started

pytestmark = pytest.mark.timeout(240)

PARTITIONS = 2
EVENTS = 1200


@pytest.fixture
def settings(kafka: Kafka, topic_prefix: str) -> Settings:
    return Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        log_format="json",
    )


async def at_work(stage: Stage, ops_address: str = "") -> Worker:
    """Start a worker and wait until it has its partitions."""
    worker = stage.worker("w", ops_address=ops_address)
    await stage.until("it is restored", lambda: worker.says("stream.restored"), 90)
    return worker


async def test_a_run_accounts_for_every_event_and_tells_of_delays_lag_and_the_worker(
    settings: Settings, tmp_path: Path
) -> None:
    scenario = tmp_path / "once.toml"
    scenario.write_text('popularity = "once"\noutbound = 0.5\n[inbound_types]\ntext = 1\n[outbound_types]\ntext = 1\n')
    async with Stage.open(settings, tmp_path) as stage:
        address = free_address()
        worker = await at_work(stage, ops_address=address)
        files = ("--report", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html"))
        process = await started(
            settings, "measure", "--scenario", str(scenario), "--rate", "300", "--seconds", "4", *files,
            "--worker", str(worker.pid), "--ops", address, "--drain", str(60 * patience()), "--json",
        )  # fmt: skip
        await stage.until("the load has begun", lambda: _is_sent(stage), 60 * patience())
        stranger = settings.connection.producer()
        await stranger.start()
        for value in (b"{}", None):
            await stranger.send_and_wait(stage.names["window-opened"], value, key=b"k")
        await stranger.stop()
        code, out, err = await ended(process)
        assert code == 0, err
    found = json.loads(out)
    assert found["is_whole"]
    assert found["events"] == found["sent"] == EVENTS
    assert found["unreadable"] == 2  # the stranger's
    assert (found["partitions"], found["processes"], "metadata.version" in found["kafka"]) == (PARTITIONS, 1, True)
    # each message of this scenario opens a window, and each send finds one open
    assert found["received"] == EVENTS == sum(found["outputs"].values()) - 2
    assert found["outputs"]["send-rejected"] == 0
    assert sum(quantiles["count"] for quantiles in found["latency_by_topic"].values()) == EVENTS
    latency = found["latency"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p999"] <= latency["max"]
    assert found["lag_end"] == 0
    (told,) = found["workers"]  # by its id and by its address it is one
    assert f"process {worker.pid} is the worker at {address}, and is counted once" in err
    assert told["name"] == address
    assert told["cpu_s"] > 0
    assert told["rss_max_mb"] > 20
    assert [restore["at_s"] for restore in told["restores"]] == [None]  # that of its start
    assert told["restores"][0]["seconds"] > 0
    samples = found["samples"]
    assert samples[-1]["open_windows"] == found["outputs"]["window-opened"] - 2
    assert samples[-1]["clock_lag_s"] is not None
    assert (samples[-1]["sent"], samples[-1]["received"], samples[-1]["lag"]) == (EVENTS, EVENTS, 0)
    assert json.loads((tmp_path / "a.json").read_text()) == found
    assert (tmp_path / "a.html").read_text().count("<svg") == 7


async def test_a_worker_that_stands_still_is_in_the_latency_and_in_the_lag(settings: Settings, tmp_path: Path) -> None:
    """The load goes on meanwhile, so a pause of two seconds is the delay of what was due at its begin."""
    async with Stage.open(settings, tmp_path) as stage:
        worker = await at_work(stage)
        process = await started(settings, "measure", "--rate", "200", "--seconds", "5", "--json")
        await stage.until_moved(within_s=60 * patience())
        worker.signal(signal.SIGSTOP)
        await stage.until("there is lag", lambda: _is_behind(stage, 350), 30)
        worker.signal(signal.SIGCONT)
        code, out, err = await ended(process)
        assert code == 0, err
    found = json.loads(out)
    assert found["latency"]["max"] > 1500
    assert found["lag_max"] > 100
    assert found["lag_end"] == 0


async def _is_sent(stage: Stage) -> bool:
    return sum((await stage.ends(*INPUTS.values())).values()) > 0


async def _is_behind(stage: Stage, records: int) -> bool:
    return await stage.lag() >= records


async def test_with_no_worker_it_says_that_not_all_was_consumed(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path):
        process = await started(settings, "measure", "--rate", "100", "--seconds", "1", "--drain", "1")
        code, out, err = await ended(process)
    assert code == 1, err
    assert "Not all of the schedule was sent, or not all of it consumed" in out


async def test_a_worker_that_is_started_again_meanwhile_tells_how_long_its_restore_took(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        address = free_address()
        worker = await at_work(stage, ops_address=address)
        options = ("--ops", address, "--rate", "100", "--seconds", "12", "--drain", str(60 * patience()), "--json")
        process = await started(settings, "measure", *options)
        await stage.until("the load has begun", lambda: _is_sent(stage), 60 * patience())
        worker.kill()
        await at_work(stage, ops_address=address)
        code, out, err = await ended(process)
    assert code == 0, err
    (told,) = json.loads(out)["workers"]
    first, second = told["restores"]
    assert first["at_s"] is None
    assert second["at_s"] > 0
    assert second["seconds"] > 0


async def test_an_address_where_no_worker_answers_is_refused(settings: Settings, tmp_path: Path) -> None:
    address = free_address()
    async with Stage.open(settings, tmp_path):
        code, out, err = await ended(await started(settings, "measure", "--ops", address))
    assert (code, out) == (2, "")
    assert f"found no worker that answers at {address}" in err


async def test_without_the_topics_of_the_outputs_one_line_names_the_remedy(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await stage._admin.delete_topics([stage.names["window-opened"]])
        code, out, err = await ended(await started(settings, "measure"))
    assert (code, out) == (2, "")
    assert f"found none named {settings.topic_prefix}window-opened" in err


async def test_a_process_that_is_not_there_is_refused_as_a_worker(settings: Settings) -> None:
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    code, out, err = await ended(await started(settings, "measure", "--worker", str(gone.pid)))
    assert (code, out) == (2, "")
    assert "no process here has the id" in err


async def test_outputs_whose_transaction_is_not_ended_are_waited_for(settings: Settings, tmp_path: Path) -> None:
    """A round's offsets may be committed before its outputs' markers are written."""
    delivery = Delivery()
    async with Stage.open(settings, tmp_path) as stage:
        receiver = Receiver(settings, delivery)
        worker = settings.connection.producer(transactional_id=f"{settings.topic_prefix}w")
        try:
            await receiver.start()
            await worker.start()
            assert await receiver.is_at_end()
            await worker.begin_transaction()
            await worker.send_and_wait(stage.names["window-opened"], b"{}", partition=0)
            assert not await receiver.is_at_end()
            await worker.commit_transaction()
            await stage.until("it has taken it", partial(_is_taken, receiver), 30)
        finally:
            await receiver.stop()
            await worker.stop()
    assert delivery.counts["window-opened"] == 1


async def _is_taken(receiver: Receiver) -> bool:
    await receiver.take()
    return await receiver.is_at_end()
